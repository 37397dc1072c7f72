"""Calls at a rate, answered or not: `python -m tests.integration.mesh.flood <target> <rate> <seconds> <at once>`.

Open loop when a rate is given: calls leave at their time, at most `at once` at a time, those that find no room count as not
sent. Rate 0: as fast as they are answered. Writes one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

import grpc.aio
import uvloop
from voice.mesh.v1 import node_service_pb2 as node
from voice.mesh.v1.node_service_pb2_grpc import NodeServiceStub

from mesh import channels

TICK_S = 0.01


async def main(target: str, rate: float, seconds: float, at_once: int) -> None:
    done: Counter[str] = Counter()
    open_calls = 0

    async with channels.direct(target) as channel:
        stub = NodeServiceStub(channel)

        async def call() -> None:
            nonlocal open_calls
            try:
                await stub.GetNode(node.GetNodeRequest(), timeout=2.0)
                done["ok"] += 1
            except grpc.aio.AioRpcError as error:
                done[error.code().name] += 1
            open_calls -= 1

        tasks: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        due = 0
        while (now := time.monotonic() - began) < seconds:
            wanted = int(rate * now) - due if rate else at_once - open_calls
            due += wanted
            room = min(wanted, at_once - open_calls)
            done["not sent"] += max(0, wanted - room)
            for _ in range(room):
                open_calls += 1
                task = asyncio.create_task(call())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(TICK_S if rate else 0)
        await asyncio.gather(*tasks)
    print(json.dumps({"seconds": time.monotonic() - began, **done}), flush=True)


if __name__ == "__main__":
    target_, rate_, seconds_, at_once_ = sys.argv[1:]
    uvloop.run(main(target_, float(rate_), float(seconds_), int(at_once_)))
