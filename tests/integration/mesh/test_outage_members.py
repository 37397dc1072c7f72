"""Three members of etcd under a whole platform, restarted in turn: calls go on, new calls go on, and nothing needs a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from mesh.etcd import Etcd
from tests.chaos import members
from tests.e2e.platform import Platform
from tests.integration.mesh.traffic import traffic_on

BACK_S = 30.0
"""Longest wait for a member to serve again, seconds."""


@pytest.fixture
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    made = Platform(
        tmp_path_factory.mktemp("members"), {"sip_cluster": 2, "orchestration": 2}, {}, etcd_members=3
    )
    async with made:
        yield made


async def restart(platform: Platform, name: str) -> None:
    """kill -9; returns when the member serves again."""
    member, address = platform.mesh.process(name), members.addresses(platform.mesh)[name]
    restarts = member.restarts
    member.kill()
    async with asyncio.timeout(BACK_S):
        while member.restarts == restarts or not await members.serves(address):
            await asyncio.sleep(0.05)


async def claims(platform: Platform) -> dict[str, int]:
    """Key -> epoch of every slot's claim."""
    etcd = Etcd(platform.mesh.etcd)
    try:
        found = await etcd.get_prefix(f"/voicemesh/{platform.mesh.settings.region}/", timeout=BACK_S)
    finally:
        await etcd.close()
    return {item.key: item.mod_revision for item in found.items if "/slots/" in item.key}


@pytest.mark.slow
@pytest.mark.feature("XC-05")
async def test_calls_go_on_and_new_calls_go_on_while_each_member_of_etcd_restarts(platform: Platform) -> None:
    """The leader first. A quorum stands all the time: no claim changes."""
    mesh = platform.mesh
    left = set(members.addresses(mesh))
    phone, caller = platform.phone("1902", host=62), platform.caller(host=62)
    await platform.register(phone)
    async with traffic_on(platform) as traffic:
        established = caller.call("1902")
        await established.until(established.established, 15)
        await traffic.more(2)
        before = {name: process.restarts for name, process in mesh.processes.items()}
        owned = await claims(platform)
        assert len(owned) > 1024
        while left:
            leads = await members.leader(mesh, BACK_S)
            name = leads if leads in left else min(left)
            left.remove(name)
            began, calls = time.monotonic(), len(traffic.ended)
            await restart(platform, name)
            during = [good for at, good in traffic.ended[calls:]]
            assert during.count(False) == 0, f"calls while {name} was away: {during}"
            assert during.count(True) >= (time.monotonic() - began) / 4, (
                f"calls while {name} was away: {during}"
            )
            assert await claims(platform) == owned, f"claims changed while {name} was away"
        await traffic.more(2)
        assert traffic.failed == 0
        assert await caller.hang_up(established) == 200, "a call that was there before is under control"
        assert len(set((await members.digests(mesh, BACK_S)).values())) == 1, "members hold the same"
        restarted = {name for name, process in mesh.processes.items() if process.restarts > before[name]}
        assert restarted == members.addresses(mesh).keys()
    phone.close()
    caller.close()
