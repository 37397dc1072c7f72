"""What vouches for a node is its lease or a fenced write: with etcd and Redis both away it does nothing (design §6)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import grpc
import pytest
from voice.tlib.v1.request_pb2 import ReleaseCallRequest
from voicecore import sip

from tests.integration.servers import EtcdServer, RedisServer, loopback
from tests.integration.sip_cluster.bench_mesh import names
from tests.integration.sip_cluster.conftest import running
from tests.integration.sip_cluster.user_agent import ANSWER, Call, user_agents


async def test_nothing_leaves_while_neither_vouches(
    own_etcd: EtcdServer, own_redis: Callable[[], RedisServer]
) -> None:
    redis = own_redis()
    async with running(own_etcd, redis) as bench:
        with user_agents((loopback(), "1001"), (loopback(), "1002")) as (alice, bob):
            for agent in (alice, bob):
                bench.dial_plan.phone("t1", agent.number, f"{agent.address[0]}:5060")
            calling = Call.to(alice, bench.engine.sip, "1002")
            called = await Call.at(bob, bench.engine.sip)
            called.respond(200, ANSWER)
            await calling.answered()
            await called.acked()
            conn_id = (await bench.event("Established@1002")).conn_id
            release = ReleaseCallRequest(tenant="t1", request_id="r1", dn="1001", conn_id=conn_id)
            own_etcd.pause()
            redis.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(2.5)  # the lease's deadline passes: 2 s after the last answer of etcd
                told = len(bench.streams.only())
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await bench.execute(release_call=release)
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
                calling.send("BYE")
                with pytest.raises(AssertionError):
                    await alice.wait(sip.ResponseReceived, seconds=2.0)
                assert bob.seen("BYE") == 0 and len(bench.streams.only()) == told
            finally:
                redis.signal(signal.SIGCONT)
                own_etcd.resume()
            await alice.response(200, "BYE")
            await called.hung_up()
            await bench.settled(20)
            assert names(bench.streams.only())[-2:] == ["Released@1001", "Released@1002"]
            assert bench.streams.gaps == [] and bench.streams.conflicts == []
