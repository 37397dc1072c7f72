"""Cursors survive the round trip, stay small, and refuse what is not theirs."""

from __future__ import annotations

import base64
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.front_end.cursor import MAX_TEXT, Cursor, CursorError, Family, decode, encode

places = st.tuples(st.sampled_from(Family), st.integers(0, 255))
positions = st.builds(lambda ms, n: f"{ms}-{n}", st.integers(0, 2**45), st.integers(0, 10**6))


@given(st.dictionaries(places, positions))
def test_round_trip(at: dict[tuple[Family, int], str]) -> None:
    assert decode(encode(at)) == at


@given(st.dictionaries(places, positions), st.data())
def test_positions_that_move_read_as_those_that_stand(
    at: dict[tuple[Family, int], str], data: st.DataObject
) -> None:
    cursor = Cursor(at)
    for _ in range(4):
        moved = data.draw(st.dictionaries(st.sampled_from(sorted(at)), positions)) if at else {}
        at |= moved
        cursor.move(moved)
        assert cursor.text() == encode(at)


def test_a_cursor_is_whole_when_every_place_has_a_position() -> None:
    cursor = Cursor({(Family.THREAD, 1): "5-0", (Family.AGENT, 1): ""})
    assert not cursor.whole
    cursor.move({(Family.AGENT, 1): "6-1"})
    assert cursor.whole
    assert decode(cursor.text()) == {(Family.THREAD, 1): "5-0", (Family.AGENT, 1): "6-1"}


def test_512_busy_slots_fit_the_contract() -> None:
    chance = random.Random(7)
    at = {
        (family, slot): f"{1_780_000_000_000 + chance.randrange(86_400_000)}-{chance.randrange(5000)}"
        for family in Family
        for slot in range(256)
    }
    assert len(encode(at)) < MAX_TEXT
    assert decode(encode(at)) == at


def test_the_start_of_a_slot_is_a_position() -> None:
    assert decode(encode({(Family.AGENT, 3): "0"})) == {(Family.AGENT, 3): "0-0"}


def _pack(raw: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(raw)).decode()


@pytest.mark.parametrize(
    "text",
    ["x", "not base64 !", "AAAA", "a" * 9000, _pack(b""), _pack(b"\x02"), _pack(b"\x01\x80"), _pack(b"\x01\x01"),
     _pack(b"\x01\x00\x00\x00"), _pack(b"\x01" + b"\xff" * 70000)],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorError):
        decode(text)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(raw: bytes) -> None:
    for text in (base64.urlsafe_b64encode(raw).decode(), _pack(b"\x01" + raw)):
        try:
            decode(text)
        except CursorError:
            continue
