"""etcd away from a whole platform, as long as it takes for every lease to end: calls go on, new calls go on, and nothing
needs a restart."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.e2e.platform import Platform
from tests.integration.mesh.traffic import traffic_on

LEASE_S = 4.0
"""Long enough for every lease to pass its deadline, and for what was under way to end, seconds."""


@pytest.fixture
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(
        tmp_path_factory.mktemp("outage"), {"sip_cluster": 2, "orchestration": 2}, {}
    ) as made:
        yield made


def restarts(platform: Platform) -> dict[str, int]:
    """How often each service process was started again."""
    return {name: process.restarts for name, process in platform.mesh.processes.items() if name != "etcd"}


@pytest.mark.slow
@pytest.mark.feature("XC-05")
@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_calls_go_on_and_new_calls_go_on_while_etcd_is_away(
    platform: Platform, how: str, chaos_long: bool
) -> None:
    """The short form is away for thrice the lease, the long one for 60 s."""
    away_s = 60.0 if chaos_long else 7.0
    etcd = platform.mesh.process("etcd")
    long_phone, long_caller = platform.phone("1902", host=60), platform.caller(host=60)
    await platform.register(long_phone)
    async with traffic_on(platform) as traffic:
        established = long_caller.call("1902")
        await established.until(established.established, 15)
        await traffic.more(3)
        before = restarts(platform)
        (etcd.stop if how == "frozen" else etcd.kill)()
        began = time.monotonic()
        while time.monotonic() - began < away_s:
            if how == "killed" and etcd.running:
                with contextlib.suppress(ProcessLookupError):  # it has just died, and nobody has noticed yet
                    etcd.stop()  # the mesh starts it again at once: it is kept from working
            await asyncio.sleep(0.01)
        during = [good for at, good in traffic.ended if at > began]
        if how == "frozen" or etcd.running:
            etcd.cont()
        await traffic.more(5)
        assert during.count(True) >= away_s / 3, f"calls while etcd was away: {during}"
        assert during.count(False) == 0, f"calls while etcd was away: {during}"
        after = [good for at, good in traffic.ended if at > began + away_s]
        assert after.count(False) <= 1, f"calls after etcd came back: {after}"
        assert await long_caller.hang_up(established) == 200, "a call that was there before is under control"
        assert restarts(platform) == before
    long_phone.close()
    long_caller.close()


@pytest.mark.slow
@pytest.mark.feature("XC-05")
async def test_with_etcd_and_redis_both_away_nothing_is_done_and_all_of_it_later(platform: Platform) -> None:
    """Neither the lease nor a fenced write vouches for anything: no call is completed. Both back: nothing needs a restart,
    and a call that was there before is under control."""
    stores = [
        process
        for name, process in platform.mesh.processes.items()
        if name.startswith(("etcd", "redis", "sentinel")) and not name.startswith("redis_queue")
    ]
    assert len(stores) >= 3
    phone, caller = platform.phone("1902", host=61), platform.caller(host=61)
    await platform.register(phone)
    async with traffic_on(platform) as traffic:
        established = caller.call("1902")
        await established.until(established.established, 15)
        await traffic.more(2)
        before = restarts(platform)
        for process in stores:
            process.stop()
        await asyncio.sleep(LEASE_S)
        past, began = traffic.good, time.monotonic()
        await asyncio.sleep(5.0)
        assert traffic.good == past, "calls were completed with nobody to vouch for them"
        for process in stores:
            process.cont()
        await traffic.more(3, 60)
        assert await caller.hang_up(established) == 200
        assert time.monotonic() - began < 120
        assert restarts(platform) == before
    phone.close()
    caller.close()
