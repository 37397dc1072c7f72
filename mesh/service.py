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

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar

import grpc
import redis.asyncio
from structlog.typing import FilteringBoundLogger

from mesh.settings import MeshSettings
from mesh.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from mesh.etcd import Etcd
    from mesh.ownership import Membership

S = TypeVar("S")
Check = Callable[[], Awaitable[bool]]
Coroutine = Callable[[], Awaitable[None]]


class Service:
    """One per process, made by `main` and given to the service's `build`, which adds what the process is."""

    settings: MeshSettings
    incarnation: str
    """"<node>.<8 hex digits>", new at each start."""
    metrics: Metrics
    log: FilteringBoundLogger
    etcd: Etcd
    """Client of the ownership cluster; made and made a dependency on first use."""
    etcd_config: Etcd
    """Client of the configuration cluster; the same object when both settings name one cluster."""
    redis: redis.asyncio.Redis
    """Client with decode_responses off; made and made a dependency on first use."""
    channel: grpc.aio.Channel
    """The one channel to our own sidecar's egress; made on first use, connected on the first call."""
    membership: Membership
    """Our lease and node record; announced when the service starts, SERVING when all dependencies are up."""

    def add(self, add_to_server: Callable[[S, grpc.aio.Server], None], servicer: S) -> None:
        """Serves a contract: add(add_XServicer_to_server, servicer). Before `run` only."""

    def depends(self, name: str, check: Check) -> None:
        """Health by dependency: the node is SERVING only while every check returns True within a second.
        Checked every half second; an exception counts as down and its text is the problem shown by
        GetNode."""

    def background(self, name: str, start: Coroutine) -> None:
        """A supervised task for the life of the process: when it raises, that is logged and counted and it
        is started again after 0.1 s doubling to 5 s; when it returns it has finished. Cancelled after
        drain. May be called at any time; before `run` it starts once the server listens."""

    def on_start(self, hook: Coroutine) -> None:
        """Awaited once, in order, when the server listens and the node is announced, before it is SERVING.
        An exception ends the process with exit code 1."""

    def on_drain(self, hook: Coroutine) -> None:
        """Awaited at SIGTERM, in order, after the node is announced DRAINING and before the server stops
        accepting: hand slots over, flush. All of it has `settings.drain_seconds`."""

    def owned_slots(self, family: str, slots: Callable[[], Sequence[tuple[str, int]]]) -> None:
        """Where GetNode reads the slots of a family: (slot, epoch) pairs."""

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT, drains, returns the exit code (0 after a clean drain)."""
        raise NotImplementedError


def main(build: Callable[[Service], Awaitable[None]], *, name: str) -> NoReturn:
    """Runs one service on uvloop: settings from the environment, `build`, serve, drain, exit.

    Exit codes: 0 drained, 1 failed to start or to drain, 2 wrong settings (each problem on standard error).
    """
    raise NotImplementedError
