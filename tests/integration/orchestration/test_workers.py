"""Worker processes: a step that hangs in a native call holds up nobody but itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
import structlog

from mesh.telemetry.metrics import Metrics
from services.orchestration.scxml import Compiled, Event, Json, Query, compile_document
from services.orchestration.workers import TRIAL_STEPS, State, StepFailed, Workers
from tests.integration.orchestration import documents
from tests.integration.orchestration.region import eventually, region_of
from tests.integration.servers import EtcdServer, RedisServer

COUNTER = compile_document(
    f'{documents.HEAD}<datamodel><data id="n" expr="0"/></datamodel><state id="begin">'
    '<transition event="go"><assign location="n" expr="n + 1"/></transition>'
    '<transition event="ask"><assign location="n" expr="_genesys.session.timeInZone(\'UTC\')"/></transition></state></scxml>'
)
HANGS = compile_document(
    f'{documents.HEAD}<state id="begin"><transition event="go"><script>'
    "Array.prototype.indexOf.call({length: 9007199254740991}, 1);</script></transition></state></scxml>"
)
NEIGHBOURS = 5


class Sessions:
    """Sessions on workers, as the shard has them: the snapshot after each step is the state."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.states: dict[str, State] = {}
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()

    async def query(self, _query: Query) -> tuple[Json, str]:
        self.asked.set()
        await self.answer.wait()
        return 12, ""

    async def begin(self, name: str, compiled: Compiled) -> None:
        result, snapshot = await self.workers.begin(name, compiled, {}, None, {}, self.query)
        assert result.failure is None
        self.states[name] = State(name, compiled, snapshot, {})

    async def step(self, name: str, event: str = "go") -> float:
        """One step; gives how long it took, seconds."""
        begun, state = time.monotonic(), self.states[name]
        result, snapshot = await self.workers.step(state, Event(event), self.query)
        if result.failure is not None:
            raise StepFailed(result.failure.reason)
        self.states[name] = State(name, state.compiled, snapshot, {})
        return time.monotonic() - begun

    def count(self, name: str) -> str:
        """What the session has counted."""
        return self.states[name].snapshot.decode().partition('"n":')[2].partition("}")[0].partition(",")[0]


@pytest.fixture
async def sessions() -> AsyncIterator[Sessions]:
    workers = Workers(1, Metrics("orchestration"), structlog.get_logger("test"))
    await workers.start()
    yield Sessions(workers)
    await workers.stop()


@pytest.mark.feature("OR-28")
@pytest.mark.parametrize("known", [False, True])
async def test_neighbours_of_a_step_that_hangs_go_on(sessions: Sessions, known: bool) -> None:
    names = [f"n{n}" for n in range(NEIGHBOURS)]
    for name in names:
        await sessions.begin(name, COUNTER)
    await sessions.begin("hangs", HANGS)
    for _ in range(TRIAL_STEPS if known else 0):
        await sessions.step("hangs", "nothing")
    quiet = sorted([await sessions.step(names[n % NEIGHBOURS]) for n in range(600)])
    lane = sessions.workers.processes()[0].pid
    hanging = asyncio.create_task(sessions.step("hangs"))
    beside = sorted([await sessions.step(names[n % NEIGHBOURS]) for n in range(600)])
    with pytest.raises(StepFailed):
        await hanging
    assert [sessions.count(name) for name in names] == ["240"] * NEIGHBOURS, "a step was lost"
    p99 = quiet[int(len(quiet) * 0.99)], beside[int(len(beside) * 0.99)]
    print(
        f"p99 {p99[0] * 1000:.2f} -> {p99[1] * 1000:.2f} ms, longest {quiet[-1] * 1000:.1f} -> {beside[-1] * 1000:.1f} ms"
    )
    replaced = sessions.workers.processes()[0].pid != lane
    assert replaced is known, "only a document that is known here runs among the others"
    # The step that hangs runs for 2 s of CPU; on a busy machine that is many seconds.
    assert beside[-1] < 4.0, "a neighbour waited for the step that hangs"


async def test_what_a_document_does_not_listen_for_costs_no_step(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    listens = documents.waits('<state id="waiting"><transition event="voice.held" target="queued"/></state>')
    async with region_of(etcd_server, redis_server, redis_client, region, {"8000": listens}) as r:
        caller = r.call()

        async def waits() -> bool:
            record = await r.record(caller)
            return record is not None and list(record.session.configuration) == ["waiting"]

        await eventually(waits)
        before, node = (await r.session(caller)).steps, r.owner(caller.slot)
        steps = await r.metric(node, "voicemesh_orchestration_step_seconds_count")
        for name in ("RINGING", "PARTY_CHANGED", "RETRIEVED"):
            caller.tell(name)

        async def told() -> bool:
            return (await r.session(caller)).steps == before + 3

        await eventually(told)
        assert await waits()
        assert await r.metric(node, "voicemesh_orchestration_step_seconds_count") == steps
        r.tenant.open.set()
        caller.tell("HELD")
        await r.routed([caller], "1001")
        assert await r.metric(node, "voicemesh_orchestration_step_seconds_count") > steps


@pytest.mark.feature("OR-28")
async def test_the_next_session_of_such_a_document_holds_up_nobody_at_all(sessions: Sessions) -> None:
    await sessions.begin("n", COUNTER)
    await sessions.begin("first", HANGS)
    with pytest.raises(StepFailed):
        await sessions.step("first")
    await sessions.begin("second", HANGS)
    await sessions.begin("third", HANGS)
    hanging = [asyncio.create_task(sessions.step(name)) for name in ("second", "third")]
    for _ in range(100):
        await sessions.step("n")
    assert sessions.count("n") == "100"
    for task in hanging:
        with pytest.raises(StepFailed):
            await task


async def test_a_worker_that_dies_is_replaced_and_its_sessions_go_on(sessions: Sessions) -> None:
    await sessions.begin("n", COUNTER)
    for number in range(3):
        assert await sessions.step("n") >= 0
        for pid in [process.pid for process in sessions.workers.processes() if process.pid]:
            with contextlib.suppress(ProcessLookupError):  # killed before, and not looked at since
                os.kill(pid, signal.SIGKILL)
        await sessions.step("n")
        assert sessions.count("n") == str(2 * number + 2)


async def test_while_the_host_looks_for_an_answer_others_go_on(sessions: Sessions) -> None:
    await sessions.begin("asks", COUNTER)
    await sessions.begin("n", COUNTER)
    sessions.answer.clear()
    asking = asyncio.create_task(sessions.step("asks", "ask"))
    await asyncio.wait_for(sessions.asked.wait(), 10)
    for _ in range(10):
        await sessions.step("n")
    assert not asking.done()
    sessions.answer.set()
    await asking
    assert (sessions.count("asks"), sessions.count("n")) == ("12", "10")


async def test_a_state_that_the_worker_does_not_have_is_restored(sessions: Sessions) -> None:
    await sessions.begin("n", COUNTER)
    first = sessions.states["n"]
    for _ in range(3):
        await sessions.step("n")
    sessions.states["n"] = first  # as an heir, or a write that never came
    await sessions.step("n")
    assert sessions.count("n") == "1"
