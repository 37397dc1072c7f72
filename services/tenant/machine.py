"""The router of a tenant: waiting requests meet available agents. Pure: inputs and time in, effects out.

Theory of operation. A request waits from `Submit` until it is answered. Requests are served by priority, higher first,
then by age, older first. For each in turn the longest-ready available agent who matches one of its active targets is
asked of Agent State (`Reserve`); while that is under way neither the request nor the agent takes part. `Granted` answers
the request; `Denied` puts it back at its place and rests the agent for a moment, since Agent State knows better.
Every request id gets exactly one answer; a repeat of an answered id repeats the answer.

What has met without a match is not looked at again until one side changes: an agent who may have become free meets the heads
of all lines (`lines.py`), a request that joins a line meets those who are free. So an input costs the same whether ten wait
or ten thousand.

A router that takes a tenant over serves nobody until it has been told all that waits (`Rebuilt`): else the oldest entry
of the queue would be served before one of higher priority further on. An agent whom the router before it has reserved
for a request is asked for again under the same id, which gives the same reservation.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from services.tenant.agents import AgentView, Roster
from services.tenant.dues import Dues
from services.tenant.effects import Answer, Effect, Found, GiveBack, NotFound, Reserve
from services.tenant.inputs import (
    AgentChanged,
    AgentSeen,
    Cancel,
    Denied,
    Granted,
    Input,
    Rebuilt,
    Reconfigured,
    Request,
    Submit,
    Tick,
    Update,
)
from services.tenant.lines import Lines, Wish, place_of
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
    "Reconfigured",
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
_REQUEST, _AGENT = "request", "agent"


@dataclass
class _Waiting:
    request: Request
    wish: Wish | None = None
    """The line it stands in; None while an agent is asked for it."""
    agent_id: str = ""
    """Agent being asked for; empty while none is."""
    target: Target | None = None
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
    _lines: Lines = field(default_factory=Lines)
    _dues: Dues[tuple[str, str]] = field(default_factory=Dues)
    """When a request or an agent has to be looked at again."""
    _joined: dict[Wish, None] = field(default_factory=dict)
    """Lines somebody joined since a match was last looked for."""
    _freed: dict[str, None] = field(default_factory=dict)
    """Agents who may have become free since then."""

    def handle(self, item: Input, now_us: int) -> list[Effect]:
        """What follows from an input at a time (UTC microseconds)."""
        effects: list[Effect] = []
        match item:
            case Submit(request):
                effects += self._submit(request, now_us)
            case Update(request_id, priority):
                self._update(request_id, priority, now_us)
            case Cancel(request_id):
                effects += self._cancel(request_id)
            case AgentChanged(change):
                self.roster.change(change, now_us)
                self._rests.pop(change.agent_id, None)
                self._look_at(change.agent_id, now_us)
            case AgentSeen(agent):
                self._seen(agent, now_us)
            case Reconfigured():
                self._freed |= dict.fromkeys(self.roster.agents)
            case Rebuilt():
                self.rebuilding = False
                self._kept = {r: kept for r, kept in self._kept.items() if r in self._waiting}
            case Granted():
                effects += self._granted(item, now_us)
            case Denied():
                self._denied(item, now_us)
            case Tick():
                pass
        if not self.rebuilding:
            effects += self._pass_dues(now_us)
            effects += self._serve(now_us)
        return effects

    def next_us(self) -> int | None:
        """When the next `Tick` is due, UTC microseconds; None when nothing waits for time."""
        return None if self.rebuilding else self._dues.next_us()

    @property
    def depth(self) -> int:
        """Requests waiting."""
        return len(self._waiting)

    def waiting(self) -> list[Request]:
        """Requests in the order of service."""
        return sorted((waiting.request for waiting in self._waiting.values()), key=place_of)

    def _submit(self, request: Request, now_us: int) -> list[Effect]:
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
        waiting = self._waiting[request.request_id] = _Waiting(request)
        self._join(waiting, now_us)
        return []

    def _update(self, request_id: str, priority: int, now_us: int) -> None:
        waiting = self._waiting.get(request_id)
        if waiting is not None:
            stood = self._leave(waiting)
            waiting.request = replace(waiting.request, priority=priority)
            if stood:
                self._join(waiting, now_us)

    def _cancel(self, request_id: str) -> list[Effect]:
        if request_id not in self._waiting:
            return []
        self._withdraw(request_id)
        return [self._answer(NotFound(request_id, cancelled=True))]

    def _granted(self, grant: Granted, now_us: int) -> list[Effect]:
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
        self._look_at(grant.agent_id, now_us)
        return [self._answer(Found(grant.request_id, agent, target, grant.token, grant.until_us))]

    def _seen(self, agent: AgentView, now_us: int) -> None:
        self.roster.put(agent)
        self._look_at(agent.agent_id, now_us)
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
        self._look_at(denial.agent_id, now_us)
        self._join(waiting, now_us)

    def _withdraw(self, request_id: str) -> None:
        waiting = self._waiting.pop(request_id)
        self._leave(waiting)
        self._dues.set((_REQUEST, request_id), None)
        if waiting.agent_id:
            self._asked.pop(waiting.agent_id, None)
            self._freed[waiting.agent_id] = None

    def _join(self, waiting: _Waiting, now_us: int) -> None:
        """The request joins the line of those who ask for the same now, until its time is over or its next target joins."""
        request = waiting.request
        starts = [(request.submitted_us + target.after_ms * 1000, target) for target in request.targets]
        waiting.wish = Wish(tuple(target for start, target in starts if start <= now_us), request.excluded)
        self._lines.add(waiting.wish, place_of(request))
        self._joined[waiting.wish] = None
        due = [start for start, _ in starts if start > now_us]
        if request.timeout_ms:
            due.append(_over_us(request))
        self._dues.set((_REQUEST, request.request_id), min(due, default=None))

    def _leave(self, waiting: _Waiting) -> bool:
        """The request leaves its line; False when it stood in none."""
        if waiting.wish is None:
            return False
        self._lines.remove(waiting.wish, place_of(waiting.request))
        waiting.wish = None
        return True

    def _look_at(self, agent_id: str, now_us: int) -> None:
        """The agent may be free now, or once a rest or a reservation is over."""
        self._freed[agent_id] = None
        agent, rest = self.roster.agents.get(agent_id), self._rests.get(agent_id)
        ends = (agent.reserved_until_us if agent else 0, rest.until_us if rest else 0)
        self._dues.set((_AGENT, agent_id), min((end for end in ends if end > now_us), default=None))

    def _answer(self, answer: Answer) -> Answer:
        self._answers[answer.request_id] = answer
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return answer

    def _pass_dues(self, now_us: int) -> list[Effect]:
        """Looks at everything whose time has come."""
        effects: list[Effect] = []
        while (due := self._dues.pop(now_us)) is not None:
            kind, name = due
            if kind == _AGENT:
                self._look_at(name, now_us)
                continue
            waiting = self._waiting[name]
            if waiting.agent_id:
                # While an agent is asked, the request ends with the ask, however late that is.
                self._denied(Denied(name, waiting.agent_id, unknown=True), now_us)
            elif waiting.request.timeout_ms and _over_us(waiting.request) <= now_us:
                self._withdraw(name)
                effects.append(self._answer(NotFound(name)))
            else:
                self._leave(waiting)
                self._join(waiting, now_us)
        return effects

    def _serve(self, now_us: int) -> list[Effect]:
        """Those who may be free meet all lines, all who are free the lines that somebody joined. The rest has met before."""
        effects = self._serve_kept(now_us)
        among = None if self._joined else self._freed
        heads = self._lines.heads(None if self._freed else self._joined)
        free = self._free(among, now_us) if heads else []
        self._joined, self._freed = {}, {}
        while heads and free:
            place, wish = heapq.heappop(heads)
            choice = self._choose(wish, free)
            if choice is None:
                continue
            agent, target = choice
            free.remove(agent)
            waiting = self._waiting[place[-1]]
            attempt = waiting.unsettled.get(agent.agent_id, waiting.attempt + 1)
            effects.append(self._ask(waiting, agent.agent_id, target, attempt, now_us))
            following = self._lines.first(wish)
            if following is not None:
                heapq.heappush(heads, (following, wish))
        return effects

    def _free(self, among: Iterable[str] | None, now_us: int) -> list[AgentView]:
        """Agents who may be asked, the longest ready first."""
        return [
            agent for agent in self.roster.available(now_us, among) if self._may_ask(agent.agent_id, now_us)
        ]

    def _serve_kept(self, now_us: int) -> list[Effect]:
        """Asks again for agents whom the router before this one had reserved for requests that still wait."""
        effects: list[Effect] = []
        for request_id in [request_id for request_id in self._kept if request_id in self._waiting]:
            agent_id, attempt = self._kept.pop(request_id)
            waiting, agent = self._waiting[request_id], self.roster.agents[agent_id]
            held = agent.reserved_until_us > now_us and agent_id not in self._asked
            choice = self._choose(waiting.wish, [agent]) if held and waiting.wish else None
            if choice is not None:
                effects.append(self._ask(waiting, agent_id, choice[1], attempt, now_us))
        return effects

    def _ask(self, waiting: _Waiting, agent_id: str, target: Target, attempt: int, now_us: int) -> Reserve:
        request = waiting.request
        self._leave(waiting)
        self._dues.set((_REQUEST, request.request_id), now_us + RESERVE_US)
        waiting.agent_id, waiting.target = agent_id, target
        waiting.attempt = max(waiting.attempt, attempt)
        waiting.unsettled[agent_id] = attempt
        self._asked[agent_id] = request.request_id
        return Reserve(request.request_id, agent_id, request.priority, attempt)

    def _may_ask(self, agent_id: str, now_us: int) -> bool:
        rest = self._rests.get(agent_id)
        return agent_id not in self._asked and (rest is None or rest.until_us <= now_us)

    def _choose(self, wish: Wish, free: list[AgentView]) -> tuple[AgentView, Target] | None:
        """The longest-ready agent of the first target that has one. `free` is in order of readiness."""
        for target in wish.targets:
            for agent in free:
                if agent.agent_id in wish.excluded:
                    continue
                if self.matcher.matches(target, agent.agent_id, agent.dn):
                    return agent, target
        return None


def _over_us(request: Request) -> int:
    return request.submitted_us + request.timeout_ms * 1000
