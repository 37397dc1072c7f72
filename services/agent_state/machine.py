"""An agent's session (domain facts §2.11, §2.12). Pure: inputs and the time in, effects out.

States: NULL not logged in; NOT_READY; READY; and, while a call that came through a queue is on the agent's DN, BUSY_READY,
BUSY_NOT_READY and BUSY_AFTER_CALL_WORK, named after what comes when the call ends. Direct calls make nobody busy.
`TABLE` is the whole machine: what is not in it is refused with AGENT_NOT_LOGGED_IN and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final

from services.agent_state.effects import (
    Answer,
    Asked,
    Copy,
    Effect,
    EndLogin,
    EventKind,
    Publish,
    TellDevice,
    Value,
)

UNTIMED: Final = 1_000_000
"""After-call work of so many seconds ends only when the agent says so."""
NOT_LOGGED_IN: Final = "REASON_AGENT_NOT_LOGGED_IN"
NO_ANSWER: Final = "timer:no-answer"
"""Cause of what follows from a call that the agent did not answer."""


class Phase(IntEnum):
    """States (voice.agent_state.v1.AgentPhase)."""

    NULL = 1
    NOT_READY = 2
    READY = 3
    BUSY_READY = 4
    BUSY_NOT_READY = 5
    BUSY_AFTER_CALL_WORK = 6


class WorkMode(IntEnum):
    """Work modes (voice.tlib.v1.AgentWorkMode)."""

    UNKNOWN = 0
    MANUAL_IN = 1
    AUTO_IN = 2
    AFTER_CALL_WORK = 3
    AUX_WORK = 4
    NO_CALL_DISCONNECT = 5
    WALK_AWAY = 6
    RETURN_BACK = 7


class Step(Enum):
    """What can happen to the phase."""

    LOGIN = "login"
    LOGOUT = "logout"
    READY = "ready"
    NOT_READY = "not ready"
    WORK_AFTER_CALL = "not ready, after-call work"
    CALL_BEGAN = "a business call began"
    CALL_ANSWERED = "a business call with after-call work was answered"
    CALL_ENDED = "the last business call ended"
    WRAPUP_OVER = "timed after-call work is over"


_P, _S = Phase, Step
TABLE: Final[dict[tuple[Phase, Step], Phase]] = {
    (_P.NULL, _S.LOGIN): _P.NOT_READY,
    (_P.NOT_READY, _S.LOGIN): _P.NOT_READY,
    (_P.NOT_READY, _S.LOGOUT): _P.NULL,
    (_P.NOT_READY, _S.READY): _P.READY,
    (_P.NOT_READY, _S.NOT_READY): _P.NOT_READY,
    (_P.NOT_READY, _S.WORK_AFTER_CALL): _P.NOT_READY,
    (_P.NOT_READY, _S.CALL_BEGAN): _P.BUSY_NOT_READY,
    (_P.NOT_READY, _S.WRAPUP_OVER): _P.READY,
    (_P.READY, _S.LOGIN): _P.READY,
    (_P.READY, _S.LOGOUT): _P.NULL,
    (_P.READY, _S.READY): _P.READY,
    (_P.READY, _S.NOT_READY): _P.NOT_READY,
    (_P.READY, _S.WORK_AFTER_CALL): _P.NOT_READY,
    (_P.READY, _S.CALL_BEGAN): _P.BUSY_READY,
    (_P.BUSY_READY, _S.LOGIN): _P.BUSY_READY,
    (_P.BUSY_READY, _S.LOGOUT): _P.NULL,
    (_P.BUSY_READY, _S.READY): _P.BUSY_READY,
    (_P.BUSY_READY, _S.NOT_READY): _P.BUSY_NOT_READY,
    (_P.BUSY_READY, _S.WORK_AFTER_CALL): _P.BUSY_AFTER_CALL_WORK,
    (_P.BUSY_READY, _S.CALL_BEGAN): _P.BUSY_READY,
    (_P.BUSY_READY, _S.CALL_ANSWERED): _P.BUSY_AFTER_CALL_WORK,
    (_P.BUSY_READY, _S.CALL_ENDED): _P.READY,
    (_P.BUSY_NOT_READY, _S.LOGIN): _P.BUSY_NOT_READY,
    (_P.BUSY_NOT_READY, _S.LOGOUT): _P.NULL,
    (_P.BUSY_NOT_READY, _S.READY): _P.BUSY_READY,
    (_P.BUSY_NOT_READY, _S.NOT_READY): _P.BUSY_NOT_READY,
    (_P.BUSY_NOT_READY, _S.WORK_AFTER_CALL): _P.BUSY_AFTER_CALL_WORK,
    (_P.BUSY_NOT_READY, _S.CALL_BEGAN): _P.BUSY_NOT_READY,
    (_P.BUSY_NOT_READY, _S.CALL_ANSWERED): _P.BUSY_NOT_READY,
    (_P.BUSY_NOT_READY, _S.CALL_ENDED): _P.NOT_READY,
    (_P.BUSY_NOT_READY, _S.WRAPUP_OVER): _P.BUSY_READY,
    (_P.BUSY_AFTER_CALL_WORK, _S.LOGIN): _P.BUSY_AFTER_CALL_WORK,
    (_P.BUSY_AFTER_CALL_WORK, _S.LOGOUT): _P.NULL,
    (_P.BUSY_AFTER_CALL_WORK, _S.READY): _P.BUSY_READY,
    (_P.BUSY_AFTER_CALL_WORK, _S.NOT_READY): _P.BUSY_NOT_READY,
    (_P.BUSY_AFTER_CALL_WORK, _S.WORK_AFTER_CALL): _P.BUSY_AFTER_CALL_WORK,
    (_P.BUSY_AFTER_CALL_WORK, _S.CALL_BEGAN): _P.BUSY_AFTER_CALL_WORK,
    (_P.BUSY_AFTER_CALL_WORK, _S.CALL_ANSWERED): _P.BUSY_AFTER_CALL_WORK,
    (_P.BUSY_AFTER_CALL_WORK, _S.CALL_ENDED): _P.NOT_READY,
}
"""Every legal pair of phase and step."""


class CallStep(Enum):
    """What a call event does to the agent's part in the call."""

    BEGAN = "began"
    """Ringing, Dialing."""
    ANSWERED = "answered"
    """Established."""
    MOVED = "moved"
    """PartyChanged: the call goes on under another ConnID."""
    ENDED = "ended"
    """Released, Abandoned, Diverted."""
    OTHER = "other"
    """Held, Retrieved: the agent stays as it is."""


