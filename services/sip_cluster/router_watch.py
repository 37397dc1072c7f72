"""Whether anybody is there to route calls: without an orchestration node they go to default DNs (SC-32)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mesh.discovery import Directory


class RouterWatch:
    """Calls `lost()` once each time that no orchestration node has been there for `grace_s` seconds, and while that
    lasts once a second, for calls that come in meanwhile."""

    def __init__(self, directory: Directory, grace_s: float, lost: Callable[[], None]) -> None:
        self._directory = directory
        self._grace_s = grace_s
        self._lost = lost
        self._timer: asyncio.TimerHandle | None = None
        self._seen = False
        """A router was there once: an installation without orchestration routes by its time-outs alone."""

    def start(self) -> None:
        """After the directory's start."""
        self._directory.on_change(self._changed)
        self._changed()

    def _changed(self) -> None:
        if self._directory.nodes():
            self._seen = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._seen and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._grace_s, self._expired)

    def _expired(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(1.0, self._expired)
        self._lost()
