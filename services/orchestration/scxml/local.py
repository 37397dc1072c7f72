"""A host on one machine: sessions in this process, events in one queue ordered by time.

What authors run their applications with (`voicemesh-scxml run`) and what the conformance suite runs on.
Time is an argument: nothing here waits. `advance(now)` delivers everything that is due by then.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode

from services.orchestration.scxml.compiled import Compiled
from services.orchestration.scxml.compiler import compile_document
from services.orchestration.scxml.effects import (
    HTTP_PROCESSOR,
    SCXML_PROCESSOR,
    CancelInvoke,
    CancelSend,
    Done,
    Effect,
    Event,
    Failure,
    Forward,
    Invoke,
    Json,
    Limits,
    Query,
    Send,
    StepResult,
)
from services.orchestration.scxml.interpreter import Interpreter
from services.orchestration.scxml.loading import Resolve
from services.orchestration.scxml.problems import CompileError

SCXML_TYPES = frozenset(("scxml", "http://www.w3.org/TR/scxml", "http://www.w3.org/TR/scxml/"))


class Observer(Protocol):
    """Told of everything that happens, in order."""

    def stepped(self, session: Session, event: Event | None, result: StepResult) -> None: ...


class Quiet:
    """An observer that looks away."""

    def stepped(self, session: Session, event: Event | None, result: StepResult) -> None:
        """Nothing to note."""


@dataclass(slots=True)
class Session:
    id: str
    interpreter: Interpreter
    parent: Session | None = None
    invokeid: str = ""
    children: dict[str, Session] = field(default_factory=dict)
    cancelled: bool = False
    ended: bool = False
    done: Done | None = None
    failure: Failure | None = None
    configuration: list[str] = field(default_factory=list)
    location: str = ""


@dataclass(order=True, slots=True)
class _Due:
    at: float
    rank: int
    """0 for platform events, which go before external ones of the same moment."""
    seq: int
    session: str = field(compare=False)
    """Whose queue it is for."""
    event: Event = field(compare=False)
    sender: str = field(compare=False, default="")
    send: Send | None = field(compare=False, default=None)
    """Set when this is a delayed send that has not left its sender yet."""


AnswerQuery = Callable[[Session, Query], Json]
DeliverHttp = Callable[[Session, Send], None]


class LocalHost:
    """Runs sessions. `http(session, send)` delivers Basic HTTP messages and raises OSError when it cannot;
    `ask(session, query)` answers queries and raises LookupError for the session to see as an error."""

    def __init__(
        self,
        *,
        resolve: Resolve | None = None,
        observer: Observer | None = None,
        http: DeliverHttp | None = None,
        ask: AnswerQuery | None = None,
        io_processors: Callable[[str], dict[str, Json]] | None = None,
        limits: Limits | None = None,
        now_ms: float = 0.0,
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self.now = now_ms
        self._resolve = resolve
        self._observer = observer or Quiet()
        self._http = http
        self._ask = ask
        self._io_processors = io_processors or (lambda _id: {})
        self._limits = limits
        self._queue: list[_Due] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)
        self._compiled: dict[tuple[str, str], Compiled] = {}

    # -- what callers do ----------------------------------------------------------------------------

    def start(self, compiled: Compiled, *, params: dict[str, Json] | None = None) -> Session:
        """Start a session and run it to its first stable configuration."""
        session = self._create(compiled, None, "", params)
        self._run(session, None, session.interpreter.start(self.now))
        return session

    def post(self, session: Session, event: Event, *, delay_ms: float = 0.0) -> None:
        """Put an event into a session's queue."""
        rank = 0 if event.type == "platform" else 1
        heapq.heappush(self._queue, _Due(self.now + delay_ms, rank, next(self._order), session.id, event))

    def next_due(self) -> float | None:
        """When the next event is due; None when nothing is waiting."""
        return self._queue[0].at if self._queue else None

    def advance(self, now_ms: float) -> None:
        """Deliver everything that is due until `now_ms`."""
        while self._queue and self._queue[0].at <= now_ms:
            due = heapq.heappop(self._queue)
            self.now = max(self.now, due.at)
            self._deliver(due)
        self.now = max(self.now, now_ms)

    def run_virtual(self, session: Session, *, limit_ms: float) -> None:
        """Let virtual time pass until the session ends, nothing is waiting, or the limit is reached."""
        while not session.ended and self._queue and self._queue[0].at <= limit_ms:
            self.advance(self._queue[0].at)

    def terminate(self, session: Session) -> None:
        """End a session; its onexit handlers run."""
        if not session.ended:
            self._run(session, None, session.interpreter.terminate(self.now))

    # -- sessions -----------------------------------------------------------------------------------

    def _create(
        self, compiled: Compiled, parent: Session | None, invokeid: str, params: dict[str, Json] | None
    ) -> Session:
        number = next(self._ids)
        name = f"local-{number}"
        location = f"#_scxml_{name}"
        processors = {
            "scxml": {"location": location},
            SCXML_PROCESSOR: {"location": location},
            **self._io_processors(name),
        }
        interpreter = Interpreter(
            compiled,
            session_id=name,
            io_processors=processors,
            now_ms=self.now,
            seed=number,
            params=params,
            limits=self._limits,
        )
        session = Session(name, interpreter, parent, invokeid, location=location)
        self.sessions[name] = session
        return session

    def _run(self, session: Session, event: Event | None, result: StepResult) -> None:
        while result.query is not None:
            result = self._answered(session, result.query)
        session.configuration = result.configuration or session.configuration
        self._observer.stepped(session, event, result)
        for effect in result.effects:
            self._perform(session, effect)
        if result.finished:
            session.failure = result.failure
            self._ended(session)

    def _answered(self, session: Session, query: Query) -> StepResult:
        if query.namespace == "scxml":
            known = self._target(session, query.arguments[0]) is not None
            return session.interpreter.answer(query.id, known)
        try:
            if self._ask is None:
                raise LookupError(f"{query.namespace}.{query.function}: nobody answers on this host")
            value = self._ask(session, query)
        except LookupError as error:
            return session.interpreter.answer(query.id, error=str(error.args[0]))
        return session.interpreter.answer(query.id, value)

    def _ended(self, session: Session) -> None:
        session.ended = True
        self._queue = [due for due in self._queue if due.session != session.id and due.sender != session.id]
        heapq.heapify(self._queue)
        for child in list(session.children.values()):
            self._cancel(child)
        session.interpreter.close()
        parent = session.parent
        if parent is None or session.cancelled or parent.ended:
            return
        parent.children.pop(session.invokeid, None)
        if session.failure is not None:
            data: Json = {"reason": session.failure.reason, "message": session.failure.message}
            self.post(parent, Event(f"error.platform.{session.invokeid}", data, invokeid=session.invokeid))
            return
        done = session.done or Done()
        name = f"done.invoke.{session.invokeid}"
        self.post(parent, Event(name, done.data, invokeid=session.invokeid, has_data=done.has_data))

    def _cancel(self, child: Session) -> None:
        child.cancelled = True
        self.terminate(child)

    # -- effects ------------------------------------------------------------------------------------

    def _perform(self, session: Session, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(session, effect)
            case CancelSend():
                self._queue = [
                    due
                    for due in self._queue
                    if due.send is None or due.sender != session.id or due.send.sendid != effect.sendid
                ]
                heapq.heapify(self._queue)
            case Invoke():
                self._invoke(session, effect)
            case CancelInvoke():
                child = session.children.pop(effect.invokeid, None)
                if child is not None:
                    self._cancel(child)
            case Forward():
                if effect.invokeid in session.children:
                    self.post(session.children[effect.invokeid], effect.event)
            case Done():
                session.done = effect
            case _:
                pass  # logs and actions: the observer has seen them

    def _send(self, session: Session, send: Send) -> None:
        if send.delay_ms > 0:
            due = self.now + send.delay_ms
            entry = _Due(due, 1, next(self._order), session.id, Event(send.event), session.id, send)
            heapq.heappush(self._queue, entry)
        else:
            self._dispatch(session, send)

    def _deliver(self, due: _Due) -> None:
        session = self.sessions[due.session]
        if session.ended:
            return
        if due.send is not None:
            self._dispatch(session, due.send)
        else:
            self._run(session, due.event, session.interpreter.step(due.event, self.now))

    def _dispatch(self, session: Session, send: Send) -> None:
        if send.type == HTTP_PROCESSOR:
            self._send_http(session, send)
            return
        if session.cancelled:
            return
        target = self._target(session, send.target) if send.type == SCXML_PROCESSOR else None
        if target is None:
            self._unreachable(session, send, f"no session at {send.target!r}")
            return
        event = Event(
            send.event,
            send.data,
            sendid=send.sendid,
            origin=session.location,
            origintype=SCXML_PROCESSOR,
            invokeid=session.invokeid if target is session.parent else "",
            content=send.content,
            has_data=send.has_data,
            raw=urlencode([(name, str(value)) for name, value in send.params]),
        )
        self.post(target, event)

    def _target(self, session: Session, target: str) -> Session | None:
        if target in ("", session.location):
            return session
        if target == "#_parent":
            found = session.parent
        elif target.startswith("#_scxml_"):
            found = self.sessions.get(target.removeprefix("#_scxml_"))
        else:
            found = session.children.get(target.removeprefix("#_"))
        return found if found is not None and not found.ended else None

    def _send_http(self, session: Session, send: Send) -> None:
        try:
            if self._http is None:
                raise OSError("this host sends no HTTP messages")
            self._http(session, send)
        except OSError as error:
            self._unreachable(session, send, str(error))

    def _unreachable(self, session: Session, send: Send, message: str) -> None:
        data = {"message": message, "event": send.event}
        self.post(session, Event("error.communication", data, "platform", sendid=send.sendid))

    def _invoke(self, session: Session, invoke: Invoke) -> None:
        if invoke.type not in SCXML_TYPES:
            data: Json = {"message": f"invoke: type {invoke.type!r} is not supported"}
            event = Event("error.execution", data, "platform", invokeid=invoke.invokeid)
            self.post(session, event)
            return
        try:
            compiled = self._compile(invoke, session.interpreter.compiled.url)
        except (CompileError, OSError) as error:
            data = {"message": f"invoke: {error}"}
            event = Event("error.communication", data, "platform", invokeid=invoke.invokeid)
            self.post(session, event)
            return
        child = self._create(compiled, session, invoke.invokeid, invoke.data)
        session.children[invoke.invokeid] = child
        self._run(child, None, child.interpreter.start(self.now))

    def _compile(self, invoke: Invoke, base: str) -> Compiled:
        """The invoked document; an inline one has the address of the document it stands in."""
        key = (invoke.src or base, invoke.content or "")
        if key not in self._compiled:
            text: str | bytes = invoke.content or ""
            if invoke.content is None:
                text = self._load(invoke.src)
            self._compiled[key] = compile_document(text, url=invoke.src or base, resolve=self._resolve)
        return self._compiled[key]

    def _load(self, address: str) -> bytes:
        if self._resolve is None:
            raise OSError(f"{address}: this host loads no files")
        try:
            return self._resolve(address)
        except (LookupError, ValueError) as error:
            raise OSError(f"{address}: {error}") from error


_DELAY = re.compile(r"^\s*(\d*\.?\d+)\s*(ms|s|m|h|d)\s*$")
_UNITS = {"ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0, "d": 86_400_000.0}


def delay_ms(value: Json) -> float:
    """A delay as authors write it, "1.5s" or a number of milliseconds. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    found = _DELAY.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"delay {value!r} is neither milliseconds nor a number with ms, s, m, h or d")
    return float(found.group(1)) * _UNITS[found.group(2)]
