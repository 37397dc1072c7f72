"""One step of a call thread: the input's time and cause, and what it brings about. Pure."""

from __future__ import annotations

from services.sip_cluster.calls import (
    Attributes,
    Call,
    CallThread,
    Leg,
    LegState,
    Refusal,
    RequestRecord,
    TimerKind,
    Told,
)
from services.sip_cluster.effects import Effect, Forget, Publish, Reply, Save
from services.sip_cluster.legs import move
from services.sip_cluster.tlib import EventType

MAX_REQUESTS = 256
"""Requests remembered a thread; the oldest with an outcome gives way."""


class Step:
    """Collects the effects of one input. `thread` is changed in place."""

    __slots__ = ("cause", "effects", "now", "request", "save", "thread", "told")

    def __init__(self, thread: CallThread, now: int, cause: str) -> None:
        self.thread = thread
        self.now = now
        """UTC microseconds."""
        self.cause = cause
        """What events name as their cause: "sip:INVITE", "request:MakeCall", "timer:no-answer"."""
        self.request = ""
        """Id of the request that is being carried out."""
        self.effects: list[Effect] = []
        self.save = False
        """A snapshot is written before the effects."""
        self.told = False
        """An event is among the effects: nobody may read it before the snapshot that explains it is stored."""

    def do(self, effect: Effect) -> None:
        """Adds an effect."""
        self.effects.append(effect)

    def finish(self) -> list[Effect]:
        """The effects in order: the snapshot first, the end of the thread last. A thread that ends is written once more
        when it has something to tell: else its last events could be lost with the node."""
        thread, effects = self.thread, self.effects
        if self.save and (self.told or not thread.finished):
            thread.saved = True
            effects.insert(0, Save())
        if thread.finished:
            effects.append(Forget(thread.saved))
        return effects

    # -- events ------------------------------------------------------------------------------------

    def next_seq(self) -> int:
        """The sequence number of what is put into the thread's stream next."""
        self.save = self.told = True
        self.thread.seq = seq = self.thread.seq + 1
        return seq

    def tell(self, kind: EventType, attributes: Attributes, request: str = "") -> Told:
        """Tells an event as the next of the thread; `request`: who asked for it, when not the step's request."""
        seq = self.next_seq()
        self.effects.append(Publish(kind, seq, attributes, self.cause, request or self.request))
        return Told(kind, seq, attributes)

    # -- requests ----------------------------------------------------------------------------------

    def reply(self, request: str, outcome: Told | Refusal) -> None:
        """Settles a request: stores its outcome and answers whoever waits. Nothing for an empty id."""
        record = self.thread.requests.get(request)
        if record is None or record.outcome is not None:
            return
        record.outcome = outcome
        self.effects.append(Reply(request, outcome))

    def take(self, record: RequestRecord) -> None:
        """Remembers a request that is being carried out."""
        requests = self.thread.requests
        if len(requests) >= MAX_REQUESTS:
            oldest = next((key for key, known in requests.items() if known.outcome is not None), None)
            if oldest is not None:
                del requests[oldest]
        requests[record.id] = record

    # -- timers ------------------------------------------------------------------------------------

    def start_timer(self, kind: TimerKind, subject: int, after_us: int) -> None:
        """(Re)starts a timer."""
        self.thread.timers[kind, subject] = self.now + after_us

    def stop_timer(self, kind: TimerKind, subject: int) -> None:
        """Stops a timer; nothing when it does not run."""
        self.thread.timers.pop((kind, subject), None)

    # -- legs --------------------------------------------------------------------------------------

    def move(self, leg: Leg, fact: str) -> None:
        """Takes a leg to its next state; one that has ended leaves the thread. Raises IllegalFact."""
        move(leg, fact)
        if leg.state is LegState.ENDED:
            self.thread.legs.pop(leg.id, None)

    def caller_leg(self, call: Call) -> Leg | None:
        """The leg of the party that made the call, while it has one."""
        party = call.parties.get(call.origination)
        if party is None or not party.legs:
            return None
        return self.thread.legs.get(party.legs[0])
