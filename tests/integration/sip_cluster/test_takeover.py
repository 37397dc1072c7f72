"""A SIP node is killed with -9 in each state a leg can be in, and its heir goes on (the state table of the service's README).

Two nodes behind the core's proxy, real etcd and Redis; the phones do what the test tells them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from voice.tlib.v1.request_pb2 import AttachUserDataRequest, ReleaseCallRequest, RouteCallRequest
from voice.type.v1.kv_pb2 import KvList, KvPair
from voicecore.sip import AckReceived, CancelReceived

from mesh.identifiers import sip_slot_of_conn_id
from tests.integration.servers import EtcdServer, RedisServer, loopback
from tests.integration.sip_cluster.bench_mesh import names
from tests.integration.sip_cluster.cluster import Cluster, cluster_of
from tests.integration.sip_cluster.engines import Engine
from tests.integration.sip_cluster.user_agent import ANSWER, OFFER, Call, UserAgent, user_agents

WHOLE = [
    "Dialing@1001",
    "Ringing@1002",
    "Established@1001",
    "Established@1002",
    "Released@1001",
    "Released@1002",
]
"""Events of a call from 1001 to 1002 that 1001 ends."""


@pytest.fixture
async def cluster(etcd_server: EtcdServer, redis_server: RedisServer) -> AsyncIterator[Cluster]:
    async with cluster_of(2, etcd_server, redis_server) as made:
        yield made


@dataclass
class Phones:
    """1001 and 1002, and a call between them."""

    cluster: Cluster
    alice: UserAgent
    bob: UserAgent

    async def dial(self, offer: bytes = OFFER) -> tuple[Call, Call]:
        """1001 has called, 1002 has got the INVITE and said nothing."""
        calling = Call.to(self.alice, self.cluster.proxy, "1002", offer)
        return calling, await Call.at(self.bob, self.cluster.proxy)

    async def ring(self, offer: bytes = OFFER) -> tuple[Call, Call]:
        """1002 rings."""
        calling, called = await self.dial(offer)
        called.respond(180)
        await calling.rings()
        return calling, called

    async def talk(self) -> tuple[Call, Call]:
        """Established, and stored as that."""
        calling, called = await self.ring()
        called.respond(200, ANSWER)
        await calling.answered()
        await called.acked()
        await self.cluster.event("Established@1002")
        return calling, called

    async def kill_owner(self) -> Engine:
        """Kills the node of the only call; the heir, once it has the call."""
        dead = await self.cluster.owner()
        assert dead.process is not None
        dead.process.kill()
        (heir,) = [engine for engine in self.cluster.engines if engine is not dead]
        await self.cluster.until(lambda: self.cluster.number(heir, "restored_calls_total") == 1)
        return heir

    async def whole(self, *more: str) -> None:
        """The call has ended and its events are as if nothing had happened."""
        await self.cluster.settled()
        assert self.cluster.streams.names() == [*WHOLE, *more]
        stream = self.cluster.streams.only()
        assert len({e.event.conn_id for e in stream}) == 1
        assert [envelope.seq for envelope in stream] == list(range(1, len(stream) + 1))


@pytest.fixture
async def phones(cluster: Cluster) -> AsyncIterator[Phones]:
    with user_agents((loopback(), "1001"), (loopback(), "1002")) as (alice, bob):
        for agent in (alice, bob):
            cluster.around.dial_plan.phone("t1", agent.number, f"{agent.address[0]}:5060")
        yield Phones(cluster, alice, bob)


@pytest.mark.feature("SC-07")
async def test_established_call_goes_on_at_the_heir(phones: Phones) -> None:
    calling, called = await phones.talk()
    heir = await phones.kill_owner()
    await called.reoffer(calling)
    await calling.reoffer(called)
    conn_id = phones.cluster.streams.only()[0].event.conn_id
    number = phones.cluster.number
    assert number(heir, "restored_calls_total") == 1 and number(heir, "unrestorable_calls_total") == 0
    calling.send("BYE")
    bye = await called.hung_up()
    await phones.alice.response(200, "BYE")
    assert bye.cseq.number > 1000, "numbers the dead node may have used are left out"
    await phones.whole()
    assert {e.event.conn_id for e in phones.cluster.streams.only()} == {conn_id}
    assert phones.cluster.core.counters()["reselected"] == 0


async def test_bye_sent_while_nobody_owns_the_call_is_answered_by_the_heir(phones: Phones) -> None:
    calling, called = await phones.talk()
    dead = await phones.cluster.owner()
    assert dead.process is not None
    dead.process.kill()
    dead.process.wait()
    calling.send("BYE")
    await called.hung_up()
    await phones.alice.response(200, "BYE")
    await phones.whole()
    assert phones.cluster.core.counters()["slot_moved_resent"] >= 1


async def test_a_call_that_ended_behind_its_last_snapshot_has_ended_at_the_heir(phones: Phones) -> None:
    """Redis was slow: the call went on unprotected, its end is in the stream and not in its snapshot."""
    cluster = phones.cluster
    calling, called = await phones.talk()
    owner = await cluster.owner()
    assert owner.process is not None
    (key,) = [key async for key in cluster.redis.scan_iter(match="{sip_cluster:*}:calls")]
    snapshot: Any = await cluster.redis.hgetall(key)
    calling.send("BYE")
    await called.hung_up()
    await phones.alice.response(200, "BYE")
    await phones.whole()
    await cluster.redis.hset(key, mapping=snapshot)
    owner.process.kill()
    (heir,) = [engine for engine in cluster.engines if engine is not owner]
    await asyncio.gather(calling.hung_up(), called.hung_up())  # who may still think that they talk
    assert cluster.number(heir, "calls_behind_total") == 1
    await phones.whole()


async def test_dialling(phones: Phones) -> None:
    """The INVITE is sent again under its branch: for the phone it is the one it has."""
    calling, called = await phones.dial()
    await phones.kill_owner()
    called.respond(180)
    await calling.rings()
    called.respond(200, ANSWER)
    await calling.answered()
    await called.acked()
    assert phones.bob.seen("INVITE") == 0
    await both_hang_up(calling, called)
    await phones.whole()


async def test_ringing_and_answered_by_the_heir(phones: Phones) -> None:
    calling, called = await phones.ring()
    await phones.kill_owner()
    called.respond(200, ANSWER)
    response = await calling.answered()
    assert response.body == ANSWER
    await called.acked()
    assert phones.bob.seen("INVITE") == 0
    await both_hang_up(calling, called)
    await phones.whole()


async def test_answered_while_nobody_owns_the_call(phones: Phones) -> None:
    calling, called = await phones.ring()
    dead = await phones.cluster.owner()
    assert dead.process is not None
    dead.process.kill()
    dead.process.wait()
    called.respond(200, ANSWER)
    await calling.answered()
    await called.acked()
    await both_hang_up(calling, called)
    await phones.whole()


async def test_ringing_and_cancelled_at_the_heir(phones: Phones) -> None:
    calling, called = await phones.ring()
    await phones.kill_owner()
    phones.alice.endpoint.cancel(calling.txn)
    await phones.bob.wait(CancelReceived)
    called.respond(487)
    await phones.alice.response(487)
    await phones.cluster.settled()
    assert phones.cluster.streams.names() == [
        "Dialing@1001",
        "Ringing@1002",
        "Released@1001",
        "Abandoned@1002",
    ]


async def test_ringing_and_refused_while_nobody_owns_the_call(phones: Phones) -> None:
    _calling, called = await phones.ring()
    dead = await phones.cluster.owner()
    assert dead.process is not None
    dead.process.kill()
    dead.process.wait()
    called.respond(486)
    await phones.alice.response(486)
    await phones.cluster.settled()
    assert phones.cluster.streams.names()[-2:] == ["DestinationBusy@1001", "Released@1001"]


async def test_answered_without_ack(phones: Phones) -> None:
    calling, called = await phones.ring()
    called.respond(200, ANSWER)
    await calling.answered(ack=False)
    await called.acked()
    repeated = phones.alice.endpoint.counters()["retransmissions_in"]
    await phones.kill_owner()
    counters = phones.alice.endpoint.counters
    await phones.cluster.until(lambda: counters()["retransmissions_in"] > repeated + 1)
    calling.ack()
    await phones.cluster.event("Established@1002")
    await both_hang_up(calling, called)
    await phones.whole()


async def test_reinvite_of_a_caller_whose_ack_nobody_alive_has_heard(phones: Phones) -> None:
    """The re-INVITE says that the ACK was sent. An ACK of the INVITE that comes later is not that of the re-INVITE."""
    calling, called = await phones.ring()
    called.respond(200, ANSWER)
    await calling.answered(ack=False)
    await called.acked()
    await phones.cluster.event("Established@1002")
    await phones.kill_owner()
    txn = calling.send("INVITE", OFFER)
    await called.take_offer(OFFER)
    assert (await phones.alice.response(200)).cseq.number == 2
    calling.ack()
    with pytest.raises(AssertionError, match="no AckReceived"):
        await phones.bob.wait(AckReceived, seconds=0.5)
    calling.ack_offer(txn)
    await called.acked()
    await both_hang_up(calling, called)
    await phones.whole()


async def test_ack_withheld_for_the_callers_answer(phones: Phones) -> None:
    """An INVITE without an offer: the phone's offer went to the caller, whose ACK has the answer."""
    calling, called = await phones.ring(offer=b"")
    called.respond(200, OFFER)
    response = await calling.answered(ack=False)
    assert response.body == OFFER
    await phones.kill_owner()
    calling.ack(ANSWER)
    assert (await called.acked()).body == ANSWER
    await both_hang_up(calling, called)
    await phones.whole()


