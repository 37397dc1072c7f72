"""Writing a slot's state to Redis so that only its owner can: every write carries the owner's epoch."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import redis.asyncio
import redis.exceptions
import structlog
from voice.error.v1.reason_pb2 import Reason

from mesh.allocation import Slot as SlotKey
from mesh.errors import DomainError
from mesh.fence import (
    MAX_ARGUMENTS,
    MAX_OPERATIONS,
    OFFSETS,
    SCRIPT,
    Operation,
    Value,
    add_members,
    append,
    expire,
    offset,
    put,
    put_fields,
    remove,
    remove_fields,
    remove_members,
    trim,
)
from mesh.pairing import StoreMismatch, check_pairing
from mesh.redis_line import Answer, RedisLine, StoreUnavailable
from mesh.redis_primary import name_of_primary
from mesh.steady import steady

__all__ = [
    "FencedStore",
    "Operation",
    "SequenceGap",
    "StaleEpoch",
    "StoreMismatch",
    "StoreUnavailable",
    "Value",
    "add_members",
    "append",
    "check_pairing",
    "expire",
    "offset",
    "put",
    "put_fields",
    "remove",
    "remove_fields",
    "remove_members",
    "trim",
]

BUDGET_S = 0.25
"""How long a call may wait for its write before it goes on unprotected, seconds (design §6)."""
READ_S = 2.0
"""How long a read, or raising a fence, may take when nothing else is said, seconds."""
PROBE_S = 0.5
"""Between looks at which primary answers, seconds."""
GAP_S = 0.1
"""Between looks at least, seconds: a write that was given up is repeated as soon as Redis answers again."""
LAST_PROBE_S = 8.0
"""Longest pause before owners are asked once more to write again what they could not, seconds."""
_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

T = TypeVar("T")

log = structlog.get_logger("mesh.store")


class StaleEpoch(DomainError):
    """The slot has a higher fence than the epoch given: another node owns it."""

    def __init__(self, slot: SlotKey, epoch: int, fence: int) -> None:
        super().__init__(
            Reason.REASON_STALE_EPOCH,
            f"slot {slot}: epoch {epoch} is below the fence {fence}",
            slot=slot,
            epoch=epoch,
            fence=fence,
        )
        self.slot, self.epoch, self.fence = slot, epoch, fence


class SequenceGap(DomainError):
    """`append` would leave a gap after `last`, the stream's last sequence number."""

    def __init__(self, key: str, seq: int, last: int) -> None:
        super().__init__(
            Reason.REASON_SEQUENCE_GAP,
            f"stream {key}: {seq} does not follow {last}",
            key=key,
            seq=seq,
            last=last,
        )
        self.key, self.seq, self.last = key, seq, last


