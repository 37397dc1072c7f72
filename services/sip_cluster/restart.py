"""When an engine that ended is started again, and when one that is silent is ended. Pure: times are seconds given."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_S = 0.2
"""Pause before the first restart: calls are waiting."""
LONGEST_S = 5.0
STEADY_S = 10.0
"""An engine that ran so long begins the series of pauses again."""
SILENT_S = 30.0
"""An engine whose /healthz has not answered for so long is ended: three times what a pause of its machine may last."""


@dataclass
class Restart:
    """The pauses of one engine: doubling from FIRST_S to LONGEST_S while it keeps ending early."""

    pause: float = FIRST_S

    def after(self, ran_s: float) -> float:
        """Seconds to wait before the next start, for an engine that ran so long."""
        if ran_s >= STEADY_S:
            self.pause = FIRST_S
        now, self.pause = self.pause, min(self.pause * 2, LONGEST_S)
        return now


@dataclass
class Watchfulness:
    """Whether an engine is alive, from the answers of its /healthz."""

    heard: float
    """When it last answered, or was started."""
    ready: bool = False

    def answered(self, now: float, ready: bool) -> None:
        """It answered: 200 (ready) or another status."""
        self.heard, self.ready = now, ready

    def silent(self, now: float) -> bool:
        """It did not answer; True when it is to be ended."""
        self.ready = False
        return now - self.heard >= SILENT_S
