"""Allocation is even, deterministic, and moves no more than it must."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.allocation import Slot, allocate, quotas, score

NAMES = st.integers(0, 40).map(lambda number: f"sip_cluster-{number}.{number * 2654435761 % 2**32:08x}")
NODES = st.sets(NAMES, min_size=1, max_size=9)
COUNTS = st.integers(0, 120)
few = settings(max_examples=50, deadline=None)


def _even(result: dict[Slot, str], nodes: set[str], slots: int) -> bool:
    loads = Counter(result.values())
    return all(loads[node] in (slots // len(nodes), -(-slots // len(nodes))) for node in nodes)


@few
@given(COUNTS, NODES)
def test_every_slot_has_a_node_and_loads_are_even(count: int, nodes: set[str]) -> None:
    result = allocate(range(count), nodes)
    assert result.keys() == set(range(count))
    assert _even(result, nodes, count)


@few
@given(COUNTS, NODES, st.randoms(use_true_random=False))
def test_it_does_not_depend_on_any_order(count: int, nodes: set[str], shuffle: random.Random) -> None:
    slots, names = list(range(count)), list(nodes)
    shuffle.shuffle(slots)
    shuffle.shuffle(names)
    assert allocate(slots, names) == allocate(range(count), sorted(nodes))


@few
@given(COUNTS, NODES)
def test_what_is_right_stays(count: int, nodes: set[str]) -> None:
    result = allocate(range(count), nodes)
    assert allocate(range(count), nodes, result) == result


@few
@given(COUNTS, NODES, NAMES)
def test_a_join_moves_its_share_to_the_joiner_and_nothing_else(
    count: int, nodes: set[str], joiner: str
) -> None:
    before = allocate(range(count), nodes - {joiner} or {"somebody"})
    after = allocate(range(count), (nodes - {joiner} or {"somebody"}) | {joiner}, before)
    moved = {slot for slot in before if before[slot] != after[slot]}
    assert all(after[slot] == joiner for slot in moved)
    assert _even(after, set(nodes - {joiner} or {"somebody"}) | {joiner}, count)


@few
@given(COUNTS, NODES, st.data())
def test_a_death_moves_the_dead_nodes_slots_only(count: int, nodes: set[str], data: st.DataObject) -> None:
    dead = data.draw(st.sampled_from(sorted(nodes)))
    before = allocate(range(count), nodes)
    rest = nodes - {dead}
    after = allocate(range(count), rest, before)
    assert after == {} if not rest else _even(after, rest, count)
    assert all(after[slot] == before[slot] for slot in after if before[slot] != dead)


@few
@given(COUNTS, NODES, st.dictionaries(st.integers(0, 119), NAMES))
def test_whatever_the_claims_are_the_outcome_is_even(
    count: int, nodes: set[str], found: dict[int, str]
) -> None:
    claims: dict[Slot, str] = {slot: node for slot, node in found.items() if slot < count}
    result = allocate(range(count), nodes, claims)
    assert result.keys() == set(range(count))
    assert _even(result, nodes, count)
    held = Counter(claims.values())
    room = sum(min(quota, held[node]) for node, quota in quotas(nodes, held, count).items())
    kept = sum(result[slot] == node for slot, node in claims.items())
    assert kept == room, "a slot moved that could have stayed"


@few
@given(st.sets(st.from_regex(r"[a-z][a-z0-9-]{1,8}", fullmatch=True), max_size=30), NODES)
def test_slots_may_be_names(keys: set[str], nodes: set[str]) -> None:
    result = allocate(sorted(keys), nodes)
    assert result.keys() == keys
    assert _even(result, nodes, len(keys))


def test_first_choices_are_rendezvous() -> None:
    nodes = ["a", "b", "c"]
    result = allocate(range(30), nodes)
    first = [slot for slot in range(30) if result[slot] == max(nodes, key=lambda node: score(slot, node))]
    assert len(first) > 20


def test_without_nodes_there_is_nothing() -> None:
    assert allocate(range(4), []) == {}
    assert quotas([], {}, 4) == {}


def test_known_allocation_stays() -> None:
    """All nodes of a rolling upgrade must agree on this."""
    assert allocate(range(8), ["n-0.aaaaaaaa", "n-1.bbbbbbbb"]) == KNOWN


FIRST, SECOND = "n-0.aaaaaaaa", "n-1.bbbbbbbb"
KNOWN = dict(enumerate([SECOND, SECOND, SECOND, FIRST, FIRST, FIRST, FIRST, SECOND]))
