"""The order in which a client sees an agent's calls and after-call work (domain facts §2.11, docs/decisions/0080). Pure.

Released comes from the call's stream, AgentNotReady{AfterCallWork} from the agent's, and after-call work is to be told
first. The agent's stream has both in the right order, since Agent State puts a copy of Released into it. So a Released
of an agent waits for its copy, half a second at most, and is told in its place; what follows it in its slot waits
behind it, so that positions stay exact.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.message_type_pb2 import MessageType

from services.front_end.cursor import Family, Place
from services.front_end.subscription import COPY

HOLD_US: Final = 500_000
"""Longest wait of a Released for its copy, microseconds; one that is older when it is read does not wait."""
COPIES: Final = 2048
"""Copies remembered that came before their original."""
HELD: Final = 4096
"""Events that may be held back: with more, all are let go."""

RELEASED: Final = MessageType.MESSAGE_TYPE_EVENT_RELEASED


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of a slot and the position behind them."""

    place: Place
    events: Sequence[EventEnvelope]
    cursor: str


@dataclass(slots=True)
class _Held:
    batch: Batch
    awaited: set[str]
    until_us: int


@dataclass(slots=True)
class Told:
    """What a client is told at once."""

    events: list[EventEnvelope] = field(default_factory=list)
    positions: dict[Place, str] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        """A whole batch."""
        self.events += batch.events
        self.positions[batch.place] = batch.cursor


class Order:
    """Holds batches back for one subscription."""

    def __init__(self) -> None:
        self._held: dict[Place, deque[_Held]] = {}
        self._copies: OrderedDict[str, None] = OrderedDict()
        self._count = 0

    def take(self, batch: Batch, now_us: int) -> Told:
        """Takes a batch that was read; gives what is told now (UTC microseconds)."""
        told = Told()
        if batch.place[0] is Family.AGENT:
            self._take_agents(batch, told)
        else:
            self._take_calls(batch, told, now_us)
        if self._count > HELD:
            self._let_go(told, lambda held: True)
        return told

    def due_us(self) -> int | None:
        """When something held is to be told though its copy has not come; None when nothing is held."""
        return min((held[0].until_us for held in self._held.values()), default=None)

    def tick(self, now_us: int) -> Told:
        """Tells what has waited long enough."""
        told = Told()
        self._let_go(told, lambda held: held.until_us <= now_us)
        return told

    def _take_agents(self, batch: Batch, told: Told) -> None:
        for envelope in batch.events:
            told.events.append(envelope)
            if envelope.cause.startswith(COPY) and envelope.event.event_type == RELEASED:
                self._copied(envelope.cause.removeprefix(COPY))
                self._let_go(told, lambda held: not held.awaited)
        told.positions[batch.place] = batch.cursor

    def _take_calls(self, batch: Batch, told: Told, now_us: int) -> None:
        awaited = {e.event_id for e in batch.events if self._waits(e, now_us)}
        behind = self._held.get(batch.place)
        if not awaited and behind is None:
            told.add(batch)
            return
        until = now_us + HOLD_US if awaited else now_us
        self._held.setdefault(batch.place, deque()).append(_Held(batch, awaited, until))
        self._count += len(batch.events)

    def _waits(self, envelope: EventEnvelope, now_us: int) -> bool:
        event = envelope.event
        return (
            event.event_type == RELEASED
            and bool(event.agent_id)
            and now_us - envelope.time_us < HOLD_US
            and envelope.event_id not in self._copies
        )

    def _copied(self, event_id: str) -> None:
        self._copies[event_id] = None
        if len(self._copies) > COPIES:
            self._copies.popitem(last=False)
        for line in self._held.values():
            for held in line:
                held.awaited.discard(event_id)

    def _let_go(self, told: Told, may: Callable[[_Held], bool]) -> None:
        """Tells, slot by slot, the batches in front that need not wait any more."""
        for place, line in list(self._held.items()):
            while line and (may(line[0]) or not line[0].awaited):
                batch = line.popleft().batch
                self._count -= len(batch.events)
                told.add(batch)
            if not line:
                del self._held[place]
