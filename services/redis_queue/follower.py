"""Following Redis streams: one blocking read for all that this node follows.

What this node appends itself is pushed into the tails at once, so in quiet times every event arrives by push
and the blocking read only confirms it; it then pauses a little longer each time (up to 20 ms). What
another node appended comes by the read alone, which then does not pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis.asyncio
from google.protobuf.message import DecodeError
from voice.redis_queue.v1.queue_service_pb2 import QueueEntry
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.telemetry import Metrics, logger
from services.redis_queue import entry_id
from services.redis_queue.entry_id import EntryId
from services.redis_queue.store import Store
from services.redis_queue.tail import Tail

Value = EventEnvelope | QueueEntry

READ_COUNT: Final = 512
"""Entries of one stream taken by one read at most."""
BLOCK_MS: Final = 1000
"""How long a read waits in Redis, milliseconds."""
_PAUSE_FIRST_S: Final = 0.002
_PAUSE_LAST_S: Final = 0.02
_RETRY_S: Final = 0.1


class Follower:
    """The tails of this node."""

    def __init__(self, store: Store, reading: redis.asyncio.Redis, metrics: Metrics) -> None:
        """`reading`: a client used for nothing else, without a socket timeout."""
        self._store = store
        self._reading = reading
        self._log = logger("follower")
        self._tails: dict[str, Tail[Any]] = {}
        self._decode: dict[str, Callable[[bytes], Value]] = {}
        self._changed = asyncio.Event()
        self._client_id: int | None = None
        self._blocked = False
        metrics.gauge("followed_streams", "Streams and queues followed").set_function(
            lambda: float(len(self._tails))
        )
        metrics.queue(
            "tails", lambda: float(sum(len(t) for t in self._tails.values())), "Entries held for readers"
        )
        self._reads = metrics.counter("reads_total", "Blocking reads, by whether they brought news", ["news"])

    def push(self, key: str, before: EntryId, entries: Sequence[tuple[EntryId, Value]]) -> None:
        """Entries that this node has just appended to a stream; the hint that saves waiting."""
        tail = self._tails.get(key)
        if tail is not None and not tail.push(before, entries):
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
                self._tails[key].listen(listener(key))
            self._changed.set()
            await self._interrupt()

    async def _interrupt(self) -> None:
        """Ends the present blocking read, which does not know of a stream just opened."""
        while self._blocked and self._changed.is_set() and self._client_id is not None:
            if await self._store.client.client_unblock(self._client_id):
                return
            await asyncio.sleep(0.001)  # our read has not reached Redis yet

    async def run(self) -> None:
        """Reads until cancelled."""
        try:
            await self._follow()
        finally:
            await self._reading.aclose()

    async def _follow(self) -> None:
        pause = _PAUSE_FIRST_S
        while True:
            if not self._tails:
                self._changed.clear()
                await self._changed.wait()
            self._changed.clear()
            try:
                news = await self._read()
            except (redis.RedisError, OSError, TimeoutError) as error:
                self._log.warning("redis cannot be read", error=repr(error))
                self._client_id = None
                await asyncio.sleep(_RETRY_S)
                continue
            if news is None:
                continue
            self._reads.labels("yes" if news else "no").inc()
            pause = _PAUSE_FIRST_S if news else min(pause * 2, _PAUSE_LAST_S)
            if not news:
                await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            pass

    async def _read(self) -> int | None:
        """New entries brought by one blocking read; None when it ended without any."""
        if self._client_id is None:
            self._client_id = await self._reading.client_id()
        positions = {key: entry_id.show(tail.position) for key, tail in self._tails.items()}
        self._blocked = True
        try:
            if self._changed.is_set():  # a stream was opened while we were about to block
                return None
            found: Any = await self._reading.xread(positions, count=READ_COUNT, block=BLOCK_MS)  # type: ignore[arg-type]
        finally:
            self._blocked = False
        if not found:
            return None
        return sum(self._merge(name.decode(), entries) for name, entries in found)

    def _merge(self, key: str, entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> int:
        tail = self._tails.get(key)
        if tail is None:
            return 0
        decode = self._decode[key]
        fresh: list[tuple[EntryId, Value]] = []
        for raw, fields in entries:
            ident = entry_id.parse(raw)
            if ident > tail.position:
                try:
                    fresh.append((ident, decode(fields[b"e"])))
                except (DecodeError, KeyError) as error:
                    self._log.error(
                        "unreadable entry", stream=key, entry=entry_id.show(ident), error=repr(error)
                    )
        return tail.merge(fresh)
