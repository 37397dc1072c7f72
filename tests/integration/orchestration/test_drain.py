"""SIGTERM: sessions move to other nodes, and none is lost."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from tests.integration.orchestration import documents
from tests.integration.orchestration.region import Caller, Region, eventually, region_of
from tests.integration.servers import EtcdServer, RedisServer

SESSIONS = 60


@pytest.mark.feature("OR-29")
async def test_a_drained_node_loses_no_session_and_misses_no_event(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    texts = {"8000": documents.QUEUE, "8002": "", "8004": documents.EVENT}
    async with region_of(etcd_server, redis_server, redis_client, region, texts, nodes=2) as r:
        r.applications.documents["/8002.scxml"] = documents.fetching(r.applications.url("/slow"))
        callers = [r.call(kind) for _ in range(SESSIONS // 3) for kind in texts]

        async def all_there() -> bool:
            found = await r.records()
            states = {state for record in found.values() for state in record.session.configuration}
            return len(found) == SESSIONS and states == {"waiting", "queued"}

        await eventually(all_there, 60, 0.2)
        assert {r.owner(caller.slot) for caller in callers} == {"orchestration-0", "orchestration-1"}
        newcomers, code = await asyncio.gather(_keep_calling(r), r.terminate("orchestration-0"))
        assert code == 0
        r.tenant.open.set()
        r.applications.held.set()
        await asyncio.gather(*(r.send(caller, "go") for caller in callers if caller.route_point == "8004"))
        await r.routed([*callers, *newcomers], "1001", 60)
        await r.settled()
        asked = [request.conn_id for request in r.tenant.requests.values()]
        assert len(asked) == len(set(asked)), "a call asked twice for an agent"


async def _keep_calling(region: Region) -> list[Caller]:
    callers = []
    for _ in range(20):
        callers.append(region.call("8000"))
        await asyncio.sleep(0.1)
    return callers
