"""The hash is part of the stored format: its results never change, whichever twin computes them."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voicecore import hash as core

from mesh.stable_hash import fnv1a64, mix64, slot


@pytest.mark.parametrize(
    ("key", "value"),
    [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)],
)
def test_fnv_has_its_published_vectors(key: str, value: int) -> None:
    """From the FNV reference distribution (64-bit FNV-1a)."""
    assert fnv1a64(key) == value


def test_mix_is_splitmix64() -> None:
    """First output of splitmix64 with seed 0 is mix64 of its increment."""
    assert mix64(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_known_slots_stay() -> None:
    assert [slot(key, 256) for key in ("t1:agent:1001", "t1:dn:2001", "")] == [233, 188, 155]


@pytest.mark.parametrize("count", [0, -1, 1_048_577])
def test_a_count_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="count"):
        slot("a", count)


def test_slots_are_even() -> None:
    per_slot = Counter(slot(f"t1:agent:{number}", 256) for number in range(25_600))
    assert len(per_slot) == 256
    assert max(per_slot.values()) < 160
    assert min(per_slot.values()) > 50


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(1, 1024))
def test_the_core_computes_the_same(key: str, count: int) -> None:
    assert core.slot(key, count) == slot(key, count)
    assert core.fnv1a64(key) == fnv1a64(key)
    assert core.mix64(count) == mix64(count)
