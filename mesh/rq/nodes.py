"""The nodes of Redis Queue as a client reaches them."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc
from voice.mesh.v1.node_pb2 import NodeRecord
from voice.redis_queue.v1.queue_service_pb2_grpc import QueueServiceStub

from mesh.discovery import Directory, to_node
from mesh.rq.route import Routes

if TYPE_CHECKING:
    from voice.redis_queue.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,  # how a killed endpoint ends a stream through a proxy (RST_STREAM)
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Statuses after which the same is tried again, at another node if there is one."""


class Cluster(Protocol):
    """Where the nodes are known from, and the channel to one of them."""

    def nodes(self) -> Sequence[NodeRecord]:
        """The live nodes."""

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """`callback` is called after each change; the result unsubscribes it."""

    def channel(self, record: NodeRecord) -> tuple[grpc.aio.Channel, Metadata]:
        """A channel and the metadata that makes it lead to the node."""


class MeshCluster:
    """The nodes in etcd, through the process's own sidecar."""

    def __init__(self, directory: Directory, channel: grpc.aio.Channel) -> None:
        self._directory = directory
        self._channel = channel

    def nodes(self) -> Sequence[NodeRecord]:
        return self._directory.nodes()

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._directory.on_change(callback)

    def channel(self, record: NodeRecord) -> tuple[grpc.aio.Channel, Metadata]:
        return self._channel, to_node(record)


class Nodes:
    """Routes, and stubs for them; tells its listeners when routes may have changed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._routes = Routes()
        self._listeners: list[Callable[[], None]] = []
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Begins to follow the cluster."""
        self._unsubscribe = self._cluster.on_change(self._changed)
        self._changed()

    def stop(self) -> None:
        """Follows it no longer."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def listen(self, listener: Callable[[], None]) -> None:
        """`listener` is called when routes may have changed."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Not any more."""
        self._listeners.remove(listener)

    def first(self, kind: int, number: int) -> NodeRecord | None:
        """The node to use for a slot now; None when there is none."""
        return self._routes.first(kind, number, time.monotonic())

    def order(self, kind: int, number: int) -> list[NodeRecord]:
        """Primary, backup and the others of a slot."""
        return self._routes.nodes(kind, number)

    def alive(self, incarnation: str) -> bool:
        """Whether a node is among the live ones."""
        return any(record.incarnation == incarnation for record in self._cluster.nodes())

    def stub(self, record: NodeRecord) -> tuple[QueueServiceAsyncStub, Metadata]:
        """The contract at a node, and the metadata to send along."""
        channel, metadata = self._cluster.channel(record)
        return QueueServiceStub(channel), metadata

    def suspect(self, incarnation: str) -> None:
        """A call to the node failed."""
        self._routes.suspect(incarnation, time.monotonic())
        self._tell()

    def trust(self, incarnation: str) -> None:
        """The node answers."""
        self._routes.trust(incarnation)

    def _changed(self) -> None:
        self._routes.update(self._cluster.nodes())
        self._tell()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()


def detached(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """A task that does not inherit deadline, tenant or trace of the request during which it was started."""
    return asyncio.get_running_loop().create_task(work, name=name, context=contextvars.Context())
