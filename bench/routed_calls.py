"""Routed calls through the whole platform: an application asks for a skill, SIPp as callers and as 10 agents' phones.

The rate is raised until calls fail, are sent again or pile up; the highest that went well is printed with the CPU a call of each
service (sidecars apart; what the platform spends when idle is in it). Agents have no after-call work; calls last 200 ms. There is no
peer that does the same.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.harness import Invalid, Result, cpu_seconds, sipp_uac
from tests.e2e.platform import Desk, Platform, after_call_work, sipp_phones

AGENTS = [str(number) for number in range(1001, 1011)]
RATES = (4, 6, 8, 10, 12, 15, 20)
SECONDS = 15
BEHIND_S = 2
"""How long after the last call was due the last may end, seconds: longer means that calls pile up."""


def run() -> Iterator[Result]:
    """Highest rate and CPU a call by service."""
    yield from asyncio.run(_run())


async def _run() -> list[Result]:
    environment = {"VOICEMESH_SIP_PROXY_DIGEST_ALGORITHMS": "MD5"}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        async with Platform(Path(folder) / "mesh", {}, environment) as platform:
            await asyncio.to_thread(stack.enter_context, sipp_phones(platform, "t1", AGENTS, answer_ms=0))
            await _sign_in(platform)
            return await asyncio.to_thread(_raise_rate, platform)


async def _sign_in(platform: Platform) -> None:
    async with platform.edge() as channel:
        await after_call_work(platform, channel, "t1", AGENTS, 0)
        for dn in AGENTS:
            desk = Desk(platform, channel, "t1", dn)
            await desk.login()
            await desk.ready()


def _raise_rate(platform: Platform) -> list[Result]:
    source = (platform.ip(201, 61), 5060)
    best, costs, latency = 0.0, dict[str, float](), 0.0
    for rate in RATES:
        calls = rate * SECONDS
        before = _spent(platform)
        counted = sipp_uac(source, platform.proxy, "8000", calls=calls, rate=rate, talk_ms=200, timeout_s=60)
        try:
            counted.check(calls)
        except Invalid:
            break
        if counted.elapsed_s > SECONDS + BEHIND_S:
            break
        after = _spent(platform)
        best, latency = rate, counted.percentile(0.5)
        costs = {name: (after[name] - before[name]) / calls * 1e6 for name in before}
    if not best:
        raise Invalid(f"not even {RATES[0]} routed calls a second went well")
    rows = [
        Result("routed_calls", "highest_rate", "calls/s", best),
        Result("routed_calls", "invite_to_180_p50", "ms", latency),
        Result("routed_calls", "cpu_per_call", "us", sum(costs.values())),
    ]
    return rows + [
        Result("routed_calls", f"cpu_per_call.{name}", "us", cost) for name, cost in sorted(costs.items())
    ]


def _spent(platform: Platform) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    for name, process in platform.mesh.processes.items():
        if process.pid is not None:
            group = "sidecars" if name.endswith(".envoy") else name.rpartition("-")[0] or name
            spent[group] += cpu_seconds([process.pid])
    return spent
