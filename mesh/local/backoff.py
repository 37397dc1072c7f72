"""How long to wait before a process that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 0.2
"""Seconds after the first end: a killed process is wanted back soon."""
LONGEST = 5.0
"""Seconds at most."""
HEALTHY = 10.0
"""A process that ran so many seconds starts the series again."""


@dataclass
class Backoff:
    """Doubles from FIRST to LONGEST while a process keeps ending early."""

    delay: float = FIRST

    def after_end(self, ran_for: float) -> float:
        """Seconds to wait, given how long the process ran."""
        if ran_for >= HEALTHY:
            self.delay = FIRST
        now, self.delay = self.delay, min(self.delay * 2, LONGEST)
        return now
