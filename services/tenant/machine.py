"""The router of a tenant: waiting requests meet available agents. Pure: inputs and time in, effects out.

Theory of operation. A request waits from `Submit` until it is answered. Requests are served by priority, higher first,
then by age, older first. For each in turn the longest-ready available agent who matches one of its active targets is
asked of Agent State (`Reserve`); while that is under way neither the request nor the agent takes part. `Granted` answers
the request; `Denied` puts it back at its place and rests the agent for a moment, since Agent State knows better.
Every request id gets exactly one answer; a repeat of an answered id repeats the answer.

A router that takes a tenant over serves nobody until it has been told all that waits (`Rebuilt`): else the oldest entry
of the queue would be served before one of higher priority further on. An agent whom the router before it has reserved
for a request is asked for again under the same id, which gives the same reservation.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from services.tenant.agents import AgentView, Roster
from services.tenant.effects import Answer, Effect, Found, GiveBack, NotFound, Reserve
from services.tenant.inputs import (
    AgentChanged,
    AgentSeen,
    Cancel,
    Denied,
    Granted,
    Input,
    Rebuilt,
    Request,
    Submit,
    Tick,
    Update,
)
from services.tenant.targets import Matcher, Target, TargetError

__all__ = [
    "AgentChanged",
    "AgentSeen",
    "Answer",
    "Cancel",
    "Denied",
    "Effect",
    "Found",
    "GiveBack",
    "Granted",
    "Input",
    "NotFound",
    "Rebuilt",
    "Request",
    "Reserve",
    "Router",
    "Submit",
    "Tick",
    "Update",
]

REST_US = (20_000, 50_000, 100_000, 250_000, 1_000_000)
"""How long an agent rests after one, two … denials in a row, microseconds."""
RESERVE_US = 3_000_000
"""After this long without a word a reservation attempt counts as denied, microseconds."""
REMEMBERED = 10_000
"""Answers kept for repeats."""


@dataclass
class _Waiting:
    request: Request
    agent_id: str = ""
    """Agent being asked for; empty while none is."""
    target: Target | None = None
    asked_us: int = 0
    attempt: int = 0
    unsettled: dict[str, int] = field(default_factory=dict)
    """Agent -> attempt that has no answer, or whose answer never came."""


@dataclass
class _Rest:
    until_us: int = 0
    denials: int = 0


@dataclass
class Router:
    """Waiting requests and agents of one tenant."""

    matcher: Matcher
    roster: Roster = field(default_factory=Roster)
    rebuilding: bool = False
    """True until `Rebuilt`: nobody is served."""
    _kept: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Request -> agent and attempt: reserved by the router before this one."""
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _asked: dict[str, str] = field(default_factory=dict)
    _rests: dict[str, _Rest] = field(default_factory=dict)
    _answers: OrderedDict[str, Answer] = field(default_factory=OrderedDict)
    _handled_us: int = 0
    """Time of the last input: what was due by then has been looked at."""

    def handle(self, item: Input, now_us: int) -> list[Effect]:
        """What follows from an input at a time (UTC microseconds)."""
        self._handled_us = now_us
        effects: list[Effect] = []
        match item:
            case Submit(request):
                effects += self._submit(request)
            case Update(request_id, priority):
                self._update(request_id, priority)
            case Cancel(request_id):
                effects += self._cancel(request_id)
            case AgentChanged(change):
                self.roster.change(change, now_us)
                self._rests.pop(change.agent_id, None)
            case AgentSeen(agent):
                self._seen(agent)
            case Rebuilt():
                self.rebuilding = False
                self._kept = {r: kept for r, kept in self._kept.items() if r in self._waiting}
            case Granted():
                effects += self._granted(item)
            case Denied():
                self._denied(item, now_us)
            case Tick():
                pass
        if not self.rebuilding:
            effects += self._expire(now_us)
            effects += self._serve(now_us)
        return effects

    def next_us(self) -> int | None:
        """When the next `Tick` is due, UTC microseconds; None when nothing waits for time. It may have passed since the last
        input: a clock that rings early must not let it be forgotten."""
        since = self._handled_us
        due: list[int] = []
        if self.rebuilding:
            return None
        for waiting in self._waiting.values():
            request = waiting.request
            # While an agent is asked, the request ends with the ask, however late that is: a clock could do nothing.
            if waiting.agent_id:
                due.append(waiting.asked_us + RESERVE_US)
            elif request.timeout_ms:
                due.append(request.submitted_us + request.timeout_ms * 1000)
            due += [
                t
                for target in request.targets
                if (t := request.submitted_us + target.after_ms * 1000) > since
            ]
        if self._waiting:
            due += [rest.until_us for rest in self._rests.values() if rest.until_us > since]
            due += [a.reserved_until_us for a in self.roster.agents.values() if a.reserved_until_us > since]
        return min(due, default=None)

    def waiting(self) -> list[Request]:
        """Requests in the order of service."""
        return sorted((waiting.request for waiting in self._waiting.values()), key=_order)

    def _submit(self, request: Request) -> list[Effect]:
        given = self._answers.get(request.request_id)
        if given is not None:
            return [given]
        if request.request_id in self._waiting:
            return []
        try:
            for target in request.targets:
                self.matcher.check(target)
        except TargetError as error:
            return [self._answer(NotFound(request.request_id, str(error)))]
        self._waiting[request.request_id] = _Waiting(request)
        return []

    def _update(self, request_id: str, priority: int) -> None:
        waiting = self._waiting.get(request_id)
        if waiting is not None:
            waiting.request = replace(waiting.request, priority=priority)

    def _cancel(self, request_id: str) -> list[Effect]:
        if request_id not in self._waiting:
            return []
        self._withdraw(request_id)
        return [self._answer(NotFound(request_id, cancelled=True))]

    def _granted(self, grant: Granted) -> list[Effect]:
        if self._asked.get(grant.agent_id) != grant.request_id:
            given = self._answers.get(grant.request_id)
            used = isinstance(given, Found) and given.token == grant.token  # the same ask, answered twice
            return [] if used else [GiveBack(grant.agent_id, grant.token)]
        waiting = self._waiting[grant.request_id]
        target = waiting.target
        assert target is not None
        self._withdraw(grant.request_id)
        self._rests.pop(grant.agent_id, None)
        agent = self.roster.agents.get(grant.agent_id) or AgentView(grant.agent_id)
        self.roster.put(replace(agent, reserved_until_us=grant.until_us))
        return [self._answer(Found(grant.request_id, agent, target, grant.token, grant.until_us))]

    def _seen(self, agent: AgentView) -> None:
        self.roster.put(agent)
        request_id, _, attempt = agent.reserved_by.rpartition(":")
        if request_id and attempt.isdecimal():
            self._kept[request_id] = (agent.agent_id, int(attempt))

    def _denied(self, denial: Denied, now_us: int) -> None:
        if self._asked.get(denial.agent_id) != denial.request_id:
            return
        del self._asked[denial.agent_id]
        waiting = self._waiting[denial.request_id]
        waiting.agent_id = ""
        if not denial.unknown:
            waiting.unsettled.pop(denial.agent_id, None)
        rest = self._rests.setdefault(denial.agent_id, _Rest())
        rest.until_us = now_us + REST_US[min(rest.denials, len(REST_US) - 1)]
        rest.denials += 1

    def _withdraw(self, request_id: str) -> None:
        waiting = self._waiting.pop(request_id)
        if waiting.agent_id:
            self._asked.pop(waiting.agent_id, None)

    def _answer(self, answer: Answer) -> Answer:
        self._answers[answer.request_id] = answer
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return answer

    def _expire(self, now_us: int) -> list[Effect]:
        effects: list[Effect] = []
        for request_id, waiting in list(self._waiting.items()):
            request = waiting.request
            if waiting.agent_id and waiting.asked_us + RESERVE_US <= now_us:
                self._denied(Denied(request_id, waiting.agent_id, unknown=True), now_us)
            over = request.timeout_ms and request.submitted_us + request.timeout_ms * 1000 <= now_us
            if over and not waiting.agent_id:
                self._withdraw(request_id)
                effects.append(self._answer(NotFound(request_id)))
        return effects

    def _serve(self, now_us: int) -> list[Effect]:
        effects = self._serve_kept(now_us)
        if len(self._waiting) == len(self._asked):
            return effects
        free = [agent for agent in self.roster.available(now_us) if self._may_ask(agent.agent_id, now_us)]
        for waiting in sorted(self._waiting.values(), key=lambda w: _order(w.request)):
            if not free:
                break
            if waiting.agent_id:
                continue
            choice = self._choose(waiting.request, free, now_us)
            if choice is None:
                continue
            agent, target = choice
            free.remove(agent)
            attempt = waiting.unsettled.get(agent.agent_id, waiting.attempt + 1)
            effects.append(self._ask(waiting, agent.agent_id, target, attempt, now_us))
        return effects

    def _serve_kept(self, now_us: int) -> list[Effect]:
        """Asks again for agents whom the router before this one had reserved for requests that still wait."""
        effects: list[Effect] = []
        for request_id in [request_id for request_id in self._kept if request_id in self._waiting]:
            agent_id, attempt = self._kept.pop(request_id)
            waiting, agent = self._waiting[request_id], self.roster.agents[agent_id]
            held = agent.reserved_until_us > now_us and agent_id not in self._asked and not waiting.agent_id
            target = self._target(waiting.request, agent, now_us) if held else None
            if target is not None:
                effects.append(self._ask(waiting, agent_id, target, attempt, now_us))
        return effects

    def _ask(self, waiting: _Waiting, agent_id: str, target: Target, attempt: int, now_us: int) -> Reserve:
        request = waiting.request
        waiting.agent_id, waiting.target, waiting.asked_us = agent_id, target, now_us
        waiting.attempt = max(waiting.attempt, attempt)
        waiting.unsettled[agent_id] = attempt
        self._asked[agent_id] = request.request_id
        return Reserve(request.request_id, agent_id, request.priority, attempt)

    def _may_ask(self, agent_id: str, now_us: int) -> bool:
        rest = self._rests.get(agent_id)
        return agent_id not in self._asked and (rest is None or rest.until_us <= now_us)

    def _choose(
        self, request: Request, free: list[AgentView], now_us: int
    ) -> tuple[AgentView, Target] | None:
        """The longest-ready agent of the first active target that has one. `free` is in order of readiness."""
        for target in _active(request, now_us):
            for agent in free:
                if self._matches(request, target, agent):
                    return agent, target
        return None

    def _target(self, request: Request, agent: AgentView, now_us: int) -> Target | None:
        """The first active target that the agent matches."""
        return next((t for t in _active(request, now_us) if self._matches(request, t, agent)), None)

    def _matches(self, request: Request, target: Target, agent: AgentView) -> bool:
        return agent.agent_id not in request.excluded and self.matcher.matches(
            target, agent.agent_id, agent.dn
        )


def _active(request: Request, now_us: int) -> list[Target]:
    return [t for t in request.targets if request.submitted_us + t.after_ms * 1000 <= now_us]


def _order(request: Request) -> tuple[int, int, str]:
    return (-request.priority, request.age_us, request.request_id)
