"""One connection to Redis, one order: commands of one turn of the loop go out together, answers come in
that order.

A command that is not answered is sent again on the next connection until its time is up, so only commands
that are safe to repeat may be given to it. The connection is made by redis-py (address, TLS,
authentication) and driven here, because a pool would let two batches overtake each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio
import redis.exceptions as errors
import structlog
from hiredis import pack_command
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import DomainError
from mesh.redis_primary import moved_on

Argument = bytes | str | int
Answer = Any
"""What hiredis makes of an answer: bytes, int, None, list or (RESP3) dict of these."""

Command = Callable[[int], Sequence[Argument]]
"""Makes the command for the connection it is sent on; they are numbered from 1."""

MAX_BATCH = 512
"""Commands sent together."""
MAX_WAITING = 20_000
"""Commands that may wait; more are refused at once."""
CONNECT_S = 2.0
ANSWER_S = 1.0
"""A connection is given up when an answer takes so long, or as long as a command waits for it: also when whoever asked has waited
less. A slow Redis would otherwise cost a new connection for each answer that comes late, and never answer at all."""
RECONNECT_S = 0.02
"""Pause before the next connection, seconds."""
AWAY = re.compile(r"\b(READONLY|LOADING|MASTERDOWN|OOM|MISCONF|NOREPLICAS|CLUSTERDOWN|BUSY)\b")
"""Error answers that mean: not this server, not now."""


MOVED_ON = (errors.ReadOnlyError, errors.BusyLoadingError)

log = structlog.get_logger("mesh.store")


class StoreUnavailable(DomainError):
    """Redis did not answer in time; whether a write took place is unknown (every operation is safe to
    repeat)."""

    def __init__(self, problem: str) -> None:
        super().__init__(Reason.REASON_DEPENDENCY_UNAVAILABLE, f"redis: {problem}", dependency="redis")


@dataclass(slots=True)
class _Waiting:
    commands: Sequence[Command]
    answer: asyncio.Future[list[Answer]]
    deadline: float


class RedisLine:
    """`on_connected(ask)` is awaited on each new connection before anything else is sent; `ask(*command)`
    sends one command on it."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        on_connected: Callable[[Callable[..., Awaitable[Answer]]], Awaitable[None]],
    ) -> None:
        self._pool: Any = client.connection_pool  # redis-py leaves make_connection untyped
        self._on_connected = on_connected
        self._connection: Any = None
        self._number = 0
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._problem = "not connected"

    def start(self) -> None:
        """Begins to send."""
        self._task = asyncio.create_task(self._run(), name="redis line")

    async def stop(self) -> None:
        """Ends; what waits raises StoreUnavailable."""
        while self._task is not None and not self._task.done():
            self._task.cancel()  # more than once: redis-py takes a cancellation while it connects for a timeout
            await asyncio.wait([self._task], timeout=0.1)
        await self._disconnect()
        self._problem = "closed"
        while self._queue:
            self._fail(self._queue.popleft())

    @property
    def depth(self) -> int:
        """Commands waiting or under way."""
        return len(self._queue)

    async def ask(self, *command: Argument, timeout: float) -> Answer:
        """The answer to one command, see `ask_with`."""
        return await self.ask_with(lambda _: command, timeout)

    async def ask_with(self, command: Command, timeout: float) -> Answer:
        """The answer to one command. Raises StoreUnavailable after `timeout` seconds, redis.ResponseError
        when Redis refuses it."""
        answer = (await self.ask_all((command,), timeout))[0]
        if isinstance(answer, errors.ResponseError):
            raise answer
        return answer

    async def ask_all(self, commands: Sequence[Command], timeout: float) -> list[Answer]:
        """The answers to commands that are sent together, in order; for one that Redis refuses its
        redis.ResponseError. Raises StoreUnavailable after `timeout` seconds."""
        if len(self._queue) >= MAX_WAITING:
            raise StoreUnavailable(f"{MAX_WAITING} commands are waiting")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(commands, loop.create_future(), loop.time() + timeout)
        timer = loop.call_at(waiting.deadline, self._fail, waiting)
        self._queue.append(waiting)
        self._wake.set()
        try:
            return await waiting.answer
        finally:
            timer.cancel()

    def _fail(self, waiting: _Waiting) -> None:
        if not waiting.answer.done():
            waiting.answer.set_exception(StoreUnavailable(self._problem))

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._drop_done():
                try:
                    await self._send_some()
                except (OSError, errors.RedisError, TimeoutError) as error:
                    self._problem = str(error) or type(error).__name__
                except Exception as error:
                    log.exception("redis line failed")
                    self._problem = f"{type(error).__name__}: {error}"
                else:
                    continue
                await self._disconnect()
                await asyncio.sleep(RECONNECT_S)

    def _drop_done(self) -> bool:
        """Takes what is answered or given up off the head of the queue; whether anything is left."""
        while self._queue and self._queue[0].answer.done():
            self._queue.popleft()
        return bool(self._queue)

    async def _send_some(self) -> None:
        if self._connection is not None and moved_on(self._pool, self._connection):
            await self._disconnect()
        if self._connection is None:
            await self._connect()
        batch = [self._queue[place] for place in range(min(MAX_BATCH, len(self._queue)))]
        batch = [waiting for waiting in batch if not waiting.answer.done()]
        if not batch:
            return
        self._problem = "no answer in time"
        patience = asyncio.get_running_loop().time() + ANSWER_S
        async with asyncio.timeout_at(max(patience, *(waiting.deadline for waiting in batch))):
            commands: list[Any] = [
                tuple(made(self._number)) for waiting in batch for made in waiting.commands
            ]
            packed = b"".join([pack_command(command) for command in commands])
            await self._connection.send_packed_command(packed, check_health=False)
            for waiting in batch:
                answers = [await self._answer() for _ in waiting.commands]
                if not waiting.answer.done():
                    waiting.answer.set_result(answers)

    async def _answer(self) -> Answer:
        try:
            return await self._connection.read_response(disable_decoding=True)
        except errors.ResponseError as error:
            if AWAY.search(str(error)) or isinstance(error, MOVED_ON):
                raise
            return error

    async def _connect(self) -> None:
        connection = self._pool.make_connection()
        connection.retry = Retry(NoBackoff(), 0)
        connection.socket_timeout = None  # a batch has one timeout here instead of one for each answer
        self._connection = connection
        self._number += 1

        async def ask(*command: Argument) -> Answer:
            await connection.send_command(*command, check_health=False)
            return await connection.read_response(disable_decoding=True)

        async with asyncio.timeout(CONNECT_S):
            await connection.connect()
            await self._on_connected(ask)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, errors.RedisError):
                await connection.disconnect(nowait=True)
