"""What every node answers about itself (voice.mesh.v1.NodeService)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from voice.mesh.v1 import node_service_pb2 as pb
from voice.mesh.v1.node_pb2 import NodeRecord
from voice.mesh.v1.node_service_pb2_grpc import NodeServiceServicer

from mesh.health import Health

SlotsOf = Callable[[], Mapping[int, int] | Mapping[str, int] | Mapping[int | str, int]]
"""Gives the slots of a family owned now: slot -> epoch."""


class NodeRpc(NodeServiceServicer):
    """Serves GetNode from what the process knows; asks nobody."""

    def __init__(
        self,
        record: Callable[[], NodeRecord],
        health: Health,
        slots: Mapping[str, SlotsOf],
        lease_left_ms: Callable[[], int],
    ) -> None:
        self._record = record
        self._health = health
        self._slots = slots
        self._lease_left_ms = lease_left_ms

    async def GetNode(
        self, request: pb.GetNodeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetNodeResponse:
        """The node's record, its dependencies, its slots and what is left of its lease."""
        dependencies = [
            pb.Dependency(name=d.name, up=d.up, problem=d.problem) for d in self._health.dependencies
        ]
        return pb.GetNodeResponse(
            node=self._record(),
            dependencies=dependencies,
            slots=list(self._owned()),
            lease_left_ms=self._lease_left_ms(),
        )

    def _owned(self) -> Iterator[pb.OwnedSlot]:
        for family, owned in self._slots.items():
            for slot, epoch in sorted(owned().items()):
                yield pb.OwnedSlot(family=family, slot=str(slot), epoch=epoch)
