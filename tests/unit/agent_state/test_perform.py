"""Effects that are repeated pass the gate; a slot that goes tells those who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, cast

import pytest
import redis
from voice.agent_state.v1.agent_pb2 import AgentInput, DeviceNotification
from voice.record.v1.agent_pb2 import AgentEffect

from mesh.slots import NotOwner
from mesh.telemetry import Metrics
from services.agent_state.agent import Agent, Desk
from services.agent_state.device import Device
from services.agent_state.machine import Session
from services.agent_state.perform import Performer
from services.agent_state.slot_state import SlotState


class Log:
    """Takes entries, after so many failures."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.taken: list[str] = []

    async def append(self, tenant: str, subject: str, entry: AgentInput) -> str:
        if self.failures:
            self.failures -= 1
            raise redis.ConnectionError("away")
        self.taken.append(entry.input_id)
        return "1-0"


class Publisher:
    def __init__(self) -> None:
        self.forgotten: set[str] = set()

    def forget(self, stream_keys: Collection[str]) -> None:
        self.forgotten |= set(stream_keys)


class Queues:
    def __init__(self) -> None:
        self.events = Publisher()

    def publisher(self, family: int) -> Publisher:
        return self.events


def performer(log: Log, queues: Queues | None = None) -> Performer:
    rq: Any = queues or Queues()
    return Performer(rq, cast(Any, log), cast(Any, None), "agent_state-0.1", Metrics("agent_state"))


FORWARD = AgentEffect(
    id="e1",
    forward=AgentInput(input_id="i1", tenant="t1", subject="dn:1001", device=DeviceNotification(dn="1001")),
)


async def carried_out(failures: int, allowed: list[bool]) -> tuple[Log, list[str], int]:
    """Performs an effect; gives what was taken, what is done, and how often the gate was asked."""
    log, done, asked = Log(failures), list[str](), 0

    async def may() -> bool:
        nonlocal asked
        asked += 1
        return allowed[min(asked, len(allowed)) - 1]

    work = performer(log)
    work.perform([FORWARD], 7, may, done.append)
    async with asyncio.timeout(5):
        while work._running:
            await asyncio.sleep(0.01)
    return log, done, asked


async def test_an_effect_behind_its_write_asks_nobody() -> None:
    log, done, asked = await carried_out(0, [False])
    assert (log.taken, done, asked) == (["i1"], ["e1"], 0)


async def test_a_repeated_effect_passes_the_gate_or_is_left_to_the_heir() -> None:
    log, done, asked = await carried_out(2, [True])
    assert (log.taken, done, asked) == (["i1"], ["e1"], 2)
    log, done, asked = await carried_out(2, [True, False])
    assert (log.taken, done, asked) == ([], [], 2)


async def test_streams_of_a_slot_that_goes_leave_the_publisher() -> None:
    queues = Queues()
    agents, desks = {"t1:A1": Agent(Session("t1", "A1"))}, {"t1:1001": Desk(Device("t1", "1001"))}
    state = SlotState(3, 9, agents, desks, "0")
    performer(Log(0), queues).forget(state.streams())
    assert queues.events.forgotten == {"t1:A1", "t1:dn:1001"}


async def test_who_waits_for_a_slot_that_goes_asks_the_heir() -> None:
    state = SlotState(3, 9, {}, {}, "0")
    waiting, answered = state.waiter(), state.waiter()
    answered.set_result("granted")
    state.gone()
    with pytest.raises(NotOwner):
        await waiting
    assert await answered == "granted"
    await asyncio.sleep(0)
    assert not state.calls
