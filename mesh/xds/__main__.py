"""`python -m mesh.xds`: the control plane as a process. Environment: VOICEMESH_ETCD, _REGION, _BIND_IP,
_METRICS_PORT and VOICEMESH_XDS_*."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path

import grpc
import structlog
import uvloop
from envoy.service.discovery.v3 import ads_pb2_grpc
from prometheus_client import CollectorRegistry, start_http_server

from mesh.channels import SERVER_OPTIONS
from mesh.envoy.authorization import SERVICES
from mesh.envoy.contracts import load as load_contracts
from mesh.etcd import Etcd
from mesh.settings import MeshSettings, SettingsError, load
from mesh.xds import reflection
from mesh.xds.membership import Membership
from mesh.xds.metrics import XdsMetrics
from mesh.xds.server import Changes, DiscoveryService
from mesh.xds.settings import XdsSettings
from mesh.xds.world import World


async def serve(mesh: MeshSettings, settings: XdsSettings) -> int:
    """Serves Envoys until SIGTERM or SIGINT."""
    log = structlog.get_logger("mesh.xds")
    registry = CollectorRegistry()
    metrics = XdsMetrics(registry)
    start_http_server(mesh.metrics_port, addr=mesh.bind_ip, registry=registry)
    descriptors = Path(settings.descriptors)
    world, changes = World(load_contracts(descriptors), SERVICES), Changes()
    etcd = Etcd(mesh.etcd)
    members = Membership(etcd, mesh.region, world, changes, metrics, log.warning)
    server = grpc.aio.server()
    discovery = DiscoveryService(world, changes, metrics, log.info, log.warning)
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(discovery, server)
    servers = [(server, settings.listen)]
    if settings.reflection:
        reflecting = grpc.aio.server(options=SERVER_OPTIONS)
        reflection.add_to(reflecting, reflection.Descriptors.load(descriptors))
        servers.append((reflecting, settings.reflection))
    for one, path in servers:
        _remove_stale(path)
        one.add_insecure_port(f"unix:{path}")
        await one.start()
    log.info("control plane serves", listen=settings.listen, contracts=len(world.contracts))
    try:
        return await _until_told([*(members.follow(service) for service in world.services), members.sweep()])
    finally:
        for one, _ in servers:
            await one.stop(grace=None)
        await etcd.close()


def _remove_stale(path: str) -> None:
    """A socket left behind by a process that was killed."""
    Path(path).unlink(missing_ok=True)


async def _until_told(work: list[Coroutine[None, None, None]]) -> int:
    """Runs the tasks until a signal. One that fails ends the process: its supervisor starts a fresh one, and
    Envoys keep what they have."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.ensure_future(one) for one in work]
    stopping = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in done if task is not stopping]
    for task in (*tasks, stopping):
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return 1 if failed else 0


def main() -> int:
    """Exit codes: 0 told to stop, 1 failed, 2 wrong settings."""
    try:
        mesh = MeshSettings.from_env("xds")
        settings = load(XdsSettings, "xds")
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201
        return 2
    return uvloop.run(serve(mesh, settings))


if __name__ == "__main__":
    sys.exit(main())
