"""User data of a call: ordered key-value pairs, duplicates legal, and the four requests that change them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

KvValue = "str | int | bytes | KvList | None"
KvList = tuple[tuple[str, "str | int | bytes | KvList | None"], ...]
"""Pairs in order; a value may be a list again."""


class Change(Enum):
    """What a request does (domain facts §1.5)."""

    ATTACH = "attach"
    """Appends the pairs, also when their keys are there."""
    UPDATE = "update"
    """Replaces the pairs of these keys where they stand, appends new ones."""
    DELETE_PAIR = "delete pair"
    """Removes the pairs of one key."""
    DELETE_ALL = "delete all"
    """Removes all pairs."""


@dataclass(frozen=True, slots=True)
class UserDataChange:
    """A user-data request."""

    change: Change
    pairs: KvList = ()
    key: str = ""


def changed(data: KvList, request: UserDataChange) -> KvList:
    """User data after a request."""
    if request.change is Change.ATTACH:
        return data + request.pairs
    if request.change is Change.DELETE_ALL:
        return ()
    if request.change is Change.DELETE_PAIR:
        return tuple(pair for pair in data if pair[0] != request.key)
    return _updated(data, request.pairs)


def _updated(data: KvList, pairs: KvList) -> KvList:
    fresh = dict(pairs)  # of a key that is given twice, the last counts
    there = {key for key, _ in data}
    placed: set[str] = set()
    kept: list[tuple[str, str | int | bytes | KvList | None]] = []
    for key, value in data:
        if key not in fresh:
            kept.append((key, value))
        elif key not in placed:
            placed.add(key)
            kept.append((key, fresh[key]))
    kept += [(key, value) for key, value in fresh.items() if key not in there]
    return tuple(kept)
