"""What nodes decide about slots, alone and together: a small world of nodes, one register of claims, any schedule."""

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.allocation import Slot
from mesh.handover import Claim, Effect, Give, Peer, Take, View, complete, decide


def _view(peers: list[Peer], claims: Mapping[Slot, Claim] | None = None) -> View:
    view = View(1, {peer.incarnation: peer for peer in peers})
    view.claims.update(claims or {})
    return view


A, B, C = (Peer(name, lease) for name, lease in (("a", 1), ("b", 2), ("c", 3)))
ALL_A: dict[Slot, Claim] = {slot: Claim("a", 10 + slot, 1) for slot in range(6)}


def test_a_lone_node_takes_everything_once_settled() -> None:
    assert decide(_view([A]), "a", range(4), [], settled=False) == []
    assert decide(_view([A]), "a", range(4), [], settled=True) == [Take((0, 1, 2, 3))]


def test_without_its_own_record_a_node_does_nothing() -> None:
    assert decide(_view([B]), "a", range(4), [], settled=True) == []
    assert decide(_view([B], ALL_A), "a", range(6), range(6), settled=True) == []


def test_two_new_nodes_take_disjoint_halves() -> None:
    view = _view([A, B])
    [one], [other] = (decide(view, me, range(10), [], settled=True) for me in ("a", "b"))
    assert isinstance(one, Take)
    assert isinstance(other, Take)
    assert len(one.slots) == len(other.slots) == 5
    assert sorted(one.slots + other.slots, key=int) == list(range(10))


def test_a_joiner_is_given_its_share() -> None:
    view = _view([A, B], ALL_A)
    [give] = decide(view, "a", range(6), range(6), settled=True)
    assert isinstance(give, Give)
    assert give.target == B
    assert len(give.slots) == 3
    assert all(ALL_A[slot].epoch == epoch for slot, epoch in give.slots)
    assert decide(view, "b", range(6), [], settled=True) == []


def test_a_node_that_does_not_take_part_yet_is_given_nothing() -> None:
    starting = Peer("b", 2, takes=False)
    assert decide(_view([A, starting], ALL_A), "a", range(6), range(6), settled=True) == []
    assert decide(_view([starting]), "b", range(6), [], settled=True) == []


def test_what_is_not_served_is_not_given_away() -> None:
    assert decide(_view([A, B], ALL_A), "a", range(6), [], settled=True) == []


def test_a_draining_node_gives_everything_away_and_takes_nothing() -> None:
    leaving = Peer("a", 1, takes=False)
    claims: dict[Slot, Claim] = {slot: ALL_A[slot] for slot in range(4)}
    effects = decide(_view([leaving, B, C], claims), "a", range(6), range(4), settled=True)
    gives = [effect for effect in effects if isinstance(effect, Give)]
    assert len(gives) == len(effects) == 2
    assert sorted(slot for give in gives for slot, _ in give.slots) == [0, 1, 2, 3]


def test_a_draining_node_without_heirs_keeps_what_it_has() -> None:
    leaving = [Peer("a", 1, takes=False), Peer("b", 2, takes=False)]
    assert decide(_view(leaving, ALL_A), "a", range(6), range(6), settled=True) == []


def test_a_claim_of_a_node_that_is_gone_is_not_taken_before_it_ends() -> None:
    claims: dict[Slot, Claim] = {0: Claim("ghost", 5, 9)}
    [take] = decide(_view([A], claims), "a", range(2), [], settled=True)
    assert take == Take((1,))


def test_a_slot_that_is_claimed_belongs_even_when_its_key_is_not_known_here() -> None:
    claims: dict[Slot, Claim] = {"t9": Claim("b", 5, 2)}
    assert decide(_view([A, B], claims), "a", ["t1"], [], settled=True) == [Take(("t1",))]
    assert decide(_view([A, B], claims), "b", [], ["t9"], settled=True) == []


def test_complete_means_that_everybody_is_owned_by_somebody_alive() -> None:
    claims: dict[Slot, Claim] = {0: Claim("a", 1, 1), 1: Claim("ghost", 2, 9)}
    assert not complete(_view([A], claims), range(2))
    assert complete(_view([A, Peer("ghost", 9)], claims), range(2))
    assert complete(_view([]), [])


