"""What travels to and from etcd: keys, guards, operations and errors. `mesh/etcd.py` hands these names on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from etcdserverpb import rpc_pb2 as pb
from mvccpb import kv_pb2

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),  # below 5 s etcd answers GOAWAY too_many_pings
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # The time one attempt to connect may take, whatever its name says.
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class EtcdError(Exception):
    """Base of what this client raises."""


class EtcdUnavailable(EtcdError):
    """No endpoint answered before the deadline; a write's outcome is unknown."""


class LeaseNotFound(EtcdError):
    """The lease named in a request has ended."""


class Compacted(EtcdError):
    """The revision asked for has been compacted away."""


class EtcdRefused(EtcdError):
    """etcd refused the request; the text is its own."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as etcd holds it."""

    key: str
    value: bytes
    create_revision: int
    """Revision at which the key came into being; unchanged when it is overwritten."""
    mod_revision: int
    """Revision of the last change: the epoch of a slot claim."""
    lease: int
    """Lease id, 0 for none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Keys as they were at one revision."""

    revision: int
    items: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Answer to a transaction: which branch was taken, at which revision, and what its reads found, in
    order."""

    succeeded: bool
    revision: int
    reads: tuple[tuple[KeyValue, ...], ...]


@dataclass(frozen=True, slots=True)
class Guarded:
    """One guarded transaction, to be sent with others: `success` when every guard holds, else `failure`."""

    guards: tuple[pb.Compare, ...]
    success: tuple[pb.RequestOp, ...]
    failure: tuple[pb.RequestOp, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of its operations, bytes."""
        return sum(op.ByteSize() for op in self.success)


def absent(key: str) -> pb.Compare:
    """Guard: the key does not exist."""
    return pb.Compare(key=key.encode(), target=pb.Compare.CREATE, result=pb.Compare.EQUAL, create_revision=0)


def unchanged(key: str, mod_revision: int) -> pb.Compare:
    """Guard: the key's last change was at `mod_revision`."""
    return pb.Compare(
        key=key.encode(), target=pb.Compare.MOD, result=pb.Compare.EQUAL, mod_revision=mod_revision
    )


def value_is(key: str, value: bytes) -> pb.Compare:
    """Guard: the key exists and has this value."""
    return pb.Compare(key=key.encode(), target=pb.Compare.VALUE, result=pb.Compare.EQUAL, value=value)


def exists(key: str) -> pb.Compare:
    """Guard: the key exists."""
    return pb.Compare(
        key=key.encode(), target=pb.Compare.CREATE, result=pb.Compare.GREATER, create_revision=0
    )


def put_op(key: str, value: bytes, lease: int = 0) -> pb.RequestOp:
    """Operation: put `value` under `lease` (0: none)."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=value, lease=lease))


def delete_op(key: str) -> pb.RequestOp:
    """Operation: delete the key."""
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key.encode()))


def delete_prefix_op(prefix: str) -> pb.RequestOp:
    """Operation: delete every key that starts with `prefix`."""
    return pb.RequestOp(
        request_delete_range=pb.DeleteRangeRequest(key=prefix.encode(), range_end=range_end(prefix))
    )


def get_op(key: str) -> pb.RequestOp:
    """Operation: read the key; its answer is one of the result's `reads`."""
    return pb.RequestOp(request_range=pb.RangeRequest(key=key.encode()))


def range_end(prefix: str) -> bytes:
    """End of the range of keys that start with `prefix`."""
    raw = bytearray(prefix.encode())
    while raw and raw[-1] == 0xFF:
        raw.pop()
    if not raw:
        return b"\0"
    raw[-1] += 1
    return bytes(raw)


def key_value(kv: kv_pb2.KeyValue) -> KeyValue:
    """The contract's key as ours."""
    return KeyValue(kv.key.decode(), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def endpoints_of(text: str | Sequence[str]) -> list[str]:
    """gRPC targets from "host:port,host:port" (http:// allowed); `localhost` becomes 127.0.0.1, which etcd
    listens on, where gRPC would try ::1 first. ValueError when there is none."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    targets = []
    for part in (p.strip().removeprefix("http://").rstrip("/") for p in parts):
        if part:
            host, colon, port = part.rpartition(":")
            if not colon or not port.isdigit():
                raise ValueError(f"etcd endpoint {part!r}: must be host:port")
            targets.append(f"127.0.0.1:{port}" if host == "localhost" else part)
    if not targets:
        raise ValueError("etcd endpoints: at least one host:port is needed")
    return targets


_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def error_of(error: grpc.aio.AioRpcError) -> EtcdError:
    """The failed call's error as one of ours."""
    text = f"{error.code().name}: {error.details()}"
    if "lease not found" in text:
        return LeaseNotFound(text)
    if "has been compacted" in text:
        return Compacted(text)
    return EtcdUnavailable(text) if error.code() in _AWAY else EtcdRefused(text)
