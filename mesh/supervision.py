"""Background tasks that are looked after: a failure is logged, counted and tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mesh import deadline
from mesh.telemetry.logs import logger
from mesh.telemetry.metrics import Metrics

FIRST_PAUSE_S = 0.1
"""Pause after the first failure, seconds; doubled at each further one."""
LONGEST_PAUSE_S = 5.0
"""Longest pause between attempts, seconds."""
HEALTHY_AFTER_S = 30.0
"""A task that ran this long begins again with the first pause when it fails."""

CANCEL_AGAIN_S = 0.2
"""A task that has not ended by then is cancelled again, seconds."""

log = logger("supervision")


class Supervisor:
    """Runs background tasks until `stop`."""

    def __init__(self, metrics: Metrics) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failures = metrics.counter(
            "task_failures_total", "Failures of background tasks, each followed by a restart", ["task"]
        )

    def runs(self, name: str) -> bool:
        """Whether the task of that name has not finished."""
        task = self._tasks.get(name)
        return task is not None and not task.done()

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Starts a task. ValueError when one of that name is running."""
        if self.runs(name):
            raise ValueError(f"background task {name!r} is running already")
        with deadline.unbounded():
            self._tasks[name] = asyncio.create_task(self._keep(name, run), name=name)

    async def end(self, *names: str) -> None:
        """Cancels these tasks and waits for them; names of none that runs are ignored."""
        tasks = [task for name in names if (task := self._tasks.pop(name, None)) is not None]
        await _ended(tasks)

    async def stop(self) -> None:
        """Cancels all tasks and waits for them."""
        await _ended(list(self._tasks.values()))
        self._tasks.clear()

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE_S
        while True:
            started = clock()
            try:
                await run()
                return
            except Exception as error:
                self._failures.labels(name).inc()
                log.error("background task failed", task=name, pause_s=pause, exc_info=error)
            if clock() - started >= HEALTHY_AFTER_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels until all have ended: redis-py takes a cancellation while it connects for a timeout of its own."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
