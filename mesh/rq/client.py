"""The client of Redis Queue: one per process."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.message import Message
from voice.redis_queue.v1.queue_service_pb2 import (
    CloseStreamRequest,
    FenceStreamsRequest,
    QueueEntry,
    StreamFamily,
    StreamFence,
)

from mesh.deadline import timeout_for
from mesh.discovery import Directory
from mesh.errors import DomainError, Reason, from_rpc_error
from mesh.rq.metrics import ClientMetrics
from mesh.rq.nodes import Cluster, MeshCluster, Metadata, Nodes
from mesh.rq.publisher import Publisher
from mesh.rq.queue_reader import QueueReader
from mesh.rq.queues import QueueClient
from mesh.rq.route import AGENT, THREAD, stream_slot
from mesh.rq.slot_reader import SlotReader
from mesh.rq.store_watch import StoreWatch
from mesh.rq.stream_reader import StreamReader
from mesh.service import Service
from mesh.telemetry import Metrics, current_traceparent

if TYPE_CHECKING:
    from voice.redis_queue.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

__all__ = ["AGENT", "THREAD", "Rq"]

SERVICE: Final = "redis_queue"
FLUSH_S: Final = 2.0
FENCES: Final = 512
"""Streams fenced by one call at most."""


class Rq:
    """Made in a service's `build`; started with it and stopped at its drain."""

    def __init__(self, service: Service, *, limit: int = 100_000) -> None:
        """Uses the service's channel, etcd and metrics. `limit`: events, and queue entries, that may wait for
        acknowledgement."""
        directory = Directory(service.etcd, service.settings.region, SERVICE)
        self._directory: Directory | None = directory
        self._build(MeshCluster(directory, service.channel), service.metrics, limit)

    @classmethod
    def over(cls, cluster: Cluster, metrics: Metrics | None = None, *, limit: int = 100_000) -> Rq:
        """A client of nodes that are known otherwise: for tests and tools without a mesh."""
        made = cls.__new__(cls)
        made._directory = None
        made._build(cluster, metrics or Metrics("rq_client"), limit)
        return made

    def _build(self, cluster: Cluster, metrics: Metrics, limit: int) -> None:
        self._metrics = ClientMetrics(metrics)
        self._nodes = Nodes(cluster)
        self._limit = limit
        self._publishers: dict[StreamFamily.ValueType, Publisher] = {}
        self._queues = QueueClient(self._nodes, limit, self._metrics)
        self._store_watch = StoreWatch(self._nodes, self._store_changed)
        self._readers: list[SlotReader] = []
        metrics.queue(
            "rq_read", lambda: sum(reader.held for reader in self._readers), "Events read, not used"
        )

    async def start(self) -> None:
        """Watches the nodes. Needs no node to be there."""
        if self._directory is not None:
            await self._directory.start()
        self._nodes.start()
        self._store_watch.start()

    async def stop(self) -> None:
        """Waits up to two seconds for what is unacknowledged, then ends everything."""
        for publisher in self._publishers.values():
            await publisher.flush(FLUSH_S)
            await publisher.close()
        for reader in list(self._readers):
            await reader.close()
        await self._queues.close()
        await self._store_watch.stop()
        self._nodes.stop()
        if self._directory is not None:
            await self._directory.stop()

    def _store_changed(self) -> None:
        """Redis Queue writes to another Redis, which may lack what was acknowledged last."""
        for publisher in self._publishers.values():
            publisher.recall()
        self._queues.recall()

    @property
    def nodes(self) -> Nodes:
        """Primary and backup of a slot: `nodes.order(family, slot)`."""
        return self._nodes

    def publisher(self, family: StreamFamily.ValueType) -> Publisher:
        """The process's publisher of a family; the same object each time."""
        if family not in self._publishers:
            self._publishers[family] = Publisher(self._nodes, family, self._limit, self._metrics)
        return self._publishers[family]

    def read_slots(
        self, family: StreamFamily.ValueType, *, tenant: str = "", limit: int = 4096
    ) -> SlotReader:
        """A reader of slots, none at first. `tenant`: only events of this tenant. `limit`: events held for the
        consumer (a batch more may be); beyond that the nodes are made to wait."""
        reader = SlotReader(self._nodes, family, tenant, limit, self._metrics, self._readers.remove)
        self._readers.append(reader)
        return reader

    def read_stream(
        self, family: StreamFamily.ValueType, stream_key: str, from_seq: int = 1, *, once: bool = False
    ) -> StreamReader:
        """Events of one stream from `from_seq` on (1 the start, 0 the oldest kept), then what comes; with
        `once` only what is there. Raises StreamExpired while iterating when they are no longer kept."""
        return StreamReader(self._nodes, family, stream_key, from_seq, once)

    def enqueue(self, queue: str, entry_id: str, payload: Message | bytes) -> Future[None]:
        """Puts an entry into a queue once per id. Sent with the turn's others; the result may be awaited (it is
        in, or DomainError) or left alone (it is sent until it is in). Raises PublisherFull."""
        raw = payload if isinstance(payload, bytes) else payload.SerializeToString()
        return self._queues.enqueue(
            queue, QueueEntry(id=entry_id, payload=raw, traceparent=current_traceparent())
        )

    def read_queue(self, queue: str) -> QueueReader:
        """Entries that are not acknowledged, oldest first, then what comes. The reader of the next process
        gets those not acknowledged by then again: have effects under the entry's id."""
        return self._queues.read(queue)

    def acknowledge(self, queue: str, *ids: str) -> Future[None]:
        """Removes entries. Sent with the turn's others; sent until done, so it need not be awaited."""
        return self._queues.acknowledge(queue, ids)

    async def fence_streams(
        self, family: StreamFamily.ValueType, epochs: Mapping[str, int], *, timeout: float | None = None
    ) -> dict[str, int]:
        """Stream key -> epoch: events of lower epochs are refused in them from now on. Gives each stream's last sequence
        number: nothing of a former owner comes behind it. What an heir does before it reads the ends of streams. Raises
        DomainError: STALE_EPOCH for a stream that has a higher fence."""
        ends: dict[str, int] = {}
        keys = list(epochs)
        for at in range(0, len(keys), FENCES):
            some = keys[at : at + FENCES]
            request = FenceStreamsRequest(
                family=family, fences=[StreamFence(stream_key=key, epoch=epochs[key]) for key in some]
            )
            stub, metadata = self._node_for(family, some[0])
            try:
                response = await stub.FenceStreams(request, timeout=timeout_for(timeout), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, SERVICE) from error
            for key, end in zip(some, response.ends, strict=True):
                if end.epoch > epochs[key]:
                    raise DomainError(
                        Reason.REASON_STALE_EPOCH,
                        f"stream {key}: epoch {epochs[key]} is below the fence {end.epoch}",
                        epoch=epochs[key],
                        fence=end.epoch,
                    )
                ends[key] = end.last_seq
        return ends

    async def close_stream(
        self, family: StreamFamily.ValueType, stream_key: str, *, timeout: float | None = None
    ) -> None:
        """The stream has ended: kept for the retention time, then removed. Raises DomainError."""
        stub, metadata = self._node_for(family, stream_key)
        request = CloseStreamRequest(family=family, stream_key=stream_key)
        try:
            await stub.CloseStream(request, timeout=timeout_for(timeout), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, SERVICE) from error

    def _node_for(
        self, family: StreamFamily.ValueType, stream_key: str
    ) -> tuple[QueueServiceAsyncStub, Metadata]:
        """The contract at the node to use for a stream. Raises DomainError when there is none."""
        record = self._nodes.first(family, stream_slot(family, stream_key))
        if record is None:
            raise DomainError(
                Reason.REASON_DEPENDENCY_UNAVAILABLE, "no node of redis_queue", dependency=SERVICE
            )
        return self._nodes.stub(record)