class FencedStore:
    """The slots of one family of one service in Redis: keys `{<service>:<slot>}:<key>`."""

    def __init__(
        self, client: redis.asyncio.Redis, service: str, family: str, *, budget_s: float = BUDGET_S
    ) -> None:
        """`client` says how Redis is reached; the store has one connection of its own. `budget_s`: how long
        a write may take before StoreUnavailable, seconds."""
        self.service, self.family, self.budget_s = service, family, budget_s
        self._line = RedisLine(client, self._connected)
        self._writer = secrets.token_hex(4)
        self._raised: dict[SlotKey, int] = {}
        self._primary = ""
        self._forgot = False
        self._given_up: set[SlotKey] = set()
        self._changed: list[Callable[[], Awaitable[None]]] = []
        self._returned: list[Callable[[frozenset[SlotKey]], Awaitable[None]]] = []
        self._unprotected: list[Callable[[SlotKey], None]] = []
        self._probe: asyncio.Task[None] | None = None
        self._look = asyncio.Event()

    async def start(self) -> None:
        """Begins to send, and to watch which primary answers."""
        self._line.start()
        self._probe = steady(f"redis primary of {self.service}", self._watch_primary)

    async def stop(self) -> None:
        """Ends; writes still waiting raise StoreUnavailable."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
        await self._line.stop()

    @property
    def depth(self) -> int:
        """Commands waiting or under way, at most 20,000: for the queue gauge."""
        return self._line.depth

    # -- writing ---------------------------------------------------------------------------------------------

    async def raise_fence(self, slot: SlotKey, epoch: int, *, timeout: float = READ_S) -> None:
        """From now on nothing with a lower epoch is written to the slot. First thing in `acquire`, before
        reading. Raises StaleEpoch when the fence is higher already."""
        await self._fenced(slot, epoch, (), timeout)

    async def renew_fence(self, slot: SlotKey, old: int, new: int, *, timeout: float = READ_S) -> bool:
        """Raises the fence from `old`, under which this node has served, to `new`, under which it has claimed
        the slot again. False when somebody else had it in between: what this node has is not the newest. Raises
        StoreUnavailable."""
        try:
            fence, _ = await self._fenced(slot, new, (), timeout)
        except StaleEpoch:
            return False
        if fence < old:
            log.error("fence was lost", service=self.service, slot=slot, epoch=old, found=fence)
            self._forgot = True
            self._look.set()
        return fence <= old or fence == new  # new: raised already, and the answer was lost

    async def write(
        self, slot: SlotKey, epoch: int, operations: Sequence[Operation], *, timeout: float | None = None
    ) -> list[Value | None]:
        """All the operations or, when the epoch is stale or a stream would have a gap, none; gives their
        answers.

        Writes of one turn of the loop go out together. Writes to a slot take place in the order they were
        called; one that was given up (StoreUnavailable) takes place before the later ones or not at all. Raises
        StaleEpoch, SequenceGap, StoreUnavailable.
        """
        raised = self._raised.get(slot)
        try:
            fence, answers = await self._fenced(slot, epoch, operations, timeout or self.budget_s)
        except StoreUnavailable:
            self._given_up.add(slot)
            self._look.set()
            for callback in self._unprotected:
                callback(slot)
            raise
        if fence < epoch and raised == epoch:
            log.error("fence was lost", service=self.service, slot=slot, epoch=epoch, found=fence)
            self._forgot = True
            self._look.set()
        return answers

    async def prove(self, slot: SlotKey, epoch: int, *, timeout: float | None = None) -> None:
        """A fenced write of nothing: returns when this node provably still owned the slot. For effects past
        the lease deadline. Raises StaleEpoch, StoreUnavailable."""
        await self.write(slot, epoch, (), timeout=timeout)

    # -- reading ---------------------------------------------------------------------------------------------

    async def read(self, slot: SlotKey, key: str, *, timeout: float = READ_S) -> bytes | None:
        """GET."""
        answer: bytes | None = await self._line.ask("GET", self._key(slot, key), timeout=timeout)
        return answer

    async def read_fields(self, slot: SlotKey, key: str, *, timeout: float = READ_S) -> dict[str, bytes]:
        """HGETALL."""
        return _fields(await self._line.ask("HGETALL", self._key(slot, key), timeout=timeout))

    async def read_field(
        self, slot: SlotKey, key: str, field: str, *, timeout: float = READ_S
    ) -> bytes | None:
        """HGET."""
        answer: bytes | None = await self._line.ask("HGET", self._key(slot, key), field, timeout=timeout)
        return answer

    async def count_fields(self, slot: SlotKey, key: str, *, timeout: float = READ_S) -> int:
        """HLEN."""
        return int(await self._line.ask("HLEN", self._key(slot, key), timeout=timeout))

    async def read_members(self, slot: SlotKey, key: str, *, timeout: float = READ_S) -> set[bytes]:
        """SMEMBERS."""
        return set(await self._line.ask("SMEMBERS", self._key(slot, key), timeout=timeout))

    async def read_stream(
        self, slot: SlotKey, key: str, after_seq: int = 0, limit: int = 1000, *, timeout: float = READ_S
    ) -> list[tuple[int, dict[str, bytes]]]:
        """Entries of an appended stream after a sequence number, oldest first, at most `limit`."""
        start = f"{after_seq + 1}-0"
        answer = await self._line.ask(
            "XRANGE", self._key(slot, key), start, "+", "COUNT", limit, timeout=timeout
        )
        return [(int(entry.partition(b"-")[0]), _fields(fields)) for entry, fields in answer]

    async def read_offset(self, slot: SlotKey, stream: str, *, timeout: float = READ_S) -> str | None:
        """Position kept by `offset`."""
        found = await self.read_field(slot, OFFSETS, stream, timeout=timeout)
        return found.decode() if found is not None else None

    # -- hooks -----------------------------------------------------------------------------------------------

    def on_primary_change(self, callback: Callable[[], Awaitable[None]]) -> None:
        """`callback` is awaited when another primary answers, or the same has forgotten a fence: raise the fences
        again and rewrite what lives. When it raises, it is called again, later each time. A write that missed its
        budget is no such case: it alone may not have taken place, see `on_return`."""
        self._changed.append(callback)

    def on_return(self, callback: Callable[[frozenset[SlotKey]], Awaitable[None]]) -> None:
        """`callback(slots)` is awaited when Redis answers after writes to these slots were given up: for those
        who do not repeat a write by themselves. When it raises, it is called again."""
        self._returned.append(callback)

    def on_unprotected(self, callback: Callable[[SlotKey], None]) -> None:
        """`callback(slot)` is called for each write that missed its budget."""
        self._unprotected.append(callback)

    # -- plumbing --------------------------------------------------------------------------------------------

    def _key(self, slot: SlotKey, key: str) -> str:
        return f"{{{self.service}:{slot}}}:{key}"

    async def _fenced(
        self, slot: SlotKey, epoch: int, operations: Sequence[Operation], timeout: float
    ) -> tuple[int, list[Value | None]]:
        """Gives the fence found and the operations' answers."""
        keys, arguments = self._parts(slot, epoch, operations)
        numbers: list[Value] = [len(keys), *keys, epoch, self._writer]
        try:
            answer = await self._line.ask_with(
                lambda line: ["EVALSHA", _SHA, *numbers, line, *arguments], timeout
            )
        except redis.exceptions.NoScriptError:  # SCRIPT FLUSH
            answer = await self._line.ask_with(
                lambda line: ["EVAL", SCRIPT, *numbers, line, *arguments], timeout
            )
        verdict = answer[0]
        if verdict == b"STALE":
            raise StaleEpoch(slot, epoch, answer[1])
        if verdict == b"LATE":
            raise StoreUnavailable(f"written on connection {answer[1]} of this store before")
        if verdict == b"GAP":
            refused = operations[answer[1]]
            raise SequenceGap(self._key(slot, refused.key), int(refused.args[0]), answer[2])
        self._raised[slot] = epoch
        return answer[1], answer[2:]

    def _parts(
        self, slot: SlotKey, epoch: int, operations: Sequence[Operation]
    ) -> tuple[list[str], list[Value]]:
        """Keys and arguments of the script."""
        if not 0 < epoch < 1 << 53:
            raise ValueError(f"epoch {epoch}: must be 1 to 2^53 - 1")
        if len(operations) > MAX_OPERATIONS:
            raise ValueError(f"operations: at most {MAX_OPERATIONS} a write")
        prefix = f"{{{self.service}:{slot}}}:"
        keys, arguments = [prefix + "fence"], list[Value]()
        for operation in operations:
            if len(operation.args) > MAX_ARGUMENTS:
                raise ValueError(f"{operation.name} {operation.key}: at most {MAX_ARGUMENTS} arguments")
            keys.append(prefix + operation.key)
            arguments += (operation.name, len(operation.args), *operation.args)
        return keys, arguments

    async def _connected(self, ask: Callable[..., Awaitable[Answer]]) -> None:
        name_of_primary(await ask("INFO", "replication"))  # not to a replica
        await ask("SCRIPT", "LOAD", SCRIPT)

    async def _watch_primary(self) -> None:
        pause = PROBE_S
        while True:
            self._look.clear()
            good = True
            # Writes that were given up say so themselves; one that has become a replica is left with the next.
            with contextlib.suppress(StoreUnavailable, redis.exceptions.ReadOnlyError):
                good = await self._look_at_primary()
            pause = PROBE_S if good else min(pause * 2, LAST_PROBE_S)
            # What is rewritten again and again would keep a slow Redis slow.
            await asyncio.sleep(GAP_S if good else pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await self._look.wait()

    async def _look_at_primary(self) -> bool:
        """Tells those concerned what has happened; whether they could deal with it."""
        primary = name_of_primary(await self._line.ask("INFO", "replication", timeout=PROBE_S))
        if (self._primary and primary != self._primary) or self._forgot:
            log.warning("redis may have forgotten writes", service=self.service, primary=primary)
            self._forgot, given_up = False, set(self._given_up)
            told = await self._tell(self._changed, lambda callback: callback())
            self._forgot |= not told
            if told:  # all of it was written, that too
                self._given_up -= given_up
        elif self._given_up:
            slots = frozenset(self._given_up)
            self._given_up.clear()
            told = await self._tell(self._returned, lambda callback: callback(slots))
            self._given_up |= slots if not told else frozenset()
        else:
            told = True
        self._primary = primary
        return told

    async def _tell(self, callbacks: Sequence[T], call: Callable[[T], Awaitable[None]]) -> bool:
        """Awaits one after the other; False when one raised."""
        for callback in callbacks:
            try:
                await call(callback)
            except Exception:
                log.exception("state was not rewritten", service=self.service)
                return False
        return True


def _fields(answer: Answer) -> dict[str, bytes]:
    pairs = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}
