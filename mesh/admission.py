"""Whether a call is this process's to serve: it was sent to this very node, and the node has not slept through it.

A sidecar that still has an old endpoint may bring a call here that names another incarnation; and what waited at
the door of a process that was stopped past its lease was sent to a node that others believe dead. Both are refused
with REASON_NOT_OWNER (UNAVAILABLE, safe to send again): the sender looks again who it should ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from voice.error.v1.reason_pb2 import Reason

from mesh.errors import DomainError
from mesh.lease import TTL_S, boottime_ns
from mesh.metadata import NODE_KEY
from mesh.pipeline import Call, Stage
from mesh.telemetry.logs import logger
from mesh.telemetry.metrics import Metrics

BEAT_S = 0.2
"""Between beats of the event loop, seconds."""
DOOR_S = 0.5
"""How long after it woke a process refuses calls, seconds: what is read in this time was sent while it slept."""

log = logger("admission")


class Sleep:
    """Notices when the process did not run for longer than its lease lasts. `clock`: CLOCK_BOOTTIME, ns."""

    def __init__(
        self, metrics: Metrics, *, lease_s: float = TTL_S, clock: Callable[[], int] = boottime_ns
    ) -> None:
        self._lease_ns = int(lease_s * 1e9)
        self._clock = clock
        self._beat_ns = 0  # until the first beat nothing is said
        self._until_ns = 0
        self._slept = metrics.counter(
            "sleeps_total", "Times this process did not run for longer than its lease lasts"
        )

    def beat(self) -> None:
        """The loop runs. To be called each `BEAT_S`."""
        now = self._clock()
        if self._beat_ns and now - self._beat_ns > self._lease_ns:
            self._until_ns = now + int(DOOR_S * 1e9)
            self._slept.inc()
            log.warning("slept past the lease", slept_s=round((now - self._beat_ns) / 1e9, 3))
        self._beat_ns = now

    @property
    def just_woken(self) -> bool:
        """Whether a call read now may have been sent while the process slept."""
        now = self._clock()
        return now < self._until_ns or 0 < self._beat_ns < now - self._lease_ns

    async def watch(self) -> None:
        """Beats for ever."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_S)


class Admission(Stage):
    """Refuses calls for another incarnation, and calls that were sent while the process slept."""

    def __init__(self, metrics: Metrics, incarnation: str, sleep: Sleep) -> None:
        self._incarnation = incarnation
        self._sleep = sleep
        refused = metrics.counter(
            "misdirected_calls_total", "Calls refused: for another node, or slept through", ["why"]
        )
        self._other, self._late = refused.labels("other_node"), refused.labels("slept")

    def around(self, call: Call) -> None:
        """Raises NOT_OWNER when the call is not to be served here."""
        wanted = call.metadata.get(NODE_KEY)
        if wanted is not None and wanted != self._incarnation:
            self._other.inc()
            raise DomainError(Reason.REASON_NOT_OWNER, f"this node is {self._incarnation}, not {wanted}")
        if self._sleep.just_woken:
            self._late.inc()
            raise DomainError(Reason.REASON_NOT_OWNER, f"node {self._incarnation} was away: send it again")
