"""One worker process: requests one after the other, a watchdog, what it has loaded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger

from services.orchestration.scxml import Compiled, Json

WATCHDOG_CPU_S = 2.0
"""Longest step, CPU seconds; then the process is killed. A machine that is busy with others does not count."""
WATCHDOG_S = 60.0
"""Longest step, wall-clock seconds: one that gets no CPU is not at fault, one that waits for ever is."""
LOOK_S = 0.1
"""Between looks of the watchdog, seconds."""
START_S = 60.0
"""Longest start of a worker process with its first answer, seconds."""
LEAST = 19
"""Priority of a process whose step runs long: the nicest."""
MAX_CONTEXTS = 1000
"""JavaScript contexts a process; those used longest ago give way."""
MAX_DOCUMENTS = 128
"""Compiled documents a process."""
MAX_MESSAGE = 64 * 1024 * 1024
UNKNOWN = b""
"""The state of a context whose step has not ended."""


_RUNNING = frozenset(("start", "step", "answer", "terminate"))
"""Requests that run code of an application."""


class StepFailed(Exception):
    """The step could not be done: the worker was killed while it ran, or refused it."""


class WorkerLost(StepFailed):
    """The process died, and it was not the watchdog that killed it."""


class Process:
    """Restarted by the next call after it was lost. One call at a time."""

    def __init__(self, log: FilteringBoundLogger, on_kill: Callable[[], None]) -> None:
        self._log = log
        self._on_kill = on_kill
        self._process: asyncio.subprocess.Process | None = None
        self._number = 0
        self._cpu_before = math.inf
        self._calling = asyncio.Lock()
        self._statistics = -1
        self._demoted = False
        self.documents: OrderedDict[str, None] = OrderedDict()
        self.sessions: dict[str, bytes] = {}
        """Session -> snapshot of the state that its context is in."""
        self.used: OrderedDict[str, float] = OrderedDict()
        """Session -> when its context was last used, monotonic seconds, longest ago first."""
        self.forgotten: set[str] = set()

    @property
    def pid(self) -> int:
        """0 while it is not running."""
        return self._process.pid if self._process is not None else 0

    @property
    def ready(self) -> bool:
        """It runs and has answered."""
        return self._process is not None and self._process.returncode is None and not self._calling.locked()

    async def warm(self) -> None:
        """It is running and has answered."""
        if not self.ready:
            if self._process is not None and self._process.returncode is not None:
                await self.kill()
            await self.call("stats")

    async def call(self, op: str, **fields: Json) -> dict[str, Any]:
        """One request; starts the process when there is none. Raises StepFailed, WorkerLost."""
        async with self._calling:
            return await self._call(op, fields)

    async def _call(self, op: str, fields: dict[str, Json]) -> dict[str, Any]:
        fresh, process = self._process is None, self._process
        if process is None:
            process = await self._start()
        elif process.returncode is not None:
            await self.kill()
            raise WorkerLost(f"the worker process was dead before {op}")
        self._number += 1
        # Only code of applications is suspected of running long.
        self._cpu_before = self._cpu() if op in _RUNNING else math.inf
        body = json.dumps({"id": self._number, "op": op, **fields}, separators=(",", ":")).encode()
        asked = asyncio.ensure_future(self._exchange(process, body))
        try:
            answer = await self._watched(asked, START_S if fresh else WATCHDOG_S, op)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await self.kill()
            raise WorkerLost(f"the worker process died in {op}") from error
        except asyncio.CancelledError:
            # An answer nobody waits for would be taken for that of the next request.
            await self.kill()
            raise
        finally:
            if not asked.done():
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
        if "error" in answer:
            raise StepFailed(f"{op} refused: {answer['error']}: {answer['message']}")
        ok: dict[str, Any] = answer["ok"]
        return ok

    async def _exchange(self, process: asyncio.subprocess.Process, body: bytes) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(len(body).to_bytes(4, "big") + body)
        await process.stdin.drain()
        size = int.from_bytes(await process.stdout.readexactly(4), "big")
        answer: dict[str, Any] = json.loads(await process.stdout.readexactly(size))
        return answer

    async def _watched(
        self, asked: asyncio.Future[dict[str, Any]], longest_s: float, op: str
    ) -> dict[str, Any]:
        until = time.monotonic() + longest_s
        while not (await asyncio.wait({asked}, timeout=LOOK_S))[0]:
            if time.monotonic() > until or self.cpu_of_call() > WATCHDOG_CPU_S:
                await self.kill()
                raise StepFailed(f"the worker process ran longer than the watchdog allows in {op}")
        return asked.result()

    def forget(self, session: str) -> None:
        """The session is over; its context goes with the next idle ones."""
        if session in self.sessions:
            self.used.pop(session, None)
            self.forgotten.add(session)

    # -- what it holds -----------------------------------------------------------------------------------------

    async def load(self, compiled: Compiled) -> None:
        """The document is in the process."""
        key = compiled.source_hash
        if key in self.documents:
            self.documents.move_to_end(key)
            return
        await self.call("load", key=key, compiled=compiled.to_json())
        self.documents[key] = None
        if len(self.documents) > MAX_DOCUMENTS:
            await self.call("unload", key=self.documents.popitem(last=False)[0])

    def note(self, session: str, snapshot: bytes) -> None:
        """The session's context is in this state."""
        self.sessions[session] = snapshot
        self.used[session] = time.monotonic()
        self.used.move_to_end(session)

    def ended(self, session: str) -> None:
        """The session has ended, and its context with it."""
        self.sessions.pop(session, None)
        self.used.pop(session, None)
        self.forgotten.discard(session)

    async def drop(self, session: str) -> None:
        """The session has no context here; there is room for one more."""
        self.used.pop(session, None)
        self.forgotten.discard(session)
        gone = [session] if self.sessions.pop(session, None) is not None else []
        while len(self.sessions) >= MAX_CONTEXTS and self.used:
            oldest, _ = self.used.popitem(last=False)
            self.sessions.pop(oldest, None)
            gone.append(oldest)
        for name in gone:
            await self.call("drop", session=name)

    async def drop_idle(self, before: float) -> bool:
        """Drops one context that was last used before this time (monotonic seconds) or is forgotten; whether there
        was one."""
        name = self.forgotten.pop() if self.forgotten else next(iter(self.used), "")
        if not name or self.used.get(name, 0.0) > before:
            return False
        await self.drop(name)
        return True

    # -- its life ----------------------------------------------------------------------------------------------

    def demote(self) -> None:
        """From now on the process gets what others leave of the CPU."""
        if not self._demoted and self._process is not None:
            self._demoted = True
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, LEAST)

    def cpu_of_call(self) -> float:
        """CPU seconds since the present call began."""
        return self._cpu() - self._cpu_before

    def _cpu(self) -> float:
        """CPU seconds of the process, 0 when it is gone."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(os.pread(self._statistics, 64, 0).split()[0]) / 1e9
        return 0.0

    async def _start(self) -> asyncio.subprocess.Process:
        self._forget()
        self._demoted = False
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.orchestration.scxml.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_MESSAGE,
        )
        self._statistics = os.open(f"/proc/{self._process.pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self._log.info("worker started", pid=self._process.pid)
        return self._process

    def _forget(self) -> None:
        self.documents.clear()
        self.sessions.clear()
        self.used.clear()
        self.forgotten.clear()

    async def kill(self, *, planned: bool = False) -> None:
        """Ends the process at once; its contexts are gone."""
        process, self._process = self._process, None
        self._forget()
        if process is None:
            return
        os.close(self._statistics)
        self._statistics = -1
        if not planned:
            self._on_kill()
        if process.returncode is None:
            process.kill()
        await process.wait()
