"""python -m services.redis_queue"""

from __future__ import annotations

import asyncio
import time

from voice.redis_queue.v1.queue_service_pb2_grpc import add_QueueServiceServicer_to_server

from mesh.service import Service, main
from mesh.settings import load
from services.redis_queue.appender import Appender
from services.redis_queue.follower import Follower
from services.redis_queue.probe import Probe
from services.redis_queue.rpc import QueueRpc
from services.redis_queue.settings import RedisQueueSettings
from services.redis_queue.store import SLOTS, Store
from services.redis_queue.validate import FAMILIES


async def build(service: Service) -> None:
    """Settings, parts, wiring."""
    settings = load(RedisQueueSettings, "redis_queue")
    store = Store(service.redis, settings)
    follower = Follower(store, service.metrics)
    appender = Appender(store, follower, service.metrics)
    swept = service.metrics.counter("swept_total", "Events removed from slots because of their age")

    async def sweep() -> None:
        while True:
            await asyncio.sleep(settings.sweep_s)
            before_ms = time.time_ns() // 1_000_000 - settings.slot_age_s * 1000
            for family in FAMILIES:
                swept.inc(await store.sweep(family, range(SLOTS), before_ms))

    service.metrics.queue("store", lambda: store.depth, "Commands waiting for Redis")
    service.on_start(store.start)
    service.on_stop(store.stop)
    service.background("appender", appender.run)
    service.background("follower", follower.run)
    service.background("sweep", sweep)
    service.background("probe", Probe(store, service.settings.node, service.metrics).run)
    service.add(add_QueueServiceServicer_to_server, QueueRpc(store, appender, follower, service.metrics))


if __name__ == "__main__":
    main(build, name="redis_queue")
