"""Loops that the mesh itself lives by: a defect is logged and the loop goes on, it never ends in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

PAUSE_S = 0.1
"""Before a loop that failed begins again, seconds."""

log = structlog.get_logger("mesh")


def steady(name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """A task that awaits `run()` until it returns, again after each exception. Cancel it to end it."""
    return asyncio.create_task(_keep(name, run), name=name)


async def _keep(name: str, run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await run()
        except Exception:
            log.exception("a loop of the mesh failed", loop=name)
        await asyncio.sleep(PAUSE_S)
