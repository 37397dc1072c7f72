"""What a node has to do about slots, decided from what it sees: a pure function, no etcd and no clock in
it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from mesh.allocation import Slot, allocate


@dataclass(frozen=True, slots=True)
class Peer:
    """A live node as its record shows it."""

    incarnation: str
    lease: int
    """Lease its record is under; a claim handed to it is put under the same."""
    takes: bool = True
    """Whether it may be given slots: it has started to take part, and is not draining."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who has a slot, since when."""

    node: str
    epoch: int
    lease: int


@dataclass(slots=True)
class View:
    """What the watch has shown up to `revision`."""

    revision: int = 0
    peers: dict[str, Peer] = field(default_factory=dict)
    claims: dict[Slot, Claim] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Take:
    """Claim these slots, which nobody has."""

    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Give:
    """Hand these slots over to `target`."""

    target: Peer
    slots: tuple[tuple[Slot, int], ...]
    """(slot, epoch of my claim)."""


Effect = Take | Give


def decide(
    view: View, me: str, keys: Collection[Slot], served: Collection[Slot], *, settled: bool
) -> list[Effect]:
    """What node `me` should do now; nothing when all is as it should be.

    `keys`: every slot of the family (slots that are claimed belong to it in any case). `served`: slots of
    mine that I serve; one that is still being acquired is not given away before. `settled`: whether I have
    been here long enough to claim free slots.
    """
    if me not in view.peers:
        return []  # my record is not there (any more): whatever I would claim, I could lose at once
    able = {name: peer for name, peer in view.peers.items() if peer.takes}
    wanted = _wanted(view, keys, able)
    effects: list[Effect] = []
    free = tuple(slot for slot in keys if slot not in view.claims and wanted.get(slot) == me)
    if free and settled:
        effects.append(Take(free))
    leaving: dict[str, list[tuple[Slot, int]]] = {}
    for slot in served:
        claim, heir = view.claims.get(slot), wanted.get(slot, me)
        if claim is not None and claim.node == me and heir != me:
            leaving.setdefault(heir, []).append((slot, claim.epoch))
    effects += [Give(able[heir], tuple(slots)) for heir, slots in leaving.items()]
    return effects


def _wanted(view: View, keys: Collection[Slot], able: Mapping[str, Peer]) -> dict[Slot, str]:
    every = dict.fromkeys(keys)
    every.update(dict.fromkeys(view.claims))
    return allocate(every, able, {slot: claim.node for slot, claim in view.claims.items()})


def complete(view: View, keys: Collection[Slot]) -> bool:
    """Whether every slot has a live owner."""
    return all(slot in view.claims and view.claims[slot].node in view.peers for slot in keys)
