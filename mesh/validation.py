"""Checks of request fields, collected into one REASON_INVALID_ATTRIBUTE naming every field and rule broken.

check = Checks()
check.required("tenant", request.tenant)
check.between("capacity", request.capacity, 0, 10_000, unit="calls")
check.kv_list("user_data", request.user_data)
check.done()
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sized

from voice.type.v1.kv_pb2 import KvList

from mesh.errors import DomainError, invalid

KV_BYTES = 65536
"""Largest encoded key-value list, bytes (voice.type.v1.KvList)."""
KV_DEPTH = 8
"""Deepest nesting of key-value lists; the outermost list is level 1."""
KV_KEY_BYTES = 255
"""Longest key, bytes of UTF-8."""
MAX_VIOLATIONS = 50
"""Violations reported at most: a hostile request must not make a large answer."""

TENANT_ID = re.compile(r"[a-z][a-z0-9-]{1,30}")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:@/-]{1,128}")


class Checks:
    """Collects violations in the order found. Each method returns whether its rule holds."""

    def __init__(self) -> None:
        self._violations: list[tuple[str, str]] = []

    def that(self, field: str, holds: object, rule: str) -> bool:
        """Any other rule: `rule` reads "must …"."""
        if not holds and len(self._violations) < MAX_VIOLATIONS:
            self._violations.append((field, rule))
        return bool(holds)

    def required(self, field: str, value: object) -> bool:
        """Not empty, not zero, not unset; an enum is not its UNSPECIFIED."""
        return self.that(field, value, "is required")

    def one_of(self, field: str, value: object, allowed: Collection[object]) -> bool:
        """One of the values listed."""
        if value in allowed:
            return True
        return self.that(field, False, f"must be one of {', '.join(map(str, allowed))}")

    def between(self, field: str, value: float, low: float, high: float, unit: str = "") -> bool:
        """low <= value <= high."""
        if low <= value <= high:
            return True
        return self.that(field, False, f"must be {low} to {high}{' ' if unit else ''}{unit}")

    def length(self, field: str, value: Sized, low: int, high: int, unit: str = "") -> bool:
        """Number of characters, bytes or entries from low to high."""
        if low <= len(value) <= high:
            return True
        unit = unit or (
            "characters" if isinstance(value, str) else "bytes" if isinstance(value, bytes) else "entries"
        )
        return self.that(field, False, f"must have {low} to {high} {unit}")

    def matches(self, field: str, value: str, pattern: re.Pattern[str], rule: str = "") -> bool:
        """The whole value matches the pattern."""
        if pattern.fullmatch(value):
            return True
        return self.that(field, False, rule or f"must match {pattern.pattern}")

    def tenant(self, field: str, value: str) -> bool:
        """A tenant id: [a-z][a-z0-9-]{1,30}."""
        return self.required(field, value) and self.matches(field, value, TENANT_ID)

    def request_id(self, field: str, value: str) -> bool:
        """A request id: 1 to 128 letters, digits and . _ : @ / -"""
        return self.required(field, value) and self.matches(field, value, REQUEST_ID)

    def kv_list(self, field: str, value: KvList) -> bool:
        """Limits of a key-value list: 64 KiB encoded, eight levels, keys of 1 to 255 bytes."""
        if value.ByteSize() > KV_BYTES:
            return self.that(field, False, f"must have at most {KV_BYTES} bytes")
        return self._kv_level(field, value, 1)

    def _kv_level(self, field: str, value: KvList, level: int) -> bool:
        if level > KV_DEPTH:
            return self.that(field, False, f"must be at most {KV_DEPTH} levels deep")
        good = True
        for index, pair in enumerate(value.pairs):
            if not 1 <= len(pair.key) <= KV_KEY_BYTES or len(pair.key.encode()) > KV_KEY_BYTES:
                good = self.that(f"{field}.pairs[{index}].key", False, f"must have 1 to {KV_KEY_BYTES} bytes")
            if pair.WhichOneof("value") == "list_value":
                good &= self._kv_level(f"{field}.pairs[{index}].list_value", pair.list_value, level + 1)
        return good

    @property
    def error(self) -> DomainError | None:
        """The error that `done` would raise."""
        return invalid(*self._violations) if self._violations else None

    def done(self) -> None:
        """Raises REASON_INVALID_ATTRIBUTE with every violation; returns when there is none."""
        if self._violations:
            raise invalid(*self._violations)
