"""Agents outlive the nodes that keep them: kill -9, scaling, pauses."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis.asyncio
import yaml
from voice.agent_state.v1.agent_pb2 import AgentPhase
from voice.config.v1.config_service_pb2 import GetObjectRequest, UpdateObjectRequest
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.config.v1.object_pb2 import ObjectType, OptionSection
from voice.tlib.v1.enums_pb2 import AgentWorkMode
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.identifiers import agent_slot
from tests.integration.agent_state.region import Region, region_of
from tests.integration.call_state.story import Story
from tests.integration.redis_queue.processes import eventually
from tests.integration.servers import EtcdServer, RedisServer

AGENTS = 1000
STEPS = 6
AT_ONCE = 150
AUX = AgentWorkMode.AGENT_WORK_MODE_AUX_WORK
A, DN = "agent:A1001", "1001"
SLOT = agent_slot("t1", A)


@pytest.fixture
async def at(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> AsyncIterator[Region]:
    async with region_of(etcd_server, redis_server, redis_client, region, nodes=2) as made:
        yield made


@dataclass
class Worker:
    """One agent, what it has asked for, and so what it must be in the end."""

    number: int
    told: list[str] = field(default_factory=list)
    phase: int = AgentPhase.AGENT_PHASE_NULL

    @property
    def dn(self) -> str:
        return str(self.number)

    @property
    def agent(self) -> str:
        return f"A{self.number}"

    async def log_in(self, at: Region) -> None:
        outcome = await at.login(self.agent, self.dn)
        assert not outcome.reason, outcome.message
        self.told += ["AGENT_LOGIN", "AGENT_NOT_READY"]
        self.phase = AgentPhase.AGENT_PHASE_NOT_READY

    async def work(self, at: Region, chance: random.Random, room: asyncio.Semaphore) -> None:
        for _ in range(STEPS):
            ready = chance.random() < 0.5
            async with room:
                await self._step(at, ready)

    async def _step(self, at: Region, ready: bool) -> None:
        fields = {"agent_id": self.agent, "dn": self.dn}
        if ready:
            outcome = await at.ask(f"agent:{self.agent}", "agent_ready", **fields)
        else:
            outcome = await at.ask(f"agent:{self.agent}", "agent_not_ready", work_mode=AUX, **fields)
        assert not outcome.reason, outcome.message
        self.told.append("AGENT_READY" if ready else f"AGENT_NOT_READY({AUX})")
        self.phase = AgentPhase.AGENT_PHASE_READY if ready else AgentPhase.AGENT_PHASE_NOT_READY


def thousand(folder: Path) -> str:
    """A tenant with a thousand agents; gives its folder."""
    last = 10_000 + AGENTS - 1
    tenant = {
        "tenant": {"tenant_id": "t1", "name": "Large", "domains": ["t1.example"]},
        "switches": [{"name": "sip", "tserver_dbid": 101}],
        "dns": [{"number": f"[10000-{last}]", "type": "extension", "switch": "sip", "enabled": True}],
        "agent_logins": [{"code": f"A[10000-{last}]", "switch": "sip", "wrapup_s": 0}],
        "persons": [
            {
                "user_name": f"agent[10000-{last}]",
                "employee_id": "E${nn}",
                "first_name": "Agent",
                "last_name": "${nn}",
                "is_agent": True,
                "agent_logins": ["A${nn}"],
            }
        ],
    }
    (folder / "t1.yaml").write_text(yaml.safe_dump(tenant))
    return str(folder)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.feature("AS-02", "AS-16")
async def test_a_thousand_agents_are_what_they_asked_to_be_after_kills_and_scaling(
    etcd_server: EtcdServer,
    redis_server: RedisServer,
    redis_client: redis.asyncio.Redis,
    region: str,
    tmp_path: Path,
) -> None:
    """2 -> 5 -> 2 nodes and two kills while every agent changes its state; each agent is its own oracle."""
    patience = {"AGENT_STATE_CONFIG_TIMEOUT_MS": "10000"}  # logins are not the point here
    async with region_of(
        etcd_server, redis_server, redis_client, region, nodes=2, seed=thousand(tmp_path), **patience
    ) as at:
        workers = [Worker(10_000 + n) for n in range(AGENTS)]
        door, room, chance = asyncio.Semaphore(30), asyncio.Semaphore(AT_ONCE), random.Random(17)

        async def log_in(worker: Worker) -> None:
            async with door:
                await worker.log_in(at)

        await asyncio.gather(*(log_in(worker) for worker in workers))
        work = asyncio.gather(*(worker.work(at, chance, room) for worker in workers))
        await _progress(workers, 0.1)
        await at.nodes.kill("agent_state-0")
        await asyncio.gather(*(at.nodes.start("agent_state", n, **patience) for n in (2, 3, 4, 5)))
        await _progress(workers, 0.4)
        await at.nodes.kill("agent_state-3")
        for name in ("agent_state-4", "agent_state-5", "agent_state-1"):
            assert await asyncio.to_thread(at.nodes.nodes.pop(name).terminate) == 0
        await work
        for worker in workers:
            await at.until(f"t1:{worker.agent}", *worker.told)
            agent = await at.agent(worker.agent)
            assert (agent.phase, agent.last_seq) == (worker.phase, len(worker.told)), worker
        keys = [(envelope.stream_key, envelope.seq) for envelope in at.events]
        assert len(set(keys)) == len(keys)


async def _progress(workers: list[Worker], part: float) -> None:
    """Waits until a part of all steps is done."""

    async def done() -> bool:
        return sum(len(worker.told) - 2 for worker in workers) >= part * STEPS * len(workers)

    await eventually(done, 120)


async def after_call_work(at: Region, seconds: int, number: int = 1) -> None:
    """Lets the agent have a call whose after-call work takes so long; returns when it has begun."""
    story = Story(number).routed("A1001", DN)
    story.envelopes[-1].event.extensions.CopyFrom(KvList(pairs=[KvPair(key="WrapUpTime", int_value=seconds)]))
    story.hung_up("A1001", DN)
    for envelope in story.envelopes:
        if envelope.event.agent_id and envelope.event.event_type in (60, 64, 65):
            await at.append(A, input_id=envelope.event_id, call_event=envelope)
    await eventually(lambda: _told(at, "AGENT_NOT_READY(3)"))


async def _told(at: Region, name: str, times: int = 1) -> bool:
    return at.told("t1:A1001").count(name) >= times


def _work_s(at: Region) -> float:
    """How long the after-call work took, by the times of its events."""
    events = dict(zip(at.told("t1:A1001"), at.stream("t1:A1001"), strict=True))  # the last of each name
    return (events["AGENT_READY"].time_us - events["AGENT_NOT_READY(3)"].time_us) / 1e6


DAY = [
    "AGENT_LOGIN",
    "AGENT_NOT_READY",
    "AGENT_READY",
    "RINGING",
    "ESTABLISHED",
    "AGENT_NOT_READY(3)",
    "RELEASED",
]


@pytest.mark.feature("AS-17")
async def test_after_call_work_of_a_paused_owner_ends_by_the_wall_clock(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with region_of(etcd_server, redis_server, redis_client, region) as at:
        await at.ready_agent("A1001", DN)
        await after_call_work(at, 8)
        node = at.nodes.nodes["agent_state-0"]
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(5)  # the pause itself
        node.signal(signal.SIGCONT)
        await eventually(lambda: _told(at, "AGENT_READY", 2), 20)
        assert 8.0 <= _work_s(at) < 11.0  # by ticks it would be 13
        await at.until("t1:A1001", *DAY, "AGENT_READY")


@pytest.mark.feature("AS-17", "AS-16")
async def test_after_call_work_ends_at_the_heir_while_the_owner_sleeps(at: Region) -> None:
    await at.ready_agent("A1001", DN)
    await after_call_work(at, 4)
    owner = at.owners._directory.owner(SLOT)
    assert owner is not None
    node = at.nodes.nodes[owner.node]
    node.signal(signal.SIGSTOP)
    await eventually(lambda: _told(at, "AGENT_READY", 2), 20)
    assert 4.0 <= _work_s(at) < 9.0  # lease, hand-over, and a busy machine
    node.signal(signal.SIGCONT)  # finds its deadline passed, and must not end the work once more
    await at.ask(A, "agent_not_ready", agent_id="A1001", dn=DN, work_mode=AUX)
    await at.until("t1:A1001", *DAY, "AGENT_READY", f"AGENT_NOT_READY({AUX})")
    await asyncio.to_thread(node.wait_serving)
    await at.ask(A, "agent_ready", agent_id="A1001", dn=DN)
    await at.until("t1:A1001", *DAY, "AGENT_READY", f"AGENT_NOT_READY({AUX})", "AGENT_READY")


async def no_answer_action(at: Region, action: str) -> None:
    """Sets the option of the agent's login."""
    config = ConfigServiceStub(at.nodes.channel())
    get = GetObjectRequest(tenant="t1", type=ObjectType.OBJECT_TYPE_AGENT_LOGIN, number="A1001")
    found = (await config.GetObject(get, timeout=10)).object
    del found.options[:]
    section = OptionSection(name="TServer")
    section.options.add(name="no-answer-action", value=action)
    found.options.append(section)
    await config.UpdateObject(UpdateObjectRequest(tenant="t1", object=found), timeout=10)


