"""Worker processes that hold the JavaScript contexts, one step at a time each, under a watchdog.

A native call inside the engine can run for seconds past every limit; then the whole process is killed. Its other sessions
go on from their last snapshots, which the host has, in the process that takes its place.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from structlog.typing import FilteringBoundLogger

from mesh.telemetry.metrics import Metrics
from services.orchestration.scxml import Compiled, Event, Json, Query, StepResult
from services.orchestration.scxml.effects import event_to_json, result_from_json

WATCHDOG_S = 2.0
"""Longest step, wall-clock seconds; then the process is killed."""
START_S = 10.0
"""Longest start of a worker process with its first answer, seconds."""
Answer = Callable[[Query], Awaitable[tuple[Json, str]]]
"""Answers a query of a step: value, or an error text."""


class StepFailed(Exception):
    """The step could not be done: the worker was killed while it ran, or refused it."""


class _Process:
    """One worker process. Restarted by the next call after it was lost."""

    def __init__(self, log: FilteringBoundLogger, on_kill: Callable[[], None]) -> None:
        self._log = log
        self._on_kill = on_kill
        self._process: asyncio.subprocess.Process | None = None
        self._number = 0
        self.lock = asyncio.Lock()
        self.documents: set[str] = set()
        self.sessions: set[str] = set()

    async def call(self, op: str, **fields: Json) -> dict[str, Any]:
        """One request; the lock is held. Raises StepFailed."""
        fresh = self._process is None or self._process.returncode is not None
        process = await self._start() if fresh else self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        self._number += 1
        body = json.dumps({"id": self._number, "op": op, **fields}, separators=(",", ":")).encode()
        try:
            async with asyncio.timeout(START_S if fresh else WATCHDOG_S):
                process.stdin.write(len(body).to_bytes(4, "big") + body)
                await process.stdin.drain()
                size = int.from_bytes(await process.stdout.readexactly(4), "big")
                answer: dict[str, Any] = json.loads(await process.stdout.readexactly(size))
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            await self.kill()
            why = "ran longer than the watchdog allows" if isinstance(error, TimeoutError) else "died"
            raise StepFailed(f"the worker process {why} in {op}") from error
        except asyncio.CancelledError:
            # An answer nobody waits for would be taken for that of the next request.
            await self.kill()
            raise
        if "error" in answer:
            raise StepFailed(f"{op} refused: {answer['error']}: {answer['message']}")
        ok: dict[str, Any] = answer["ok"]
        return ok

    async def _start(self) -> asyncio.subprocess.Process:
        self.documents.clear()
        self.sessions.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.orchestration.scxml.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=64 * 1024 * 1024,
        )
        self._log.info("worker started", pid=self._process.pid)
        return self._process

    async def kill(self) -> None:
        """Ends the process at once; its contexts are gone."""
        process, self._process = self._process, None
        self.documents.clear()
        self.sessions.clear()
        if process is not None and process.returncode is None:
            self._on_kill()
            process.kill()
            await process.wait()


class Workers:
    """Sessions spread over worker processes by their id."""

    def __init__(self, count: int, metrics: Metrics, log: FilteringBoundLogger) -> None:
        kills = metrics.counter("worker_kills_total", "Worker processes killed by the watchdog or found dead")
        self._processes = [_Process(log, kills.inc) for _ in range(count)]
        self._seconds = metrics.histogram("step_seconds", "Time of a macrostep, queries included")

    async def start(self) -> None:
        """Starts every process."""
        for process in self._processes:
            async with process.lock:
                await process.call("stats")

    async def stop(self) -> None:
        """Ends every process."""
        for process in self._processes:
            await process.kill()

    async def begin(
        self, session: str, compiled: Compiled, x: Json, answer: Answer
    ) -> tuple[StepResult, bytes]:
        """The first step of a session. Raises StepFailed."""
        process = self._process_of(session)
        async with process.lock:
            if session in process.sessions:
                await process.call("drop", session=session)
                process.sessions.discard(session)
            await self._load(process, compiled)
            seed = zlib.crc32(session.encode()) & 0x7FFFFFFF
            now = _now_ms()
            fields: dict[str, Json] = {
                "session": session, "key": compiled.source_hash, "now": now, "seed": seed, "x": x, "io_processors": {},
                "keep": True,
            }  # fmt: skip
            process.sessions.add(session)
            return await self._finish(process, session, await process.call("start", **fields), now, answer)

    async def step(
        self, session: str, compiled: Compiled, snapshot: bytes, event: Event, answer: Answer
    ) -> tuple[StepResult, bytes]:
        """One event. A session that the process does not have is restored from its snapshot. Raises StepFailed."""
        process = self._process_of(session)
        async with process.lock:
            with self._seconds.time():
                if session not in process.sessions:
                    await self._load(process, compiled)
                    await process.call(
                        "restore",
                        session=session,
                        key=compiled.source_hash,
                        snapshot=snapshot.decode(),
                        io_processors={},
                    )
                    process.sessions.add(session)
                now = _now_ms()
                raw = await process.call(
                    "step", session=session, event=event_to_json(event), now=now, keep=True
                )
                return await self._finish(process, session, raw, now, answer)

    async def drop(self, session: str) -> None:
        """Forgets a session."""
        process = self._process_of(session)
        async with process.lock:
            if session in process.sessions:
                process.sessions.discard(session)
                await process.call("drop", session=session)

    async def _finish(
        self, process: _Process, session: str, raw: dict[str, Any], now: float, answer: Answer
    ) -> tuple[StepResult, bytes]:
        result = result_from_json(raw)
        while result.query is not None:
            value, problem = await answer(result.query)
            given: dict[str, Json] = {"error": problem} if problem else {"value": value}
            raw = await process.call(
                "answer", session=session, query=result.query.id, now=now, keep=True, **given
            )
            result = result_from_json(raw)
        if result.finished:
            process.sessions.discard(session)
        return result, raw.get("snapshot", "").encode()

    async def _load(self, process: _Process, compiled: Compiled) -> None:
        if compiled.source_hash not in process.documents:
            await process.call("load", key=compiled.source_hash, compiled=compiled.to_json())
            process.documents.add(compiled.source_hash)

    def _process_of(self, session: str) -> _Process:
        return self._processes[zlib.crc32(session.encode()) % len(self._processes)]


def _now_ms() -> float:
    return time.time_ns() // 1_000_000
