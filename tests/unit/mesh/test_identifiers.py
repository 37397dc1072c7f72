"""Identifiers carry their slot, and nothing that is not ours addresses one."""

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh import identifiers as ids

REGIONS = st.integers(0, 63)
SLOTS = st.integers(0, 1023)
TIMES = st.integers(ids.EPOCH_MS, ids.EPOCH_MS + (1 << 36) * 10 - 1)
UUID = "0193f5e0-8400-8401-8000-00000000002a"


@settings(deadline=None)
@given(REGIONS, SLOTS, TIMES, st.integers(0, 255))
def test_conn_id_carries_what_it_was_made_of(region: int, slot: int, now_ms: int, random: int) -> None:
    conn_id = ids.new_conn_id(region, slot, now_ms, random)
    assert 0 < conn_id < 1 << 64
    assert ids.region_of_conn_id(conn_id) == region
    assert ids.sip_slot_of_conn_id(conn_id) == slot
    assert ids.time_of_conn_id(conn_id) == now_ms - (now_ms - ids.EPOCH_MS) % 10
    assert conn_id & 0xFF == random
    assert ids.parse_conn_id(ids.conn_id_text(conn_id)) == conn_id


@settings(deadline=None)
@given(REGIONS, SLOTS, st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 56) - 1))
def test_call_uuid_carries_what_it_was_made_of(region: int, slot: int, now_ms: int, random: int) -> None:
    text = ids.new_call_uuid(region, slot, now_ms, random)
    parsed = uuid.UUID(text)
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
    assert text == str(parsed)
    assert ids.region_of_call_uuid(text) == region
    assert ids.sip_slot_of_call_uuid(text) == slot
    assert ids.time_of_call_uuid(text) == now_ms
    assert parsed.int & ((1 << 56) - 1) == random


@settings(deadline=None)
@given(SLOTS, st.integers(0, (1 << 80) - 1))
def test_tags_and_branches_carry_the_slot(slot: int, random: int) -> None:
    assert ids.sip_slot_of_tag(ids.new_tag(slot, random)) == slot
    assert ids.sip_slot_of_branch(ids.new_branch(slot, random)) == slot
    assert ids.sip_slot_of_param(ids.slot_param(slot)) == slot


@settings(deadline=None)
@given(st.integers(0, (1 << 80) - 1), st.integers(0, (1 << 80) - 1))
def test_different_randomness_gives_different_tags(one: int, other: int) -> None:
    assert (ids.new_tag(7, one) == ids.new_tag(7, other)) == (one == other)


def test_layouts_are_as_documented() -> None:
    """Vectors of docs/identifiers.md: a change here is a new layout version, not a new expectation."""
    now = ids.EPOCH_MS + 1230
    assert f"{ids.new_conn_id(5, 0x2AB, now, 0x9C):016x}" == "116ab0000000" + "7b9c"
    assert ids.new_call_uuid(5, 0x2AB, 1_735_689_601_230, 1) == "01941f29-80ce-86ab-8500-000000000001"
    assert ids.new_tag(0x2AB, 31) == "v12ab-aaaaaaaaaaaaaaa7"
    assert ids.new_branch(1, 0) == "z9hG4bKv1001-aaaaaaaaaaaaaaaa"
    assert ids.session_id(UUID, 4) == f"{UUID}.4"
    assert ids.event_id("t1:dn:2001", 9) == "t1:dn:2001/9"


@pytest.mark.parametrize("conn_id", [0, -1, 1 << 64, 0x216AB00000000000, 0xFFFFFFFFFFFFFFFF])
def test_a_made_up_conn_id_addresses_nothing(conn_id: int) -> None:
    with pytest.raises(ids.BadIdentifier):
        ids.sip_slot_of_conn_id(conn_id)


@pytest.mark.parametrize(
    "text",
    ["", "x", str(uuid.UUID(int=0)), "c232ab00-9414-11ec-b3c8-9f6bdeced846", UUID.replace("-", "")],
)
def test_a_foreign_uuid_addresses_nothing(text: str) -> None:
    with pytest.raises(ids.BadIdentifier):
        ids.sip_slot_of_call_uuid(text)


@pytest.mark.parametrize(
    "tag", ["", "as5f3e2d", "v1-abc", "v13ff", "v1400-aaaa", "v2001-aaaa", "v1001-AAAA", "v1001-a\n"]
)
def test_a_foreign_tag_addresses_nothing(tag: str) -> None:
    with pytest.raises(ids.BadIdentifier):
        ids.sip_slot_of_tag(tag)


@pytest.mark.parametrize("branch", ["z9hG4bK-524287-1", "z9hG4bKv1fff-a", "z9hG4bKv1001-", "v1001-aaaa"])
def test_a_foreign_branch_addresses_nothing(branch: str) -> None:
    with pytest.raises(ids.BadIdentifier):
        ids.sip_slot_of_branch(branch)


@pytest.mark.parametrize("text", ["", "1", "400", "0x1", "3FF", "0000"])
def test_a_foreign_parameter_addresses_nothing(text: str) -> None:
    with pytest.raises(ids.BadIdentifier):
        ids.sip_slot_of_param(text)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((64, 0, 2_000_000_000_000, 0), "region"), ((0, 1024, 2_000_000_000_000, 0), "sip_slot")]
    + [((0, 0, 0, 0), "now_ms"), ((0, 0, 2_000_000_000_000, 256), "random")],
)
def test_what_does_not_fit_is_named(arguments: tuple[int, int, int, int], named: str) -> None:
    with pytest.raises(ids.BadIdentifier, match=named):
        ids.new_conn_id(*arguments)


def test_sessions_name_their_call() -> None:
    assert ids.call_of_session(ids.session_id(UUID, 12)) == (UUID, 12)
    for bad in ("", UUID, f"{UUID}.0", f"{UUID}.x", "call.1"):
        with pytest.raises(ids.BadIdentifier):
            ids.call_of_session(bad)
    with pytest.raises(ids.BadIdentifier):
        ids.session_id(UUID, 0)


@pytest.mark.parametrize(("name", "number"), [("local", 0), ("eu-7", 7), ("r63", 63), ("west2", 2)])
def test_a_region_has_a_number(name: str, number: int) -> None:
    assert ids.region_number(name) == number


def test_a_region_number_fits() -> None:
    with pytest.raises(ids.BadIdentifier):
        ids.region_number("r64")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_thread_and_agent_slots_are_in_range(key: str) -> None:
    assert 0 <= ids.thread_slot(key) < 256
    assert 0 <= ids.agent_slot("t1", f"agent:{key}") < 256
