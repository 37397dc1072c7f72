"""Ownership among real processes: they race, join, drain, are killed and paused, and etcd goes away."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from voice.mesh.v1.node_pb2 import NodeRecord

from mesh.claims import GIVE_BATCH
from mesh.etcd import Etcd, EtcdUnavailable
from mesh.giving import GIFTS
from mesh.identifiers import new_call_uuid, sip_slot_of_call_uuid
from mesh.ownership import Membership, boottime_ns
from tests.integration.mesh.cluster import COUNT, TTL_S, Cluster, until, until_owned
from tests.integration.servers import EtcdCluster, EtcdServer, RedisServer


@pytest.fixture
async def cluster(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> AsyncIterator[Cluster]:
    cluster = Cluster(etcd_server.endpoint, redis_server.url, region)
    await cluster.directory.start()
    yield cluster
    await cluster.close()


@pytest.fixture
async def fragile(
    own_etcd: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> AsyncIterator[Cluster]:
    """A cluster on an etcd that the test may stop."""
    cluster = Cluster(own_etcd.endpoint, redis_server.url, region)
    await cluster.directory.start()
    yield cluster
    await cluster.close()


def assert_one_owner_at_a_time(cluster: Cluster) -> None:
    """Epochs of a slot rise, and nobody held it while somebody else did (a lost lease is noticed before its TTL)."""
    by_slot: dict[int, list[tuple[int, int, str, int, int]]] = {}
    for held in cluster.holders():
        by_slot.setdefault(held[0], []).append(held)
    for slot, helds in by_slot.items():
        helds.sort(key=lambda held: held[1])
        for before, after in itertools.pairwise(helds):
            assert before[1] < after[1], f"slot {slot}: two owners in one epoch"
            assert before[3] < after[3], f"slot {slot}: epochs out of order"


@pytest.mark.feature("SC-11")
async def test_a_race_for_every_slot_has_one_winner_each(cluster: Cluster) -> None:
    """No settling: all three want everything at once."""
    await cluster.add("n-0.00000000", "n-1.00000001", "n-2.00000002", settle_s=0.0)
    await until(cluster.even(*(node.incarnation for node in cluster.nodes)), 20, cluster.describe)
    assert_one_owner_at_a_time(cluster)
    first = Counter(slot for slot, _, _, _, until_ns in cluster.holders() if until_ns == 1 << 62)
    assert first == Counter(range(COUNT)), "every slot is held by exactly one"


async def test_peers_that_start_together_do_not_shuffle_slots(cluster: Cluster) -> None:
    await cluster.add("n-0.00000000", "n-1.00000001", settle_s=1.5)
    await until(cluster.even("n-0.00000000", "n-1.00000001"), 20, cluster.describe)
    assert not [event for node in cluster.nodes for event in node.of("released")]


async def test_all_slots_are_claimed_within_a_second_of_joining(cluster: Cluster) -> None:
    [node] = await cluster.add("n-0.00000000")
    await until(cluster.even("n-0.00000000"), 20, cluster.describe)
    [joined] = node.of("joined")
    last = max(event["at"] for event in node.of("acquired"))
    assert last - joined["at"] < 1_000_000_000


async def test_a_joiner_is_given_its_share_and_state_comes_along(cluster: Cluster) -> None:
    await cluster.add("n-0.00000000")
    await until(cluster.even("n-0.00000000"), 20, cluster.describe)
    await until(lambda: len(cluster.nodes[0].of("wrote", slot=0)) > 3, 5)
    await cluster.add("n-1.00000001")
    await until(cluster.even("n-0.00000000", "n-1.00000001"), 20, cluster.describe)
    old, new = cluster.nodes
    assert len(old.of("released", reason="handed over")) == COUNT // 2
    assert len(new.of("acquired")) == COUNT // 2
    for taken in new.of("acquired"):
        [given] = old.of("released", slot=taken["slot"])
        assert given["at"] < taken["at"], "released before the other may acquire"
    assert_one_owner_at_a_time(cluster)


@pytest.mark.feature("SC-11")
async def test_heirs_take_over_within_the_ttl_when_a_node_is_killed(cluster: Cluster) -> None:
    await cluster.add("n-0.00000000", "n-1.00000001", "n-2.00000002")
    names = [node.incarnation for node in cluster.nodes]
    await until(cluster.even(*names), 20, cluster.describe)
    victim = cluster.nodes[1]
    slots = cluster.directory.slots_of(victim.incarnation)
    theirs = len(slots)
    call = new_call_uuid(0, int(slots[0]), 1_800_000_000_000, 7)  # the victim's call: its id leads to it
    owner = cluster.directory.owner(sip_slot_of_call_uuid(call))
    assert owner is not None
    assert owner.incarnation == victim.incarnation
    killed = boottime_ns()
    victim.signal(signal.SIGKILL)
    await until(cluster.even(names[0], names[2]), 10, cluster.describe)
    heirs = [event for node in (cluster.nodes[0], cluster.nodes[2]) for event in node.of("acquired")]
    inherited = [event for event in heirs if event["at"] > killed]
    assert len(inherited) == theirs
    heir = cluster.directory.owner(sip_slot_of_call_uuid(call))
    assert heir is not None
    assert heir.incarnation in (names[0], names[2])
    last = max(event["at"] for event in inherited)
    assert last - killed < (TTL_S + 1.5) * 1e9, "TTL, etcd's half second of granularity, and a bit"
    moved = [event for node in cluster.nodes for event in node.of("released") if event["at"] > killed]
    assert not moved, "nothing but the victim's slots moved"


@pytest.mark.feature("XC-04")
async def test_a_node_stopped_past_its_lease_can_do_nothing(cluster: Cluster) -> None:
    """SIGSTOP while it writes; its heir raises the fence; woken, its deadline has passed and its write is refused."""
    paused, heir = await cluster.add("n-0.00000000", "n-1.00000001")
    await until(cluster.even(paused.incarnation, heir.incarnation), 20, cluster.describe)
    owner = cluster.directory.owner(0)
    assert owner is not None
    if owner.incarnation != paused.incarnation:
        paused, heir = heir, paused
    await until(lambda: len(paused.of("wrote", slot=0)) > 5, 5)
    stopped = boottime_ns()
    paused.signal(signal.SIGSTOP)
    await until(cluster.even(heir.incarnation), 10, cluster.describe)
    await until(lambda: len(heir.of("wrote", slot=0)) > 5, 5)
    [taken] = [event for event in heir.of("acquired", slot=0) if event["at"] > stopped]
    woken = boottime_ns()
    paused.signal(signal.SIGCONT)
    await until(lambda: bool(paused.of("released", slot=0, reason="lost")), 5)
    [lost] = paused.of("released", slot=0, reason="lost")
    late = [event for event in paused.of("wrote", slot=0) if woken < event["sent"]]
    assert all(event["epoch"] > taken["epoch"] for event in late), "no write of the old epoch took place"
    early = [event for event in paused.of("stale") if event["at"] < lost["at"]]
    assert not [event for event in early if event["lease_good"]], "its deadline had passed"
    assert lost["epoch"] < taken["epoch"]
    paused.tell(f"write {lost['epoch']}")
    await until(lambda: bool(paused.of("stale", slot=0, epoch=lost["epoch"])), 5)
    assert paused.of("stale", slot=0)[-1]["fence"] >= taken["epoch"]
    await until(cluster.even(paused.incarnation, heir.incarnation), 10, cluster.describe)
    assert_one_owner_at_a_time(cluster)


async def test_a_node_whose_loop_stands_still_loses_its_slots(cluster: Cluster) -> None:
    stuck, heir = await cluster.add("n-0.00000000", "n-1.00000001")
    await until(cluster.even(stuck.incarnation, heir.incarnation), 20, cluster.describe)
    stuck.tell("block")
    await until(lambda: len(cluster.directory.slots_of(heir.incarnation)) == COUNT, 6, cluster.describe)
    await until(lambda: bool(stuck.of("unblocked")), 10)
    await until(cluster.even(stuck.incarnation, heir.incarnation), 10, cluster.describe)
    assert_one_owner_at_a_time(cluster)


@pytest.mark.feature("SC-11")
async def test_a_drain_hands_everything_over_within_a_second(cluster: Cluster) -> None:
    await cluster.add("n-0.00000000", "n-1.00000001", "n-2.00000002")
    names = [node.incarnation for node in cluster.nodes]
    await until(cluster.even(*names), 20, cluster.describe)
    leaving = cluster.nodes[0]
    held = len(cluster.directory.slots_of(leaving.incarnation))
    before = len(leaving.of("released"))
    leaving.tell("drain")
    await until(cluster.even(*names[1:]), 10, cluster.describe)
    await until(lambda: bool(leaving.of("drained")), 5)
    [started], [done] = leaving.of("draining"), leaving.of("drained")
    assert done["owned"] == 0
    assert len(leaving.of("released", reason="handed over")) == before + held
    assert done["at"] - started["at"] < 1_000_000_000
    taken = [event for node in cluster.nodes[1:] for event in node.of("acquired")]
    assert max(event["at"] for event in taken) - started["at"] < 1_000_000_000
    assert_one_owner_at_a_time(cluster)


@pytest.mark.feature("SC-11")
async def test_few_slots_are_without_an_owner_while_many_are_handed_over(cluster: Cluster) -> None:
    """The next slots are let go when the heir says that it serves those before."""
    await cluster.add("n-0.00000000")
    await until(cluster.even("n-0.00000000"), 20, cluster.describe)
    await cluster.add("n-1.00000001")
    await until(cluster.even("n-0.00000000", "n-1.00000001"), 20, cluster.describe)
    leaving, heir = cluster.nodes
    leaving.tell("drain")
    await until(cluster.even("n-1.00000001"), 10, cluster.describe)
    let_go = [(event["at"], 1) for event in leaving.of("released", reason="handed over")]
    taken = [(event["at"], -1) for event in heir.of("acquired")]
    assert len(let_go) == len(taken) == COUNT
    between = list(itertools.accumulate(step for _, step in sorted(let_go + taken)))
    assert 0 < max(between) <= GIFTS * GIVE_BATCH
    assert between[-1] == 0


async def test_etcd_paused_or_restarted_loses_and_doubles_nothing(
    fragile: Cluster, own_etcd: EtcdServer
) -> None:
    await fragile.add("n-0.00000000", "n-1.00000001")
    names = [node.incarnation for node in fragile.nodes]
    await until(fragile.even(*names), 20, fragile.describe)
    own_etcd.pause()
    wrote = [len(node.of("wrote", slot=0)) for node in fragile.nodes]
    await asyncio.sleep(5)  # the outage itself
    assert sum(len(node.of("wrote", slot=0)) for node in fragile.nodes) > sum(wrote) + 20
    past = [event for node in fragile.nodes for event in node.of("wrote") if not event["lease_good"]]
    assert past, "past the deadline owners went on by fenced write"
    own_etcd.resume()
    await until(fragile.even(*names), 15, fragile.describe)
    own_etcd.kill()
    await asyncio.sleep(1)
    own_etcd.start()
    await until(fragile.even(*names), 15, fragile.describe)
    await until_owned(fragile)
    assert_one_owner_at_a_time(fragile)


@pytest.mark.feature("XC-05")
async def test_in_an_outage_of_etcd_slots_are_served_on_and_nothing_moves(
    fragile: Cluster, own_etcd: EtcdServer, chaos_long: bool
) -> None:
    """etcd stands still until every lease has ended, is back, is killed and started again: nodes that renew serve
    through all of it, release nothing, and are the owners of the same slots afterwards."""
    outage_s = 60 if chaos_long else 6
    await fragile.add("n-0.00000000", "n-1.00000001", renews=True)
    names = [node.incarnation for node in fragile.nodes]
    await until(fragile.even(*names), 20, fragile.describe)
    owners = {slot: set(fragile.directory.slots_of(slot)) for slot in names}
    epochs = {slot: fragile.directory.epoch(slot) for slot in range(COUNT)}
    for outage in (own_etcd.pause, own_etcd.kill):
        started = boottime_ns()
        outage()
        await asyncio.sleep(outage_s)
        await refused_to_join(fragile)
        (own_etcd.resume if outage == own_etcd.pause else own_etcd.start)()
        await until(fragile.even(*names), 20, fragile.describe)
        await until_owned(fragile)
        wrote = sorted(
            e["at"] for node in fragile.nodes for e in node.of("wrote", slot=0) if e["at"] > started
        )
        assert max(b - a for a, b in itertools.pairwise(wrote)) < 1_500_000_000, (
            "slot 0 was written all the time"
        )
    assert not [event for node in fragile.nodes for event in node.of("released")]
    assert not [event for node in fragile.nodes for event in node.of("stale")]
    assert {slot: set(fragile.directory.slots_of(slot)) for slot in names} == owners
    renewed = [event for node in fragile.nodes for event in node.of("renewed")]
    assert {event["slot"] for event in renewed} == set(range(COUNT)), "the pause ended every lease"
    assert all(event["epoch"] > epochs[event["slot"]] for event in renewed)


async def test_a_paused_node_that_would_renew_finds_its_slots_taken(cluster: Cluster) -> None:
    paused, heir = await cluster.add("n-0.00000000", "n-1.00000001", renews=True)
    await until(cluster.even(paused.incarnation, heir.incarnation), 20, cluster.describe)
    theirs = {int(slot) for slot in cluster.directory.slots_of(paused.incarnation)}
    paused.signal(signal.SIGSTOP)
    await until(cluster.even(heir.incarnation), 10, cluster.describe)
    woken = boottime_ns()
    paused.signal(signal.SIGCONT)
    await until(lambda: {e["slot"] for e in paused.of("released", reason="lost")} >= theirs, 10)
    await until(cluster.even(paused.incarnation, heir.incarnation), 15, cluster.describe)
    assert not paused.of("renewed")
    epochs = {event["slot"]: event["epoch"] for event in heir.of("acquired") if event["slot"] in theirs}
    late = [event for event in paused.of("wrote", slot=0) if woken < event["sent"]]
    assert all(event["epoch"] > epochs.get(0, 0) for event in late), "no write of the old epoch took place"
    assert_one_owner_at_a_time(cluster)


async def test_a_node_that_leaves_is_gone_at_once(cluster: Cluster) -> None:
    await cluster.add("n-0.00000000", "n-1.00000001")
    await until(cluster.even("n-0.00000000", "n-1.00000001"), 20, cluster.describe)
    assert cluster.nodes[0].process is not None
    assert cluster.nodes[0].process.stdin is not None
    cluster.nodes[0].process.stdin.close()
    assert await until(cluster.even("n-1.00000001"), 5, cluster.describe) < 2.0
    assert len(cluster.nodes[0].of("left")) == 1


@pytest.mark.slow
@pytest.mark.feature("XC-05")
async def test_members_of_etcd_may_go_one_at_a_time(
    redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    """Each member in turn is killed and restarted, then one is frozen: no claim is lost, no epoch changes."""
    members = EtcdCluster()
    cluster = Cluster(members.endpoints, redis_server.url, region)
    try:
        await asyncio.to_thread(members.start)
        await cluster.directory.start(20)
        await cluster.add("n-0.00000000", "n-1.00000001")
        names = [node.incarnation for node in cluster.nodes]
        await until(cluster.even(*names), 20, cluster.describe)
        epochs = {slot: cluster.directory.epoch(slot) for slot in range(COUNT)}
        settled = boottime_ns()
        for member in members.members:
            member.kill()
            await cluster.etcd.put(f"/{region}/alive", b"", timeout=10)
            await asyncio.to_thread(member.start)
            await until_owned(cluster)
        members.members[0].pause()
        await cluster.etcd.put(f"/{region}/alive", b"", timeout=10)
        await until_owned(cluster)
        members.members[0].resume()
        await until_owned(cluster)
        assert {slot: cluster.directory.epoch(slot) for slot in range(COUNT)} == epochs
        moved = [event for node in cluster.nodes for event in node.of("released") if event["at"] > settled]
        assert not moved, "no node let go of a slot"
    finally:
        await cluster.close()
        members.close()


async def refused_to_join(cluster: Cluster) -> None:
    """New ownership while etcd is away: a clear error."""
    etcd = Etcd(cluster.endpoint)
    record = NodeRecord(node="n-2", incarnation="n-2.00000002", service="sip_cluster")
    with pytest.raises(EtcdUnavailable, match=f"no lease within 1.0 s from {cluster.endpoint}"):
        await Membership(etcd, cluster.region, record).join(1.0)
    await etcd.close()
