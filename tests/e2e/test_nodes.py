"""SIP nodes beside each other: one configuration, and a node that joins takes its share."""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import httpx
import pytest

from tests.e2e.platform import Platform

CALLS = 45


async def _scrape(platform: Platform) -> dict[str, str]:
    """Metrics of each engine."""
    async with httpx.AsyncClient() as client:
        return {
            name: (await client.get(f"http://{address}/metrics")).text
            for name, address in platform.mesh.metrics.items()
            if name.startswith("sip_cluster")
        }


async def _new(platform: Platform) -> Counter[str]:
    """Calls begun at each engine so far."""
    return _created(await _scrape(platform))


def _created(pages: dict[str, str]) -> Counter[str]:
    return Counter(
        {
            name: int(
                sum(
                    float(v)
                    for v in re.findall(r"(?m)^voicemesh_sip_cluster_calls_created_total\S* (\S+)$", page)
                )
            )
            for name, page in pages.items()
        }
    )


@pytest.mark.slow
@pytest.mark.feature("SC-05")
async def test_nodes_share_one_configuration_and_one_that_joins_takes_its_share(platform: Platform) -> None:
    phone, caller = platform.phone("1902", host=91, ring_s=0.0), platform.caller(host=91)
    await platform.register(phone)
    joining = platform.mesh.process("sip_cluster-2")
    joining.kill()  # the controller with its engine; the mesh starts both again
    async with asyncio.timeout(40):
        while joining.running:
            await asyncio.sleep(0.05)
        while not joining.running:
            await asyncio.sleep(0.05)
        await platform.mesh.wait_ready(35)
    pages = await _scrape(platform)
    configurations = {re.findall(r'sha256="([0-9a-f]{64})"', page)[0] for page in pages.values()}
    assert len(pages) == 3
    assert len(configurations) == 1

    async def one_call() -> None:
        leg = caller.call("1902")
        await leg.until(leg.established, 10)
        assert await caller.hang_up(leg) == 200

    before = _created(pages)
    async with asyncio.timeout(60):
        while (await _new(platform))["sip_cluster-20"] == before["sip_cluster-20"]:
            await one_call()  # until the proxies have heard an answer of it
        before = await _new(platform)
        for _ in range(CALLS):
            await one_call()
    created = await _new(platform)
    share = created["sip_cluster-20"] - before["sip_cluster-20"]
    assert share >= CALLS / 5, created - before
    await phone.register("phone-1902-t1", expires=0)
    phone.close()
    caller.close()
