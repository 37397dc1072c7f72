"""The claims of one service in etcd: what the watch shows of them, and the guarded transactions that change
them.

A claim is put for no other reason than a change of owner, so its mod_revision is the slot's epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState, SlotClaim

from mesh.allocation import Slot
from mesh.etcd import MAX_TXN_OPS, Batch, Etcd, KeyValue, TxnResult, absent, get_op, put_op, unchanged
from mesh.handover import Claim, Peer, View

TAKE_BATCH = MAX_TXN_OPS
"""Claims a transaction."""
GIVE_BATCH = 32
"""Hand-overs a transaction: a slot that is slow to release keeps no more than these waiting."""

M = TypeVar("M", NodeRecord, SlotClaim)
ParseSlot = Callable[[str], Slot | None]


def number_below(count: int) -> ParseSlot:
    """Reads slot numbers of a family of `count`."""

    def parse(text: str) -> Slot | None:
        return int(text) if text.isascii() and text.isdigit() and int(text) < count else None

    return parse


def by_name(text: str) -> Slot | None:
    """Reads the slots of a family keyed by name."""
    return text or None


class Claims:
    """Keeps `view` up to date and makes transactions on it."""

    def __init__(self, etcd: Etcd, region: str, service: str, parse: ParseSlot) -> None:
        self.prefix = f"/voicemesh/{region}/{service}/"
        self.view = View()
        self.records: dict[str, NodeRecord] = {}
        """Node records by incarnation; those that cannot be read are left out."""
        self._etcd = etcd
        self._parse = parse
        self._changes = 0

    def told(self, batch: Batch) -> bool:
        """Takes in what the watch tells; whether a claim or a node's part in ownership changed (not its
        load)."""
        before = self._changes
        self._take_in(batch)
        return self._changes != before

    def _take_in(self, batch: Batch) -> None:
        if batch.snapshot is not None:
            self._changes += 1
            self.view.peers.clear()
            self.records.clear()
            # what a transaction has shown since the snapshot was read is newer than it
            newer = {slot: c for slot, c in self.view.claims.items() if c.epoch > batch.revision}
            self.view.claims = {} if batch.replaced else newer
            for kv in batch.snapshot:
                self._put(kv)
        for change in batch.changes:
            if change.kv is not None:
                self._put(change.kv)
            else:
                self._deleted(change.key, change.revision)
        self.view.revision = batch.revision

    def forget(self, node: str) -> None:
        """Every claim of `node` is gone with its lease."""
        for slot in [slot for slot, claim in self.view.claims.items() if claim.node == node]:
            del self.view.claims[slot]

    async def take(self, slots: Sequence[Slot], node: str, lease: int) -> bool:
        """Claims up to 128 slots that nobody has; all or none. Whatever the outcome, `view` knows it
        afterwards.

        Raises LeaseNotFound, and EtcdUnavailable when the outcome is unknown (then take again: the guards
        tell)."""
        value = _claim(node, lease)
        keys = [self._key(slot) for slot in slots]
        result = await self._etcd.txn(
            [absent(key) for key in keys],
            [put_op(key, value, lease) for key in keys],
            [get_op(key) for key in keys],
        )
        self._learn(result, slots, Claim(node, result.revision, lease))
        return result.succeeded

    async def give(self, slots: Sequence[tuple[Slot, int]], target: Peer) -> bool:
        """Hands up to 64 slots (with the epochs of my claims) to another node's lease; all or none.

        Raises as `take` does; LeaseNotFound means that the target's lease has ended."""
        value = _claim(target.incarnation, target.lease)
        keys = [self._key(slot) for slot, _ in slots]
        result = await self._etcd.txn(
            [unchanged(key, epoch) for key, (_, epoch) in zip(keys, slots, strict=True)],
            [put_op(key, value, target.lease) for key in keys],
            [get_op(key) for key in keys],
        )
        given = Claim(target.incarnation, result.revision, target.lease)
        self._learn(result, [slot for slot, _ in slots], given)
        return result.succeeded

    def _learn(self, result: TxnResult, slots: Iterable[Slot], claim: Claim) -> None:
        """What a transaction showed, unless the watch has told more already."""
        if result.revision <= self.view.revision:
            return
        if result.succeeded:
            self.view.claims.update(dict.fromkeys(slots, claim))
            return
        for slot, found in zip(slots, result.reads, strict=True):
            if found:
                self._put(found[0])
            else:
                self.view.claims.pop(slot, None)

    def _key(self, slot: Slot) -> str:
        return f"{self.prefix}slots/{slot}"

    def _put(self, kv: KeyValue) -> None:
        kind, _, name = kv.key.removeprefix(self.prefix).partition("/")
        if kind == "nodes":
            self._put_node(name, kv)
        elif kind == "slots" and (slot := self._parse(name)) is not None:
            known = self.view.claims.get(slot)
            if known is None or known.epoch < kv.mod_revision:
                self._changes += 1
                owner = _parsed(SlotClaim(), kv.value)
                self.view.claims[slot] = Claim(owner.node if owner else "", kv.mod_revision, kv.lease)

    def _put_node(self, name: str, kv: KeyValue) -> None:
        record = _parsed(NodeRecord(), kv.value)
        if record is None or record.incarnation != name:
            self._deleted(kv.key, kv.mod_revision)
            return
        self.records[name] = record
        draining = record.state == NodeState.NODE_STATE_DRAINING
        peer = Peer(name, kv.lease, takes=record.takes_slots and not draining and kv.lease != 0)
        if self.view.peers.get(name) != peer:
            self.view.peers[name] = peer
            self._changes += 1

    def _deleted(self, key: str, revision: int) -> None:
        kind, _, name = key.removeprefix(self.prefix).partition("/")
        if kind == "nodes":
            self.view.peers.pop(name, None)
            self.records.pop(name, None)
            self._changes += 1
        elif kind == "slots" and (slot := self._parse(name)) is not None:
            known = self.view.claims.get(slot)
            if known is not None and known.epoch < revision:
                del self.view.claims[slot]
                self._changes += 1


def _claim(node: str, lease: int) -> bytes:
    if not lease:
        raise ValueError("a claim needs a lease: without one it would never end")
    return SlotClaim(node=node).SerializeToString()


def _parsed(message: M, value: bytes) -> M | None:
    try:
        message.ParseFromString(value)
    except DecodeError:
        return None
    return message
