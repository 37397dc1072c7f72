"""Routed calls over a whole platform, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from demo.phone import Phone
from tests.e2e.platform import Desk, Platform, after_call_work

AGENTS = ("1003", "1004", "1005")
WAIT_S = 30.0


class Traffic:
    """Routed calls, one after the other, for as long as it lives."""

    def __init__(self, platform: Platform, caller: Phone) -> None:
        self._platform = platform
        self._caller = caller
        self.good = 0
        self.failed = 0
        self.ended: list[tuple[float, bool]] = []
        """(monotonic time, whether it was completed) of each call."""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            leg = self._caller.call("8000")
            try:
                await leg.until(leg.established, 8)
                await self._caller.hang_up(leg)
                self.good += 1
                self.ended.append((time.monotonic(), True))
            except (TimeoutError, AssertionError):
                self.failed += 1
                self.ended.append((time.monotonic(), False))
            await asyncio.sleep(0.1)

    async def more(self, calls: int, seconds: float = WAIT_S) -> None:
        """Returns when so many more calls have been completed."""
        wanted = self.good + calls
        async with asyncio.timeout(seconds):
            while self.good < wanted:
                await asyncio.sleep(0.05)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@contextlib.asynccontextmanager
async def traffic_on(platform: Platform) -> AsyncIterator[Traffic]:
    phones = [platform.phone(number, host=40 + n) for n, number in enumerate(AGENTS)]
    caller = platform.caller(host=40)
    async with platform.edge() as channel:
        await after_call_work(platform, channel, "t1", AGENTS, 0)
        for phone in phones:
            await platform.register(phone)
            desk = Desk(platform, channel, "t1", phone.name)
            await desk.login()
            await desk.ready()
        traffic = Traffic(platform, caller)
        try:
            yield traffic
        finally:
            await traffic.end()
            for phone in (*phones, caller):
                phone.close()
