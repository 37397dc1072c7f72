"""After-call work is told before Released, and nothing is told twice, lost, or held for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType

from services.front_end.cursor import Family
from services.front_end.order import COPIES, HELD, HOLD_US, Batch, Order, Told

T, A = (Family.THREAD, 3), (Family.AGENT, 9)
NOW = 10_000_000


def event(
    ident: str, kind: str = "RELEASED", *, agent: str = "a1", cause: str = "", at: int = NOW
) -> EventEnvelope:
    number = MessageType.Value(f"MESSAGE_TYPE_EVENT_{kind}")
    return EventEnvelope(
        event_id=ident, cause=cause, time_us=at, event=Event(event_type=number, agent_id=agent)
    )


def copy(ident: str) -> EventEnvelope:
    return event(f"copy of {ident}", cause=f"call:{ident}")


def ids(told: Told) -> list[str]:
    return [envelope.event_id for envelope in told.events]


def test_released_waits_and_is_told_in_the_place_of_its_copy() -> None:
    order = Order()
    first = order.take(Batch(T, [event("t/1", "ESTABLISHED"), event("t/2")], "5-0"), NOW)
    assert (ids(first), first.positions) == ([], {})
    agents = [event("a/7", "AGENT_NOT_READY"), copy("t/2"), event("a/9", "AGENT_READY")]
    told = order.take(Batch(A, agents, "6-0"), NOW)
    assert ids(told) == ["a/7", "copy of t/2", "t/1", "t/2", "a/9"]
    assert told.positions == {A: "6-0", T: "5-0"}
    assert order.due_us() is None


def test_a_copy_that_came_first_holds_nothing_back() -> None:
    order = Order()
    assert ids(order.take(Batch(A, [copy("t/2")], "6-0"), NOW)) == ["copy of t/2"]
    assert ids(order.take(Batch(T, [event("t/2")], "5-0"), NOW)) == ["t/2"]


def test_what_follows_in_the_slot_waits_behind_and_other_slots_do_not() -> None:
    order = Order()
    order.take(Batch(T, [event("t/2")], "5-0"), NOW)
    assert ids(order.take(Batch(T, [event("u/1", "RINGING")], "6-0"), NOW)) == []
    other = order.take(Batch((Family.THREAD, 4), [event("v/1", "RINGING")], "7-0"), NOW)
    assert ids(other) == ["v/1"]
    told = order.take(Batch(A, [copy("t/2")], "1-0"), NOW)
    assert ids(told) == ["copy of t/2", "t/2", "u/1"]
    assert told.positions == {A: "1-0", T: "6-0"}


def test_half_a_second_is_the_longest_wait() -> None:
    order = Order()
    order.take(Batch(T, [event("t/2")], "5-0"), NOW)
    order.take(Batch(T, [event("u/1", "RINGING")], "6-0"), NOW + 1)
    assert order.due_us() == NOW + HOLD_US
    assert ids(order.tick(NOW + HOLD_US - 1)) == []
    assert ids(order.tick(NOW + HOLD_US)) == ["t/2", "u/1"]
    assert ids(order.tick(NOW + 2 * HOLD_US)) == []


def test_an_old_released_and_one_without_an_agent_do_not_wait() -> None:
    order = Order()
    assert ids(order.take(Batch(T, [event("t/2", at=NOW - HOLD_US)], "5-0"), NOW)) == ["t/2"]
    assert ids(order.take(Batch(T, [event("t/3", agent="")], "6-0"), NOW)) == ["t/3"]


def test_memory_has_limits() -> None:
    order = Order()
    order.take(Batch(T, [event("t/1")], "1-0"), NOW)
    many = [event(f"u/{n}", "RINGING") for n in range(HELD)]
    assert len(order.take(Batch(T, many, "2-0"), NOW).events) == HELD + 1
    order.take(Batch(A, [copy(f"w/{n}") for n in range(COPIES + 1)], "1-0"), NOW)
    assert ids(order.take(Batch(T, [event("w/0")], "3-0"), NOW)) == []
    assert ids(order.take(Batch((Family.THREAD, 5), [event("w/1")], "3-0"), NOW)) == ["w/1"]


@given(
    st.lists(st.tuples(st.sampled_from(["release", "ring", "copy", "tick"]), st.integers(0, 3)), max_size=60)
)
def test_every_event_is_told_once_and_each_slot_in_order(steps: list[tuple[str, int]]) -> None:
    order, told, given_, now, copied = Order(), list[str](), dict[int, list[str]](), NOW, 0
    for number, (what, slot) in enumerate(steps):
        now += 1000
        place = (Family.THREAD, slot)
        if what in ("release", "ring"):
            kind = "RELEASED" if what == "release" else "RINGING"
            made = event(f"{slot}/{number}", kind, at=now)
            given_.setdefault(slot, []).append(made.event_id)
            told += ids(order.take(Batch(place, [made], f"{number + 1}-0"), now))
        elif what == "copy" and given_.get(slot):
            copied += 1
            told += ids(order.take(Batch(A, [copy(given_[slot][0])], f"{number + 1}-0"), now))
        else:
            told += ids(order.tick(now))
    told += ids(order.tick(now + HOLD_US))
    originals = [ident for ident in told if not ident.startswith("copy")]
    assert len(told) - len(originals) == copied
    for slot, expected in given_.items():
        assert [ident for ident in originals if ident.startswith(f"{slot}/")] == expected
