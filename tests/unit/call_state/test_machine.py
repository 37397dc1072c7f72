"""Folding call threads: the models of the domain facts, and properties under repeats, portions and cuts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from services.call_state.events import told
from services.call_state.machine import MISSING_KEPT, Call, Kind, Outcome, Party, PartyState, Thread, Told
from services.call_state.policy import agent_subject
from services.call_state.record import message, pack, state_hash, unpack
from tests.integration.call_state.story import Story, kv


def fold(envelopes: list[EventEnvelope], thread: Thread | None = None) -> Thread:
    made = thread or Thread(envelopes[0].stream_key, envelopes[0].tenant)
    for envelope in envelopes:
        assert made.fold(told(envelope)) is Outcome.FOLDED
    return made


def parties(call: Call) -> dict[str, tuple[int, bool]]:
    """DN -> (state, there)."""
    return {party.dn: (party.state, not party.released_us) for party in call.parties}


def test_an_inbound_call_routed_to_an_agent() -> None:
    story = Story(1).routed("A1", "7001")
    call = fold(story.envelopes).calls[0]
    assert (call.call_type, call.ani, call.dnis, call.call_uuid) == (2, "5551000", "8000", story.thread)
    assert parties(call) == {
        "5551000": (PartyState.DIALING, True),
        "8000": (PartyState.ROUTING, False),
        "7001": (PartyState.CONNECTED, True),
    }
    agent = call.parties[2]
    assert (agent.agent_id, agent.queue, agent.role, agent.party_id) == ("A1", "8000", 2, 3)
    assert agent.established_us > agent.since_us


def test_the_end_of_all_calls_ends_the_thread() -> None:
    story = Story(1).routed("A1", "7001").hung_up("A1", "7001")
    thread = fold(story.envelopes)
    assert thread.ended_us == story.envelopes[-1].time_us
    assert all(party.released_us for party in thread.calls[0].parties)


def test_a_transfer_moves_the_party_and_keeps_one_thread() -> None:
    story = Story(1).routed("A1", "7001").transferred(("A1", "A2"), ("7001", "7002"))
    thread = fold(story.envelopes)
    main, consult = thread.calls
    assert (main.conn_id, consult.conn_id) == (story.conn_id(1), story.conn_id(2))
    assert parties(main)["7002"] == (PartyState.CONNECTED, True)
    assert parties(main)["7001"] == (PartyState.HELD, False)
    assert main.parties[2].call_state == 1
    assert "7002" not in parties(consult)
    assert consult.deleted_us
    assert not thread.ended_us


def test_a_conference_adds_and_removes_parties() -> None:
    story = Story(1).routed("A1", "7001")
    story.tell("PARTY_ADDED", "7001", other_dn="7003", other_dn_role=4)
    story.tell("PARTY_ADDED", "5551000", other_dn="7003", other_dn_role=4)
    story.tell("PARTY_DELETED", "7001", other_dn="7003", call_state=0)
    call = fold(story.envelopes[:-1]).calls[0]
    assert [party.dn for party in call.parties].count("7003") == 1
    assert parties(call)["7003"] == (PartyState.CONNECTED, True)
    assert parties(fold(story.envelopes).calls[0])["7003"][1] is False


def test_a_busy_destination_and_a_caller_who_gives_up() -> None:
    story = Story(1)
    story.tell("CALL_CREATED")
    story.tell("DIALING", "7001", this_dn_role=1)
    story.tell("DESTINATION_BUSY", "7001", call_state=6)
    assert parties(fold(story.envelopes).calls[0])["7001"] == (PartyState.BUSY, True)
    other = Story(2)
    other.tell("QUEUED", "8000", this_queue="8000")
    other.tell("ABANDONED", "8000")
    assert parties(fold(other.envelopes).calls[0])["8000"] == (PartyState.QUEUED, False)


def test_an_event_that_says_nothing_of_a_call_only_counts() -> None:
    story = Story(1)
    story.tell("CALL_CREATED")
    before = message(fold(list(story.envelopes)))
    story.tell("USER_EVENT", "7001")
    after = message(fold(story.envelopes))
    assert after.last_seq == before.last_seq + 1
    assert after.calls == before.calls


def test_a_gap_changes_nothing_until_it_is_filled_or_given_up() -> None:
    story = Story(1).routed("A1", "7001")
    thread = fold(story.envelopes[:4])
    before = state_hash(message(thread))
    assert thread.fold(told(story.envelopes[6])) is Outcome.GAP
    assert state_hash(message(thread)) == before
    assert thread.skip(story.envelopes[6].seq) == 2
    assert thread.fold(told(story.envelopes[6])) is Outcome.FOLDED
    assert thread.missing == [5, 6]
    assert thread.skip(3) == 0


def test_however_many_are_missing_only_so_many_are_remembered() -> None:
    thread = Thread("t", "t1")
    assert thread.skip(10**12) == 10**12 - 1
    assert len(thread.missing) == MISSING_KEPT
    assert thread.skip(10**12 + 5) == 5
    assert len(thread.missing) == MISSING_KEPT


def test_a_deleted_call_stays_as_it_was() -> None:
    story = Story(1).routed("A1", "7001").hung_up("A1", "7001")
    story.tell("RINGING", "7009")
    call = fold(story.envelopes).calls[0]
    assert "7009" not in parties(call)


@pytest.mark.parametrize(
    ("kind", "agent", "wanted"),
    [
        (Kind.RINGING, "A1", "agent:A1"),
        (Kind.RELEASED, "A1", "agent:A1"),
        (Kind.RINGING, "", None),
        (Kind.CALL_PARTY_ADDED, "A1", None),
        (None, "A1", None),
    ],
)
def test_which_events_agents_are_told(kind: Kind | None, agent: str, wanted: str | None) -> None:
    assert agent_subject(Told(1, 1, kind, agent_id=agent)) == wanted


STORY = Story(7).routed("A1", "7001").transferred(("A1", "A2"), ("7001", "7002"))
STORY.tell("ATTACHED_DATA_CHANGED", "7002", user_data=kv(a="1"))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.9))
def test_repeats_in_any_portion_give_the_same_state(seed: int, repeat: float) -> None:
    rng = random.Random(seed)
    thread = Thread(STORY.thread, "t1")
    for number, envelope in enumerate(STORY.envelopes):
        assert thread.fold(told(envelope)) is Outcome.FOLDED
        while rng.random() < repeat:
            old = STORY.envelopes[rng.randint(0, number)]
            assert thread.fold(told(old)) is Outcome.DUPLICATE
    assert state_hash(message(thread)) == state_hash(message(fold(STORY.envelopes)))


@pytest.mark.parametrize("cut", range(len(STORY.envelopes) + 1))
def test_stored_and_restored_anywhere_it_goes_on_as_if_nothing_had_happened(cut: int) -> None:
    half = fold(STORY.envelopes[:cut]) if cut else Thread(STORY.thread, "t1")
    restored = unpack(pack(half))
    assert restored == half
    whole = fold(STORY.envelopes[cut:], restored) if STORY.envelopes[cut:] else restored
    assert whole == fold(STORY.envelopes)


@pytest.mark.parametrize("kind", Kind)
def test_every_event_is_safe_on_an_empty_thread(kind: Kind) -> None:
    thread = Thread("t", "t1")
    assert (
        thread.fold(Told(1, 5, kind, conn_id=9, this_dn="1", other_dn="2", previous_conn_id=8))
        is Outcome.FOLDED
    )
    assert unpack(pack(thread)) == thread
    assert thread.fold(Told(2, 6, kind)) is Outcome.FOLDED  # and without any attribute


def test_the_party_with_the_number_is_meant() -> None:
    call = Call(1, parties=[Party("7001", party_id=1), Party("7001", party_id=2)])
    found = call.party("7001", 1)
    assert found is not None
    assert found.party_id == 1
    assert call.party("7001") is call.parties[1]
