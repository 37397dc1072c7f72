"""The stable hash behind slots: the same in this file, in the core (`voicecore.hash`) and in stored data,
for good.

Python's own `hash` is salted per process. This file is what the mesh computes with (a slot costs some
microseconds); the core's twin is for paths that hash each packet, and a test compares the two.
"""

from __future__ import annotations

_OFFSET = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_MASK = (1 << 64) - 1
MAX_SLOTS = 1 << 20
"""Largest slot count of a family."""


def fnv1a64(key: str | bytes) -> int:
    """FNV-1a, 64 bits, of the key's bytes (text as UTF-8)."""
    value = _OFFSET
    for byte in key.encode() if isinstance(key, str) else key:
        value = (value ^ byte) * _PRIME & _MASK
    return value


def mix64(value: int) -> int:
    """The finaliser of splitmix64: every input bit moves every output bit. FNV alone leaves the high bits
    of short keys poor."""
    value &= _MASK
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)


def slot(key: str | bytes, count: int) -> int:
    """Slot of a key, 0 <= slot < count. ValueError when count is not in 1 … 1,048,576."""
    if not 1 <= count <= MAX_SLOTS:
        raise ValueError(f"count {count}: must be 1 to {MAX_SLOTS}")
    return mix64(fnv1a64(key)) % count
