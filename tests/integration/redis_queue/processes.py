"""Service processes with real etcd and Redis, joined by a router instead of sidecars."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc

from mesh.discovery import Directory
from mesh.etcd import Etcd
from mesh.rq import Rq
from mesh.rq.nodes import MeshCluster
from tests.integration.nodes import NodeProcess
from tests.integration.redis_group import RedisGroup
from tests.integration.redis_queue.egress import Egress, egress
from tests.integration.servers import EtcdServer, RedisServer

T = TypeVar("T")


async def eventually(what: Callable[[], Awaitable[T]], seconds: float = 15.0) -> T:
    """Waits until `what()` gives something true, and returns that."""
    async with asyncio.timeout(seconds):
        while True:
            found = await what()
            if found:
                return found
            await asyncio.sleep(0.02)


class Processes:
    """A small region of our own."""

    def __init__(
        self, etcd: EtcdServer, redis: RedisServer | RedisGroup, region: str, router: Egress
    ) -> None:
        self.etcd, self.redis, self.region, self.router = etcd, redis, region, router
        self.nodes: dict[str, NodeProcess] = {}
        self._channels: list[grpc.aio.Channel] = []

    async def start(self, service: str, index: int = 0, **variables: str) -> NodeProcess:
        """Starts a node and waits until it serves."""
        node = NodeProcess(
            service,
            index,
            REGION=self.region,
            ETCD=self.etcd.endpoint,
            REDIS=self.redis.url,
            EGRESS=self.router.target,
            **variables,
        )
        name = f"{service}-{index}"
        self.nodes[name] = node
        self.router.add(node, name)
        await asyncio.to_thread(node.start)
        return node

    async def kill(self, name: str) -> None:
        """kill -9."""
        node = self.nodes.pop(name)
        await asyncio.to_thread(node.kill)
        shutil.rmtree(node.folder, ignore_errors=True)

    def channel(self, target: str = "") -> grpc.aio.Channel:
        """A channel to the router, or to a target."""
        options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 100)]
        channel = grpc.aio.insecure_channel(target or self.router.target, options=options)
        self._channels.append(channel)
        return channel

    @contextlib.asynccontextmanager
    async def rq(self) -> AsyncIterator[Rq]:
        """A client of Redis Queue that finds the nodes in etcd."""
        etcd = Etcd(self.etcd.endpoint)
        directory = Directory(etcd, self.region, "redis_queue")
        await directory.start()
        rq = Rq.over(MeshCluster(directory, self.channel()))
        await rq.start()
        try:
            yield rq
        finally:
            await rq.stop()
            await directory.stop()
            await etcd.close()

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()
        for name, node in self.nodes.items():
            await asyncio.to_thread(node.kill)
            if "unexpected error" in (log := await asyncio.to_thread(node.log)):
                print(
                    f"{name} met what nobody foresaw:",
                    log[log.index("unexpected error") - 200 :][:4000],
                    sep="\n",
                )
            shutil.rmtree(node.folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def processes(
    etcd: EtcdServer, redis: RedisServer | RedisGroup, region: str
) -> AsyncIterator[Processes]:
    """A region without nodes."""
    async with egress() as router:
        made = Processes(etcd, redis, region, router)
        try:
            yield made
        finally:
            await made.close()
