"""The controller of a SIP pod: starts its engines, sees that they live, starts again what dies, drains them at the end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mesh.settings import MeshSettings, SettingsError
from mesh.telemetry import Metrics, logger, process
from mesh.telemetry.http import MetricsServer
from services.sip_cluster.restart import Restart, Watchfulness
from services.sip_cluster.settings import SERVICE, Configuration, SipAddress, read

ENGINE = "services.sip_cluster.engine"
TEMPLATES = (
    "VOICEMESH_NODE",
    "VOICEMESH_LISTEN",
    "VOICEMESH_ADDRESS",
    "VOICEMESH_SIP_ADDRESS",
    "VOICEMESH_METRICS_PORT",
)
"""Variables that differ from engine to engine: `{engine}` in them is the engine's number."""
MAX_ENGINES = 64
LOOK_S = 0.5
"""Between looks at an engine's /healthz, seconds."""
ANSWER_S = 2.0
"""Time it has to answer, seconds."""
GRACE_S = 5.0
"""Time an engine has beyond its drain before it is killed, seconds."""
CONTROLLER_PORT = 9110
"""TCP port of the controller's own /metrics and /healthz, after those of ten engines."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Plan:
    """What is started."""

    engines: tuple[Mapping[str, str], ...]
    """The environment of each engine."""
    settings: MeshSettings
    """Those of the first engine, for logs and addresses."""
    metrics_port: int
    configuration: Configuration


def plan(env: Mapping[str, str]) -> Plan:
    """The engines that the environment asks for. Raises SettingsError with every problem."""
    count, port = (
        env.get("VOICEMESH_ENGINES", "1"),
        env.get("VOICEMESH_CONTROLLER_PORT", str(CONTROLLER_PORT)),
    )
    problems = []
    if not count.isdecimal() or not 1 <= int(count) <= MAX_ENGINES:
        problems.append(f"VOICEMESH_ENGINES: must be 1 to {MAX_ENGINES}")
    if not port.isdecimal() or int(port) > 65535:
        problems.append("VOICEMESH_CONTROLLER_PORT: must be 0 to 65535")
    if problems:
        raise SettingsError(problems)
    engines = tuple(for_engine(env, number) for number in range(int(count)))
    for name in ("VOICEMESH_NODE", "VOICEMESH_LISTEN", "VOICEMESH_SIP_ADDRESS"):
        values = [engine.get(name, "") for engine in engines]
        if len(values) > 1 and len(set(values)) < len(values):
            problems.append(f"{name}: must have {{engine}} for more than one engine")
    if problems:
        raise SettingsError(problems)
    for engine in engines:
        settings = MeshSettings.from_env(SERVICE, engine)
        SipAddress.of(engine, settings.bind_ip)
    first = MeshSettings.from_env(SERVICE, engines[0])
    return Plan(engines, first, int(port), read(env))


def for_engine(env: Mapping[str, str], number: int) -> dict[str, str]:
    """The environment of one engine."""
    changed = {name: env[name].replace("{engine}", str(number)) for name in TEMPLATES if name in env}
    return {**env, **changed, "VOICEMESH_SERVICE": SERVICE}


class Engine:
    """One engine process and its supervision."""

    def __init__(self, number: int, environment: Mapping[str, str], controller: Controller) -> None:
        settings = MeshSettings.from_env(SERVICE, environment)
        self.number = number
        self.name = settings.node
        self._environment = dict(environment)
        self._health = (settings.bind_ip, settings.metrics_port)
        self._controller = controller
        self._restart = Restart()
        self._log = logger("controller")
        self.watch = Watchfulness(0.0)
        self.process: asyncio.subprocess.Process | None = None

    async def supervise(self) -> None:
        """Runs the engine until the controller stops, starting it again when it ends."""
        while not self._controller.stopping.is_set():
            started = time.monotonic()
            self.watch = Watchfulness(started)
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                ENGINE,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                preexec_fn=partial(_drain_with, os.getpid()),
            )
            self._log.info("engine started", engine=self.name, pid=self.process.pid)
            code = await self._ended(self.process)
            if self._controller.stopping.is_set():
                self._controller.codes.append(code)
                return
            pause = self._restart.after(time.monotonic() - started)
            self._controller.restarted(self)
            self._log.error("engine ended", engine=self.name, code=code, restart_in_s=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._controller.stopping.wait(), pause)

    async def _ended(self, running: asyncio.subprocess.Process) -> int:
        """Waits for the end of the process, looking at its health meanwhile."""
        waiting = asyncio.ensure_future(running.wait())
        asked: asyncio.Future[Any] = asyncio.ensure_future(self._controller.stopping.wait())
        try:
            while True:
                done, _ = await asyncio.wait(
                    {waiting, asked}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                if waiting in done:
                    return waiting.result()
                if asked in done:
                    return await self._stop(running, waiting)
                await self._look(running)
        finally:
            self.watch.ready = False
            asked.cancel()

    async def _look(self, running: asyncio.subprocess.Process) -> None:
        now = time.monotonic()
        try:
            self.watch.answered(now, await _healthy(*self._health))
        except (OSError, TimeoutError, ValueError):
            if self.watch.silent(now):
                self._log.error("engine is silent and is ended", engine=self.name)
                with contextlib.suppress(ProcessLookupError):
                    running.kill()

    async def _stop(self, running: asyncio.subprocess.Process, waiting: asyncio.Future[int]) -> int:
        """SIGTERM: the engine drains; what is left after its time and a grace is killed."""
        with contextlib.suppress(ProcessLookupError):
            running.terminate()
        done, _ = await asyncio.wait({waiting}, timeout=self._controller.drain_s + GRACE_S)
        if not done:
            self._log.error("engine did not drain in time", engine=self.name)
            with contextlib.suppress(ProcessLookupError):
                running.kill()
        return await waiting


class Controller:
    """All engines of the pod."""

    def __init__(self, what: Plan) -> None:
        self._plan = what
        self.drain_s = what.settings.drain_seconds
        self.stopping = asyncio.Event()
        self.codes: list[int] = []
        """Exit codes of engines that ended because they were asked to."""
        metrics = Metrics(SERVICE)
        self._restarts = metrics.counter(
            "restarts_total", "Engines started again after they ended", ["engine"]
        )
        self.engines = [Engine(number, env, self) for number, env in enumerate(what.engines)]
        for engine in self.engines:
            self._restarts.labels(engine.name)
        metrics.gauge("engines", "Engines of the pod").set(len(self.engines))
        metrics.gauge("engines_ready", "Engines that serve").set_function(self._ready)
        metrics.gauge("config", "Configuration file of the pod", ["sha256"]).labels(
            what.configuration.sha256
        ).set(1)
        self._server = MetricsServer(metrics.registry, self._health)
        self._log = logger("controller")

    async def run(self) -> int:
        """Until SIGTERM or SIGINT; 0 when every engine drained cleanly."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        await self._server.start(self._plan.settings.bind_ip, self._plan.metrics_port)
        self._log.info(
            "controller started", engines=len(self.engines), config=self._plan.configuration.sha256
        )
        await asyncio.gather(*(engine.supervise() for engine in self.engines))
        await self._server.stop()
        self._log.info("controller stopped", codes=self.codes)
        return max(map(abs, self.codes), default=0)

    def restarted(self, engine: Engine) -> None:
        """Counts."""
        self._restarts.labels(engine.name).inc()

    def _ready(self) -> int:
        return sum(engine.watch.ready for engine in self.engines)

    def _health(self) -> tuple[bool, dict[str, Any]]:
        """The pod is ready when all its engines are."""
        ready = {engine.name: engine.watch.ready for engine in self.engines}
        return all(ready.values()) and not self.stopping.is_set(), {"engines": ready}


async def _healthy(host: str, port: int) -> bool:
    """Whether /healthz answers 200. Raises OSError, TimeoutError or ValueError when it does not answer."""
    async with asyncio.timeout(ANSWER_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            status = re.match(rb"HTTP/1\.[01] (\d{3})", await reader.readline())
        finally:
            writer.close()
    if status is None:
        raise ValueError("no HTTP answer")
    return status[1] == b"200"


def _drain_with(parent: int) -> None:
    """In the child: SIGTERM when the controller dies, however it dies, so that calls get their drain."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main() -> int:
    """Runs the controller; exit codes 0 drained, 2 wrong settings, else the worst of an engine."""
    try:
        what = plan(os.environ)
        end = process.begin(replace(what.settings, node=f"{what.settings.node}-controller"))
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"{SERVICE}: {problem}\n")
        return 2
    try:
        return asyncio.run(Controller(what).run())
    finally:
        end()
