"""What a node tells of itself: its NodeRecord under its lease."""

from __future__ import annotations

from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.etcd import Etcd
from mesh.lease import Lease


class Membership:
    """This node's membership of its service. `record.incarnation` must be new at each start of the
    process."""

    etcd: Etcd
    lease: Lease
    region: str
    service: str

    def __init__(self, etcd: Etcd, region: str, record: NodeRecord, *, ttl_s: int = 2) -> None:
        """`record` is what the node announces at first (state NOT_READY unless told otherwise)."""
        raise NotImplementedError

    @property
    def incarnation(self) -> str:
        """This start's id, the value of x-voicemesh-node that addresses this node."""
        raise NotImplementedError

    @property
    def record(self) -> NodeRecord:
        """A copy of the record as it should stand in etcd."""
        raise NotImplementedError

    def deadline_ns(self) -> int:
        """The lease's local deadline, CLOCK_BOOTTIME ns (see `Lease.deadline_ns`)."""
        return self.lease.deadline_ns()

    async def join(self, timeout: float = 10.0) -> None:
        """Takes the lease and writes the record. Raises EtcdUnavailable after `timeout` seconds."""
        raise NotImplementedError

    def announce(
        self, *, load: int | None = None, state: NodeState | None = None, capacity: int | None = None
    ) -> None:
        """Changes the record. Load is written at most once a second, a change of state or capacity at once.

        SERVING and NOT_READY never undo a drain.
        """
        raise NotImplementedError

    async def drain(self, timeout: float = 10.0) -> None:
        """Announces DRAINING and hands every slot over; returns when nothing is owned or after `timeout`."""
        raise NotImplementedError

    async def leave(self) -> None:
        """Revokes the lease: the record and any claim left are gone at once."""
        raise NotImplementedError
