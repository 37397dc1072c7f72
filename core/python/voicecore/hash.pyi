"""Stable hashes: slots of keys and rendezvous choice of nodes.

These functions are part of the stored format: slots of calls, threads and agents are computed with them, so
their results never change. `tests/unit/core/test_hash.py` holds vectors and a second implementation.
"""

from collections.abc import Sequence

__all__ = ["fnv1a64", "mix64", "rendezvous", "rendezvous_order", "slot"]

def fnv1a64(key: str | bytes) -> int:
    """FNV-1a, 64 bits, of the key's bytes (a str is taken as UTF-8)."""

def mix64(value: int) -> int:
    """The finaliser of splitmix64: every input bit moves every output bit. `value` is taken modulo 2**64."""

def slot(key: str | bytes, count: int) -> int:
    """Slot of a key: `mix64(fnv1a64(key)) % count`, 0 <= slot < count.

    Raises ValueError when count is not in 1..=1_048_576.
    """

def rendezvous(key: str | bytes, nodes: Sequence[str], weights: Sequence[float] | None = None) -> int | None:
    """Index of the node chosen for the key (highest random weight), None when no node has weight above 0.

    Score of node i: `-weight_i / ln(u)` with u = (mix64(fnv1a64(key) ^ mix64(fnv1a64(node_i))) >> 11 +
    0.5) / 2**53. Taking a node away moves only its keys; doubling a weight doubles its share. Weights
    default to 1.0. Raises ValueError when the lengths differ or a weight is negative or not finite.
    """

def rendezvous_order(
    key: str | bytes, nodes: Sequence[str], weights: Sequence[float] | None = None
) -> list[int]:
    """All nodes with weight above 0, best first: the order in which a key falls back from node to node."""
