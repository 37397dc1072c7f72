"""What a slot reader has given once it gives no second time."""

from __future__ import annotations

from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.rq.slot_reader import STREAMS, _Slot


def event(key: str, seq: int, epoch: int = 1) -> EventEnvelope:
    return EventEnvelope(stream_key=key, seq=seq, epoch=epoch)


def given(slot: _Slot, *events: EventEnvelope) -> list[tuple[str, int, int]]:
    return [(e.stream_key, e.seq, e.epoch) for e in slot.fresh(events)]


def test_events_sent_again_behind_what_was_lost_are_dropped() -> None:
    slot = _Slot(1, "0", "0")
    assert given(slot, event("a", 1), event("b", 7), event("a", 2)) == [("a", 1, 1), ("b", 7, 1), ("a", 2, 1)]
    assert given(slot, event("a", 1), event("a", 2), event("b", 7), event("a", 3)) == [("a", 3, 1)]


def test_what_a_new_owner_tells_is_the_consumers_to_judge() -> None:
    slot = _Slot(1, "0", "0")
    assert given(slot, event("a", 5, epoch=2)) == [("a", 5, 2)]
    assert given(slot, event("a", 4, epoch=3), event("a", 5, epoch=3)) == [("a", 4, 3), ("a", 5, 3)]
    assert given(slot, event("a", 5, epoch=3), event("a", 5, epoch=2)) == []


def test_only_streams_of_late_are_remembered() -> None:
    slot = _Slot(1, "0", "0")
    for number in range(STREAMS):
        slot.fresh([event(f"s{number}", 1)])
    slot.fresh([event("s0", 2)])  # it is of late again
    slot.fresh([event("one more", 1)])
    assert len(slot.last) == STREAMS
    assert "s0" in slot.last
    assert "s1" not in slot.last
