"""Orphans: who is suspected, when a thread is given up, and what is told in the dead node's place."""

from __future__ import annotations

from voice.tlib.v1.message_type_pb2 import MessageType

from services.call_state.closing import ends
from services.call_state.events import Address, ended, told
from services.call_state.machine import Outcome, Thread
from services.call_state.record import pack, unpack
from services.call_state.suspicion import Suspicions
from tests.integration.call_state.story import Story
from tests.unit.call_state.test_machine import fold

S = 1_000_000


def thread(epoch: int = 5) -> Thread:
    return fold(Story(1, epoch=epoch).routed("A1", "7001").envelopes)


def close(of: Thread, epoch: int = 9) -> list[str]:
    """Folds what closes the thread; gives the names."""
    names = []
    for seq, end in enumerate(ends(of), of.last_seq + 1):
        envelope = ended(end, of, seq, epoch, 2_000_000_000_000_000, Address("local", "call_state-0.1"))
        assert envelope.event_id == f"{of.call_thread_id}/{seq}"
        names.append(MessageType.Name(envelope.event.event_type).removeprefix("MESSAGE_TYPE_EVENT_"))
        assert of.fold(told(envelope)) is Outcome.FOLDED
    return names


def test_a_routed_call_is_closed_for_its_agent_and_its_caller() -> None:
    orphan = thread()
    assert close(orphan) == ["CALL_PARTY_DELETED", "RELEASED", "CALL_PARTY_DELETED", "CALL_DELETED"]
    assert orphan.ended_us
    assert all(party.released_us for party in orphan.calls[0].parties)
    assert ends(orphan) == []


def test_the_agent_is_named_and_the_call_described() -> None:
    orphan = thread()
    released = next(end for end in ends(orphan) if end.kind == 65)
    event = ended(released, orphan, 13, 9, 7, Address("local", "n")).event
    assert (event.this_dn, event.agent_id, event.this_queue) == ("7001", "A1", "8000")
    assert (event.conn_id, event.call_uuid, event.call_state) == (
        orphan.calls[0].conn_id,
        orphan.call_thread_id,
        4,
    )


def test_a_caller_on_a_route_point_abandons_and_all_calls_of_the_thread_end() -> None:
    story = Story(2)
    story.tell("CALL_CREATED", call_type=2)
    story.tell("CALL_PARTY_ADDED", "8000", party_id=2, party_state=9)
    story.tell("QUEUED", "8000", this_queue="8000")
    assert close(fold(story.envelopes)) == ["ABANDONED", "CALL_PARTY_DELETED", "CALL_DELETED"]
    both = Story(3).routed("A1", "7001")
    both.tell("CALL_CREATED", call=2, call_type=4)
    both.tell("DIALING", "7001", call=2, agent_id="A1")
    names = close(fold(both.envelopes))
    assert names.count("CALL_DELETED") == 2
    assert names.count("RELEASED") == 2


def test_the_epoch_outlives_storage() -> None:
    assert unpack(pack(thread(7))).epoch == 7


def test_the_owner_that_told_the_thread_is_never_asked() -> None:
    suspicions, own = Suspicions(10 * S), thread(5)
    assert not any(suspicions.ask(own, 5, at * S) for at in range(0, 1000, 7))
    assert not any(suspicions.ask(own, 0, at * S) for at in range(0, 1000, 7))  # nobody has the slot
    assert len(suspicions) == 0


def test_an_heir_is_asked_after_the_grace_time_and_twice_before_the_thread_is_given_up() -> None:
    suspicions, own = Suspicions(10 * S), thread(5)
    assert not suspicions.ask(own, 8, 0)
    assert not suspicions.ask(own, 8, 10 * S - 1)
    assert suspicions.ask(own, 8, 10 * S)
    assert not suspicions.answered(own, 8, False, 10 * S)
    assert not suspicions.ask(own, 8, 20 * S - 1)
    assert suspicions.ask(own, 8, 20 * S)
    assert suspicions.answered(own, 8, False, 20 * S)


def test_an_heir_that_knows_the_call_is_not_asked_again_but_its_heir_is() -> None:
    suspicions, own = Suspicions(S), thread(5)
    suspicions.ask(own, 8, 0)
    assert suspicions.ask(own, 8, S)
    assert not suspicions.answered(own, 8, True, S)
    assert not suspicions.ask(own, 8, 1000 * S)
    assert not suspicions.ask(own, 11, 1000 * S)
    assert suspicions.ask(own, 11, 1001 * S)


def test_silence_and_a_change_of_owner_in_between_begin_anew() -> None:
    suspicions, own = Suspicions(S), thread(5)
    suspicions.ask(own, 8, 0)
    assert not suspicions.answered(own, 8, False, S)
    assert not suspicions.answered(own, 8, None, 2 * S)
    assert not suspicions.answered(own, 8, False, 3 * S)
    suspicions.ask(own, 9, 3 * S)
    assert not suspicions.answered(own, 8, False, 4 * S)
    assert not suspicions.answered(own, 9, False, 5 * S)
    assert suspicions.answered(own, 9, False, 6 * S)


def test_news_of_the_thread_end_the_suspicion() -> None:
    suspicions, own = Suspicions(S), thread(5)
    suspicions.ask(own, 8, 0)
    own.epoch = 8
    assert not suspicions.ask(own, 8, 10 * S)
    assert len(suspicions) == 0
    suspicions.ask(own, 9, 0)
    suspicions.keep(set())
    assert len(suspicions) == 0
