"""From RQ publish to a reader of the slot, at 5,000 events a second: two Redis Queue nodes over one real Redis, no sidecars between.

Publisher and reader are one process (one clock) on uvloop, as services are; events go in batches of a turn of the loop, as a SIP node
sends them.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event

from bench.harness import Invalid, Result, cpu_seconds
from mesh.identifiers import thread_slot
from mesh.rq import THREAD, Rq
from tests.e2e.platform import Platform
from tests.e2e.queue_sockets import QueueSockets

RATE, SECONDS, STREAMS = 5000, 10, 200
COUNTS = dict.fromkeys(
    ("config", "registrar", "dial_plan", "sip_proxy", "sip_cluster", "call_state", "agent_state", "tenant", "orchestration",
     "front_end"), 0,
)  # fmt: skip


def run() -> Iterator[Result]:
    """Latency percentiles and CPU an event."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield from runner.run(_run())


async def _run() -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        async with Platform(Path(folder) / "mesh", COUNTS, {}) as platform:
            processes = platform.mesh.processes
            nodes = [
                p for n, x in processes.items() if n in ("redis_queue-0", "redis_queue-1") and (p := x.pid)
            ]
            redis = [p for p in [platform.mesh.process("redis").pid] if p is not None]
            before = cpu_seconds(nodes), cpu_seconds(redis)
            latencies = sorted(await _measure(platform))
            spent = cpu_seconds(nodes) - before[0], cpu_seconds(redis) - before[1]
    count = len(latencies)
    return [
        Result("rq_latency", "p50", "ms", latencies[count // 2] * 1000),
        Result("rq_latency", "p95", "ms", latencies[int(count * 0.95)] * 1000),
        Result("rq_latency", "p99", "ms", latencies[int(count * 0.99)] * 1000),
        Result("rq_latency", "cpu_per_event.nodes", "us", spent[0] / count * 1e6),
        Result("rq_latency", "cpu_per_event.redis", "us", spent[1] / count * 1e6),
    ]


async def _measure(platform: Platform) -> list[float]:
    sockets = QueueSockets(platform.mesh)
    rq = Rq.over(sockets)
    await rq.start()
    publisher, reader = rq.publisher(THREAD), rq.read_slots(THREAD)
    keys = [f"bench-{time.time_ns()}-{number}" for number in range(STREAMS)]
    for slot in {thread_slot(key) for key in keys}:
        reader.add(slot, "")
    total = RATE * SECONDS
    latencies: list[float] = []

    async def read() -> None:
        async for batch in reader:
            now = time.time_ns()
            latencies.extend((now - e.time_us * 1000) / 1e9 for e in batch.events)
            if len(latencies) >= total:
                return

    task = asyncio.ensure_future(read())
    await asyncio.sleep(1)  # the readers stand
    start = time.monotonic()
    seqs = dict.fromkeys(keys, 0)
    for number in range(total):
        key = keys[number % STREAMS]
        seqs[key] += 1
        event = Event(this_dn="1001", other_dn="4711", conn_id=number, call_thread_id=key)
        publisher.append(
            EventEnvelope(
                event_id=f"{key}/{seqs[key]}", tenant="t1", stream_key=key, seq=seqs[key], epoch=1,
                time_us=time.time_ns() // 1000, call_thread_id=key, event=event,
            )
        )  # fmt: skip
        if number % 10 == 9:
            await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
    try:
        await asyncio.wait_for(task, 10)
    except TimeoutError:
        raise Invalid(f"{len(latencies)} of {total} events arrived") from None
    finally:
        await reader.close()
        await rq.stop()
        await sockets.close()
    return latencies
