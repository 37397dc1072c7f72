"""The controller keeps its engines alive and drains them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.integration.servers import EtcdServer, RedisServer, loopback
from tests.integration.sip_cluster.conftest import Bench, running
from tests.integration.sip_cluster.sipp import Caller, Phone, Sipp, pause

CALLER = Caller()
RESTARTS = 'voicemesh_sip_cluster_restarts_total{engine="sip_cluster-00"}'


@pytest.fixture
async def pod(etcd_server: EtcdServer, redis_server: RedisServer) -> AsyncIterator[Bench]:
    """A controller with one engine."""
    host = loopback()
    variables = {
        "VOICEMESH_NODE": "sip_cluster-0{engine}",
        "VOICEMESH_SIP_ADDRESS": f"{host}:506{{engine}}",
        "VOICEMESH_METRICS_PORT": "910{engine}",
    }
    async with running(etcd_server, redis_server, "services.sip_cluster", host=host, **variables) as made:
        yield made


def children(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


@pytest.mark.feature("SC-06")
async def test_engine_that_dies_is_started_again(pod: Bench, sipp: Callable[..., Sipp]) -> None:
    controller = pod.engine.process
    assert controller is not None
    await pod.until(ready_is(pod, True))
    (engine,) = children(controller.pid)
    assert (await controller_metrics(pod))[RESTARTS] == 0
    os.kill(engine, signal.SIGKILL)
    await pod.until(ready_is(pod, False))
    await pod.until(ready_is(pod, True), 20)
    numbers = await controller_metrics(pod)
    assert numbers[RESTARTS] == 1 and numbers["voicemesh_sip_cluster_engines_ready"] == 1
    assert children(controller.pid) != [engine]
    await asyncio.to_thread(pod.engine.ready)
    phone_ip = loopback()
    pod.dial_plan.phone("t1", "1002", f"{phone_ip}:5060")
    phone = sipp(phone_ip, [Phone.called(), Phone.rings(), Phone.answers(), Phone.hung_up()])
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), CALLER.bye()]
    await sipp(loopback(), steps, remote=pod.engine.sip).good()
    await phone.good()


async def test_drain_lets_a_call_end_and_takes_no_new_one(pod: Bench, sipp: Callable[..., Sipp]) -> None:
    phone_ip = loopback()
    pod.dial_plan.phone("t1", "1002", f"{phone_ip}:5060")
    phone = sipp(phone_ip, [Phone.called(), Phone.rings(), Phone.answers(), Phone.hung_up()])
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(2000), CALLER.bye()]
    caller = sipp(loopback(), steps, remote=pod.engine.sip)
    await pod.event("Established@1002")
    pod.engine.terminate()
    await pod.until(ready_is(pod, False))
    await caller.good()
    await phone.good()
    assert pod.engine.process is not None
    assert await asyncio.to_thread(pod.engine.process.wait, 15) == 0
    assert "CallDeleted" in pod.streams.names(everything=True)
    assert await pod.snapshots() == []


def ready_is(pod: Bench, wanted: bool) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return await asyncio.to_thread(pod.engine.healthy, 9110) is wanted

    return look


async def controller_metrics(pod: Bench) -> dict[str, float]:
    return await asyncio.to_thread(pod.engine.metrics, 9110)
