"""The window of request ids: the same id is always safe to send again (design §6, "Requests to an owner").

Pure: no clock, no I/O. A caller asks `begin`; a new id is to be carried out and then `finish`ed with its
outcome; a repeated one is either in progress or gets the stored outcome.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class New:
    """The id has not been seen: carry the request out, then `finish` or `forget` it."""


@dataclass(frozen=True)
class InProgress:
    """The same request is being carried out since `since` (REASON_IN_PROGRESS)."""

    since: float


@dataclass(frozen=True)
class Answered(Generic[T]):
    """The request was carried out before; repeat this outcome."""

    outcome: T


@dataclass(frozen=True)
class Reused:
    """The id was used for a request with other contents (REASON_INVALID_ATTRIBUTE)."""


@dataclass(frozen=True)
class Full:
    """Every place is taken by a request in progress (REASON_QUEUE_FULL)."""


@dataclass
class _Entry(Generic[T]):
    fingerprint: bytes
    at: float
    done: bool = False
    outcome: T | None = None


class RequestWindow(Generic[T]):
    """Remembers up to `capacity` request ids, an outcome for `ttl` seconds after it was known.

    Times are seconds of any clock that does not go back, given as `now`. A request in progress is never
    dropped.
    """

    def __init__(self, capacity: int = 10_000, ttl: float = 300.0) -> None:
        if capacity < 1 or ttl <= 0:
            raise ValueError("capacity must be at least 1 and ttl above 0")
        self._capacity = capacity
        self._ttl = ttl
        self._answered: OrderedDict[str, _Entry[T]] = OrderedDict()
        self._running: dict[str, _Entry[T]] = {}

    def __len__(self) -> int:
        return len(self._answered) + len(self._running)

    def begin(
        self, request_id: str, now: float, fingerprint: bytes = b""
    ) -> New | InProgress | Answered[T] | Reused | Full:
        """Asks for an id. `fingerprint` is a digest of the request: equal ids need equal contents."""
        self.expire(now)
        entry = self._running.get(request_id) or self._answered.get(request_id)
        if entry is not None:
            if entry.fingerprint != fingerprint:
                return Reused()
            return Answered(entry.outcome) if entry.done else InProgress(entry.at)  # type: ignore[arg-type]
        if len(self) >= self._capacity:
            if not self._answered:
                return Full()
            self._answered.popitem(last=False)
        self._running[request_id] = _Entry(fingerprint, now)
        return New()

    def finish(self, request_id: str, outcome: T, now: float) -> None:
        """Stores the outcome of an id that is in progress. KeyError for any other id."""
        entry = self._running.pop(request_id)
        entry.done, entry.outcome, entry.at = True, outcome, now
        self._answered[request_id] = entry

    def forget(self, request_id: str) -> None:
        """The request had no effect and may be tried afresh. KeyError for an id that is not in progress."""
        del self._running[request_id]

    def expire(self, now: float) -> None:
        """Drops outcomes older than the ttl; `begin` does it too."""
        while self._answered:
            request_id, entry = next(iter(self._answered.items()))
            if now - entry.at < self._ttl:
                return
            del self._answered[request_id]

    def answered(self) -> Iterator[tuple[str, bytes, T, float]]:
        """(id, fingerprint, outcome, time) of every outcome, oldest first: what a snapshot keeps."""
        for request_id, entry in self._answered.items():
            yield request_id, entry.fingerprint, entry.outcome, entry.at  # type: ignore[misc]

    def restore(self, request_id: str, fingerprint: bytes, outcome: T, at: float) -> None:
        """Puts back an outcome from a snapshot, oldest first; the oldest gives way beyond the capacity."""
        self._answered[request_id] = _Entry(fingerprint, at, True, outcome)
        if len(self) > self._capacity and self._answered:
            self._answered.popitem(last=False)
