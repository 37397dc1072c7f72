"""The lag of the event loop is seen when something holds it."""

from __future__ import annotations

import asyncio
import time

import pytest

from mesh import lag
from mesh.lag import LoopLag
from mesh.telemetry.metrics import Metrics


async def test_a_loop_that_is_held_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "EVERY_S", 0.01)
    metrics = Metrics("probe")
    watching = asyncio.create_task(LoopLag(metrics).watch())
    await asyncio.sleep(0)
    time.sleep(0.15)  # noqa: ASYNC251 - holding the loop is what is measured

    def total() -> float:
        return metrics.registry.get_sample_value("voicemesh_probe_loop_lag_seconds_sum") or 0.0

    async with asyncio.timeout(20):
        while True:
            if total() > 0.1:
                break
            await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    late = metrics.registry.get_sample_value("voicemesh_probe_loop_lag_seconds_bucket", {"le": "0.1"})
    count = metrics.registry.get_sample_value("voicemesh_probe_loop_lag_seconds_count")
    assert late is not None
    assert count is not None
    assert count > late
