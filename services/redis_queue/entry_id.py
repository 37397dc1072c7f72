"""Ids of Redis stream entries, "<milliseconds>-<number>", as pairs that compare in the streams' order."""

from __future__ import annotations

import re

EntryId = tuple[int, int]
"""(milliseconds, number)."""

ORIGIN: EntryId = (0, 0)
"""Before every entry."""

_FORM = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")


def parse(text: str | bytes) -> EntryId:
    """The pair of an id; "0" is the origin. ValueError for anything else."""
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    if text == "0":
        return ORIGIN
    match = _FORM.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:48]!r} is no cursor")
    first, second = int(match[1]), int(match[2])
    if first >= 1 << 64 or second >= 1 << 64:
        raise ValueError(f"{text[:48]!r} is no cursor")
    return first, second


def of_redis(raw: bytes) -> EntryId:
    """The pair of an id that Redis gave: its form is known, and this is done for every event."""
    first, _, second = raw.partition(b"-")
    return int(first), int(second)


def show(entry: EntryId) -> str:
    """The text of an id."""
    return f"{entry[0]}-{entry[1]}"
