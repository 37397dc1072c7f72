"""One blocking XREAD over many Redis streams, on a connection of its own.

The command is kept packed and only what changed is packed again: with 256 streams, packing it each time costs some
milliseconds. In a Redis Cluster there is one of these for each shard.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Final

import redis.asyncio

from mesh.redis_primary import moved_on

BLOCK_MS: Final = 1000
"""How long a read waits in Redis, milliseconds."""
ANSWER_S: Final = BLOCK_MS / 1000 + 2.0
"""A Redis that has not answered for so long is given up, seconds."""

Entry = tuple[bytes, bytes]
"""(entry id, value of its field "e")."""


class BlockingRead:
    """`put` streams and where each is read from, then `read`."""

    def __init__(self, client: redis.asyncio.Redis, count: int) -> None:
        """`client` says how Redis is reached; `count`: entries of one stream given at once at most."""
        self._control = client
        pool: Any = client.connection_pool
        kwargs = {**pool.connection_kwargs, "socket_timeout": None}
        self._pool: Any = redis.asyncio.ConnectionPool(
            connection_class=pool.connection_class, max_connections=2, **kwargs
        )
        words = (b"XREAD", b"COUNT", str(count).encode(), b"BLOCK", str(BLOCK_MS).encode(), b"STREAMS")
        self._words = len(words)
        self._head = b"".join(_packed(word) for word in words)
        self._positions: dict[str, bytes] = {}
        self._keys: bytes | None = None
        self._connection: Any = None
        self._client_id = 0
        self._blocked = False
        self._changed = asyncio.Event()
        self._interrupting: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._positions)

    def put(self, key: str, position: str) -> None:
        """Reads a stream after an entry id from now on; a stream that is new ends the present read."""
        new = key not in self._positions
        self._positions[key] = _packed(position.encode())
        if new:
            self._keys = None
            self.interrupt()

    def remove(self, key: str) -> None:
        """Reads the stream no longer; an answer that is on its way may still have it."""
        if self._positions.pop(key, None) is not None:
            self._keys = None

    def interrupt(self) -> None:
        """Ends the present read."""
        self._changed.set()
        if self._blocked and (self._interrupting is None or self._interrupting.done()):
            self._interrupting = asyncio.get_running_loop().create_task(self._unblock())

    async def read(self) -> list[tuple[str, list[Entry]]]:
        """What the streams have after their positions, waiting up to a second; empty when that is nothing, or the read
        was interrupted. Raises redis.RedisError, OSError."""
        self._changed.clear()
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = await self._connected()
                self._blocked = True
                if self._changed.is_set():  # something came while we connected
                    return []
                await connection.send_packed_command([self._command()], check_health=False)
                reply = await connection.read_response(timeout=None)
        except BaseException:
            await self._drop()
            raise
        finally:
            self._blocked = False
        return list(_streams(reply))

    async def close(self) -> None:
        """Ends."""
        if self._interrupting is not None:
            self._interrupting.cancel()
            await asyncio.gather(self._interrupting, return_exceptions=True)
        await self._drop()
        await self._pool.disconnect()

    def _command(self) -> bytes:
        if self._keys is None:
            self._keys = b"".join(_packed(key.encode()) for key in self._positions)
        count = self._words + 2 * len(self._positions)
        return b"".join((b"*%d\r\n" % count, self._head, self._keys, *self._positions.values()))

    async def _connected(self) -> Any:
        if self._connection is not None and moved_on(self._control.connection_pool, self._connection):
            await self._drop()
        if self._connection is None:
            connection = await self._pool.get_connection()
            self._connection = connection
            await connection.send_command("CLIENT", "ID")
            self._client_id = await connection.read_response()
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                await connection.disconnect()
            await self._pool.release(connection)

    async def _unblock(self) -> None:
        while self._blocked and self._changed.is_set():
            try:
                if await self._control.client_unblock(self._client_id):
                    return
            except (redis.RedisError, OSError):
                return  # the read ends by itself within a second
            await asyncio.sleep(0.001)  # our read has not reached Redis yet


def _packed(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


def _streams(reply: Any) -> Iterator[tuple[str, list[Entry]]]:
    """The answer of either protocol version: pairs, or a map."""
    pairs = reply.items() if isinstance(reply, dict) else reply or ()
    for name, entries in pairs:
        yield name.decode(), [(ident, _value(fields)) for ident, fields in entries]


def _value(fields: Any) -> bytes:
    """Value of the field "e"; b"" when there is none."""
    found = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    value: bytes = found.get(b"e", b"")
    return value
