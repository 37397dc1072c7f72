"""Source maps, version 3 (ECMA-426): positions in the generated JavaScript -> positions in the document."""

from __future__ import annotations

import json

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _vlq(value: int) -> str:
    value = (-value << 1) | 1 if value < 0 else value << 1
    text = ""
    while True:
        digit, value = value & 31, value >> 5
        text += _DIGITS[digit | (32 if value else 0)]
        if not value:
            return text


def encode(lines: list[tuple[int, int, int] | None], sources: list[str], file: str) -> str:
    """`lines[n]` is (source number, line, column) of generated line n, counted from 1 in the document."""
    previous = (0, 0, 0)
    mappings = []
    for entry in lines:
        if entry is None:
            mappings.append("")
            continue
        source, line, column = entry[0], entry[1] - 1, entry[2] - 1
        deltas = (0, source - previous[0], line - previous[1], column - previous[2])
        mappings.append("".join(_vlq(delta) for delta in deltas))
        previous = (source, line, column)
    body = {"version": 3, "file": file, "sources": sources, "names": [], "mappings": ";".join(mappings)}
    return json.dumps(body)


def decode(text: str) -> list[tuple[int, int, int] | None]:
    """The inverse of `encode`, for maps with one segment a line."""
    previous = [0, 0, 0]
    lines: list[tuple[int, int, int] | None] = []
    for segment in json.loads(text)["mappings"].split(";"):
        if not segment:
            lines.append(None)
            continue
        numbers = _unvlq(segment)
        previous = [previous[i] + numbers[i + 1] for i in range(3)]
        lines.append((previous[0], previous[1] + 1, previous[2] + 1))
    return lines


def _unvlq(segment: str) -> list[int]:
    numbers, value, shift = [], 0, 0
    for letter in segment:
        digit = _DIGITS.index(letter)
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            numbers.append(-(value >> 1) if value & 1 else value >> 1)
            value, shift = 0, 0
    return numbers