async def test_held(phones: Phones) -> None:
    calling, called = await phones.talk()
    hold = OFFER + b"a=sendonly\r\n"
    await calling.reoffer(called, hold)
    await phones.kill_owner()
    await calling.reoffer(called)
    await both_hang_up(calling, called)
    await phones.whole()


async def test_reinvite_open_goes_on(phones: Phones) -> None:
    calling, called = await phones.talk()
    txn = calling.send("INVITE", OFFER)
    offer = await phones.bob.request("INVITE")
    assert called.dialog is not None
    called.dialog.accept(offer.request)
    await phones.kill_owner()
    called.answer_offer(offer)
    assert (await phones.alice.response(200)).body == ANSWER
    calling.ack_offer(txn)
    await called.acked()
    assert phones.bob.seen("INVITE") == 0
    await both_hang_up(calling, called)
    await phones.whole()


async def test_reinvite_answered_without_ack(phones: Phones) -> None:
    calling, called = await phones.talk()
    txn = calling.send("INVITE", OFFER)
    await called.take_offer(OFFER)
    await phones.alice.response(200)
    await phones.kill_owner()
    calling.ack_offer(txn)
    await called.acked()
    await both_hang_up(calling, called)
    await phones.whole()


async def test_releasing(phones: Phones) -> None:
    """The BYE to the other phone is repeated by the heir, and nothing is told twice."""
    calling, called = await phones.talk()
    await calling.hang_up()
    await phones.bob.request("BYE")
    await phones.cluster.event("CallDeleted")
    dead = await phones.cluster.owner()
    assert dead.process is not None
    dead.process.kill()
    again = await called.hung_up()
    assert again.cseq.number > 1000
    await phones.whole()


