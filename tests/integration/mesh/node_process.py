"""A node in a process of its own, for tests that kill and pause it.

Owns slots of a small service, keeps a counter per slot in Redis by fenced writes, and writes a line of JSON to
standard output for whatever happens, with CLOCK_BOOTTIME. Commands on standard input: `drain`, `block`, `owned`,
`write <epoch>` (to slot 0).
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import dataclass, field

import redis.asyncio
import structlog
import uvloop
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.etcd import Etcd
from mesh.ownership import Membership, ReleaseReason, SlotKey, Slots, boottime_ns
from mesh.store import FencedStore, StaleEpoch, StoreUnavailable, put

SERVICE = "sip_cluster"
WRITE_PERIOD_S = 0.02


def say(what: str, **more: object) -> None:
    print(json.dumps({"at": boottime_ns(), "what": what, **more}), flush=True)


@dataclass
class Node:
    membership: Membership
    store: FencedStore
    slots: Slots | None = None
    epochs: dict[SlotKey, int] = field(default_factory=dict)
    """Epochs that writes carry."""

    async def acquire(self, slot: SlotKey, epoch: int) -> None:
        await self.store.raise_fence(slot, epoch, timeout=5)
        found = await self.store.read(slot, "counter")
        self.epochs[slot] = epoch
        say("acquired", slot=slot, epoch=epoch, found=int(found or 0))

    async def release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        self.epochs.pop(slot, None)
        say("released", slot=slot, epoch=epoch, reason=reason.value)

    async def renew(self, slot: SlotKey, old: int, new: int) -> bool:
        self.epochs[slot] = new
        newest = await self.store.renew_fence(slot, old, new, timeout=5)
        say("renewed" if newest else "overtaken", slot=slot, epoch=new, old=old)
        return newest

    async def write(self, slot: SlotKey, epoch: int) -> None:
        """What a service does before an effect past its deadline: a fenced write, then the effect."""
        good, sent = self.membership.lease.good(), boottime_ns()
        try:
            await self.store.write(slot, epoch, [put("counter", boottime_ns())], timeout=2)
        except StaleEpoch as refused:
            say("stale", slot=slot, epoch=epoch, fence=refused.fence, lease_good=good)
        except StoreUnavailable:
            say("unavailable", slot=slot, epoch=epoch)
        else:
            say("wrote", slot=slot, epoch=epoch, lease_good=good, sent=sent)

    async def keep_writing(self) -> None:
        """Writes to slot 0 while it is owned, with the epoch it was known by before each pause."""
        assert self.slots is not None
        while True:
            if 0 in self.slots.owned and 0 in self.epochs:
                await self.write(0, self.epochs[0])
            await asyncio.sleep(WRITE_PERIOD_S)


async def main(
    etcd: str, redis_url: str, region: str, incarnation: str, count: int, settle_s: float, renews: bool
) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    record = NodeRecord(
        node=incarnation.partition(".")[0],
        incarnation=incarnation,
        service=SERVICE,
        capacity=10,
        state=NodeState.NODE_STATE_SERVING,
    )
    node = Node(Membership(Etcd(etcd), region, record), FencedStore(client, SERVICE, "sip"))
    await node.store.start()
    await node.membership.join()
    node.slots = Slots(
        node,
        "sip",
        count,
        acquire=node.acquire,
        release=node.release,
        renew=node.renew if renews else None,
        settle_s=settle_s,
    )
    await node.slots.start()
    say("joined")
    writing = asyncio.create_task(node.keep_writing())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := (await reader.readline()).decode().strip():
        if line == "drain":
            say("draining")
            await node.membership.drain(10)
            say("drained", owned=len(node.slots.owned))
        elif line == "block":  # an event loop that stands still
            say("blocked")
            deadline = boottime_ns() + 4_000_000_000
            while boottime_ns() < deadline:
                pass
            say("unblocked")
        elif line.startswith("write "):  # as a task would that still believes in this epoch
            await node.write(0, int(line.removeprefix("write ")))
        elif line == "owned":
            say("owned", slots=sorted(node.slots.owned, key=int), good=node.membership.lease.good())
    writing.cancel()
    await node.slots.stop()
    await node.membership.leave()
    say("left")


if __name__ == "__main__":
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    etcd_, redis_, region_, incarnation_, count_, settle_, renews_ = sys.argv[1:]
    uvloop.run(main(etcd_, redis_, region_, incarnation_, int(count_), float(settle_), renews_ == "renews"))
