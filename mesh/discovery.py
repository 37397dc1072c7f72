"""Finding nodes and owners of another service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from google.protobuf.message import Message
from voice.mesh.v1.node_pb2 import NodeRecord

from mesh.etcd import Etcd
from mesh.slots import SlotKey

NODE_HEADER = "x-voicemesh-node"
"""Header that addresses exactly one node, by incarnation."""

Q = TypeVar("Q", bound=Message, contravariant=True)
R = TypeVar("R", bound=Message, covariant=True)


class OwnerUnknown(Exception):
    """No node owned the slot, or none answered for it, before the deadline. Has `service` and `slot`."""


class UnaryMethod(Protocol[Q, R]):
    """A unary method of a grpc.aio stub."""

    def __call__(
        self,
        request: Q,
        /,
        *,
        timeout: float | None = ...,
        metadata: tuple[tuple[str, str], ...] | None = ...,
    ) -> Awaitable[R]: ...


def to_node(node: NodeRecord | str) -> tuple[tuple[str, str], ...]:
    """Metadata that sends a call to exactly this node (a record or an incarnation)."""
    return ((NODE_HEADER, node if isinstance(node, str) else node.incarnation),)


class Directory:
    """Nodes and slot owners of one service, kept current by a watch. Reads never block and never touch
    etcd."""

    def __init__(self, etcd: Etcd, region: str, service: str) -> None:
        raise NotImplementedError

    async def start(self, timeout: float = 10.0) -> None:
        """Starts watching; returns with the first snapshot. Raises TimeoutError."""
        raise NotImplementedError

    def nodes(self) -> list[NodeRecord]:
        """Live nodes, ordered by incarnation; draining and not ready ones among them."""
        raise NotImplementedError

    def node(self, incarnation: str) -> NodeRecord | None:
        """The live node of this incarnation."""
        raise NotImplementedError

    def owner(self, slot: SlotKey) -> NodeRecord | None:
        """The node that owns the slot, None while nobody does."""
        raise NotImplementedError

    def epoch(self, slot: SlotKey) -> int:
        """Epoch of the slot's claim, 0 when nobody owns it."""
        raise NotImplementedError

    def slots_of(self, incarnation: str) -> list[SlotKey]:
        """Slots owned by a node."""
        raise NotImplementedError

    async def wait_owner(self, slot: SlotKey, timeout: float) -> NodeRecord:
        """The slot's owner, waiting for one up to `timeout` seconds. Raises OwnerUnknown."""
        raise NotImplementedError

    def choose(self, random: float, *, tenant: str = "") -> NodeRecord | None:
        """A SERVING node for new work, by free capacity (capacity − load, at least a little each); `random`
        in [0, 1) picks. Nodes dedicated to other tenants are left out. None when there is none."""
        raise NotImplementedError

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """`callback` is called on the loop after each batch of changes; the result unsubscribes it."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Ends the watch."""
        raise NotImplementedError


class OwnerClient:
    """Unary calls to the owner of a slot, repeated through fail-overs until the deadline."""

    def __init__(self, directory: Directory) -> None:
        raise NotImplementedError

    async def call(self, method: UnaryMethod[Q, R], request: Q, slot: SlotKey, timeout: float) -> R:
        """Sends `request` to the slot's owner. On UNAVAILABLE (which NOT_OWNER, draining and a dead node
        are) it waits for news from the watch and sends the same request again, until `timeout` seconds have
        passed: so the request must carry a request id. Raises OwnerUnknown, or the grpc.aio.AioRpcError of
        the last attempt."""
        raise NotImplementedError
