"""The router of a tenant: waiting requests meet available agents. Pure: inputs and time in, effects out.

Theory of operation. A request waits from `Submit` until it is answered. Requests are served by priority, higher first,
then by age, older first. For each in turn the longest-ready available agent who matches one of its active targets is
asked of Agent State (`Reserve`); while that is under way neither the request nor the agent takes part. `Granted` answers
the request; `Denied` puts it back at its place and rests the agent for a moment, since Agent State knows better.
Every request id gets exactly one answer; a repeat of an answered id repeats the answer.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from services.tenant.agents import AgentView, Change, Roster
from services.tenant.targets import Matcher, Target, TargetError

REST_US = (20_000, 50_000, 100_000, 250_000, 1_000_000)
"""How long an agent rests after one, two … denials in a row, microseconds."""
RESERVE_US = 3_000_000
"""After this long without a word a reservation attempt counts as denied, microseconds."""
REMEMBERED = 10_000
"""Answers kept for repeats."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a target. Times are UTC microseconds."""

    request_id: str
    targets: tuple[Target, ...]
    priority: int
    age_us: int
    """Since when the call waits; what decides among equal priorities."""
    submitted_us: int
    """When the request was made; what target and request timeouts count from."""
    timeout_ms: int = 0
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Submit:
    """A request came."""

    request: Request


@dataclass(frozen=True, slots=True)
class Update:
    """A waiting request gets another priority."""

    request_id: str
    priority: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """A request is not wanted any more."""

    request_id: str


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """An event said something about an agent."""

    change: Change


@dataclass(frozen=True, slots=True)
class AgentSeen:
    """A snapshot of an agent."""

    agent: AgentView


@dataclass(frozen=True, slots=True)
class Granted:
    """Agent State reserved the agent for the request."""

    request_id: str
    agent_id: str
    token: str
    until_us: int


@dataclass(frozen=True, slots=True)
class Denied:
    """Agent State did not, or did not answer."""

    request_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed, or the configuration changed."""


Input = Submit | Update | Cancel | AgentChanged | AgentSeen | Granted | Denied | Tick


@dataclass(frozen=True, slots=True)
class Reserve:
    """Ask Agent State for the agent. `attempt` makes the id of the ask: a new attempt is a new ask."""

    request_id: str
    agent_id: str
    priority: int
    attempt: int


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Give a reservation back that nobody needs any more."""

    agent_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Found:
    """Answer: this agent, reserved until then."""

    request_id: str
    agent: AgentView
    target: Target
    token: str
    until_us: int


@dataclass(frozen=True, slots=True)
class NotFound:
    """Answer: nobody in time, or a request that cannot be met; `invalid` says what is wrong with it."""

    request_id: str
    invalid: str = ""
    cancelled: bool = False


Answer = Found | NotFound
Effect = Reserve | GiveBack | Found | NotFound


@dataclass
class _Waiting:
    request: Request
    agent_id: str = ""
    """Agent being asked for; empty while none is."""
    target: Target | None = None
    asked_us: int = 0
    attempt: int = 0


@dataclass
class _Rest:
    until_us: int = 0
    denials: int = 0


@dataclass
class Router:
    """Waiting requests and agents of one tenant."""

    matcher: Matcher
    roster: Roster = field(default_factory=Roster)
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
                self.roster.put(agent)
            case Granted():
                effects += self._granted(item)
            case Denied(request_id, agent_id):
                self._denied(request_id, agent_id, now_us)
            case Tick():
                pass
        effects += self._expire(now_us)
        effects += self._serve(now_us)
        return effects

    def next_us(self) -> int | None:
        """When the next `Tick` is due, UTC microseconds; None when nothing waits for time. It may have passed since the last
        input: a clock that rings early must not let it be forgotten."""
        since = self._handled_us
        due: list[int] = []
        for waiting in self._waiting.values():
            request = waiting.request
            if waiting.agent_id:
                due.append(waiting.asked_us + RESERVE_US)
            if request.timeout_ms:
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
            return [GiveBack(grant.agent_id, grant.token)]
        waiting = self._waiting[grant.request_id]
        target = waiting.target
        assert target is not None
        self._withdraw(grant.request_id)
        self._rests.pop(grant.agent_id, None)
        agent = self.roster.agents.get(grant.agent_id) or AgentView(grant.agent_id)
        self.roster.put(replace(agent, reserved_until_us=grant.until_us))
        return [self._answer(Found(grant.request_id, agent, target, grant.token, grant.until_us))]

    def _denied(self, request_id: str, agent_id: str, now_us: int) -> None:
        if self._asked.get(agent_id) != request_id:
            return
        del self._asked[agent_id]
        self._waiting[request_id].agent_id = ""
        rest = self._rests.setdefault(agent_id, _Rest())
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
                self._denied(request_id, waiting.agent_id, now_us)
            over = request.timeout_ms and request.submitted_us + request.timeout_ms * 1000 <= now_us
            if over and not waiting.agent_id:
                self._withdraw(request_id)
                effects.append(self._answer(NotFound(request_id)))
        return effects

    def _serve(self, now_us: int) -> list[Effect]:
        if len(self._waiting) == len(self._asked):
            return []
        free = [agent for agent in self.roster.available(now_us) if self._may_ask(agent.agent_id, now_us)]
        effects: list[Effect] = []
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
            waiting.agent_id, waiting.target, waiting.asked_us = agent.agent_id, target, now_us
            waiting.attempt += 1
            self._asked[agent.agent_id] = waiting.request.request_id
            request = waiting.request
            effects.append(Reserve(request.request_id, agent.agent_id, request.priority, waiting.attempt))
        return effects

    def _may_ask(self, agent_id: str, now_us: int) -> bool:
        rest = self._rests.get(agent_id)
        return agent_id not in self._asked and (rest is None or rest.until_us <= now_us)

    def _choose(
        self, request: Request, free: list[AgentView], now_us: int
    ) -> tuple[AgentView, Target] | None:
        """The longest-ready agent of the first active target that has one. `free` is in order of readiness."""
        for target in request.targets:
            if request.submitted_us + target.after_ms * 1000 > now_us:
                continue
            for agent in free:
                if agent.agent_id not in request.excluded and self.matcher.matches(
                    target, agent.agent_id, agent.dn
                ):
                    return agent, target
        return None


def _order(request: Request) -> tuple[int, int, str]:
    return (-request.priority, request.age_us, request.request_id)
