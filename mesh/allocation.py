"""Which node should have which slot: rendezvous hashing, capped so that load is even, moving no more than
needed.

Every node computes this for itself from the same watch, so it is a pure function of what the watch shows;
for a moment their views may differ, which the guards of the claims make harmless.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mesh.stable_hash import fnv1a64, mix64

Slot = int | str


def score(slot: Slot, node: str) -> int:
    """Rendezvous score: the node with the highest one is a slot's first choice."""
    return mix64(fnv1a64(str(slot)) ^ mix64(fnv1a64(node)))


def quotas(nodes: Collection[str], held: Mapping[str, int], slots: int) -> dict[str, int]:
    """How many slots each node should have: floor or ceil of slots/nodes. Those that hold most have the
    ceil."""
    if not nodes:
        return {}
    floor, extra = divmod(slots, len(nodes))
    order = sorted(nodes, key=lambda node: (-held.get(node, 0), node))
    return {node: floor + (1 if place < extra else 0) for place, node in enumerate(order)}


def allocate(
    slots: Collection[Slot], nodes: Collection[str], claims: Mapping[Slot, str] | None = None
) -> dict[Slot, str]:
    """The node that should have each slot; empty without nodes.

    `claims` says who has a slot now. A node of `nodes` keeps what it has up to its quota (its best by score);
    everything else goes to the best node by score that has room. So a node that leaves moves its own slots
    only, and one that joins gets its share and nothing else moves.
    """
    holders: dict[str, list[Slot]] = {node: [] for node in nodes}
    free: list[Slot] = []
    for slot in slots:
        holders.get((claims or {}).get(slot, ""), free).append(slot)
    room = quotas(nodes, {node: len(held) for node, held in holders.items()}, len(slots))
    if not room:
        return {}
    result: dict[Slot, str] = {}
    for node, held in holders.items():
        if len(held) > room[node]:
            held.sort(key=lambda slot, node=node: (-score(slot, node), str(slot)))  # type: ignore[misc]
            free.extend(held[room[node] :])
        kept = held[: room[node]]
        result.update(dict.fromkeys(kept, node))
        room[node] -= len(kept)
    _place(free, room, result)
    return result


def _place(free: Iterable[Slot], room: dict[str, int], result: dict[Slot, str]) -> None:
    """Best pairs first, whoever asks and in whatever order the slots came: a stable matching under the
    caps."""
    mixed = {node: mix64(fnv1a64(node)) for node, left in room.items() if left}
    pairs = [
        (mix64(key ^ node_key), str(slot), node, slot)
        for slot, key in ((slot, fnv1a64(str(slot))) for slot in free)
        for node, node_key in mixed.items()
    ]
    pairs.sort(key=lambda pair: pair[:3], reverse=True)
    for _, _, node, slot in pairs:
        if slot not in result and room[node]:
            result[slot] = node
            room[node] -= 1
