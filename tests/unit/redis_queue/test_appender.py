"""What a publisher that has gone had left is not appended for it."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.telemetry import Metrics
from services.redis_queue import scripts
from services.redis_queue.appender import Appender, Submission
from services.redis_queue.entry_id import ORIGIN
from services.redis_queue.store import Item, Outcome
from services.redis_queue.validate import FAMILIES

SLOT = (next(iter(FAMILIES)), 3)


class SlowStore:
    """Takes what it is given when it is let."""

    def __init__(self) -> None:
        self.given: list[list[int]] = []
        self.go = asyncio.Semaphore(0)

    async def append(self, groups: dict[Any, list[Item]]) -> dict[Any, Any]:
        self.given.append([item.seq for items in groups.values() for item in items])
        await self.go.acquire()
        return {
            slot: (ORIGIN, [Outcome(scripts.DUPLICATE, item.seq, 1, b"") for item in items])
            for slot, items in groups.items()
        }


class NoFollower:
    def push(self, *_: Any) -> None:
        raise AssertionError("nothing was appended")


def submission(seq: int) -> Submission:
    envelope = EventEnvelope(stream_key="s", seq=seq, epoch=1)
    return Submission(SLOT, Item("s", seq, 1, envelope.SerializeToString(), False), envelope)


async def test_batches_of_a_call_that_ended_are_left_out_and_others_are_not() -> None:
    store = SlowStore()
    registry = CollectorRegistry()
    appender = Appender(store, NoFollower(), Metrics("test", registry))  # type: ignore[arg-type]
    running = asyncio.create_task(appender.run())
    try:
        under_way = appender.submit([submission(1)])
        async with asyncio.timeout(5):
            while not store.given:
                await asyncio.sleep(0)
        gone = [appender.submit([submission(2), submission(3)]), appender.submit([submission(4)])]
        stays = appender.submit([submission(5)])
        last = appender.submit([submission(6)])
        for done in gone:
            done.cancel()
        under_way.cancel()  # Redis has it already: it is carried out
        last.cancel()
        store.go.release()
        store.go.release()
        assert [result.last_seq for result in await asyncio.wait_for(stays, 5)] == [5]
        assert store.given == [[1], [5]]
        assert registry.get_sample_value("voicemesh_test_append_backlog_depth") == 0
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
