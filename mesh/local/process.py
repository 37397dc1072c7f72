"""One supervised child process: started in a group of its own, logged to a file, restarted with backoff,
never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesh.local.backoff import Backoff

_SETPRIV = shutil.which("setpriv")
_NICE = shutil.which("nice")
LOG_TAIL = 15
"""Lines of a log file shown when a process fails."""


@dataclass(frozen=True)
class Command:
    """What is run."""

    name: str
    """Process name: "sip_cluster-0", "sip_cluster-0.envoy", "etcd"."""
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """The whole environment."""
    directory: Path | None = None
    """Working directory; the starter's when None."""
    restart_s: float = 0.0
    """Seconds it stays away at least when it has ended."""
    niceness: int = 0
    """Added to ours, -20 to 19; below 0 only where that is allowed (root)."""


class ManagedProcess:
    """A child process and its supervision. `kill()` leaves the supervisor in charge: the process comes back."""

    def __init__(
        self, command: Command, log: Path, guard: Callable[[str], None], notice: Callable[[str], None]
    ) -> None:
        """`guard` is told `+<group>` at each start and `-<group>` at each end; `notice` gets one line for
        people when the process ends unasked."""
        self.command = command
        self.log = log
        self.restarts = 0
        """Times it was started again."""
        self.ends = 0
        """Times it ended unasked."""
        self._guard = guard
        self._notice = notice
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._started = asyncio.Event()
        self.exits: deque[tuple[float, int]] = deque(maxlen=20)
        """(monotonic time, return code) of the last ends."""

    @property
    def name(self) -> str:
        """Process name."""
        return self.command.name

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def running(self) -> bool:
        """Whether it runs now (a stopped one runs too)."""
        return self.pid is not None

    async def start(self) -> None:
        """Starts it and its supervision; returns when the process exists."""
        if self._supervisor is not None and not self._supervisor.done():
            return
        self._ending.clear()
        self._started.clear()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"supervise {self.name}")
        started = asyncio.create_task(self._started.wait())
        await asyncio.wait({started, self._supervisor}, return_when=asyncio.FIRST_COMPLETED)
        if self._supervisor.done():
            started.cancel()
            await self._supervisor

    def signal(self, number: signal.Signals, *, group: bool = True) -> None:
        """Sends a signal to the process (and its children when `group`). Raises ProcessLookupError when it
        does not run."""
        pid = self.pid
        if pid is None:
            raise ProcessLookupError(f"{self.name} does not run")
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL to the process and its children; the supervisor starts it again."""
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP to the process and its children: frozen, not dead."""
        self.signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT after `stop`."""
        self.signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM to the process alone: it drains; the supervisor starts it again."""
        self.signal(signal.SIGTERM, group=False)

    async def finish(self, timeout: float) -> None:
        """Ends it for good: SIGTERM, after `timeout` seconds SIGKILL, then whatever is left of its group."""
        self._ending.set()
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)
        supervisor = self._supervisor
        if supervisor is not None:
            done, _ = await asyncio.wait({supervisor}, timeout=timeout)
            if not done:
                if pid is not None:
                    self._end_group(pid)
                await asyncio.wait({supervisor}, timeout=timeout)
                supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor

    def tail(self, lines: int = LOG_TAIL) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def _supervise(self) -> None:
        backoff = Backoff()
        while not self._ending.is_set():
            started = time.monotonic()
            process = self._process = await self._spawn()
            self._guard(f"+{process.pid}")
            self._started.set()
            if self._ending.is_set():  # told to end while it was being started
                process.kill()
            code = await process.wait()
            self._end_group(process.pid)
            self._guard(f"-{process.pid}")
            self.exits.append((time.monotonic(), code))
            if self._ending.is_set():
                return
            self.ends += 1
            delay = max(backoff.after_end(time.monotonic() - started), self.command.restart_s)
            self._notice(
                f"{self.name} ended ({_reason(code)}); starting it again in {delay:.1f} s, log: {self.log}"
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), delay)
            self.restarts += 0 if self._ending.is_set() else 1

    async def _spawn(self) -> asyncio.subprocess.Process:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *dying_with_us(_with_niceness(self.command)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.command.environment),
                cwd=self.command.directory,
                start_new_session=True,
            )

    @staticmethod
    def _end_group(pid: int) -> None:
        """What the process left in its group goes with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _with_niceness(command: Command) -> list[str]:
    """What is run, `nice` before it: as all that it starts inherits it, from its first thread on. Where less than ours is not
    allowed `nice` says so in the log and runs it all the same."""
    if command.niceness == 0 or _NICE is None:
        return list(command.argv)
    return [_NICE, "-n", str(command.niceness), "--", *command.argv]


def dying_with_us(argv: Sequence[str]) -> list[str]:
    """The command under PR_SET_PDEATHSIG: SIGKILL when we die, however we die. (Python's preexec_fn forks
    with threads; util-linux does not.)

    The guard process ends what this does not reach: children of children, and everything where setpriv is
    missing.
    """
    return [_SETPRIV, "--pdeathsig", "KILL", "--", *argv] if _SETPRIV else list(argv)


def _reason(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
