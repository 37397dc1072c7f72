"""Starting, watching over and ending a whole mesh."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from mesh.envoy.authorization import EDGE, WATCHMAN
from mesh.etcd import Etcd
from mesh.identity import tokens
from mesh.local import bytecode, ports, run_dir
from mesh.local.commands import Commands
from mesh.local.guard_line import GuardLine
from mesh.local.identities import Identities
from mesh.local.layout import Instance, Layout
from mesh.local.ports import NetLock
from mesh.local.process import Command, ManagedProcess
from mesh.local.readiness import Readiness, answers, reaches
from mesh.local.settings import LocalSettings

POLL_S = 0.1
TELL_S = 2.0
"""Seconds between two lines about who is missing."""
EARLY_ENDS = 4
"""A process that ended so often before the mesh was ready will not come up."""
Progress = Callable[[str], None]
T = TypeVar("T")


class StartFailed(RuntimeError):
    """The mesh did not become ready; says who is missing and shows the end of their logs."""


class LocalMesh:
    """A mesh on this machine. `async with` starts it, waits until it is ready, and leaves nothing behind."""

    def __init__(self, settings: LocalSettings | None = None, progress: Progress | None = None) -> None:
        """`progress` gets lines for people; by default nobody."""
        self.settings = settings or LocalSettings()
        self.run_dir = Path(self.settings.run_dir).resolve()
        self._progress = progress or (lambda line: None)
        self._processes: dict[str, ManagedProcess] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._began = 0.0
        self._net: NetLock | None = None
        self._layout: Layout | None = None
        self._identities: Identities | None = None
        self._commands: Commands | None = None
        self._guard: GuardLine | None = None
        self._readiness: Readiness | None = None
        self._etcd: Etcd | None = None

    # -- what is where -----------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        """All addresses. Raises RuntimeError before the start."""
        return _there(self._layout)

    @property
    def identities(self) -> Identities:
        """Certificates and keys."""
        return _there(self._identities)

    @property
    def edge(self) -> str:
        """host:port of the edge, TLS."""
        return self.layout.edge

    @property
    def ca_file(self) -> Path:
        """PEM of the authority behind the edge's certificate."""
        return self.identities.ca_file

    @property
    def etcd(self) -> str:
        """host:port of etcd, by commas when it has members."""
        return self.layout.etcd

    @property
    def redis(self) -> str:
        """URL of the Redis that begins as the primary."""
        return f"redis://{self.layout.redis}/0"

    @property
    def sip_proxies(self) -> list[str]:
        """host:port of each SIP proxy, UDP."""
        return [address for instance in self.instances("sip_proxy") for address in instance.sip]

    @property
    def metrics(self) -> dict[str, str]:
        """Node id -> host:port of its /metrics."""
        return {
            node.node: address
            for instance in self.instances()
            for node, address in zip(instance.nodes, instance.metrics, strict=True)
        }

    def instances(self, service: str | None = None) -> list[Instance]:
        """Service instances."""
        return self.layout.instances(service)

    def process(self, name: str) -> ManagedProcess:
        """A process by name: "sip_cluster-0", "sip_cluster-0.envoy", "edge", "etcd" (of a cluster "etcd-0" …),
        "redis", "redis-replica", "redis-sentinel-0" … "redis-sentinel-2", "xds"."""
        if name not in self._processes:
            raise KeyError(f"no process is called {name}; there are {', '.join(sorted(self._processes))}")
        return self._processes[name]

    @property
    def processes(self) -> dict[str, ManagedProcess]:
        """All processes by name."""
        return dict(self._processes)

    def token(self, tenant: str, *scopes: str, subject: str = "local", lifetime_s: int = 3600) -> str:
        """A token for the edge; scopes default to those of a client that may write configuration."""
        wanted = scopes or (tokens.CLIENT, tokens.CONFIG_WRITE)
        key = self.identities.signing_key
        return tokens.issue(
            key, subject=subject, tenant=tenant, scopes=wanted, now=time.time(), lifetime_s=lifetime_s
        )

    # -- life --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts everything and waits until it is ready. Raises StartFailed, PortTaken, NetTaken,
        MissingProgram, ForeignFolder."""
        self._net = ports.take_net(self.settings.net)
        settings = self.settings
        made = partial(
            Layout,
            self._net.net,
            counts=settings.all_counts(),
            engines=settings.engines,
            etcd_size=settings.etcd_members,
        )
        ports.check(ports.needs(made(self.run_dir)))
        sockets = run_dir.prepare(self.run_dir)
        layout = self._layout = made(sockets)
        self._identities = self._make_identities(layout)
        self._commands = Commands(
            layout, self.run_dir, settings.region, settings.log_level, settings.environment
        )
        self._guard = await GuardLine.open(sockets)
        if await bytecode.prepare():
            self._say("Python modules compiled")
        self._began = time.monotonic()
        self._etcd = Etcd(layout.etcd)
        self._readiness = Readiness(self._etcd, settings.region, self.identities.folder(WATCHMAN))
        try:
            async with asyncio.timeout(settings.start_timeout):
                await self._bring_up(self._commands)
        except TimeoutError:
            raise StartFailed(await self._explain(settings.start_timeout)) from None
        self._tasks.append(asyncio.create_task(self._identities.rotate(), name="rotate certificates"))

    async def _bring_up(self, commands: Commands) -> None:
        instances = self.instances()
        stores = [*commands.etcd(), *commands.redis()]
        envoys = [commands.edge(), *(commands.sidecar(instance) for instance in instances)]
        await self._spawn([*stores, commands.xds()])
        await self._spawn(envoys)
        await self._until(
            lambda: self._listening(
                [*self.layout.etcd.split(","), self.layout.redis, self.layout.redis_replica]
            )
        )
        self._say("etcd and Redis answer")
        await self._spawn([commands.service(instance) for instance in instances])
        self._say(f"{len(self._processes)} processes started; waiting for {len(instances)} service instances")
        await self.wait_ready()
        served = [service for service, count in self.layout.counts.items() if count]
        await self._until(lambda: reaches(self.layout.edge_admin, served))
        await self._until(lambda: self._listening([self.layout.edge]))
        self._say(f"ready: edge {self.edge}, SIP {', '.join(self.sip_proxies) or 'none'}")

    async def missing(self) -> dict[str, str]:
        """Node id -> why it is not ready, asked now; empty when all are."""
        readiness = _there(self._readiness)
        readiness.forget()
        return await readiness.missing(self.instances())

    async def wait_ready(self, timeout: float | None = None) -> None:
        """Waits until every node is SERVING in etcd and healthy through its sidecar. Raises StartFailed after
        `timeout` seconds."""
        readiness = _there(self._readiness)
        readiness.forget()
        ends = self._ends()
        tell_at = time.monotonic() + TELL_S
        try:
            async with asyncio.timeout(timeout):
                while missing := await readiness.missing(self.instances()):
                    self._check_ends(ends)
                    if time.monotonic() >= tell_at:
                        total = sum(len(instance.nodes) for instance in self.instances())
                        self._say(f"{total - len(missing)} of {total} nodes ready; {_listed(missing)}")
                        tell_at = time.monotonic() + TELL_S
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            if timeout is None:  # not ours: something below gave up
                raise
            raise StartFailed(await self._explain(timeout)) from None

    async def stop(self) -> None:
        """Ends everything: services first, so that they can drain; then what they stand on."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        services = {instance.name for instance in self.instances()} if self._layout else set()
        infrastructure = [name for name in self._processes if name not in services]
        for group in (services & self._processes.keys(), infrastructure):
            await asyncio.gather(
                *(self._processes[name].finish(self.settings.stop_timeout) for name in group)
            )
        self._processes.clear()
        if self._etcd is not None:
            await self._etcd.close()
            self._etcd = None
        if self._layout is not None:
            run_dir.clear(self.run_dir, self._layout.sockets)
        if self._guard is not None:
            await self._guard.close()
            self._guard = None
        if self._net is not None:
            self._net.release()
            self._net = None

    # -- parts -------------------------------------------------------------------------------------

    def _make_identities(self, layout: Layout) -> Identities:
        hosts: dict[str, list[str]] = {
            EDGE: [layout.infrastructure(5), "localhost", "127.0.0.1"],
            WATCHMAN: [],
        }
        for instance in layout.instances():
            hosts.setdefault(instance.service, []).append(instance.ip)
        identities = Identities(self.run_dir / "identity", hosts)
        identities.write()
        return identities

    async def _spawn(self, commands: Iterable[Command]) -> None:
        for command in commands:
            log = self.run_dir / "logs" / f"{command.name}.log"
            process = ManagedProcess(command, log, _there(self._guard).tell, self._say)
            self._processes[command.name] = process
            await process.start()

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        while not await condition():
            self._check_ends({})
            await asyncio.sleep(POLL_S / 2)

    async def _listening(self, addresses: Iterable[str]) -> bool:
        return all(await asyncio.gather(*(answers(address) for address in addresses)))

    def _ends(self) -> dict[str, int]:
        """How often each process has ended so far."""
        return {name: process.ends for name, process in self._processes.items()}

    def _check_ends(self, before: Mapping[str, int]) -> None:
        """Raises StartFailed for a process that keeps ending."""
        failing = [p for p in self._processes.values() if p.ends - before.get(p.name, 0) >= EARLY_ENDS]
        if failing:
            tails = "\n".join(f"--- {process.log}\n{process.tail()}" for process in failing[:3])
            raise StartFailed(f"{', '.join(p.name for p in failing)} will not start\n{tails}")

    async def _explain(self, waited: float) -> str:
        missing = await _there(self._readiness).missing(self.instances())
        lines = [f"not ready after {waited:.0f} s: {len(missing)} nodes missing"]
        nodes = {node.node: node for instance in self.instances() for node in instance.nodes}
        for name, why in missing.items():
            waits = await _there(self._readiness).dependencies(nodes[name])
            lines.append(f"  {name}: {why}{f', waits for {waits}' if waits else ''}")
        for name in list(missing)[:3]:
            process = next((p for key, p in self._processes.items() if name.startswith(key)), None)
            if process is not None:
                lines.append(f"--- {process.log}\n{process.tail()}")
        return "\n".join(lines)

    def _say(self, line: str) -> None:
        elapsed = f"{time.monotonic() - self._began:5.1f} s  " if self._began else ""
        self._progress(elapsed + line)


def _listed(missing: Mapping[str, str]) -> str:
    """Nodes by what is missing of them: "not ready: config-0, tenant-0; has not joined: registrar-0"."""
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(why, []).append(name)
    return "; ".join(f"{why}: {', '.join(names)}" for why, names in by_reason.items())


def _there(value: T | None) -> T:
    if value is None:
        raise RuntimeError("the mesh has not been started")
    return value
