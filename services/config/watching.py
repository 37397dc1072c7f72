"""Watch: the whole state and then changes, or changes after a revision. A watch reads the feed at its own pace;
what the feed no longer holds is read from etcd's history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from mesh.errors import DomainError, Reason
from mesh.watch import Batch
from services.config.copy import Copy, entry_of
from services.config.feed import CHUNK, Entry
from services.config.objects import CATCH_UP_S
from services.config.store import Store, away

HEARTBEAT_S = 4.0
"""Longest silence on a watch, seconds; the contract says 5."""
ANNOUNCE_S = 30.0
"""How often a node puts its sign of life. It moves every watch's revision on, so that a cursor is never older
than this however long nothing changes, and it ends what has to be read from history."""
HISTORY_S = 10.0
"""Longest wait for the next part of history, seconds."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a watch says at once."""

    entries: Sequence[Entry]
    revision: int
    """Where to resume; 0 inside the whole state."""
    synced: bool = False


class Wanted:
    """Which changes a watch wants."""

    def __init__(self, tenant: str, kinds: frozenset[str]) -> None:
        """`tenant` "" for all; `kinds` of objects, and "registrations", "logins"."""
        self.tenant = tenant
        self._kinds = kinds

    def __call__(self, entry: Entry) -> bool:
        return self.tenant in ("", entry.tenant) and entry.kind in self._kinds


class Watching:
    """Serves any number of watches."""

    def __init__(self, copy: Copy, store: Store, node: str) -> None:
        self._copy = copy
        self._store = store
        self._node = node
        self._announced = (0, 0)

    async def announce(self) -> None:
        """Puts the node's sign of life now and then (background task); at once after each snapshot."""
        await self._copy.loaded.wait()
        while True:
            self._copy.reloaded.clear()
            snapshots = self._copy.snapshots
            try:
                self._announced = (snapshots, await self._store.announce(self._node))
            except DomainError as error:
                if error.reason != Reason.REASON_DEPENDENCY_UNAVAILABLE:
                    raise
            try:
                async with asyncio.timeout(ANNOUNCE_S if self._mark() else 1.0):
                    await self._copy.reloaded.wait()
            except TimeoutError:
                continue

    def _mark(self) -> int:
        """Revision of a sign of life put after the present snapshot; 0 when there is none yet."""
        snapshots, revision = self._announced
        return revision if snapshots == self._copy.snapshots else 0

    async def watch(self, wanted: Wanted, after: int) -> AsyncIterator[Told]:
        """Endless. Raises CURSOR_EXPIRED when changes after `after` are no longer to be had, or the reader has
        fallen too far behind."""
        if after == 0:
            after = self._copy.revision
            for told in self._snapshot(wanted, after):
                yield told
        else:
            async for told in self._missed(wanted, after):
                after = told.revision
                yield told
        position = self._copy.feed.position_after(after)
        clock = asyncio.get_running_loop().time
        last = clock()
        while True:
            read = self._copy.feed.read(position) if position is not None else None
            if read is None:
                raise expired(after)
            entries, position = read
            mine = [entry for entry in entries if wanted(entry)]
            # With nothing left to read, the reader may resume after all that was added.
            after = max(after, entries[-1].revision if entries else self._copy.feed.revision)
            if mine or clock() - last >= HEARTBEAT_S:
                yield Told(mine, after)
                last = clock()
            if not entries:
                await self._copy.feed.wait(position, max(0.0, HEARTBEAT_S - (clock() - last)))

    def _snapshot(self, wanted: Wanted, revision: int) -> Sequence[Told]:
        """The whole state at `revision`, in parts. Taken at once: what changes meanwhile is in the feed."""
        copy = self._copy
        tenants = [wanted.tenant] if wanted.tenant else sorted(copy.tenants)
        entries = [
            entry
            for tenant in tenants
            for kind, id, value in copy.tenant(tenant).entries()
            if wanted(entry := Entry(_revision(value) or revision, tenant, kind, id, value))
        ]
        parts = [Told(entries[at : at + CHUNK], 0) for at in range(0, len(entries), CHUNK)]
        return [*parts, Told((), revision, synced=True)]

    async def _missed(self, wanted: Wanted, after: int) -> AsyncIterator[Told]:
        """Changes after a revision, up to where the feed goes on."""
        if after > self._copy.revision:
            if after > await self._store.revision():
                raise expired(after)  # of a store that is no more
            if not await self._copy.reached(after, CATCH_UP_S):
                raise away()
        if after >= self._copy.feed.floor:
            yield Told((), after)
            return
        end = await self._history_end()
        watch = self._store.history(after)
        batches = aiter(watch)
        reached = after
        try:
            while reached < end:
                async with asyncio.timeout(HISTORY_S):
                    batch = await anext(batches)
                if batch.snapshot is not None:
                    raise expired(after)
                reached = batch.revision
                yield Told([entry for entry in self._entries(batch) if wanted(entry)], reached)
        except TimeoutError:
            raise away() from None
        finally:
            await watch.close()
        if not await self._copy.reached(reached, CATCH_UP_S):
            raise away()  # history is ahead of the copy, and stays so

    async def _history_end(self) -> int:
        """A revision that history has for certain and after which the feed has everything."""
        deadline = asyncio.get_running_loop().time() + CATCH_UP_S
        while not self._mark():
            if asyncio.get_running_loop().time() > deadline:
                raise away()
            await asyncio.sleep(0.05)
        return max(self._mark(), self._copy.feed.floor)

    def _entries(self, batch: Batch) -> list[Entry]:
        parsed = ((self._store.keys.parse(change.key), change) for change in batch.changes)
        found = (entry_of(key, change) for key, change in parsed if key is not None)
        return [entry for entry in found if entry is not None]


def _revision(value: object) -> int:
    return int(getattr(value, "revision", 0))


def expired(after: int) -> DomainError:
    """The changes asked for are gone."""
    return DomainError(
        Reason.REASON_CURSOR_EXPIRED,
        f"changes after revision {after} are no longer to be had: start again from 0",
    )
