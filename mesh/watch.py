"""Watching a prefix of etcd without ever missing a change: snapshot, resume, compaction, replaced store,
liveness."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.etcd import Etcd, KeyValue


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one key: `kv` after a put; after a deletion None."""

    key: str
    kv: KeyValue | None
    revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What the watch tells at once. A snapshot replaces everything told before; else `changes` follow on
    it."""

    revision: int
    """Everything up to this revision has been told with this batch."""
    snapshot: tuple[KeyValue, ...] | None = None
    """The whole prefix, when the batch is a snapshot."""
    changes: tuple[Change, ...] = ()
    replaced: bool = False
    """The store is not the one watched before (its identity changed or its revision went back)."""


class Watch(AsyncIterator[Batch]):
    """Endless; `close()` ends it. Outages of etcd show as silence: `alive` tells when it was last heard."""

    def __init__(self, etcd: Etcd, prefix: str, from_revision: int = 0) -> None:
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        """Whether etcd has answered on this watch within the last 3 s."""
        raise NotImplementedError

    async def __anext__(self) -> Batch:
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the watch; a pending `__anext__` raises StopAsyncIteration."""
        raise NotImplementedError
