"""A slot's writes and the ids of its effects, over hand-overs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from voice.agent_state.v1.agent_pb2 import AgentInput
from voice.record.v1.agent_pb2 import AgentEffect
from voice.tlib.v1.request_pb2 import AgentNotReadyRequest, Request

from mesh.log import LogBatch
from mesh.slots import ReleaseReason
from mesh.store import StoreUnavailable
from mesh.telemetry import Metrics
from services.agent_state.app import AgentStateApp
from services.agent_state.apply import Applier
from services.agent_state.events import Address
from services.agent_state.reservation import Rules
from services.agent_state.store import Loaded
from tests.simulation.agents import Configured

SLOT, EPOCH = 3, 9


class Store:
    """Keeps effects and the cursor. While `held` is not set, writes wait, and are not answered when it is."""

    def __init__(self) -> None:
        self.pending: dict[str, bytes] = {}
        self.cursor = "0"
        self.held = asyncio.Event()
        self.held.set()
        self.begun = 0

    async def load(self, slot: int, epoch: int) -> Loaded:
        effects = [AgentEffect.FromString(raw) for _, raw in sorted(self.pending.items())]
        return Loaded({}, {}, effects, self.cursor)

    async def write(
        self,
        slot: int,
        epoch: int,
        *,
        pending: Mapping[str, bytes],
        performed: Sequence[str],
        cursor: str,
        **_: Any,
    ) -> None:
        self.begun += 1
        if not self.held.is_set():
            await self.held.wait()
            raise StoreUnavailable("no answer in time")
        self.pending.update(pending)
        for ident in performed:
            self.pending.pop(ident, None)
        self.cursor = cursor


class Log:
    """A log of batches that is its own reader."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[LogBatch] = asyncio.Queue()

    def reader(self) -> Log:
        return self

    def add(self, slot: int, cursor: str) -> None: ...

    def remove(self, slot: int) -> None: ...

    async def __aiter__(self) -> AsyncIterator[LogBatch]:
        while True:
            yield await self.batches.get()


class Performer:
    """Remembers what it was given; carries nothing out."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def perform(self, effects: Sequence[AgentEffect], *_: Any) -> None:
        self.given += [effect.id for effect in effects]

    def forget(self, stream_keys: Any) -> None: ...


class Node:
    """An app of which only the slots are real."""

    def __init__(self) -> None:
        self.store, self.log, self.performer = Store(), Log(), Performer()
        applier = Applier(Rules(), Configured(), Address("local", "agent_state-0.1"), lambda: "token")
        self.app = AgentStateApp(
            cast(Any, self.store), cast(Any, self.log), applier, cast(Any, self.performer), cast(Any, None),
            cast(Any, None), Metrics("agent_state"),
        )  # fmt: skip
        self._ids = itertools.count(1)

    def ask(self) -> None:
        """A request that is refused: one effect, its answer."""
        number = next(self._ids)
        entry = AgentInput(
            input_id=f"i{number}", tenant="t1", subject="agent:A1", time_us=1, reply_queue="outcomes:fe",
            request=Request(agent_not_ready=AgentNotReadyRequest(tenant="t1", agent_id="A1", dn="1001")),
        )  # fmt: skip
        self.log.batches.put_nowait(LogBatch(SLOT, [entry], f"{number}-0"))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.app.run())
        try:
            async with asyncio.timeout(10):
                yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_slot_that_comes_back_under_its_epoch_does_not_use_effect_ids_again() -> None:
    """Its heir died before the hand-over: a queue that knows the id of an earlier answer would drop the new one."""
    node = Node()
    async with node.running():
        for turn in (1, 2):
            await node.app.acquire(SLOT, EPOCH)
            node.ask()
            while len(set(node.performer.given)) < turn:
                await asyncio.sleep(0.01)
                assert len(node.performer.given) <= 2 * turn
            await node.app.release(SLOT, EPOCH, ReleaseReason.HANDED_OVER)
    first, again, second = node.performer.given
    assert first == again
    assert first < second
    assert sorted(node.store.pending) == [first, second]


async def test_a_hand_over_takes_along_what_the_write_before_it_left() -> None:
    """The cursor never passes a state that is not written (seeds 7478 and 17838 of the simulation, whose model wrote both)."""
    node = Node()
    async with node.running():
        await node.app.acquire(SLOT, EPOCH)
        node.store.held.clear()
        node.ask()
        while not node.store.begun:
            await asyncio.sleep(0.01)
        leaving = asyncio.create_task(node.app.release(SLOT, EPOCH, ReleaseReason.HANDED_OVER))
        await asyncio.sleep(0)
        assert node.store.begun == 1
        node.store.held.set()
        await leaving
    assert node.store.begun == 2
    assert (node.store.cursor, len(node.store.pending)) == ("1-0", 1)


async def test_what_a_hand_over_cannot_write_is_left_in_the_log() -> None:
    node = Node()
    async with node.running():
        await node.app.acquire(SLOT, EPOCH)
        node.store.held.clear()
        node.ask()
        await node.app.release(SLOT, EPOCH, ReleaseReason.HANDED_OVER)
    assert (node.store.cursor, node.store.pending) == ("0", {})