@dataclass(frozen=True, slots=True)
class CallEvent:
    """An event of a call on the agent's DN."""

    step: CallStep
    conn_id: int
    previous_conn_id: int = 0
    business: bool = False
    """The call came through a queue or route point."""
    wrapup_s: int = -1
    """After-call work that the call asks for; -1: what the login has."""
    no_answer: bool = False
    """The call has ended because nobody answered in time."""
    origin: object = None
    """The event itself, to be copied into the agent's stream."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Config has the login: password right, DN and agent free."""

    dn: str
    queue: str = ""
    place: str = ""
    user_name: str = ""
    session_id: str = ""
    wrapup_s: int = 0
    auto_in: bool = False


@dataclass(slots=True)
class OnCall:
    """A call on the agent's DN."""

    business: bool
    established: bool = False
    wrapup_s: int = -1


@dataclass(slots=True)
class Session:
    """One agent. Times are UTC microseconds."""

    tenant: str
    agent_id: str
    phase: Phase = Phase.NULL
    work_mode: WorkMode = WorkMode.UNKNOWN
    reasons: bytes = b""
    """Encoded list of the last change."""
    dn: str = ""
    place: str = ""
    user_name: str = ""
    session_id: str = ""
    queues: tuple[str, ...] = ()
    wrapup_s: int = 0
    phase_since_us: int = 0
    login_us: int = 0
    wrapup_until_us: int = 0
    """When timed after-call work ends; 0 when none runs."""
    calls: dict[int, OnCall] = field(default_factory=dict)
    in_service: bool = True
    dnd: bool = False
    last_seq: int = 0

    @property
    def logged_in(self) -> bool:
        """Whether there is a login session."""
        return self.phase is not Phase.NULL

    @property
    def available(self) -> bool:
        """Whether the agent could take a call now."""
        return self.phase is Phase.READY and self.in_service and not self.dnd and not self.calls

    # -- requests ----------------------------------------------------------------------------------------------

    def login(self, asked: Asked, login: LoggedIn, now_us: int) -> list[Effect]:
        """A login that Config has accepted. On the same DN again it only adds the queue (domain facts §1.3)."""
        again = self.logged_in
        self.dn, self.place, self.user_name = login.dn, login.place, login.user_name
        self.session_id, self.wrapup_s = login.session_id, login.wrapup_s
        if login.queue and login.queue not in self.queues:
            self.queues += (login.queue,)
        queue: dict[str, Value] = {"this_queue": login.queue} if login.queue else {}
        if again:
            told = self._publish(EventKind.AGENT_LOGIN, "request:AgentLogin", asked, **queue)
            return [told, Answer(asked, event=told)]
        self.login_us = now_us
        self.calls.clear()
        told = self._publish(EventKind.AGENT_LOGIN, "request:AgentLogin", asked, **queue)
        self._go(Step.LOGIN, now_us)
        self.work_mode, self.reasons = WorkMode.UNKNOWN, b""
        if login.auto_in:
            self._go(Step.READY, now_us)
            self.work_mode = WorkMode.AUTO_IN
            then = self._publish_mode(EventKind.AGENT_READY, "request:AgentLogin", None)
        else:
            then = self._publish_mode(EventKind.AGENT_NOT_READY, "request:AgentLogin", None)
        return [told, then, TellDevice(self.dn, self.agent_id, True), Answer(asked, event=told)]

    def logout(self, asked: Asked, now_us: int, cause: str = "request:AgentLogout") -> list[Effect]:
        """Ends the login session; calls go on."""
        if not self.logged_in:
            return [self._refused(asked)]
        told = self._publish(EventKind.AGENT_LOGOUT, cause, asked)
        effects: list[Effect] = [told]
        effects += [self._publish(EventKind.QUEUE_LOGOUT, cause, None, this_queue=q) for q in self.queues]
        effects += [TellDevice(self.dn, self.agent_id, False), EndLogin(self.agent_id, self.session_id)]
        self._go(Step.LOGOUT, now_us)
        self.work_mode, self.reasons, self.wrapup_until_us = WorkMode.UNKNOWN, b"", 0
        self.dn = self.place = self.session_id = ""
        self.queues, self.login_us = (), 0
        self.calls.clear()
        return [*effects, Answer(asked, event=told)]

    def ready(self, asked: Asked, mode: WorkMode, reasons: bytes, now_us: int) -> list[Effect]:
        """AgentReady; ends after-call work."""
        if not self.logged_in:
            return [self._refused(asked)]
        self._go(Step.READY, now_us)
        self.work_mode, self.reasons, self.wrapup_until_us = mode, reasons, 0
        told = self._publish_mode(EventKind.AGENT_READY, "request:AgentReady", asked)
        return [told, Answer(asked, event=told)]

    def not_ready(self, asked: Asked, mode: WorkMode, reasons: bytes, now_us: int) -> list[Effect]:
        """AgentNotReady; told again each time, also from not ready to not ready."""
        if not self.logged_in:
            return [self._refused(asked)]
        self._go(Step.WORK_AFTER_CALL if mode is WorkMode.AFTER_CALL_WORK else Step.NOT_READY, now_us)
        self.work_mode, self.reasons, self.wrapup_until_us = mode, reasons, 0
        told = self._publish_mode(EventKind.AGENT_NOT_READY, "request:AgentNotReady", asked)
        return [told, Answer(asked, event=told)]

    # -- what happens to the agent -----------------------------------------------------------------------------

    def call(self, event: CallEvent, now_us: int) -> list[Effect]:
        """An event of a call on the agent's DN, copied into the agent's stream behind what it brings about, so that
        AgentNotReady{AfterCallWork} comes before Released (domain facts §2.11; docs/decisions/0053)."""
        if not self.logged_in:
            return []
        effects: list[Effect] = []
        handle = _CALL_STEPS.get(event.step)
        if handle is not None:
            effects += handle(self, event, now_us)
        self.last_seq += 1
        return [*effects, Copy(self.last_seq, event.origin)]

    def missed(self, event: CallEvent) -> bool:
        """Whether the event ends a call that was offered to the agent through a queue and not answered (RONA)."""
        call = self.calls.get(event.conn_id)
        ended = event.step is CallStep.ENDED and event.no_answer
        return ended and call is not None and call.business and not call.established

    def not_ready_for_missing(self, now_us: int) -> list[Effect]:
        """After a missed call the agent is no longer offered any (domain facts §2.10)."""
        if not self.logged_in:
            return []
        self._go(Step.NOT_READY, now_us)
        self.work_mode, self.reasons, self.wrapup_until_us = WorkMode.UNKNOWN, b"", 0
        return [self._publish_mode(EventKind.AGENT_NOT_READY, NO_ANSWER, None)]

    def device(self, in_service: bool, dnd: bool) -> None:
        """The state of the agent's DN; its own stream tells the events."""
        self.in_service, self.dnd = in_service, dnd

    def tick(self, now_us: int) -> list[Effect]:
        """Ends timed after-call work when it is time."""
        if not self.wrapup_until_us or now_us < self.wrapup_until_us:
            return []
        self.wrapup_until_us = 0
        if (self.phase, Step.WRAPUP_OVER) not in TABLE:
            return []
        self._go(Step.WRAPUP_OVER, now_us)
        self.work_mode, self.reasons = WorkMode.UNKNOWN, b""
        return [self._publish_mode(EventKind.AGENT_READY, "timer:wrap-up", None)]

    def _call_began(self, event: CallEvent, now_us: int) -> list[Effect]:
        if event.conn_id not in self.calls:
            self.calls[event.conn_id] = OnCall(event.business)
            if event.business:
                self._go(Step.CALL_BEGAN, now_us)
        return []

    def _call_answered(self, event: CallEvent, now_us: int) -> list[Effect]:
        self._call_began(event, now_us)
        call = self.calls[event.conn_id]
        call.established = True
        if event.wrapup_s >= 0:
            call.wrapup_s = event.wrapup_s
        if call.business and self._wrapup(call):
            self._go(Step.CALL_ANSWERED, now_us)
        return []

    def _call_moved(self, event: CallEvent, now_us: int) -> list[Effect]:
        before, there = self.calls.pop(event.previous_conn_id, None), self.calls.get(event.conn_id)
        # Two calls of the agent become one: a business call makes the whole of it one.
        if before is not None and (there is None or (before.business and not there.business)):
            self.calls[event.conn_id] = before
        return []

    def _call_ended(self, event: CallEvent, now_us: int) -> list[Effect]:
        call = self.calls.pop(event.conn_id, None)
        if call is None or not call.business or any(other.business for other in self.calls.values()):
            return []
        work = self.phase is Phase.BUSY_AFTER_CALL_WORK
        self._go(Step.CALL_ENDED, now_us)
        if not work:
            return []
        seconds = self._wrapup(call)
        extensions = b""
        if seconds:
            extensions = b"untimed" if seconds == UNTIMED else str(seconds).encode()
        self.wrapup_until_us = now_us + seconds * 1_000_000 if 0 < seconds < UNTIMED else 0
        self.work_mode, self.reasons = WorkMode.AFTER_CALL_WORK, b""
        told = self._publish_mode(EventKind.AGENT_NOT_READY, "timer:wrap-up", None, wrap_up_time=extensions)
        return [told]

    # -- inside ------------------------------------------------------------------------------------------------

    def _wrapup(self, call: OnCall) -> int:
        """Seconds of after-call work after a call; 0 for none."""
        if not call.established:
            return 0
        return call.wrapup_s if call.wrapup_s >= 0 else self.wrapup_s

    def _go(self, step: Step, now_us: int) -> None:
        after = TABLE.get((self.phase, step))
        if after is not None and after is not self.phase:
            self.phase, self.phase_since_us = after, now_us

    def _publish(self, kind: EventKind, cause: str, asked: Asked | None, **more: Value) -> Publish:
        self.last_seq += 1
        attributes: dict[str, Value] = {
            "this_dn": self.dn,
            "agent_id": self.agent_id,
            "agent_session_id": self.session_id,
            "place": self.place,
        }
        attributes.update(more)
        return Publish(self.last_seq, kind, {k: v for k, v in attributes.items() if v}, cause, asked)

    def _publish_mode(self, kind: EventKind, cause: str, asked: Asked | None, **more: Value) -> Publish:
        return self._publish(
            kind, cause, asked, agent_work_mode=int(self.work_mode), reasons=self.reasons, **more
        )

    def _refused(self, asked: Asked) -> Answer:
        return Answer(asked, NOT_LOGGED_IN, f"agent {self.agent_id} is not logged in")


Handler = Callable[[Session, CallEvent, int], list[Effect]]
_CALL_STEPS: Final[dict[CallStep, Handler]] = {
    CallStep.BEGAN: Session._call_began,
    CallStep.ANSWERED: Session._call_answered,
    CallStep.MOVED: Session._call_moved,
    CallStep.ENDED: Session._call_ended,
}