async def test_cancelling(phones: Phones) -> None:
    calling, called = await phones.ring()
    phones.alice.endpoint.cancel(calling.txn)
    await phones.bob.wait(CancelReceived)
    await phones.alice.response(487)
    await phones.cluster.event("CallDeleted")
    dead = await phones.cluster.owner()
    assert dead.process is not None
    dead.process.kill()
    dead.process.wait()
    called.respond(487)
    await phones.cluster.settled(40)
    assert phones.cluster.streams.names()[-1] == "Abandoned@1002"


async def test_waiting_on_a_route_point(phones: Phones) -> None:
    """The heir keeps the caller waiting; a repeated request gets the stored outcome, a new one is carried out."""
    cluster = phones.cluster
    cluster.around.dial_plan.route_point("t1", "8000")
    calling = Call.to(phones.alice, cluster.proxy, "8000")
    await calling.rings()
    queued = await cluster.event("RouteRequest@8000")
    first = await cluster.owner()
    attach = AttachUserDataRequest(
        tenant="t1",
        request_id="attach-1",
        dn="8000",
        conn_id=queued.conn_id,
        user_data=KvList(pairs=[KvPair(key="why", string_value="sales")]),
    )
    told = await cluster.execute(first, attach_user_data=attach)
    heir = await phones.kill_owner()
    again = await cluster.execute(heir, attach_user_data=attach)
    assert again.event_sequence_number == told.event_sequence_number
    assert again.user_data == told.user_data
    route = RouteCallRequest(
        tenant="t1", request_id="route-1", dn="8000", conn_id=queued.conn_id, destination="1002"
    )
    routed = cluster.execute(heir, route_call=route)
    called = await answered_later(phones, routed)
    await calling.answered()
    await called.acked()
    release = ReleaseCallRequest(tenant="t1", request_id="release-1", dn="1002", conn_id=queued.conn_id)
    ended = await cluster.execute(heir, release_call=release)
    await calling.hung_up()
    await called.hung_up()
    await cluster.settled()
    assert names(cluster.streams.only()).count("AttachedDataChanged@8000") <= 1
    late = await cluster.execute(heir, release_call=release)
    assert late.event_sequence_number == ended.event_sequence_number, "also after the call's end"


