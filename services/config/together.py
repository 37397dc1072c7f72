"""Writes of single keys that come at the same time go to etcd together: one transaction of transactions, each with
guards of its own, so one that is refused does not concern the others.

While one is under way the next gathers. A storm of registrations then costs etcd and the watches of every service one
entry for many of them, and a lone one waits for nobody (docs/decisions/0079).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mesh.errors import DomainError, Reason
from mesh.etcd import Guarded, TxnResult

MOST = 64
"""Writes in one transaction; each counts as one of etcd's 128."""
MAX_BYTES = 1_000_000
"""Bytes of one transaction: below etcd's 1.5 MiB a request."""
WAITING = 10_000
"""Writes that may wait; more are refused at once."""


@dataclass(slots=True, eq=False)
class _Write:
    key: str
    guarded: Guarded
    result: asyncio.Future[TxnResult]


class Together:
    """Commits writes of single keys."""

    def __init__(self, commit: Callable[[Sequence[Guarded]], Awaitable[list[TxnResult]]]) -> None:
        """`commit` writes several at once; what it raises, each of them raises."""
        self._commit = commit
        self._waiting: deque[_Write] = deque()
        self._running: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Writes waiting."""
        return len(self._waiting)

    async def write(self, key: str, guarded: Guarded) -> TxnResult:
        """Commits one write; `key` is the one it puts or deletes. Raises QUEUE_FULL, and what the commit raises.
        Who gives up waiting does not take his write back."""
        if len(self._waiting) >= WAITING:
            raise DomainError(Reason.REASON_QUEUE_FULL, f"{WAITING} registrations are waiting to be written")
        write = _Write(key, guarded, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="registrations")
        return await asyncio.shield(write.result)

    async def _run(self) -> None:
        await asyncio.sleep(0)  # what comes in this turn of the loop goes along
        while self._waiting:
            batch = self._next()
            try:
                results = await self._commit([write.guarded for write in batch])
            except Exception as error:  # noqa: BLE001 - it is raised by each write, which is where it belongs
                for write in batch:
                    _settle(write, error)
            else:
                for write, result in zip(batch, results, strict=True):
                    _settle(write, result)

    def _next(self) -> list[_Write]:
        """The first of those waiting, none with the key of another: etcd refuses two puts of a key."""
        batch: dict[str, _Write] = {}
        later: list[_Write] = []
        size = 0
        while self._waiting and len(batch) < MOST and size < MAX_BYTES:
            write = self._waiting.popleft()
            if write.key in batch:
                later.append(write)
                continue
            batch[write.key] = write
            size += write.guarded.bytes
        self._waiting.extendleft(reversed(later))
        return list(batch.values())


def _settle(write: _Write, outcome: TxnResult | Exception) -> None:
    if write.result.done():
        return
    if isinstance(outcome, Exception):
        write.result.set_exception(outcome)
        write.result.exception()  # whoever asked may have given up: then nobody reads it
    else:
        write.result.set_result(outcome)
