"""etcd's node records into the registry, and the registry's changes into the world."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from google.protobuf.message import DecodeError
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.envoy.endpoints import Endpoint
from mesh.envoy.node import NodeError, split_address
from mesh.etcd import Etcd
from mesh.watch import Batch, Watch
from mesh.xds.metrics import XdsMetrics
from mesh.xds.registry import Deleted, Put, Registry
from mesh.xds.server import Changes
from mesh.xds.world import World

SWEEP_S = 0.5
"""How often what was missing too long is given up, and the watches are looked at, seconds."""


class Membership:
    """Follows `/voicemesh/<region>/<service>/nodes/` of every service."""

    def __init__(
        self,
        etcd: Etcd,
        region: str,
        world: World,
        changes: Changes,
        metrics: XdsMetrics,
        warn: Callable[..., None],
    ) -> None:
        self._etcd = etcd
        self._region = region
        self._world = world
        self._changes = changes
        self._metrics = metrics
        self._warn = warn
        self._registry = Registry.of(world.services)
        self._watches: dict[str, Watch] = {}

    async def follow(self, service: str) -> None:
        """Watches one service's nodes until cancelled."""
        prefix = f"/voicemesh/{self._region}/{service}/nodes/"
        watch = self._watches[service] = self._etcd.watch(prefix)
        try:
            async for batch in watch:
                self._take(service, batch)
        finally:
            await watch.close()

    async def sweep(self) -> None:
        """Gives up nodes that have been missing for too long, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for service, watch in self._watches.items():
                self._metrics.watch_alive.labels(service).set(1 if watch.alive else 0)
            for service, members in self._registry.services.items():
                expiry = members.next_expiry()
                if expiry is not None and expiry <= now:
                    members.expire(now)
                    self._publish(service)

    def _take(self, service: str, batch: Batch) -> None:
        members, now = self._registry.services[service], time.monotonic()
        if batch.snapshot is not None:
            found = [put for item in batch.snapshot if (put := self._put(item.key, item.value)) is not None]
            members.snapshot(found, now)
        for change in batch.changes:
            if change.kv is None:
                members.change(Deleted(change.key.rpartition("/")[2]), now)
            elif (put := self._put(change.key, change.kv.value)) is not None:
                members.change(put, now)
        self._publish(service)

    def _put(self, key: str, value: bytes) -> Put | None:
        try:
            record = NodeRecord.FromString(value)
            split_address(record.address)
        except (DecodeError, NodeError) as error:
            self._warn("node record ignored", key=key, problem=str(error))
            return None
        return Put(key.rpartition("/")[2], endpoint(record))

    def _publish(self, service: str) -> None:
        endpoints = self._registry.services[service].endpoints()
        working = sum(1 for one in endpoints if one.takes_work)
        self._metrics.endpoints.labels(service, "taken").set(working)
        self._metrics.endpoints.labels(service, "not_taken").set(len(endpoints) - working)
        changed = self._world.update(self._registry, service)
        if not self._registry.complete:
            return
        if not self._changes.complete.is_set():
            self._changes.complete.set()
        elif changed:
            self._changes.tell()


def endpoint(record: NodeRecord) -> Endpoint:
    """A node as load balancing sees it."""
    return Endpoint(
        incarnation=record.incarnation,
        address=record.address,
        takes_work=record.state == NodeState.NODE_STATE_SERVING and record.capacity > 0,
        capacity=max(0, record.capacity),
    )
