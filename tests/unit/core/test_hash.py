"""Hashes are part of the stored format: vectors, and a second implementation in plain Python."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voicecore import hash as stable

MASK = (1 << 64) - 1


def fnv(key: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in key:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def score(key: bytes, node: str, weight: float) -> float:
    unit = ((mix(fnv(key) ^ mix(fnv(node.encode()))) >> 11) + 0.5) / (1 << 53)
    return -weight / math.log(unit)


def test_vectors() -> None:
    assert stable.fnv1a64(b"") == 0xCBF29CE484222325
    assert stable.fnv1a64("foobar") == 0x85944171F73967E8
    assert stable.mix64(1) == 0x5692161D100B05E5
    assert [stable.slot(key, 1024) for key in ("a", "tenant:agent:7", "é")] == [
        mix(fnv(key.encode())) % 1024 for key in ("a", "tenant:agent:7", "é")
    ]


@given(st.binary(max_size=64), st.integers(1, 1_048_576))
def test_slot_is_the_documented_function(key: bytes, count: int) -> None:
    assert stable.slot(key, count) == mix(fnv(key)) % count


@given(st.binary(min_size=1, max_size=32), st.lists(st.floats(0, 10), min_size=1, max_size=8))
def test_rendezvous_is_the_documented_function(key: bytes, weights: list[float]) -> None:
    nodes = [f"node-{index}" for index in range(len(weights))]
    scored = [
        (score(key, node, weight), -index)
        for index, (node, weight) in enumerate(zip(nodes, weights, strict=True))
        if weight
    ]
    wanted = [-place for _, place in sorted(scored, reverse=True)]
    assert stable.rendezvous_order(key, nodes, weights) == wanted
    assert stable.rendezvous(key, nodes, weights) == (wanted[0] if wanted else None)


@given(st.text(max_size=20))
def test_losing_a_node_moves_only_its_keys(key: str) -> None:
    nodes = ["a", "b", "c", "d"]
    chosen = stable.rendezvous(key, nodes)
    without = stable.rendezvous(key, nodes, [1.0, 0.0, 1.0, 1.0])
    assert chosen == 1 or chosen == without


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="count"):
        stable.slot("x", 0)
    with pytest.raises(ValueError, match="weights"):
        stable.rendezvous("x", ["a"], [1.0, 2.0])
    with pytest.raises(ValueError, match="weights"):
        stable.rendezvous("x", ["a"], [-1.0])
