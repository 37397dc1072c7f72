"""Lag of the event loop: how late a timer fires says how long callbacks have been waiting."""

from __future__ import annotations

import asyncio

from mesh.telemetry.logs import logger
from mesh.telemetry.metrics import Metrics

EVERY_S = 0.1
"""Time between two measurements, seconds."""
WARN_S = 0.5
"""Lag that is worth a line in the log, seconds: half of what costs a node its lease."""

log = logger("loop")


class LoopLag:
    """Measures the lag and keeps it in a histogram."""

    def __init__(self, metrics: Metrics) -> None:
        buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
        self._lag = metrics.histogram(
            "loop_lag_seconds", "How late a timer of the loop fired", buckets=buckets
        )

    async def watch(self) -> None:
        """Measures for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + EVERY_S
            await asyncio.sleep(EVERY_S)
            lag = max(0.0, clock() - due)
            self._lag.observe(lag)
            if lag >= WARN_S:
                log.warning("event loop was late", lag_s=round(lag, 3))
