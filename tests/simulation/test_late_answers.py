"""What `store.py` takes for granted of the real line to Redis: an answer that waited while the process stood still is none.

A fenced write proves that a slot is ours when it is carried out. A process that is stopped before it has read the answer, for
longer than its lease, must not act on it when it goes on.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pytest
import redis.asyncio
import uvloop

from mesh.redis_line import RedisLine, StoreUnavailable

BUDGET_S = 0.25
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Server:
    """Answers every command with OK; PROVE only when it may."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rb") as stream:
            while command := self._command(stream):
                if command[0] == b"PROVE":
                    self.asked.set()
                    assert self.may_answer.wait(10)
                connection.sendall(b"+OK\r\n")

    @staticmethod
    def _command(stream: BinaryIO) -> list[bytes]:
        head = stream.readline()
        parts = []
        for _ in range(int(head[1:]) if head else 0):
            length = int(stream.readline()[1:])
            parts.append(stream.read(length + 2)[:-2])
        return parts


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.listener.close()
        server.thread.join(10)


async def proof(server: Server, meanwhile: Callable[[], Awaitable[None]]) -> Any:
    """What a command is answered with; `meanwhile()` runs when it has reached the server."""

    async def connected(_: Any) -> None: ...

    client = redis.asyncio.Redis(host="127.0.0.1", port=server.port, protocol=2)
    line = RedisLine(client, connected)
    line.start()
    try:
        answer = asyncio.ensure_future(line.ask("PROVE", timeout=BUDGET_S))
        while not server.asked.is_set():
            await asyncio.sleep(0.001)
        await meanwhile()
        return await answer
    finally:
        await line.stop()
        await client.aclose()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_that_waited_while_the_process_stood_still_proves_nothing(loop: str) -> None:
    async def stand_still() -> None:
        server.may_answer.set()
        time.sleep(2 * BUDGET_S)  # noqa: ASYNC251 - nothing of this process runs, and the answer arrives

    for _ in range(3):
        with (
            serving() as server,
            asyncio.Runner(loop_factory=LOOPS[loop]) as runner,
            pytest.raises(StoreUnavailable),
        ):
            runner.run(proof(server, stand_still))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_in_time_is_one(loop: str) -> None:
    async def go_on() -> None:
        server.may_answer.set()

    for _ in range(20):  # a busy machine may be late
        with serving() as server, asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            try:
                assert runner.run(proof(server, go_on)) == b"OK"
            except StoreUnavailable:
                continue
            return
    pytest.fail("no answer was ever in time")
