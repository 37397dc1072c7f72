"""One session of an application: a pure machine between the call, the interpreter and the services that act for it.

Theory of operation. Events for the document wait in `inbox`. One at a time the interpreter processes them (`Run`); what it
wants done becomes effects with ids "<session>/<step>/<index>", kept in `pending` until their outcome is known. The host
writes the state after each `handle` and only then performs the effects; a node that takes over performs the pending ones
again under the same ids and runs the interpreter on the same inbox. When the application cannot be had, breaks, or ends
without routing the call, the call goes to the default destinations in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from services.orchestration.actions import ActionError, Context, carry_out, deliver, error_event
from services.orchestration.effects import (
    CreateCall,
    DeleteUserData,
    Effect,
    End,
    Fetch,
    Load,
    Pairs,
    Resubmit,
    Route,
    Run,
    Say,
    SetUserData,
    Stored,
    Submit,
    Terminate,
    Timer,
)
from services.orchestration.scxml import (
    Action,
    CancelSend,
    Done,
    Event,
    Forward,
    Invoke,
    Json,
    Log,
    Send,
    StepResult,
)

MAX_INBOX = 1000
"""Events waiting for one session; one more fails it."""
MAX_PENDING = 1000
"""Effects under way for one session; one more fails it."""
AGENT_LOST = frozenset(
    {"REASON_DN_BUSY", "REASON_NO_ANSWER", "REASON_CALL_REJECTED", "REASON_OUT_OF_SERVICE", "REASON_AGENT_RESERVED",
     "REASON_RESERVATION_INVALID", "REASON_INVALID_TARGET", "REASON_TIMEOUT"}
)  # fmt: skip
"""Failures of RouteCall after which the routing request waits again, without that agent."""
CALL_LOST = frozenset({"REASON_UNKNOWN_CALL"})
"""Failures of RouteCall that say the call is gone."""


_OUTCOME_NAMES: Mapping[type[Any], str] = {
    SetUserData: "interaction.setudata",
    DeleteUserData: "interaction.deleteudata",
    Terminate: "interaction.terminate",
    CreateCall: "interaction.createcall",
}


class Phase(Enum):
    """Life of a session."""

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    """No more application: the call is on its way to a default destination, or nothing is left to do."""
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Call:
    """The call a session is for. Times are UTC microseconds."""

    session_id: str
    tenant: str
    call_thread_id: str
    call_uuid: str
    conn_id: int
    route_point: str
    ani: str
    dnis: str
    since_us: int
    urls: tuple[str, ...]
    parameters: Pairs = ()
    default_dns: tuple[str, ...] = ()
    traceparent: str = ""


@dataclass
class Session:
    """State of a session; all of it is stored."""

    call: Call
    phase: Phase = Phase.STARTING
    url: str = ""
    document_hash: str = ""
    compiler_version: str = ""
    snapshot: bytes = b""
    configuration: tuple[str, ...] = ()
    step: int = 0
    inbox: list[Event] = field(default_factory=list)
    pending: dict[str, Stored] = field(default_factory=dict)
    user_data: Pairs = ()
    last_seq: int = 0
    routed: bool = False
    gone: bool = False
    default_attempt: int = 0
    problem: str = ""
    outcome: str = "finished"


@dataclass(frozen=True, slots=True)
class Begin:
    """The route request came, or the session was just restored by another node."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The application is ready."""

    effect_id: str
    url: str
    document_hash: str
    compiler_version: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """The interpreter processed the first event of the inbox (or started)."""

    result: StepResult
    snapshot: bytes


@dataclass(frozen=True, slots=True)
class Broke:
    """The application could not be had, or the interpreter failed or was killed while it ran it."""

    problem: str
    effect_id: str = ""


@dataclass(frozen=True, slots=True)
class CallNews:
    """Something happened to the call: an event for the document; flags say what it means for the session."""

    seq: int
    event: Event | None = None
    user_data: Pairs | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Selected:
    """The tenant answered a routing request: an agent, or a reason why there is none."""

    submit_id: str
    reason: str = ""
    message: str = ""
    destination: str = ""
    agent_id: str = ""
    token: str = ""
    details: Mapping[str, Json] = field(default_factory=dict)
    user_data: Pairs = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """An effect was carried out, or failed for a reason."""

    effect_id: str
    reason: str = ""
    message: str = ""
    data: Json = None


