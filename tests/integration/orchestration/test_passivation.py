"""Sessions that rest are Redis's alone, and come back when something happens."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis.asyncio

from tests.integration.orchestration import documents
from tests.integration.orchestration.region import eventually, region_of
from tests.integration.servers import EtcdServer, RedisServer


@pytest.mark.feature("OR-31")
async def test_sleeping_sessions_wake_for_events_answers_timers_and_relatives_on_any_node(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    due = int((time.time() + 25) * 1000)
    texts = {
        "8000": documents.QUEUE,
        "8001": documents.delayed(due),
        "8003": documents.invoking(due),
        "8004": documents.EVENT,
        "8005": documents.waits(
            '<state id="waiting"><transition event="voice.partychanged" target="queued"/></state>'
        ),
    }
    async with region_of(
        etcd_server, redis_server, redis_client, region, texts, ORCHESTRATION_PASSIVATE_SECONDS="1"
    ) as r:
        callers = {number: [r.call(number) for _ in range(4)] for number in texts}
        everybody = [caller for of_kind in callers.values() for caller in of_kind]

        async def all_asleep() -> bool:
            return len(await r.records("asleep")) == len(everybody) + len(callers["8003"])

        await eventually(all_asleep, 22, 0.2)
        assert not await r.records(), "the living are none"
        assert await r.metric("orchestration-0", "voicemesh_orchestration_interactions_asleep") == 24
        assert await r.metric("orchestration-0", 'voicemesh_orchestration_interactions{phase="running"}') == 0
        shown = await r.session(everybody[0])
        assert shown.session_id == everybody[0].session, "one that sleeps can be looked at"
        # The heir of a node wakes what sleeps, too.
        await r.start(1, ORCHESTRATION_PASSIVATE_SECONDS="1")
        await r.nodes.kill("orchestration-0")
        r.tenant.open.set()
        for caller in callers["8005"]:
            caller.tell("PARTY_CHANGED")
        await asyncio.gather(*(r.send(caller, "go") for caller in callers["8004"]))
        await r.routed(everybody, "1001", 60)
        await r.settled()


@pytest.mark.feature("OR-31")
async def test_a_session_that_sleeps_hears_that_its_call_is_gone(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with region_of(
        etcd_server,
        redis_server,
        redis_client,
        region,
        {"8000": documents.QUEUE},
        ORCHESTRATION_PASSIVATE_SECONDS="0.5",
    ) as r:
        callers = [r.call() for _ in range(5)]

        async def all_asleep() -> bool:
            return len(await r.records("asleep")) == 5

        await eventually(all_asleep, 20, 0.2)
        for caller in callers:
            caller.tell("CALL_DELETED")
        await r.settled()

        async def withdrawn() -> bool:
            return r.tenant.withdrawn == set(r.tenant.requests)

        await eventually(withdrawn)
        assert not r.sip.requests
