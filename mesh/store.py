"""Writing a slot's state to Redis so that only its owner can: every write carries the owner's epoch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import redis.asyncio

from mesh.etcd import Etcd
from mesh.slots import SlotKey

Value = bytes | str | int


class StoreError(Exception):
    """Base of what the store raises."""


class StaleEpoch(StoreError):
    """The slot has a higher fence than the epoch given: another node owns it. Has `slot`, `epoch`,
    `fence`."""


class SequenceGap(StoreError):
    """`append` would leave a gap. Has `key`, `seq` and `last` (the stream's last sequence number)."""


class StoreUnavailable(StoreError):
    """Redis did not answer within the budget; whether a write took place is unknown (every operation is
    safe to repeat)."""


class StoreMismatch(StoreError):
    """etcd and Redis do not belong together; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a fenced write on the key `{<service>:<slot>}:<key>`. All are safe to repeat."""

    name: str
    key: str
    args: tuple[Value, ...] = ()


def put(key: str, value: Value, *, ttl_ms: int | None = None) -> Operation:
    """SET, expiring after `ttl_ms` milliseconds when given."""
    raise NotImplementedError


def remove(key: str) -> Operation:
    """DEL."""
    raise NotImplementedError


def put_fields(key: str, fields: Mapping[str, Value]) -> Operation:
    """HSET of at least one field."""
    raise NotImplementedError


def remove_fields(key: str, *fields: str) -> Operation:
    """HDEL."""
    raise NotImplementedError


def append(key: str, seq: int, fields: Mapping[str, Value]) -> Operation:
    """XADD with id `<seq>-0`, guarded: a seq the stream has already is acknowledged and not added again,
    one that would leave a gap refuses the whole write (SequenceGap)."""
    raise NotImplementedError


def expire(key: str, ttl_ms: int) -> Operation:
    """PEXPIRE."""
    raise NotImplementedError


def offset(stream: str, position: str) -> Operation:
    """Keeps how far `stream` has been consumed, in the same write as the state that the consumption made."""
    raise NotImplementedError


class FencedStore:
    """The slots of one family of one service in Redis."""

    def __init__(
        self, client: redis.asyncio.Redis, service: str, family: str, *, budget_s: float = 0.25
    ) -> None:
        """`budget_s`: how long a write or read may take before StoreUnavailable, seconds."""
        raise NotImplementedError

    async def start(self) -> None:
        """Loads the scripts and begins to watch which primary answers."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Ends; writes still waiting raise StoreUnavailable."""
        raise NotImplementedError

    async def raise_fence(self, slot: SlotKey, epoch: int, *, timeout: float | None = None) -> None:
        """From now on nothing with a lower epoch is written to the slot. First thing in `acquire`, before
        reading. Raises StaleEpoch when the fence is higher already."""
        raise NotImplementedError

    async def write(
        self, slot: SlotKey, epoch: int, operations: Sequence[Operation], *, timeout: float | None = None
    ) -> list[Value | None]:
        """All the operations or, when the epoch is stale or a guard fails, none. Writes of one turn of the
        loop go out together; writes of one slot take place in the order they were called. Raises
        StaleEpoch, SequenceGap, StoreUnavailable."""
        raise NotImplementedError

    async def prove(self, slot: SlotKey, epoch: int) -> None:
        """A fenced write of nothing: returns when this node provably still owned the slot. For effects past
        the lease deadline. Raises StaleEpoch, StoreUnavailable."""
        raise NotImplementedError

    async def read(self, slot: SlotKey, key: str) -> bytes | None:
        """GET."""
        raise NotImplementedError

    async def read_fields(self, slot: SlotKey, key: str) -> dict[str, bytes]:
        """HGETALL."""
        raise NotImplementedError

    async def read_stream(
        self, slot: SlotKey, key: str, after_seq: int = 0, limit: int = 1000
    ) -> list[tuple[int, dict[str, bytes]]]:
        """Entries of an appended stream after a sequence number, oldest first."""
        raise NotImplementedError

    async def read_offset(self, slot: SlotKey, stream: str) -> str | None:
        """Position kept by `offset`."""
        raise NotImplementedError

    def on_primary_change(self, callback: Callable[[], Awaitable[None]]) -> None:
        """`callback` is awaited after Redis has come back or another primary answers: raise the fences
        again and rewrite what lives."""
        raise NotImplementedError

    def on_unprotected(self, callback: Callable[[SlotKey], None]) -> None:
        """`callback(slot)` is called for each write that missed the budget."""
        raise NotImplementedError


async def check_pairing(etcd: Etcd, client: redis.asyncio.Redis) -> str:
    """Sees that this etcd and this Redis belong together, and marks them so when both are new; gives the
    store id.

    Raises StoreMismatch with instructions when etcd is new (or another) and Redis is not: its fences would
    refuse every write, since a new etcd counts revisions from 1.
    """
    raise NotImplementedError