@dataclass(frozen=True, slots=True)
class Due:
    """The time of a timer has come."""

    effect_id: str


@dataclass(frozen=True, slots=True)
class External:
    """Somebody sends the document an event."""

    event: Event


Input = Begin | Loaded | Stepped | Broke | CallNews | Selected | Outcome | Due | External


class Machine:
    """The decisions over a session's state."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def handle(self, item: Input, now_us: int) -> list[Effect]:
        """What follows from an input. Inputs for something that is over or not asked for change nothing."""
        session = self.session
        if session.phase is Phase.OVER:
            return []
        match item:
            case Begin():
                return self._begin()
            case Loaded():
                return self._loaded(item)
            case Stepped():
                return self._stepped(item, now_us)
            case Broke():
                return self._broke(item)
            case CallNews():
                return self._news(item)
            case Selected():
                return self._selected(item)
            case Outcome():
                return self._outcome(item)
            case Due(effect_id):
                return self._due(effect_id)
            case External(event):
                return self._post(event)

    def _begin(self) -> list[Effect]:
        session, call = self.session, self.session.call
        effects: list[Effect] = [e for e in session.pending.values() if not isinstance(e, Load)]
        if session.phase in (Phase.STARTING, Phase.RUNNING):
            load = Load(
                f"{call.session_id}/load", call.urls if session.phase is Phase.STARTING else (session.url,)
            )
            session.pending[load.id] = load
            effects.append(load)
        elif not session.pending:
            effects += self._next_default()
        return effects

    def _loaded(self, loaded: Loaded) -> list[Effect]:
        session = self.session
        if session.pending.pop(loaded.effect_id, None) is None:
            return []
        if session.phase is Phase.RUNNING:
            return [self._run()] if session.inbox or not session.snapshot else []
        session.phase = Phase.RUNNING
        session.url, session.document_hash = loaded.url, loaded.document_hash
        session.compiler_version = loaded.compiler_version
        session.inbox.insert(0, self._added())
        return [self._run()]

    def _added(self) -> Event:
        call = self.session.call
        data = {
            "interactionid": f"{call.conn_id:016x}",
            "calluuid": call.call_uuid,
            "ani": call.ani,
            "dnis": call.dnis,
            "dn": call.route_point,
            "media": "voice",
            "udata": _as_object(self.session.user_data),
            "parameters": _as_object(call.parameters),
        }
        return Event("interaction.added", data)

    def _run(self) -> Run:
        return Run(f"{self.session.call.session_id}/{self.session.step}")

    def _post(self, event: Event) -> list[Effect]:
        """Puts an event into the inbox; runs the interpreter when it was idle."""
        session = self.session
        if session.phase not in (Phase.STARTING, Phase.RUNNING):
            return []
        if len(session.inbox) >= MAX_INBOX:
            return self._broke(Broke(f"more than {MAX_INBOX} events wait"))
        session.inbox.append(event)
        idle = session.phase is Phase.RUNNING and len(session.inbox) == 1 and bool(session.snapshot)
        return [self._run()] if idle else []

    def _stepped(self, stepped: Stepped, now_us: int) -> list[Effect]:
        session, result = self.session, stepped.result
        if session.phase is not Phase.RUNNING:
            return []
        if result.failure is not None:
            return self._broke(Broke(f"{result.failure.reason}: {result.failure.message}"))
        processed = session.inbox.pop(0) if session.snapshot else None
        session.snapshot = stepped.snapshot
        session.configuration = tuple(result.configuration)
        effects = self._translate(result, now_us)
        session.step += 1
        if len(session.pending) > MAX_PENDING:
            return [*effects, *self._broke(Broke(f"more than {MAX_PENDING} effects are under way"))]
        if result.finished:
            return effects + self._finish("finished", "")
        if (
            processed is not None
            and processed.name == "interaction.deleted"
            and session.gone
            and not result.trace
        ):
            # Nobody listens for the end of the call, so nothing is left to wait for (domain facts §4.2).
            return effects + self._finish("call gone", "")
        if session.inbox:
            effects.append(self._run())
        return effects

    def _translate(self, result: StepResult, now_us: int) -> list[Effect]:
        effects: list[Effect] = []
        for index, wish in enumerate(result.effects):
            effect_id = f"{self.session.call.session_id}/{self.session.step}/{index}"
            match wish:
                case Action():
                    effects += self._act(wish, effect_id, now_us)
                case Send():
                    effects += self._send(wish, effect_id, now_us)
                case CancelSend(sendid):
                    for timer in [
                        t
                        for t in self.session.pending.values()
                        if isinstance(t, Timer) and t.sendid == sendid
                    ]:
                        del self.session.pending[timer.id]
                case Log(label, text):
                    effects.append(Say(label, text))
                case Invoke(invokeid=invokeid):
                    effects += self._post(
                        Event("error.execution", {"error": "unsupported"}, invokeid=invokeid)
                    )
                case Forward() | Done():
                    pass
        return effects

    def _act(self, action: Action, effect_id: str, now_us: int) -> list[Effect]:
        call = self.session.call
        submits = {e.requestid: e.id for e in self.session.pending.values() if isinstance(e, Submit)}
        try:
            effect = carry_out(action, Context(effect_id, now_us, call.since_us, submits))
        except ActionError as error:
            return self._post(error_event(action, str(error)))
        self.session.pending[effect.id] = effect
        return [effect]

    def _send(self, send: Send, effect_id: str, now_us: int) -> list[Effect]:
        context = Context(effect_id, now_us, self.session.call.since_us, {})
        try:
            effect = deliver(send, context)
        except ActionError as error:
            description = {"error": "communication", "description": str(error)}
            return self._post(Event("error.communication", description, "platform", sendid=send.sendid))
        if isinstance(effect, Timer) and effect.due_us <= now_us:
            return self._post(Event(**effect.event))
        self.session.pending[effect.id] = effect
        return [effect]

    def _news(self, news: CallNews) -> list[Effect]:
        session = self.session
        if news.seq <= session.last_seq:
            return []
        session.last_seq = news.seq
        if news.user_data is not None:
            session.user_data = news.user_data
        if news.gone and not session.gone:
            session.gone = True
            if session.phase is Phase.STARTING:
                return self._finish("call gone", "")
        effects = self._post(news.event) if news.event is not None else []
        if session.phase is Phase.ENDING and session.gone:
            return effects + self._over()
        return effects

    def _selected(self, answer: Selected) -> list[Effect]:
        submit = self.session.pending.get(answer.submit_id)
        if not isinstance(submit, Submit):
            return []
        del self.session.pending[submit.id]
        data: dict[str, Json] = {
            "requestid": submit.requestid,
            "interactionid": f"{self.session.call.conn_id:016x}",
        }
        if answer.reason:
            data |= {"error": answer.reason.removeprefix("REASON_").lower(), "description": answer.message}
            return self._post(Event("error.queue.submit", data))
        chosen = {"agent": answer.agent_id, "dn": answer.destination, "token": answer.token, **answer.details}
        data |= {"resource": chosen, "targetselected": answer.agent_id or answer.destination}
        if not submit.route:
            return self._post(Event("queue.submit.done", data))
        route = Route(
            f"{submit.id}/route", answer.destination, answer.agent_id, answer.token, submit.id, submit.requestid,
            user_data=answer.user_data,
        )  # fmt: skip
        self.session.pending[route.id] = route
        self.session.pending[submit.id] = submit
        return [route]

    def _outcome(self, outcome: Outcome) -> list[Effect]:
        effect = self.session.pending.pop(outcome.effect_id, None)
        match effect:
            case None:
                return []
            case Route():
                return self._routed(effect, outcome)
            case Submit():
                self.session.pending[effect.id] = effect
                if not outcome.reason:
                    return []
                return self._selected(Selected(effect.id, outcome.reason, outcome.message))
            case Load():
                return self._broke(Broke(outcome.message))
            case Resubmit():
                name = "queue.cancel" if effect.priority is None else "queue.update"
                return self._told(name, effect.requestid, outcome)
            case Fetch():
                return self._told(effect.module, effect.requestid, outcome)
            case Timer():
                return []
            case _:
                return self._told(_OUTCOME_NAMES[type(effect)], effect.requestid, outcome)

    def _told(self, name: str, requestid: str, outcome: Outcome) -> list[Effect]:
        data = {"requestid": requestid, "interactionid": f"{self.session.call.conn_id:016x}"}
        if outcome.reason:
            error = {"error": outcome.reason.removeprefix("REASON_").lower(), "description": outcome.message}
            return self._post(Event(f"error.{name}", data | error))
        extra = outcome.data if isinstance(outcome.data, dict) else {}
        return self._post(Event(f"{name}.done", data | extra))

    def _routed(self, route: Route, outcome: Outcome) -> list[Effect]:
        session = self.session
        submit = session.pending.get(route.submit_id)
        if not outcome.reason:
            session.routed = True
            return self._route_done(route)
        if outcome.reason in CALL_LOST:
            session.gone = True
        elif isinstance(submit, Submit) and outcome.reason in AGENT_LOST:
            del session.pending[submit.id]
            again = replace(submit, id=f"{submit.id}+", excluded=(*submit.excluded, route.agent_id))
            session.pending[again.id] = again
            return [again]
        if session.phase is Phase.ENDING:
            return self._over() if session.gone else self._next_default()
        session.pending.pop(route.submit_id, None)
        name = "queue.submit" if route.submit_id else "interaction.redirect"
        return self._told(name, route.requestid, outcome)

    def _route_done(self, route: Route) -> list[Effect]:
        session = self.session
        session.pending.pop(route.submit_id, None)
        if session.phase is Phase.ENDING:
            return self._over()
        name = "queue.submit" if route.submit_id else "interaction.redirect"
        resource = {"agent": route.agent_id, "dn": route.destination, "token": route.token}
        data = {"resource": resource, "targetselected": route.agent_id or route.destination}
        return self._told(name, route.requestid, Outcome(route.id, data=data))

    def _due(self, effect_id: str) -> list[Effect]:
        timer = self.session.pending.pop(effect_id, None)
        return self._post(Event(**timer.event)) if isinstance(timer, Timer) else []

    def _broke(self, broke: Broke) -> list[Effect]:
        if self.session.phase in (Phase.ENDING, Phase.OVER):
            return []
        if broke.effect_id and broke.effect_id not in self.session.pending:
            return []
        return self._finish("failed", broke.problem)

    def _finish(self, outcome: str, problem: str) -> list[Effect]:
        """The application is over. Requests to the tenant are withdrawn, the rest of what is pending is forgotten."""
        session = self.session
        session.phase, session.outcome, session.problem = Phase.ENDING, outcome, problem
        withdrawals = [
            Resubmit(f"{e.id}/withdraw", e.id) for e in session.pending.values() if isinstance(e, Submit)
        ]
        routes = {e.id: e for e in session.pending.values() if isinstance(e, Route)}
        session.pending = dict(routes)
        session.inbox.clear()
        if routes:
            return []
        return [*withdrawals, *(self._over() if session.routed or session.gone else self._next_default())]

    def _next_default(self) -> list[Effect]:
        session = self.session
        if session.default_attempt >= len(session.call.default_dns):
            session.problem = session.problem or "the application ended without routing the call"
            session.outcome = "failed"
            return self._over()
        destination = session.call.default_dns[session.default_attempt]
        session.default_attempt += 1
        effect_id = f"{session.call.session_id}/default/{session.default_attempt}"
        route = Route(effect_id, destination, is_default=True)
        session.pending[route.id] = route
        return [route]

    def _over(self) -> list[Effect]:
        self.session.phase = Phase.OVER
        self.session.pending.clear()
        return [End(self.session.outcome, self.session.problem)]


def _as_object(pairs: Pairs) -> dict[str, Json]:
    """User data as the document reads it; of equal keys the last counts."""
    return {
        key: _as_object(tuple((k, v) for k, v in value)) if isinstance(value, list) else value
        for key, value in pairs
    }