async def test_outcomes_of_an_ended_call_are_remembered_by_the_heir(phones: Phones) -> None:
    cluster = phones.cluster
    calling, called = await phones.talk()
    conn_id = cluster.streams.only()[0].event.conn_id
    owner = await cluster.owner()
    release = ReleaseCallRequest(tenant="t1", request_id="release-1", dn="1001", conn_id=conn_id)
    ended = await cluster.execute(owner, release_call=release)
    await calling.hung_up()
    await called.hung_up()
    await cluster.settled()
    assert owner.process is not None
    owner.process.kill()
    (heir,) = [engine for engine in cluster.engines if engine is not owner]
    await cluster.until(lambda: cluster.number(heir, "slots") == 1024)
    late = await cluster.execute(heir, release_call=release)
    assert late.event_sequence_number == ended.event_sequence_number
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await cluster.execute(
            heir, release_call=ReleaseCallRequest(tenant="t1", request_id="r2", dn="1001", conn_id=conn_id)
        )
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert 0 <= sip_slot_of_conn_id(conn_id) < 1024


@pytest.mark.feature("XC-04")
async def test_node_paused_past_its_lease_does_no_harm_and_comes_back(phones: Phones) -> None:
    """SIGSTOP: the heir carries the call to its end; the woken node says nothing about it and takes part again."""
    cluster = phones.cluster
    calling, called = await phones.talk()
    owner = await cluster.owner()
    (heir,) = [engine for engine in cluster.engines if engine is not owner]
    assert owner.process is not None
    owner.process.send_signal(signal.SIGSTOP)
    try:
        await cluster.until(lambda: cluster.number(heir, "restored_calls_total") == 1)
        await calling.reoffer(called)
    finally:
        owner.process.send_signal(signal.SIGCONT)
    await cluster.until(lambda: cluster.number(owner, "slots") >= 300, 20)
    await both_hang_up(calling, called)
    await phones.whole()
    sent = cluster.streams.only()
    assert {envelope.node.partition(".")[0] for envelope in sent[-3:]} <= {
        f"sip_cluster-{cluster.engines.index(heir)}",
        f"sip_cluster-{cluster.engines.index(owner)}",
    }


async def both_hang_up(calling: Call, called: Call) -> None:
    """The caller hangs up; both sides hear of it."""
    calling.send("BYE")
    await called.hung_up()
    await calling.agent.response(200, "BYE")


async def answered_later(phones: Phones, routed: Awaitable[object]) -> Call:
    """The routed call's phone rings and answers; the request is settled when it rings."""
    waiting = asyncio.ensure_future(routed)
    called = await Call.at(phones.bob, phones.cluster.proxy)
    called.respond(180)
    await waiting
    called.respond(200, ANSWER)
    return called
