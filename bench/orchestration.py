"""Orchestration over real etcd, Redis, Redis Queue and Config, without sidecars; SIP node and tenant record what they get.

`trigger_to_first_effect`: from a route request's event to the RouteCall of its session, at 200 new sessions a second: the event
is read, the session started (document cached), `interaction.added` processed, two states written, the request sent. An upper bound of
the time to a started session. `recovery`: kill −9 of the node with 1,000 waiting sessions; the last of them has had its call routed
by the heir, the lease's 2 s included.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Iterator

import redis.asyncio

from bench.harness import Invalid, Result, cpu_seconds, memory_bytes
from tests.integration.orchestration import documents
from tests.integration.orchestration.region import Caller, Region, eventually, region_of
from tests.integration.servers import EtcdServer, RedisServer

BENCH = "orchestration"
RATE, SECONDS, WARM_S = 200, 10, 2
SESSIONS = 1000
ROUTES = (
    f'{documents.HEAD}<state id="begin"><transition event="interaction.added" target="go"/></state>'
    '<state id="go"><onentry><ixn:redirect to="\'1001\'"/></onentry><transition event="interaction.*" target="end"/></state>'
    '<final id="end"/></scxml>'
)


def run() -> Iterator[Result]:
    """All rows."""
    yield from asyncio.run(_triggers())
    yield from asyncio.run(_recovery())


@contextlib.asynccontextmanager
async def _region(texts: dict[str, str], nodes: int, **variables: str) -> AsyncIterator[Region]:
    etcd, store = EtcdServer(), RedisServer()
    try:
        etcd.start()
        store.start()
        client = redis.asyncio.Redis.from_url(store.url)
        region = f"bench-{secrets.token_hex(4)}"
        async with region_of(etcd, store, client, region, texts, nodes=nodes, **variables) as made:
            yield made
        await client.aclose()
    finally:
        store.close()
        etcd.close()


async def _triggers() -> list[Result]:
    async with _region({"8000": ROUTES}, 1) as region:
        region.tenant.open.set()
        sent: dict[int, float] = {}

        async def offer(seconds: float) -> list[Caller]:
            begun, made = time.monotonic(), []
            for number in range(int(RATE * seconds)):
                caller = region.call()
                sent[caller.conn_id] = time.time()
                made.append(caller)
                await asyncio.sleep(max(0.0, begun + (number + 1) / RATE - time.monotonic()))
            return made

        await offer(WARM_S)
        process = region.nodes.nodes["orchestration-0"].process
        assert process is not None
        before = cpu_seconds([process.pid])
        callers = await offer(SECONDS)
        await region.settled(60)
        spent = cpu_seconds([process.pid]) - before
        missing = [caller for caller in callers if caller.conn_id not in region.sip.first]
        if missing:
            raise Invalid(f"{len(missing)} of {len(callers)} sessions did not route their call")
        waits = sorted(region.sip.first[caller.conn_id] - sent[caller.conn_id] for caller in callers)
    return [
        Result(BENCH, "trigger_to_first_effect_p50", "ms", waits[len(waits) // 2] * 1000),
        Result(BENCH, "trigger_to_first_effect_p99", "ms", waits[int(len(waits) * 0.99)] * 1000),
        Result(BENCH, "cpu_per_session", "us", spent / len(callers) * 1e6),
    ]


async def _recovery() -> list[Result]:
    async with _region({"8000": documents.EVENT}, 2) as region:
        region.tenant.open.set()
        process = region.nodes.nodes["orchestration-0"].process
        assert process is not None
        before = memory_bytes([process.pid])
        callers = [region.call(slots=region.slots_of("orchestration-0")) for _ in range(SESSIONS)]

        async def all_wait() -> bool:
            found = await region.records()
            waiting = [r for r in found.values() if "waiting" in r.session.configuration and not r.inbox_json]
            return len(waiting) == SESSIONS

        await eventually(all_wait, 120, 0.5)
        held = memory_bytes([process.pid]) - before
        killed = time.time()
        await region.nodes.kill("orchestration-0")
        await asyncio.gather(
            *(region.send(caller, "go") for caller in callers), region.routed(callers, "1001", 60)
        )
        last = max(region.sip.first[caller.conn_id] for caller in callers) - killed
        lost = len([caller for caller in callers if caller.conn_id not in region.sip.routes()])
    return [
        Result(BENCH, "recovery_1000_sessions_last", "ms", last * 1000),
        Result(BENCH, "recovery_1000_sessions_lost", "sessions", lost),
        Result(BENCH, "session_in_node", "bytes", held / SESSIONS),
    ]
