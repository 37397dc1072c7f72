"""Following Redis streams: one blocking read for all that this node follows.

What this node appends itself is pushed into the tails at once, so in quiet times every event arrives by push and the
blocking read only confirms it. What another node appended comes by the read alone. Between two reads there is a
pause of 4 to 20 ms, so that many events cost one read; it ends at once when a push did not fit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis.asyncio
from google.protobuf.message import DecodeError
from voice.redis_queue.v1.queue_service_pb2 import QueueEntry
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.rq.blocking_read import BlockingRead, Entry
from mesh.telemetry import Metrics, logger
from services.redis_queue import entry_id
from services.redis_queue.entry_id import EntryId
from services.redis_queue.store import Store
from services.redis_queue.tail import Tail

Value = EventEnvelope | QueueEntry

READ_COUNT: Final = 512
"""Entries of one stream taken by one read at most."""
_PAUSE_FIRST_S: Final = 0.004
_PAUSE_LAST_S: Final = 0.02
_RETRY_S: Final = 0.1


class Follower:
    """The tails of this node."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._read = BlockingRead(store.client, READ_COUNT)
        self._log = logger("follower")
        self._tails: dict[str, Tail[Any]] = {}
        self._decode: dict[str, Callable[[bytes], Value]] = {}
        self._changed = asyncio.Event()
        self._pushed: set[str] = set()
        metrics.gauge("followed_streams", "Streams and queues followed").set_function(
            lambda: float(len(self._tails))
        )
        metrics.queue(
            "tails", lambda: float(sum(len(t) for t in self._tails.values())), "Entries held for readers"
        )
        self.beyond = metrics.counter(
            "cursors_beyond_total",
            "Readers' cursors behind the end of a slot: it was lost with a Redis primary",
        )
        self._reads = metrics.counter("reads_total", "Blocking reads, by whether they brought news", ["news"])

    def push(self, key: str, before: EntryId, entries: Sequence[tuple[EntryId, Value]]) -> None:
        """Entries that this node has just appended to a stream; the hint that saves waiting."""
        tail = self._tails.get(key)
        if tail is None:
            return
        if tail.push(before, entries):
            self._pushed.add(key)
        else:
            self._changed.set()

    async def open_events(self, keys: Sequence[str], listener: Callable[[str], Callable[[], None]]) -> None:
        """Follows event streams; `listener(key)` is what is called when a stream has more. Raises RedisError."""
        await self._open(keys, EventEnvelope.FromString, listener)

    async def open_queue(self, key: str, listener: Callable[[], None]) -> None:
        """Follows the entries of a queue. Raises RedisError."""
        await self._open([key], QueueEntry.FromString, lambda _: listener)

    def tail(self, key: str) -> Tail[Any]:
        """The tail of a stream that was opened."""
        return self._tails[key]

    def close(self, key: str, listener: Callable[[], None]) -> None:
        """The listener has gone; without any the stream is followed no longer."""
        tail = self._tails.get(key)
        if tail is None:
            return
        tail.unlisten(listener)
        if not tail.listeners:
            del self._tails[key], self._decode[key]
            self._read.remove(key)

    async def _open(
        self,
        keys: Sequence[str],
        decode: Callable[[bytes], Value],
        listener: Callable[[str], Callable[[], None]],
    ) -> None:
        new = [key for key in keys if key not in self._tails]
        for key in self._tails.keys() & set(keys):  # at once: a stream without listeners is dropped
            self._tails[key].listen(listener(key))
        if new:
            positions = await self._store.last_entries(new)
            for key, position in zip(new, positions, strict=True):
                if key not in self._tails:  # another reader may have been as quick
                    self._tails[key] = Tail(position, self._store.settings.ring_events)
                    self._decode[key] = decode
                    self._read.put(key, entry_id.show(position))
                self._tails[key].listen(listener(key))
            self._changed.set()

    async def run(self) -> None:
        """Reads until cancelled."""
        try:
            await self._follow()
        finally:
            await self._read.close()

    async def _follow(self) -> None:
        pause = _PAUSE_FIRST_S
        while True:
            self._changed.clear()
            if not self._tails:
                await self._changed.wait()
                continue
            self._go_on_behind_pushed()
            try:
                found = await self._read.read()
            except (redis.RedisError, OSError) as error:
                self._log.warning("redis cannot be read", error=repr(error))
                await asyncio.sleep(_RETRY_S)
                continue
            if found:
                news = sum(self._merge(key, entries) for key, entries in found)
                self._reads.labels("yes" if news else "no").inc()
                pause = _PAUSE_FIRST_S if news else min(pause * 2, _PAUSE_LAST_S)
                await self._rest(pause)

    def _go_on_behind_pushed(self) -> None:
        """What was pushed is not to be read again."""
        for key in self._pushed:
            tail = self._tails.get(key)
            if tail is not None:
                self._read.put(key, entry_id.show(tail.position))
        self._pushed.clear()

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            pass

    def _merge(self, key: str, entries: Sequence[Entry]) -> int:
        tail = self._tails.get(key)
        if tail is None:
            return 0
        decode = self._decode[key]
        fresh: list[tuple[EntryId, Value]] = []
        for raw_id, raw in entries:
            ident = entry_id.of_redis(raw_id)
            if ident > tail.position:
                try:
                    fresh.append((ident, decode(raw)))
                except DecodeError as error:
                    self._log.error(
                        "unreadable entry", stream=key, entry=entry_id.show(ident), error=repr(error)
                    )
        news = tail.merge(fresh)
        # Also what was pushed since the read began: the next one starts behind it.
        self._read.put(key, entry_id.show(tail.position))
        return news
