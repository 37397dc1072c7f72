"""Sessions that rest are Redis's alone, and come back when something happens."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis.asyncio
from voice.orchestration.v1.orchestration_service_pb2 import ListSessionsRequest

from tests.integration.orchestration import documents
from tests.integration.orchestration.region import eventually, region_of
from tests.integration.servers import EtcdServer, RedisServer


@pytest.mark.feature("OR-31")
async def test_sleeping_sessions_wake_for_events_answers_timers_and_relatives_on_any_node(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    changed = '<state id="waiting"><transition event="voice.partychanged" target="queued"/></state>'
    texts = {
        "8000": documents.QUEUE,
        "8004": documents.EVENT,
        "8005": documents.waits(changed),
        "8001": "",
        "8003": "",
    }
    async with region_of(
        etcd_server, redis_server, redis_client, region, texts, ORCHESTRATION_PASSIVATE_SECONDS="1"
    ) as r:

        async def asleep(count: int) -> None:
            async def there() -> bool:
                return len(await r.records("asleep")) == count

            await eventually(there, 60, 0.2)

        begun = time.time()
        callers = {number: [r.call(number) for _ in range(4)] for number in ("8000", "8004", "8005")}
        await asleep(12)
        due = time.time() + 2 * (time.time() - begun) + 10
        r.applications.documents["/8001.scxml"] = documents.delayed(int(due * 1000))
        r.applications.documents["/8003.scxml"] = documents.invoking(int(due * 1000))
        callers |= {number: [r.call(number) for _ in range(4)] for number in ("8001", "8003")}
        await asleep(20 + 4)  # with the children
        everybody = [caller for of_kind in callers.values() for caller in of_kind]
        assert not await r.records(), "the living are none"
        assert await r.metric("orchestration-0", "voicemesh_orchestration_interactions_asleep") == 24
        assert await r.metric("orchestration-0", 'voicemesh_orchestration_interactions{phase="running"}') == 0
        shown = await r.session(everybody[0])
        assert shown.session_id == everybody[0].session, "one that sleeps can be looked at"
        listed = await r.stub.ListSessions(ListSessionsRequest(tenant="t1", limit=1000), timeout=20)
        assert len(listed.sessions) == 24
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
