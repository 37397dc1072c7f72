"""The Redis Queue nodes of a platform by their Unix sockets, as a SIP node's identity: for publishing events without SIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc.aio
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.local import LocalMesh
from mesh.metadata import PEER_KEY

PEER = ((PEER_KEY, "spiffe://voicemesh.local/ns/voice/sa/sip_cluster"),)


class QueueSockets:
    """`mesh.rq.nodes.Cluster` over the sockets."""

    def __init__(self, mesh: LocalMesh) -> None:
        listen = {node.node: node.listen for i in mesh.instances("redis_queue") for node in i.nodes}
        self._channels = {name: grpc.aio.insecure_channel(f"unix:{path}") for name, path in listen.items()}

    def nodes(self) -> Sequence[NodeRecord]:
        """All of them."""
        state = NodeState.NODE_STATE_SERVING
        return [
            NodeRecord(node=n, incarnation=n, service="redis_queue", state=state)
            for n in sorted(self._channels)
        ]

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Nothing changes here."""
        return lambda: None

    def channel(self, record: NodeRecord) -> tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]:
        """The node's socket."""
        return self._channels[record.node], PEER

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            await channel.close()
