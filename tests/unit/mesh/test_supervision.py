"""Background tasks: kept alive, cancelled at the end, free of the deadline they were started under."""

from __future__ import annotations

import asyncio

import pytest

from mesh import deadline
from mesh.supervision import Supervisor
from mesh.telemetry.metrics import Metrics


async def test_pauses_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            enough.set()
            await asyncio.Event().wait()

    async def fail() -> None:
        raise RuntimeError("always")

    monkeypatch.setattr("mesh.supervision.asyncio.sleep", pause)
    supervisor = Supervisor(Metrics("probe"))
    supervisor.start("reader", fail)
    await asyncio.wait_for(enough.wait(), 20)
    await supervisor.stop()
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_a_task_that_returns_has_finished() -> None:
    async def once() -> None:
        return None

    supervisor = Supervisor(Metrics("probe"))
    supervisor.start("once", once)
    assert supervisor.runs("once") and not supervisor.runs("other")
    async with asyncio.timeout(20):
        while supervisor.runs("once"):
            await asyncio.sleep(0)
    supervisor.start("once", once)
    await supervisor.stop()


async def test_two_running_tasks_do_not_share_a_name() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    supervisor = Supervisor(Metrics("probe"))
    supervisor.start("reader", forever)
    with pytest.raises(ValueError, match="'reader' is running"):
        supervisor.start("reader", forever)
    await supervisor.stop()


async def test_stop_cancels_and_waits() -> None:
    left: list[str] = []
    entered = asyncio.Event()

    async def forever() -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            left.append("closed")

    supervisor = Supervisor(Metrics("probe"))
    supervisor.start("reader", forever)
    await entered.wait()
    await supervisor.stop()
    assert left == ["closed"]


async def test_a_task_does_not_inherit_the_deadline_of_the_call_that_started_it() -> None:
    seen: list[float | None] = []
    done = asyncio.Event()

    async def note() -> None:
        seen.append(deadline.remaining())
        done.set()

    supervisor = Supervisor(Metrics("probe"))
    with deadline.expiring_in(1):
        supervisor.start("note", note)
    await asyncio.wait_for(done.wait(), 20)
    await supervisor.stop()
    assert seen == [None]
