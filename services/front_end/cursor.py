"""Where a client is in the event streams of its tenant: one text for the positions in every slot of both families.

Positions are ids of Redis stream entries, "<milliseconds>-<number>". The text is URL-safe base64 of a deflated list of
(family and slot, position) with differences as varints, so that 512 slots stay well under the 8 KiB of the contract.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum

MAX_TEXT = 8192
"""Longest cursor, characters."""
MAX_SLOTS = 256
"""Slots of a family."""
_VERSION = 1


class Family(IntEnum):
    """Stream family, with the numbers of the contract."""

    THREAD = 1
    AGENT = 2


Place = tuple[Family, int]
"""A slot of a family."""
Positions = Mapping[Place, str]


class CursorError(ValueError):
    """A text that is no cursor of ours."""


class Cursor:
    """Positions and their text, kept while they move: a step costs the places it touches, not all 512.

    Positions must read "<milliseconds>-<number>" (or "0", the start of a slot) when the text is asked for.
    """

    def __init__(self, positions: Positions) -> None:
        self._places = sorted(positions)
        self._rank = {place: rank for rank, place in enumerate(self._places)}
        self._at = [positions[place] for place in self._places]
        self._parts = [b""] * len(self._at)
        self._stale = set(range(len(self._at)))

    @property
    def whole(self) -> bool:
        """Whether every place has a position."""
        return all(self._at)

    def move(self, positions: Positions) -> None:
        """The positions of some of the places."""
        for place, position in positions.items():
            rank = self._rank[place]
            self._at[rank] = position
            self._stale.update((rank, rank + 1))  # the next one is told by its difference

    def text(self) -> str:
        """The cursor."""
        self._stale.discard(len(self._at))
        for rank in self._stale:
            self._parts[rank] = self._part(rank)
        self._stale.clear()
        packed = zlib.compress(bytes([_VERSION]) + b"".join(self._parts), 6)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    def _part(self, rank: int) -> bytes:
        ms, number = _numbers(self._at[rank])
        before_key, before_ms = (self._key(rank - 1), _numbers(self._at[rank - 1])[0]) if rank else (0, 0)
        return _varint(self._key(rank) - before_key) + _varint(_zigzag(ms - before_ms)) + _varint(number)

    def _key(self, rank: int) -> int:
        family, slot = self._places[rank]
        return family * MAX_SLOTS + slot


def encode(positions: Positions) -> str:
    """The cursor of positions that do not move."""
    return Cursor(positions).text()


def _numbers(position: str) -> tuple[int, int]:
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)


def decode(text: str) -> dict[Place, str]:
    """The positions. Raises CursorError for anything `encode` did not make."""
    if len(text) > MAX_TEXT:
        raise CursorError(f"a cursor has at most {MAX_TEXT} characters")
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        inflate = zlib.decompressobj()
        raw = inflate.decompress(packed, 65536)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise CursorError("not a cursor of this service") from error
    if not raw or raw[0] != _VERSION or inflate.unconsumed_tail:
        raise CursorError("not a cursor of this service")
    return dict(_entries(list(_integers(raw[1:]))))


def _entries(numbers: list[int]) -> Iterator[tuple[Place, str]]:
    if len(numbers) % 3:
        raise CursorError("not a cursor of this service")
    key = ms = 0
    for at in range(0, len(numbers), 3):
        key += numbers[at]
        ms += _unzigzag(numbers[at + 1])
        family, slot = divmod(key, MAX_SLOTS)
        if family not in (Family.THREAD, Family.AGENT) or ms < 0:
            raise CursorError("not a cursor of this service")
        yield (Family(family), slot), f"{ms}-{numbers[at + 2]}"


def _zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def _unzigzag(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value + 1) // 2


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integers(raw: Iterable[int]) -> Iterator[int]:
    value = shift = 0
    open_ = False
    for byte in raw:
        value |= (byte & 0x7F) << shift
        open_ = bool(byte & 0x80)
        shift += 7
        if not open_:
            yield value
            value = shift = 0
    if open_:
        raise CursorError("not a cursor of this service")
