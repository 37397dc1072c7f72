"""Agent State with what it stands on: Redis Queue, Config with the demo tenants, real Redis and etcd."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
from voice.agent_state.v1 import agent_state_service_pb2 as pb
from voice.agent_state.v1.agent_pb2 import Agent, AgentInput, RequestOutcome
from voice.agent_state.v1.agent_state_service_pb2_grpc import AgentStateServiceStub
from voice.config.v1.config_service_pb2_grpc import DeviceServiceStub
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.tlib.v1.request_pb2 import Request

from mesh.discovery import Directory, OwnerClient
from mesh.etcd import Etcd
from mesh.identifiers import agent_slot
from mesh.log import RedisRequestLog
from mesh.rq import AGENT, QueueReader, Rq, SlotReader
from tests.integration.nodes import DEMO
from tests.integration.redis_queue.processes import Processes, eventually, processes
from tests.integration.servers import EtcdServer, RedisServer

QUEUE = "outcomes:front_end-0.00000001"
ANSWER_S = 30.0
"""Longest wait for the outcome of a request, seconds: owners may die over it."""


def short(envelope: EventEnvelope) -> str:
    """The event's name as the domain facts write it, with its work mode where it has one."""
    name = MessageType.Name(envelope.event.event_type).removeprefix("MESSAGE_TYPE_EVENT_")
    mode = envelope.event.agent_work_mode
    return f"{name}({mode})" if mode else name


class Region:
    """What a front end and a registrar would do, and what a reporting client sees."""

    def __init__(self, nodes: Processes, rq: Rq, client: redis.asyncio.Redis, directory: Directory) -> None:
        self.nodes = nodes
        self.rq = rq
        self.log = RedisRequestLog(client)
        self.stub = AgentStateServiceStub(nodes.channel())
        self.config = DeviceServiceStub(nodes.channel())
        self.owners = OwnerClient(directory)
        self.events: list[EventEnvelope] = []
        self._ids = itertools.count(1)
        self._asked: dict[str, asyncio.Future[RequestOutcome]] = {}
        self._reader: SlotReader = rq.read_slots(AGENT)
        self._queue: QueueReader = rq.read_queue(QUEUE)
        for slot in range(256):
            self._reader.add(slot, "0")
        self._tasks = [asyncio.create_task(self._read_events()), asyncio.create_task(self._read_outcomes())]

    async def _read_events(self) -> None:
        async for batch in self._reader:
            self.events += batch.events

    async def _read_outcomes(self) -> None:
        async for entries in self._queue:
            for entry in entries:
                outcome = RequestOutcome.FromString(entry.payload)
                self.rq.acknowledge(QUEUE, entry.id)
                asked = self._asked.get(outcome.request_id)
                if asked is not None and not asked.done():
                    asked.set_result(outcome)

    async def append(self, subject: str, *, input_id: str = "", tenant: str = "t1", **body: Any) -> str:
        """Puts an entry into the log; gives its id."""
        entry = AgentInput(
            input_id=input_id or f"input-{next(self._ids)}",
            time_us=time.time_ns() // 1000,
            reply_queue=QUEUE if "request" in body else "",
            **body,
        )
        await self.log.append(tenant, subject, entry)
        return entry.input_id

    async def ask(self, subject: str, name: str, *, client: str = "desk", **fields: Any) -> RequestOutcome:
        """Sends a request and waits for its outcome."""
        request_id = fields.pop("request_id", "") or f"request-{next(self._ids)}"
        asked = self._asked[request_id] = asyncio.get_running_loop().create_future()
        request = Request(client=client)
        body = getattr(request, name)
        body.SetInParent()
        body.tenant, body.request_id = "t1", request_id
        for field, value in fields.items():
            if field == "reasons":
                body.reasons.CopyFrom(value)
            else:
                setattr(body, field, value)
        await self.append(subject, input_id=f"t1/{request_id}", request=request)
        return await asyncio.wait_for(asked, ANSWER_S)

    async def login(self, agent: str, dn: str, **fields: Any) -> RequestOutcome:
        """AgentLogin; of the demo agents only A1020 has a password."""
        return await self.ask(f"agent:{agent}", "agent_login", agent_id=agent, dn=dn, **fields)

    async def ready_agent(self, agent: str, dn: str) -> None:
        """Logs an agent in and makes it ready."""
        for outcome in (
            await self.login(agent, dn),
            await self.ask(f"agent:{agent}", "agent_ready", agent_id=agent, dn=dn),
        ):
            assert not outcome.reason, outcome.message

    async def agent(self, agent: str) -> Agent:
        """The agent as the owner of its slot tells it."""
        request = pb.GetAgentRequest(tenant="t1", agent_id=agent)
        slot = agent_slot("t1", f"agent:{agent}")
        answer = await self.owners.call(self.stub.GetAgent, request, slot, 10.0)
        found: Agent = answer.agent
        return found

    def told(self, key: str) -> list[str]:
        """Names of the events of a stream so far."""
        return [short(e) for e in self.stream(key)]

    def stream(self, key: str) -> list[EventEnvelope]:
        """Events of a stream so far."""
        return [e for e in self.events if e.stream_key == key]

    async def until(self, key: str, *names: str) -> None:
        """Waits until a stream has exactly these events."""

        async def there() -> bool:
            return len(self.told(key)) >= len(names)

        await eventually(there)
        assert self.told(key) == list(names)
        assert [e.seq for e in self.stream(key)] == list(range(1, len(names) + 1))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reader.close()
        await self._queue.close()
        await self.log.stop()


@contextlib.asynccontextmanager
async def region_of(
    etcd: EtcdServer,
    redis_server: RedisServer,
    client: redis.asyncio.Redis,
    region: str,
    *,
    nodes: int = 1,
    seed: str = DEMO,
    **variables: str,
) -> AsyncIterator[Region]:
    """A region with `nodes` nodes of Agent State; `variables` are their further settings, `seed` the folder of tenants."""
    async with processes(etcd, redis_server, region) as made:
        await asyncio.gather(
            made.start("redis_queue"),
            made.start("config", CONFIG_SEED=seed, CONFIG_SCRYPT_LOG_N="10"),
            *(made.start("agent_state", n, **variables) for n in range(nodes)),
        )
        own = Etcd(etcd.endpoint)
        directory = Directory(own, region, "agent_state")
        await directory.start()
        async with made.rq() as rq:
            view = Region(made, rq, client, directory)
            try:
                for slot in range(256):
                    await directory.wait_owner(slot, 20)
                yield view
            finally:
                await view.close()
        await directory.stop()
        await own.close()