class World:
    """One register of claims as etcd keeps it; nodes with views that lag; effects that come late, twice or never."""

    def __init__(self, slots: int, seed: int) -> None:
        self.slots = range(slots)
        self.random = random.Random(seed)
        self.truth = View(revision=1)
        self.views: dict[str, View] = {}
        self.pending: list[tuple[str, Effect]] = []

    def join(self, name: str) -> None:
        self.truth.revision += 1
        self.truth.peers[name] = Peer(name, self.truth.revision)
        self.views[name] = View()

    def drain(self, name: str) -> None:
        if name in self.truth.peers:
            self.truth.revision += 1
            self.truth.peers[name] = Peer(name, self.truth.peers[name].lease, takes=False)

    def die(self, name: str) -> None:
        if self.truth.peers.pop(name, None):
            self.truth.revision += 1
            self.truth.claims = {slot: c for slot, c in self.truth.claims.items() if c.node != name}
            del self.views[name]
            self.pending = [(who, effect) for who, effect in self.pending if who != name]

    def look(self, name: str) -> None:
        """The node's watch catches up, and the node decides."""
        if name not in self.views:
            return
        view = self.views[name] = View(self.truth.revision, dict(self.truth.peers), dict(self.truth.claims))
        mine = [slot for slot, claim in view.claims.items() if claim.node == name]
        self.pending += [(name, effect) for effect in decide(view, name, self.slots, mine, settled=True)]

    def perform(self, name: str, effect: Effect) -> None:
        """A guarded transaction: all or nothing."""
        claims, peers = self.truth.claims, self.truth.peers
        if isinstance(effect, Take):
            fits = all(slot not in claims for slot in effect.slots) and name in peers
            owner, slots = name, list(effect.slots)
        else:
            fits = (
                all(slot in claims and claims[slot].epoch == epoch for slot, epoch in effect.slots)
                and peers.get(effect.target.incarnation) == effect.target
            )
            owner, slots = effect.target.incarnation, [slot for slot, _ in effect.slots]
        if fits:
            self.truth.revision += 1
            for slot in slots:
                claims[slot] = Claim(owner, self.truth.revision, peers[owner].lease)

    def some_effect(self) -> None:
        if self.pending:
            at = self.random.randrange(len(self.pending))
            name, effect = self.pending[at]
            if self.random.random() < 0.8:  # else it comes again later
                self.pending.pop(at)
            if name in self.views and self.random.random() < 0.9:  # else it never arrived
                self.perform(name, effect)

    def quiet(self) -> int:
        """Nothing goes wrong any more; rounds until nobody wants anything."""
        for rounds in range(50):
            self.pending = []
            for name in list(self.views):
                self.look(name)
            if not self.pending:
                return rounds
            for name, effect in self.pending:
                self.perform(name, effect)
        raise AssertionError("never at rest")


STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "drain", "die", "look", "look", "act", "act"]), st.integers(0, 4)),
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(0, 64), st.integers(0, 2**32))
def test_any_schedule_comes_to_rest_even_and_complete(
    steps: list[tuple[str, int]], slots: int, seed: int
) -> None:
    world = World(slots, seed)
    joined = 0
    for what, number in steps:
        name = f"n{number}"
        if what == "join":
            joined += 1
            world.join(f"n{number}.{joined}")
        elif what == "act":
            world.some_effect()
        else:
            for known in [known for known in world.truth.peers if known.startswith(f"{name}.")]:
                getattr(world, what)(known)
    world.join("last.0")
    world.quiet()
    able = [peer.incarnation for peer in world.truth.peers.values() if peer.takes]
    loads = [sum(claim.node == name for claim in world.truth.claims.values()) for name in able]
    assert sum(loads) == slots
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize(("nodes", "slots"), [(1, 1024), (3, 1024), (7, 256)])
def test_a_clean_start_needs_one_round(nodes: int, slots: int) -> None:
    world = World(slots, 0)
    for number in range(nodes):
        world.join(f"n{number}")
    assert world.quiet() == 1
