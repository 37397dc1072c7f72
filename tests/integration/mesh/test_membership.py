"""Lease, membership and slots of one process against a real etcd."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.etcd import Etcd, EtcdUnavailable
from mesh.ownership import Lease, Membership, NotOwner, ReleaseReason, SlotKey, Slots, boottime_ns
from mesh.telemetry.metrics import Metrics
from tests.integration.servers import EtcdServer, free_port, loopback


async def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def _record(name: str = "tenant-0.00000001", **fields: object) -> NodeRecord:
    return NodeRecord(node=name.partition(".")[0], incarnation=name, service="tenant", **fields)  # type: ignore[arg-type]


@dataclass
class Node:
    """A node in this process, and what its service was told."""

    membership: Membership
    keys: list[str] = field(default_factory=list)
    log: list[tuple[str, SlotKey]] = field(default_factory=list)
    metrics: Metrics | None = None

    def __post_init__(self) -> None:
        self.slots = Slots(
            self, "tenant", lambda: self.keys, acquire=self._acquire, release=self._release, settle_s=0.05
        )

    async def _acquire(self, slot: SlotKey, epoch: int) -> None:
        self.log.append(("acquire", slot))

    async def _release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        self.log.append((reason.value, slot))

    async def start(self) -> None:
        await self.membership.join()
        await self.slots.start()

    async def stop(self) -> None:
        await self.slots.stop()
        await self.membership.leave()


@pytest.fixture
async def lease(etcd_server: EtcdServer) -> AsyncIterator[Lease]:
    lease = Lease(etcd_server.endpoint)
    yield lease
    await lease.stop()


async def test_a_lease_is_kept_alive_past_its_ttl(lease: Lease, etcd: Etcd) -> None:
    moves: list[tuple[int, str]] = []
    lease.on_deadline(lambda deadline: moves.append((deadline, threading.current_thread().name)))
    assert (lease.id, lease.deadline_ns(), lease.good()) == (0, 0, False)
    await lease.start()
    first = lease.deadline_ns()
    assert 0 < first - boottime_ns() <= 2_000_000_000
    await _until(lambda: lease.deadline_ns() > first + 2_500_000_000)
    assert await etcd.lease_left(lease.id) > 0
    assert moves[-1][0] == lease.deadline_ns()
    assert [deadline for deadline, _ in moves] == sorted(deadline for deadline, _ in moves)
    assert moves[-1][1] == "lease", "told from the keep-alive thread, not by the loop"
    granted = lease.id
    await lease.stop()
    assert (lease.deadline_ns(), lease.good(), moves[-1][0]) == (0, False, 0)
    assert await etcd.lease_left(granted) == -1


async def test_a_new_lease_counts_only_when_everybody_has_let_go(lease: Lease, etcd: Etcd) -> None:
    order: list[str] = []
    let_go = asyncio.Event()

    async def lost() -> None:
        order.append("lost")
        await let_go.wait()
        order.append("let go")

    async def broken() -> None:
        raise RuntimeError("a listener's defect")

    async def granted(new: int) -> None:
        order.append(f"granted {new == lease.id}")

    lease.on_lost(broken)
    lease.on_lost(lost)
    lease.on_granted(granted)
    await lease.start()
    old = lease.id
    await etcd.lease_revoke(old)
    await _until(lambda: "lost" in order)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        assert not lease.good(), "nobody may act while somebody still holds on"
        assert lease.id == 0
        await asyncio.sleep(0.02)
    let_go.set()
    await _until(lambda: lease.good() and lease.id not in (0, old), 10)
    await _until(lambda: "granted True" in order[3:])
    assert order[:3] == ["granted True", "lost", "let go"]


async def test_without_etcd_a_node_does_not_join() -> None:
    membership = Membership(Etcd(f"{loopback()}:{free_port()}"), "r", _record())
    started = time.monotonic()
    with pytest.raises(EtcdUnavailable):
        await membership.join(0.5)
    assert time.monotonic() - started < 5
    await membership.etcd.close()


async def test_a_record_needs_its_names(etcd: Etcd) -> None:
    with pytest.raises(ValueError, match="incarnation"):
        Membership(etcd, "r", NodeRecord(node="a-0", service="a"))


async def test_load_is_written_once_a_second_and_state_at_once(etcd: Etcd, region: str) -> None:
    membership = Membership(etcd, region, _record(capacity=5))
    prefix = f"/voicemesh/{region}/tenant/nodes/"
    written: list[NodeRecord] = []

    async def follow() -> None:
        async for batch in watch:
            written.extend(NodeRecord.FromString(c.kv.value) for c in batch.changes if c.kv)

    watch = etcd.watch(prefix)
    await anext(watch)
    following = asyncio.create_task(follow())
    await membership.join()
    assert membership.record.state == NodeState.NODE_STATE_NOT_READY
    started = time.monotonic()
    for load in range(1, 120):
        membership.announce(load=load)
        await asyncio.sleep(0.01)
    elapsed = time.monotonic() - started
    assert 2 <= len(written) <= 2 + elapsed
    count = len(written)
    membership.announce(state=NodeState.NODE_STATE_SERVING, load=500)
    await _until(lambda: written[-1].state == NodeState.NODE_STATE_SERVING, 0.5)
    assert (written[-1].load, len(written)) == (500, count + 1)
    await membership.drain(1)
    membership.announce(state=NodeState.NODE_STATE_SERVING)
    await _until(lambda: written[-1].state == NodeState.NODE_STATE_DRAINING)
    assert membership.record.state == NodeState.NODE_STATE_DRAINING
    await membership.leave()
    assert (await etcd.get_prefix(prefix)).items == ()
    await watch.close()
    await following


async def test_a_lost_lease_is_replaced_and_everything_put_again(etcd: Etcd, region: str) -> None:
    node = Node(Membership(etcd, region, _record()), keys=["t1", "t2"])
    await node.start()
    await node.slots.wait_complete(5)
    epoch, old = node.slots.epoch("t1"), node.membership.lease.id
    await etcd.lease_revoke(old)
    await _until(lambda: ("lost", "t1") in node.log)
    await _until(lambda: set(node.slots.owned) == {"t1", "t2"})
    assert node.slots.epoch("t1") > epoch
    assert node.log.count(("lost", "t2")) == 1
    [record] = (await etcd.get_prefix(f"/voicemesh/{region}/tenant/nodes/")).items
    assert record.lease == node.membership.lease.id != old
    await node.stop()


async def test_named_slots_grow_and_are_shared(etcd: Etcd, region: str) -> None:
    one = Node(Membership(etcd, region, _record("tenant-0.00000001")), keys=["t1", "t2"])
    other = Node(Membership(etcd, region, _record("tenant-1.00000002")), keys=["t1", "t2"])
    await one.start()
    await one.slots.wait_complete(5)
    assert set(one.slots.owned) == {"t1", "t2"}
    await other.start()
    await _until(lambda: len(other.slots.owned) == 1 == len(one.slots.owned))
    for node in (one, other):
        node.keys += ["t3", "t4"]
        node.slots.refresh()
    await _until(lambda: len(one.slots.owned) == len(other.slots.owned) == 2)
    assert set(one.slots.owned) | set(other.slots.owned) == {"t1", "t2", "t3", "t4"}
    one.keys.remove(next(str(slot) for slot in one.slots.owned))
    one.slots.refresh()
    await asyncio.sleep(0.1)  # nothing is to happen
    assert len(one.slots.owned) == 2, "a key that is gone keeps its slot"
    await other.stop()
    await _until(lambda: len(one.slots.owned) == 4)
    await one.stop()


async def test_nothing_is_handed_to_a_node_that_cannot_acquire_yet(etcd: Etcd, region: str) -> None:
    one = Node(Membership(etcd, region, _record("tenant-0.00000001")), keys=["t1", "t2"])
    starting = Node(Membership(etcd, region, _record("tenant-1.00000002")), keys=["t1", "t2"])
    await one.start()
    await one.slots.wait_complete(5)
    await starting.membership.join()
    await asyncio.sleep(0.2)  # nothing is to happen
    assert len(one.slots.owned) == 2
    await starting.slots.start()
    await _until(lambda: len(starting.slots.owned) == 1 == len(one.slots.owned))
    await starting.stop()
    await one.stop()


async def test_what_is_not_owned_says_who_owns_it(etcd: Etcd, region: str) -> None:
    one = Node(Membership(etcd, region, _record("tenant-0.00000001")), keys=["t1"])
    other = Node(Membership(etcd, region, _record("tenant-1.00000002")), keys=["t1"])
    await one.start()
    await one.slots.wait_complete(5)
    await other.start()
    await other.slots.wait_complete(5)
    with pytest.raises(NotOwner, match="tenant slot t1") as refused:
        other.slots.epoch("t1")
    assert refused.value.detail == {"family": "tenant", "slot": "t1", "owner": "tenant-0.00000001"}
    assert await one.slots.ready("t1", 1) == one.slots.epoch("t1")
    assert (one.slots.may_act("t1"), other.slots.may_act("t1")) == (True, False)
    started = time.monotonic()
    with pytest.raises(NotOwner):
        await other.slots.ready("t1", 5)
    assert time.monotonic() - started < 1, "no use waiting for what somebody else has"
    await other.stop()
    await one.stop()
    with pytest.raises(NotOwner):
        one.slots.epoch("t1")


async def test_ready_waits_for_an_acquisition(etcd: Etcd, region: str) -> None:
    node = Node(Membership(etcd, region, _record()), keys=["t1"])
    gate = asyncio.Event()

    async def slow(slot: SlotKey, epoch: int) -> None:
        await gate.wait()

    node.slots._holdings._acquire = slow
    await node.start()
    await _until(lambda: "t1" in node.slots._holdings.claimed_epochs)
    with pytest.raises(NotOwner):
        await node.slots.ready("t1", 0.05)
    with pytest.raises(TimeoutError):
        await node.slots.wait_complete(0.05)
    waiting = asyncio.create_task(node.slots.ready("t1", 5))
    gate.set()
    assert await waiting == node.slots.epoch("t1")
    await node.stop()
    assert node.log == [("lost", "t1")]


async def test_ownership_is_measured(etcd: Etcd, region: str) -> None:
    node = Node(Membership(etcd, region, _record()), keys=["t1", "t2"], metrics=Metrics("tenant"))
    assert node.metrics is not None
    await node.start()
    await node.slots.wait_complete(5)
    value = node.metrics.registry.get_sample_value
    assert value("voicemesh_tenant_slots_owned") == value("voicemesh_tenant_slots_claimed") == 2
    await etcd.lease_revoke(node.membership.lease.id)
    await _until(lambda: value("voicemesh_tenant_slots_released_total", {"reason": "lost"}) == 2)
    await node.stop()
    assert value("voicemesh_tenant_slots_owned") == 0


async def test_a_lone_node_drains_at_once(etcd: Etcd, region: str) -> None:
    node = Node(Membership(etcd, region, _record()), keys=["t1"])
    await node.start()
    await node.slots.wait_complete(5)
    started = time.monotonic()
    await node.membership.drain(5)
    assert time.monotonic() - started < 1, "nobody is there to hand over to"
    await node.stop()


async def test_no_claim_is_ever_put_without_a_lease(etcd: Etcd, region: str) -> None:
    """The thread knows that the lease is lost a moment before the loop does; a claim made in it must not stay."""
    node = Node(Membership(etcd, region, _record()), keys=["t1"])
    await node.start()
    await node.slots.wait_complete(5)
    with pytest.raises(ValueError, match="lease"):
        await node.slots._claims.take(["t2"], node.membership.incarnation, 0)
    thread = node.membership.lease._thread
    assert thread is not None
    lease, thread.lease = thread.lease, 0
    assert node.membership.lease.id == 0
    await node.slots._take(["t2"])
    thread.lease = lease
    assert await etcd.get(f"/voicemesh/{region}/tenant/slots/t2") is None
    await node.stop()


async def test_a_busy_loop_keeps_its_lease(lease: Lease) -> None:
    """The loop turns only every 300 ms for 4 s, twice the TTL: overloaded, but not standing still."""
    lost: list[float] = []

    async def told() -> None:
        lost.append(time.monotonic())

    lease.on_lost(told)
    await lease.start()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        burst = time.monotonic() + 0.3
        while time.monotonic() < burst:
            sum(range(1000))
        assert lease.good()
        await asyncio.sleep(0)
    assert not lost
