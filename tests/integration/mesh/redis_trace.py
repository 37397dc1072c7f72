"""What was done to Redis, as MONITOR tells it: fenced writes, and whether their script changed anything.

A script that refuses an epoch reads and changes nothing; MONITOR shows the commands of a script behind it, so the trace
says of each write under which epoch it came and what it did.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

_LINE = re.compile(r"\+(\d+\.\d+) \[\d+ (\S+)\] (.*)")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FENCE = re.compile(r"\{([^:}]+):([^}]+)\}:fence")
READS = frozenset({"hmget", "xrevrange", "exists", "xinfo", "hget", "get"})


@dataclass
class FencedWrite:
    """One evaluation of the fenced write."""

    at: float
    """UTC seconds."""
    service: str
    slot: str
    epoch: int
    writer: str
    changed: list[str] = field(default_factory=list)
    """Commands of the script that change something."""
    stale: bool = False
    """A higher epoch had been seen for the slot before."""


class RedisTrace:
    """Follows one server. `async with RedisTrace(host, port) as trace`."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.writes: list[FencedWrite] = []
        self._highest: dict[tuple[str, str], int] = {}
        self._last: FencedWrite | None = None
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> RedisTrace:
        reader, self._writer = await asyncio.open_connection(*self._address, limit=1 << 24)
        self._writer.write(b"MONITOR\r\n")
        assert await reader.readline() == b"+OK\r\n"
        self._task = asyncio.create_task(self._read(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        assert self._writer is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self.take(line.decode(errors="replace"))

    def take(self, line: str) -> None:
        """One line of MONITOR."""
        matched = _LINE.match(line)
        if matched is None:
            return
        at, client, rest = matched.groups()
        words = _WORD.finditer(rest)
        command = next(words)[1].lower()
        if client == "lua":
            if self._last is not None and command not in READS:
                self._last.changed.append(command)
            return
        self._last = None
        if command not in ("evalsha", "eval"):
            return
        next(words)
        count = int(next(words)[1])
        keys = [next(words)[1] for _ in range(count)]
        fence = _FENCE.fullmatch(keys[0]) if keys else None
        if fence is None:
            return
        service, slot = fence.groups()
        write = FencedWrite(float(at), service, slot, int(next(words)[1]), next(words)[1])
        write.stale = write.epoch < self._highest.get((service, slot), 0)
        self._highest[service, slot] = max(write.epoch, self._highest.get((service, slot), 0))
        self.writes.append(write)
        self._last = write

    def late(self, since: float = 0.0) -> list[FencedWrite]:
        """Writes under an epoch that another owner had overtaken."""
        return [write for write in self.writes if write.stale and write.at >= since]

    def violations(self) -> list[FencedWrite]:
        """Late writes that changed something: there must be none."""
        return [write for write in self.late() if write.changed]
