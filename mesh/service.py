"""The bootstrap of every service: one process, one event loop, one Unix socket.

async def build(service: Service) -> None:
    store = Store(service.redis)
    service.add(add_ConfigServiceServicer_to_server, ConfigRpc(store))
    service.background("watch", store.follow)
    service.on_drain(store.close)

if __name__ == "__main__":
    main(build, name="config")
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import grpc
import redis.asyncio
import uvloop
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voice.mesh.v1.node_service_pb2_grpc import add_NodeServiceServicer_to_server

from mesh.admission import Admission, Sleep
from mesh.connections import Connections, needed
from mesh.deadline import Deadlines
from mesh.etcd import Etcd
from mesh.health import Check, Health
from mesh.lag import LoopLag
from mesh.node_service import NodeRpc, SlotsOf
from mesh.ownership import Membership, boottime_ns
from mesh.pairing import StoreMismatch, pair
from mesh.pipeline import Pipeline
from mesh.server import NodeServer
from mesh.settings import MeshSettings, SettingsError
from mesh.supervision import Supervisor
from mesh.telemetry import logs, process
from mesh.telemetry.http import MetricsServer
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.rpc import SentCalls, ServedCalls
from mesh.tenancy import Tenancy
from mesh.translation import Translation

S = TypeVar("S")
Hook = Callable[[], Awaitable[None]]

JOIN_TIMEOUT_S = 30.0
"""Time to take the lease when starting, seconds."""
PAIR_TIMEOUT_S = 2.0
"""So long a start waits to hear whether etcd and Redis belong together; then it is found out beside, seconds."""
MISMATCH_CODE = 3
"""Exit code when etcd and Redis do not belong together: starting again will not help."""
FLIGHT_GRACE_S = 2.0
"""Time calls in flight have to finish once the server has stopped accepting, seconds."""
CLOSE_TIMEOUT_S = 2.0
"""Time to revoke the lease, and for each connection to close, seconds."""


class Service:
    """One per process, made by `main` and given to the service's `build`, which adds what the process is."""

    def __init__(self, settings: MeshSettings) -> None:
        self.settings = settings
        self.incarnation = settings.new_incarnation()
        """"<node>.<8 hex digits>", new at each start."""
        self.record = NodeRecord(
            node=settings.node,
            incarnation=self.incarnation,
            service=settings.service,
            version=settings.version,
            zone=settings.zone,
            address=settings.address,
            capacity=settings.capacity,
            state=NodeState.NODE_STATE_NOT_READY,
        )
        """What the node announces first. `build` may add to it (sip_address, tenants, record_format …)
        before it uses `membership`."""
        self.metrics = Metrics(settings.service)
        self.metrics.gauge(
            "node_info", "Always 1; the labels say what runs here", ["incarnation", "version", "zone"]
        ).labels(self.incarnation, settings.version, settings.zone).set(1)
        self.log = logs.logger(settings.service)
        self.draining = asyncio.Event()
        """Set when the node begins to drain."""
        self._supervisor = Supervisor(self.metrics)
        self._health = Health(self.metrics, self._health_changed)
        self._lag = LoopLag(self.metrics)
        self._sleep = Sleep(self.metrics)
        self._connections = Connections(settings, self._health, SentCalls(self.metrics))
        self._metrics_server = MetricsServer(self.metrics.registry, self._healthz)
        self._server = NodeServer(Pipeline(self._stages()))
        self._slots: dict[str, SlotsOf] = {}
        self._waiting: list[tuple[str, Hook]] = []
        self._start_hooks: list[Hook] = []
        self._drain_hooks: list[Hook] = []
        self._stop_hooks: list[Hook] = []
        self._started = False
        self._joined = False
        self._asked = asyncio.Event()
        self._refused = False

    def _stages(self) -> tuple[ServedCalls, Translation, Admission, Deadlines, Tenancy]:
        admission = Admission(self.metrics, self.incarnation, self._sleep)
        tenancy = Tenancy(self.metrics, require_peer=self.settings.require_peer)
        return ServedCalls(self.metrics), Translation(self.metrics), admission, Deadlines(), tenancy

    # -- what a process may use: made on first use
    # ------------------------------------------------------------

    @property
    def etcd(self) -> Etcd:
        """Client of the ownership cluster; a dependency from its first use on."""
        return self._connections.etcd

    @property
    def etcd_config(self) -> Etcd:
        """Client of the configuration cluster; the ownership client when both settings name one cluster."""
        return self._connections.etcd_config

    @property
    def redis(self) -> redis.asyncio.Redis:
        """Client of Redis, answers as bytes; a dependency from its first use on. A command may take 5 s."""
        return self._connections.redis

    @property
    def channel(self) -> grpc.aio.Channel:
        """The one channel to our own sidecar's egress; connected on the first call."""
        return self._connections.channel

    @cached_property
    def membership(self) -> Membership:
        """Our lease and node record: joined when the service starts, SERVING when all dependencies are up."""
        made = Membership(self.etcd, self.settings.region, self.record)
        made.lease.measure(self.metrics)
        return made

    # -- what a process is
    # ------------------------------------------------------------------------------------

    def add(self, add_to_server: Callable[[S, Any], None], servicer: S) -> None:
        """Serves a contract: add(add_XServicer_to_server, servicer). Before `start` only."""
        self._server.add(add_to_server, servicer)

    def depends(self, name: str, check: Check) -> None:
        """Health by dependency: the node is SERVING only while every check returns True within a second.
        Checked every half second, down at the second failure in a row; what a check raises is the problem
        that GetNode shows. (etcd and Redis, which all nodes share, are needed to begin and not to go on.)"""
        self._health.depends(name, check)

    def background(self, name: str, run: Hook) -> None:
        """A supervised task: when it raises, that is logged and counted and it is run again after 0.1 s,
        doubling to 5 s; when it returns it has finished. Cancelled after drain. Before `start` it is kept
        until the hooks of `on_start` are done; later it begins at once."""
        if self._started:
            self._supervisor.start(name, run)
        else:
            self._waiting.append((name, run))

    @property
    def supervisor(self) -> Supervisor:
        """Looks after tasks that begin and end while the process lives, such as one a slot."""
        return self._supervisor

    def on_start(self, hook: Hook) -> None:
        """Awaited once, in order, when the server listens and the node is announced, before it is SERVING. An
        exception ends the process with exit code 1."""
        self._start_hooks.append(hook)

    def on_drain(self, hook: Hook) -> None:
        """Awaited at SIGTERM, in order, when the node is announced DRAINING and before its slots are handed
        over: finish or hand on what it carries. All of drain has `settings.drain_seconds`."""
        self._drain_hooks.append(hook)

    def on_stop(self, hook: Hook) -> None:
        """Awaited last, in order, when the server has stopped: close what was opened. Also after a failed
        start."""
        self._stop_hooks.append(hook)

    def owned_slots(self, family: str, owned: SlotsOf) -> None:
        """Where GetNode reads the slots of a family: owned_slots("sip", lambda: slots.owned)."""
        self._slots[family] = owned

    # -- its life
    # ---------------------------------------------------------------------------------------------

    @property
    def metrics_port(self) -> int:
        """The port of /metrics, once started."""
        return self._metrics_server.port

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT, drains, returns the exit code: 0 after a clean drain, 3 when etcd and
        Redis do not belong together, 1 otherwise."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked.set)
        try:
            await self.start()
        except StoreMismatch as error:
            self._refuse(error)
            await self._close()
            return MISMATCH_CODE
        except Exception as error:
            self.log.error("could not start", exc_info=error)
            await self._close()
            return 1
        await self._asked.wait()
        if self._refused:
            await self._close()
            return MISMATCH_CODE
        return 0 if await self.drain() else 1

    async def start(self) -> None:
        """Listens, joins the mesh, runs the start hooks and begins background work."""
        settings = self.settings
        self.add(add_NodeServiceServicer_to_server, self._node_rpc())
        await self._server.start(needed(settings.listen, "VOICEMESH_LISTEN"))
        await self._metrics_server.start(settings.bind_ip, settings.metrics_port)
        for name, loop in self._connections.loops:
            self._supervisor.start(name, loop)
        if settings.etcd and self._connections.with_redis:
            await self._pair()
        if settings.etcd:
            await self.membership.join(JOIN_TIMEOUT_S)
            self._joined = True
            self._supervisor.start("sleep", self._sleep.watch)
        for hook in self._start_hooks:
            await hook()
        self._started = True
        for name, run in self._waiting:
            self._supervisor.start(name, run)
        self._supervisor.start("loop lag", self._lag.watch)
        self._supervisor.start("health", self._health.watch)
        self.log.info("started", incarnation=self.incarnation, contracts=self._server.contracts)

    async def _pair(self) -> None:
        """Sees that etcd and Redis belong together: now or, while one of them is away, as soon as it answers. Raises
        StoreMismatch."""
        try:
            async with asyncio.timeout(PAIR_TIMEOUT_S):
                await pair(self.etcd, self.redis)
        except TimeoutError:
            self._supervisor.start("pairing", self._pair_later)

    async def _pair_later(self) -> None:
        try:
            await pair(self.etcd, self.redis)
        except StoreMismatch as error:
            self._refuse(error)

    def _refuse(self, error: StoreMismatch) -> None:
        self.log.critical("etcd and Redis do not belong together", instructions=str(error))
        self._refused = True
        self._asked.set()

    async def drain(self) -> bool:
        """Announces DRAINING, runs the drain hooks, hands slots over, stops accepting, finishes what is in
        flight and closes. True when all of it went well within `settings.drain_seconds`."""
        self.log.info("draining")
        self.draining.set()
        clean = True
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                await self._server.set_serving(False)
                await self._hand_over()
        except Exception as error:
            self.log.error("drain did not finish", exc_info=error)
            clean = False
        return await self._close() and clean

    async def _hand_over(self) -> None:
        if self._joined:
            self.membership.announce(state=NodeState.NODE_STATE_DRAINING)
        for hook in self._drain_hooks:
            await hook()
        if self._joined:
            await self.membership.drain(self.settings.drain_seconds)

    async def _close(self) -> bool:
        await self._server.stop(FLIGHT_GRACE_S)
        await self._supervisor.stop()
        leave = (self.membership.leave,) if self._joined else ()
        clean = True
        for hook in (*self._stop_hooks, *leave, *self._connections.closers, self._metrics_server.stop):
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await hook()
            except Exception as error:
                self.log.error("did not close cleanly", exc_info=error)
                clean = False
        self.log.info("stopped", clean=clean)
        return clean

    # -- what it says of itself
    # -------------------------------------------------------------------------------

    async def _health_changed(self, healthy: bool) -> None:
        if self.draining.is_set():
            return
        await self._server.set_serving(healthy)
        if self._joined:
            state = NodeState.NODE_STATE_SERVING if healthy else NodeState.NODE_STATE_NOT_READY
            self.membership.announce(state=state)
        self.log.info("serving" if healthy else "not serving")

    def _healthz(self) -> tuple[bool, dict[str, Any]]:
        down = {d.name: d.problem for d in self._health.dependencies if not d.up}
        serving = self._started and self._health.healthy and not self.draining.is_set()
        return serving, {"node": self.incarnation, "serving": serving, "down": down}

    def _node_rpc(self) -> NodeRpc:
        def record() -> NodeRecord:
            return self.membership.record if self._joined else self.record

        def lease_left_ms() -> int:
            return max(0, (self.membership.deadline_ns() - boottime_ns()) // 1_000_000) if self._joined else 0

        return NodeRpc(record, self._health, self._slots, lease_left_ms)


def main(build: Callable[[Service], Awaitable[None]], *, name: str) -> NoReturn:
    """Runs one service on uvloop: settings from the environment, `build`, serve, drain, exit.

    Exit codes: 0 drained, 1 failed to start or to drain, 2 wrong settings (each problem on standard error), 3 etcd and Redis
    do not belong together (what to do is in the log).
    """
    faulthandler.enable()
    try:
        settings = MeshSettings.from_env(name)
        end_telemetry = process.begin(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_live(build, settings))
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"{name}: {problem}\n")
        sys.exit(2)
    end_telemetry()
    sys.exit(code)


async def _live(build: Callable[[Service], Awaitable[None]], settings: MeshSettings) -> int:
    service = Service(settings)
    try:
        await build(service)
    except SettingsError:
        raise
    except Exception as error:
        service.log.error("could not start", exc_info=error)
        return 1
    gc.collect()
    gc.freeze()
    return await service.run()
