"""Following slots: what the owner of slots reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voice.tlib.v1.envelope_pb2 import EventEnvelope


@dataclass(frozen=True, slots=True)
class SlotEvents:
    """A batch of one slot."""

    slot: int
    events: Sequence[EventEnvelope]
    """In the order of the slot; may be empty when `caught_up` or when only the cursor moved."""
    cursor: str
    """Go on after this batch with this cursor: keep it in the same fenced write as what the batch changed."""
    caught_up: bool = False
    """True once per `add`: what was there has been delivered."""
    expired: bool = False
    """True when events between the cursor asked for and this batch are no longer kept."""


class SlotReader:
    """An asynchronous iterator of SlotEvents over a changing set of slots. Not to be made directly:
    `Rq.read_slots`."""

    def add(self, slot: int, cursor: str) -> None:
        """Follows a slot from a cursor on: one of a batch, "0" for the oldest kept, "" for from now on. For a
        slot that is followed already: goes on from there instead."""
        raise NotImplementedError

    def remove(self, slot: int) -> None:
        """Follows the slot no longer; no batch of it is delivered from now on."""
        raise NotImplementedError

    def cursors(self) -> Mapping[int, str]:
        """Slot -> cursor after what was delivered."""
        raise NotImplementedError

    def __aiter__(self) -> SlotReader:
        return self

    async def __anext__(self) -> SlotEvents:
        """The next batch; waits for one. Ends after `close`."""
        raise NotImplementedError

    def take(self) -> list[SlotEvents]:
        """All batches that are there now, without waiting: for writing several slots in one turn."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the reader."""
        raise NotImplementedError