@pytest.mark.feature("AS-14")
@pytest.mark.parametrize(("action", "told"), [("notready", "AGENT_NOT_READY"), ("logout", "AGENT_LOGOUT")])
async def test_an_agent_who_does_not_answer_is_made_not_ready_or_logged_out(
    at: Region, action: str, told: str
) -> None:
    await no_answer_action(at, action)
    await at.ready_agent("A1001", DN)
    number = 10

    async def acted() -> bool:  # the option reaches the node by its watch
        nonlocal number
        number += 1
        story = Story(number)
        story.tell("RINGING", DN, agent_id="A1001", this_queue="8000")
        story.tell("RELEASED", DN, agent_id="A1001", this_queue="8000", call_state=7)
        for envelope in story.envelopes:
            await at.append(A, input_id=envelope.event_id, call_event=envelope)
        await eventually(lambda: _told(at, "RELEASED", number - 10))
        agent = await at.agent("A1001")
        return agent.phase in (AgentPhase.AGENT_PHASE_NOT_READY, AgentPhase.AGENT_PHASE_NULL)

    assert await eventually(acted)
    calls = ["RINGING", "RELEASED"] * (number - 10)
    await at.until("t1:A1001", "AGENT_LOGIN", "AGENT_NOT_READY", "AGENT_READY", *calls, told)
    agent = await at.agent("A1001")
    expected = AgentPhase.AGENT_PHASE_NOT_READY if action == "notready" else AgentPhase.AGENT_PHASE_NULL
    assert (agent.phase, list(agent.calls)) == (expected, [])
    assert at.stream("t1:A1001")[-1].cause == "timer:no-answer"
