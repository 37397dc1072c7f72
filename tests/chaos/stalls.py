"""Whether the machine itself stood still: a thread that sleeps and looks how long it slept."""

from __future__ import annotations

import threading
import time
from typing import Self

TICK_S = 0.05
STALL_S = 0.5
"""Lateness from which on it is noted, seconds: a quarter of a lease."""


class Stalls:
    """Watches within a `with` block."""

    def __init__(self) -> None:
        self.found: list[tuple[float, float]] = []
        """(UTC seconds when it began, seconds)."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(TICK_S):
            now = time.monotonic()
            if now - before > STALL_S:
                self.found.append((time.time() - (now - before), now - before))
            before = now
