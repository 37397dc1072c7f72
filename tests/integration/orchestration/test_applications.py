"""Documents from the application server: asked for once, kept by version, never taken over by a broken one."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from tests.integration.orchestration import documents
from tests.integration.orchestration.region import DEFAULT_DN, Caller, Region, eventually, region_of
from tests.integration.servers import EtcdServer, RedisServer


def to(destination: str) -> str:
    """Sends the call somewhere when told to."""
    return (
        f'{documents.HEAD}<state id="begin"><transition event="interaction.added" target="waiting"/></state>'
        f'<state id="waiting"><transition event="go" target="going"/></state>'
        f'<state id="going"><onentry><ixn:redirect to="\'{destination}\'"/></onentry>'
        '<transition event="interaction.redirect.done" target="done"/></state><final id="done"/></scxml>'
    )


async def _waiting(region: Region, caller: Caller) -> None:
    async def there() -> bool:
        record = await region.record(caller)
        return record is not None and "waiting" in record.session.configuration

    await eventually(there, 20)


@pytest.mark.feature("OR-05", "OR-06")
async def test_versions_of_an_application(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    path = "/8000.scxml"
    async with region_of(etcd_server, redis_server, redis_client, region, {"8000": to("1001")}, nodes=2) as r:
        owned = r.slots_of("orchestration-0")
        first = r.call(slots=owned)
        await _waiting(r, first)
        # Not changed: asked for with the version we have, not sent again, not compiled again.
        await asyncio.sleep(1.1)  # longer than a version is used without asking (applications.FRESH_S)
        second = r.call(slots=owned)
        await _waiting(r, second)
        asked = [a for a in r.applications.asked if a.path == path]
        assert ["if-none-match" in a.headers for a in asked] == [False, True]
        compiled = "voicemesh_orchestration_compilations_total"
        assert await r.metric("orchestration-0", compiled) == 1
        # A new version: for new sessions. The heir of the old ones gets the old one, which the server has no more.
        r.applications.documents[path] = to("1002")
        await asyncio.sleep(1.1)
        third = r.call(slots=owned)
        await _waiting(r, third)
        assert await r.metric("orchestration-0", compiled) == 2
        # A broken version takes over from nobody.
        r.applications.documents[path] = "<scxml"
        await asyncio.sleep(1.1)
        fourth = r.call(slots=owned)
        await _waiting(r, fourth)
        await r.nodes.kill("orchestration-0")
        await asyncio.gather(*(r.send(caller, "go") for caller in (first, second, third, fourth)))
        await r.routed([first, second], "1001", 30)
        await r.routed([third, fourth], "1002", 30)
        # The heir has never had a working version of its own: the alternate, else the default destination.
        fifth = r.call()
        await r.routed([fifth], DEFAULT_DN, 30)
        r.applications.documents["/alternate.scxml"] = to("1003")
        r.applications.statuses[path] = 500
        sixth = r.call()
        await _waiting(r, sixth)
        await r.send(sixth, "go")
        await r.routed([sixth], "1003", 30)
