"""One run: load, faults, rest, facts, invariants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio

from mesh.local.mesh import StartFailed
from tests.chaos import recorder
from tests.chaos.clerk import Clerk
from tests.chaos.facts import AgentAtEnd, Facts
from tests.chaos.faults import Striker
from tests.chaos.invariants import violations
from tests.chaos.load import AGENTS, Load, Shape
from tests.chaos.recorder import OwnershipHistory
from tests.chaos.report import Report
from tests.chaos.schedule import Schedule
from tests.chaos.stalls import Stalls
from tests.e2e.platform import Platform, after_call_work

ENVIRONMENT = {"VOICEMESH_SIP_PROXY_DIGEST_ALGORITHMS": "MD5"}
"""For every service: SIPp 3.6 knows only MD5."""
SPARE = ["1011", "1012"]
"""Agents no call asks for: the clerk changes their state all the time."""
SLOTS = {"sip_cluster": 1024, "call_state": 256, "orchestration": 256, "agent_state": 256}
"""Slots of each service; the Tenant's are its tenants."""
BACK_S = 45.0
"""After the last call: until everybody serves again, seconds."""
SETTLE_S = 30.0
"""After the last call: until reservations, after-call work and takeovers are over, seconds."""
REQUEST_EVERY_S = 0.5
Say = Callable[[str], None]


async def run(platform: Platform, schedule: Schedule, shape: Shape, folder: Path, say: Say) -> Report:
    """Runs a schedule against a platform that stands. The platform is healed afterwards, whatever happens."""
    say(str(schedule))
    striker = Striker(platform.mesh, folder, say)
    load = Load(platform, folder, shape)
    facts = Facts(slot_counts=_slot_counts(platform))
    async with AsyncExitStack() as stack:
        stalls = stack.enter_context(Stalls())
        stack.callback(striker.close)
        await striker.prepare(schedule)
        history = await stack.enter_async_context(OwnershipHistory(platform.mesh))
        channel = await stack.enter_async_context(platform.edge())
        stack.callback(load.close)
        await asyncio.to_thread(load.phones)
        clerks = [Clerk(platform, channel, tenant, schedule.seed) for tenant in shape.tenants]
        listening = [asyncio.create_task(clerk.listen()) for clerk in clerks]
        stack.callback(lambda: [task.cancel() for task in listening])
        await _sign_in(platform, channel, clerks, shape)
        await _under_load(load, striker, schedule, clerks, shape, say)
        await _come_to_rest(platform, facts, shape, clerks)
        await _gather(platform, facts)
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
    facts.calls, facts.phones = load.calls(), load.phone_calls()
    facts.claims, facts.struck = history.claims, striker.struck
    for clerk in clerks:
        facts.requests += clerk.requests
        facts.seen += clerk.seen
    return Report(schedule, facts, violations(facts), sum(clerk.reopened for clerk in clerks), stalls.found)


async def _sign_in(platform: Platform, channel: grpc.aio.Channel, clerks: list[Clerk], shape: Shape) -> None:
    for clerk, tenant in zip(clerks, shape.tenants, strict=True):
        await clerk.subscribed(15)
        await after_call_work(platform, channel, tenant, AGENTS, 0)
        await clerk.login([*AGENTS, *SPARE])


async def _under_load(
    load: Load, striker: Striker, schedule: Schedule, clerks: list[Clerk], shape: Shape, say: Say
) -> None:
    await asyncio.to_thread(load.callers)
    began = time.monotonic()
    working = [asyncio.create_task(clerk.work(SPARE, REQUEST_EVERY_S)) for clerk in clerks]
    striking = [asyncio.create_task(_strike(striker, schedule, began))]
    try:
        await asyncio.sleep(max(shape.seconds - (time.monotonic() - began), 0))
        await asyncio.gather(*striking)
        say(f"{time.monotonic() - began:7.1f} s  no new calls; waiting for those that talk")
        await asyncio.to_thread(load.wait, shape.longest_s + shape.patience_s)
    finally:
        for task in [*working, *striking]:
            task.cancel()
        await asyncio.gather(*working, *striking, return_exceptions=True)
    say(f"{time.monotonic() - began:7.1f} s  all callers have gone")


async def _strike(striker: Striker, schedule: Schedule, began: float) -> None:
    """Each fault at its time, whatever the one before still waits for; restarts in turn are one after the other."""
    one_by_one = schedule.plan in ("rolling", "members")
    tasks = set()
    for fault in schedule.faults:
        await asyncio.sleep(max(began + fault.at - time.monotonic(), 0))
        task = asyncio.create_task(striker.strike(fault))
        tasks.add(task)
        if one_by_one:
            await task
    await asyncio.gather(*tasks)


async def _come_to_rest(platform: Platform, facts: Facts, shape: Shape, clerks: list[Clerk]) -> None:
    """Waits until nothing waits and nobody is busy, SETTLE_S at most; what is left then is a violation."""
    try:
        await platform.mesh.wait_ready(BACK_S)
    except StartFailed:
        facts.missing = await platform.mesh.missing()
    for clerk in clerks:
        await clerk.rest(SPARE)
    until = time.monotonic() + SETTLE_S
    while True:
        agents = await _agents(platform, shape)
        async with recorder.redis_primary(platform.mesh) as client:
            queues = await recorder.queue_depths(client)
            records = await recorder.records_left(client)
        waits = any(queue.depth for queue in queues) or records
        busy = any(a.calls or a.reserved or a.phase != a.expected for a in agents)
        slots = await recorder.slots(platform.mesh)
        owned = (
            len({(slot.service, slot.slot) for slot in slots})
            == len(slots)
            == sum(facts.slot_counts.values())
        )
        if not (waits or busy or not owned) or time.monotonic() > until:
            facts.agents, facts.queues, facts.slots, facts.records = agents, queues, slots, records
            return
        await asyncio.sleep(0.5)


async def _agents(platform: Platform, shape: Shape) -> list[AgentAtEnd]:
    expected = {(tenant, f"A{number}"): "READY" for tenant in shape.tenants for number in AGENTS}
    expected |= {(tenant, f"A{number}"): "NOT_READY" for tenant in shape.tenants for number in SPARE}
    return await recorder.agents(platform.mesh, expected)


async def _gather(platform: Platform, facts: Facts) -> None:
    async with recorder.redis_primary(platform.mesh) as client:
        facts.events = await recorder.stream_events(client)
        facts.slot_order = await recorder.slot_orders(client)


def _slot_counts(platform: Platform) -> dict[str, int]:
    counts = {service: count for service, count in SLOTS.items() if platform.mesh.instances(service)}
    return {**counts, "tenant": 3}
