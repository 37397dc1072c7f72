"""User data: an ordered list of pairs in which a key may repeat (domain facts §1.5). Pure.

A list is a tuple of (key, value); a value is text, a whole number, bytes, or another such tuple. Lists are immutable, so
events and snapshots share them.
"""

from __future__ import annotations

from typing import TypeAlias, Union

Value: TypeAlias = Union[str, int, bytes, "KvList"]
KvList: TypeAlias = tuple[tuple[str, Value], ...]

MAX_BYTES = 65536
"""Largest user data of a call, bytes as encoded in voice.type.v1.KvList."""


class TooLarge(ValueError):
    """The change would let the user data grow over MAX_BYTES."""


def attach(data: KvList, pairs: KvList) -> KvList:
    """Appends the pairs; keys that are there stay beside them."""
    return _checked(data + pairs)


def update(data: KvList, pairs: KvList) -> KvList:
    """Replaces pairs by key and appends those that are new.

    A key's first place gets its new pairs, all of them when the request repeats the key; its other old pairs go.
    """
    wanted: dict[str, list[tuple[str, Value]]] = {}
    for pair in pairs:
        wanted.setdefault(pair[0], []).append(pair)
    result: list[tuple[str, Value]] = []
    placed: set[str] = set()
    for pair in data:
        key = pair[0]
        if key not in wanted:
            result.append(pair)
        elif key not in placed:
            placed.add(key)
            result.extend(wanted[key])
    for key, new in wanted.items():
        if key not in placed:
            result.extend(new)
    return _checked(tuple(result))


def delete(data: KvList, key: str) -> KvList:
    """Takes away every pair with the key."""
    return tuple(pair for pair in data if pair[0] != key)


def _checked(data: KvList) -> KvList:
    size = encoded_size(data)
    if size > MAX_BYTES:
        raise TooLarge(f"must have at most {MAX_BYTES} bytes, would have {size}")
    return data


def encoded_size(data: KvList) -> int:
    """Bytes of the list as a voice.type.v1.KvList on the wire."""
    return sum(_delimited(_pair_size(key, value)) for key, value in data)


def _pair_size(key: str, value: Value) -> int:
    size = _delimited(len(key.encode())) if key else 0
    if isinstance(value, str):
        return size + _delimited(len(value.encode()))
    if isinstance(value, bytes):
        return size + _delimited(len(value))
    if isinstance(value, int):
        return size + 1 + _varint(value)
    return size + _delimited(encoded_size(value))


def _delimited(length: int) -> int:
    """Tag byte, length and content of a length-delimited field with a number below 16."""
    return 1 + _varint(length) + length


def _varint(value: int) -> int:
    """Bytes of a varint; negative numbers take ten (two's complement of 64 bits)."""
    return 10 if value < 0 else max(1, (value.bit_length() + 6) // 7)
