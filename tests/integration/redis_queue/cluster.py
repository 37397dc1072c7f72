"""Nodes of Redis Queue inside the test's process: real gRPC on Unix sockets, real Redis, no mesh."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import grpc
import redis.asyncio
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voice.redis_queue.v1.queue_service_pb2_grpc import add_QueueServiceServicer_to_server
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.pipeline import Pipeline
from mesh.rq import Rq
from mesh.server import NodeServer
from mesh.telemetry import Metrics
from mesh.translation import Translation
from services.redis_queue.appender import Appender
from services.redis_queue.follower import Follower
from services.redis_queue.rpc import QueueRpc
from services.redis_queue.settings import RedisQueueSettings
from services.redis_queue.store import Store


class Node:
    """One node; `kill` ends it as kill -9 would: no goodbye to anyone."""

    def __init__(self, name: str, folder: Path, redis_url: str, settings: RedisQueueSettings) -> None:
        self.record = NodeRecord(
            node=name,
            incarnation=f"{name}.00000001",
            service="redis_queue",
            state=NodeState.NODE_STATE_SERVING,
        )
        self.socket = folder / f"{name}.sock"
        self._redis_url = redis_url
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        client = redis.asyncio.Redis.from_url(self._redis_url)
        metrics = Metrics("redis_queue")
        self.metrics = metrics
        self.store = Store(client, self._settings)
        self.follower = Follower(self.store, metrics)
        self.appender = Appender(self.store, self.follower, metrics)
        await self.store.start()
        tasks = [asyncio.create_task(self.follower.run()), asyncio.create_task(self.appender.run())]
        server = NodeServer(Pipeline([Translation(metrics)]))
        rpc = QueueRpc(self.store, self.appender, self.follower, metrics)
        server.add(add_QueueServiceServicer_to_server, rpc)
        await server.start(str(self.socket))
        self._server, self._tasks, self._client = server, tasks, client

    async def kill(self) -> None:
        while any(not task.done() for task in self._tasks):
            for task in self._tasks:
                task.cancel()  # more than once: redis-py may take a cancellation for a timeout
            await asyncio.wait(self._tasks, timeout=0.1)
        await self._server.stop(0)
        await self.store.stop()
        await self._client.aclose()


class Cluster:
    """What clients see of the nodes; `leave` makes a node vanish from it, as its lease ending does."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._listeners: list[Callable[[], None]] = []

    def nodes(self) -> Sequence[NodeRecord]:
        return [node.record for node in self._nodes.values()]

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def channel(self, record: NodeRecord) -> tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]:
        if record.incarnation not in self._channels:
            node = next(n for n in self._nodes.values() if n.record.incarnation == record.incarnation)
            options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
            self._channels[record.incarnation] = grpc.aio.insecure_channel(
                f"unix:{node.socket}", options=options
            )
        return self._channels[record.incarnation], ()

    def join(self, node: Node) -> None:
        self._nodes[node.record.node] = node
        self._tell()

    def leave(self, name: str) -> None:
        del self._nodes[name]
        self._tell()

    def node(self, name: str) -> Node:
        return self._nodes[name]

    def all(self) -> list[Node]:
        return list(self._nodes.values())

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        for node in self._nodes.values():
            await node.kill()


@contextlib.asynccontextmanager
async def cluster(
    redis_url: str, count: int = 1, settings: RedisQueueSettings | None = None
) -> AsyncIterator[Cluster]:
    """`count` nodes that have started."""
    with tempfile.TemporaryDirectory(prefix="voicemesh-rq-") as folder:
        made = Cluster()
        for number in range(count):
            node = Node(f"redis_queue-{number}", Path(folder), redis_url, settings or RedisQueueSettings())
            await node.start()
            made.join(node)
        try:
            yield made
        finally:
            await made.close()


@contextlib.asynccontextmanager
async def client(nodes: Cluster, limit: int = 100_000) -> AsyncIterator[Rq]:
    """A client that has started."""
    rq = Rq.over(nodes, limit=limit)
    await rq.start()
    try:
        yield rq
    finally:
        await rq.stop()


def envelope(key: str, seq: int, *, epoch: int = 1, tenant: str = "t1", text: str = "") -> EventEnvelope:
    """An event of a call thread (or, for a key with a colon, of an agent)."""
    event = Event(event_type=MessageType.MESSAGE_TYPE_EVENT_RINGING, this_dn="7001", error_message=text)
    return EventEnvelope(
        event_id=f"{key}/{seq}",
        tenant=tenant,
        stream_key=key,
        seq=seq,
        epoch=epoch,
        time_us=1_800_000_000_000_000 + seq,
        region="local",
        node="sip_cluster-0.00000001",
        call_thread_id="" if ":" in key else key,
        event=event,
    )
