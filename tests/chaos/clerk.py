"""A client at the edge through it all: subscribed to every event, toggling agents, attaching data to live calls.

Each request keeps its id and is sent again until it is answered or the client's patience has ended; each event heard is
kept in the order heard. A subscription that breaks is opened again at its cursor, as the contract says.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from voice.error.v1.reason_pb2 import Reason
from voice.tlib.v1.agent_control_service_pb2_grpc import AgentControlServiceStub
from voice.tlib.v1.call_control_service_pb2_grpc import CallControlServiceStub
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_service_pb2 import SubscribeRequest
from voice.tlib.v1.event_service_pb2_grpc import EventServiceStub
from voice.tlib.v1.request_pb2 import (
    AgentLoginRequest,
    AgentNotReadyRequest,
    AgentReadyRequest,
    AttachUserDataRequest,
)
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.errors import details
from tests.chaos.facts import ClientRequest, SeenEvent
from tests.e2e.platform import Platform, name_of

PATIENCE_S = 20.0
"""How long a client repeats a request before it gives up, seconds."""
ATTEMPT_S = 5.0
"""Deadline of one attempt, seconds."""
AGAIN_S = 0.2
"""Pause before a repeat, seconds."""
UNANSWERED = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
"""Codes that say nothing about what became of the request."""


class Clerk:
    """One client of one tenant."""

    def __init__(self, platform: Platform, channel: grpc.aio.Channel, tenant: str, seed: int) -> None:
        self.requests: list[ClientRequest] = []
        self.seen: list[SeenEvent] = []
        self.reopened = 0
        """Times the subscription was opened again."""
        self._platform = platform
        self._tenant = tenant
        self._agents = AgentControlServiceStub(channel)
        self._calls = CallControlServiceStub(channel)
        self._events = EventServiceStub(channel)
        self._metadata = platform.bearer(tenant, subject="client:clerk")
        self._random = random.Random(f"{tenant}/{seed}")
        self._live: dict[int, str] = {}
        self._number = 0
        self._stands = asyncio.Event()

    # -- events ------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Hears every event of the tenant, until cancelled."""
        cursor = ""
        while True:
            request = SubscribeRequest(tenant=self._tenant, cursor=cursor)
            stream: Any = self._events.Subscribe(request, metadata=self._metadata)
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for answer in stream:
                    for envelope in answer.events:
                        self._hear(envelope)
                    cursor = answer.cursor or cursor
                    self._stands.set()
            self.reopened += 1
            await asyncio.sleep(AGAIN_S)

    async def subscribed(self, timeout: float) -> None:
        """Waits until the subscription stands."""
        await asyncio.wait_for(self._stands.wait(), timeout)

    def _hear(self, envelope: EventEnvelope) -> None:
        now = time.time()
        self.seen.append(SeenEvent(self._tenant, envelope.stream_key, envelope.seq, envelope.event_id, now))
        event = envelope.event
        if envelope.stream_key != envelope.call_thread_id:
            return
        if name_of(envelope) == "ESTABLISHED":
            self._live[event.conn_id] = event.this_dn
        elif name_of(envelope) in ("CALL_DELETED", "RELEASED"):
            self._live.pop(event.conn_id, None)

    # -- requests ----------------------------------------------------------------------------------------

    async def login(self, numbers: list[str]) -> None:
        """Logs agents in and makes them ready."""
        for number in numbers:
            await self._ask(
                "AgentLogin", self._agents.AgentLogin, AgentLoginRequest, dn=number, agent_id=f"A{number}"
            )
            await self._ask(
                "AgentReady", self._agents.AgentReady, AgentReadyRequest, dn=number, agent_id=f"A{number}"
            )

    async def work(self, agents: list[str], pause_s: float) -> None:
        """Attaches data to live calls, and changes the state of agents who get no calls, by turns, until cancelled."""
        pending: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = asyncio.create_task(self._one(agents))
                pending.add(task)
                task.add_done_callback(pending.discard)
                await asyncio.sleep(pause_s)
        finally:
            if pending:  # a request under way is given the time it needs
                await asyncio.wait(pending, timeout=PATIENCE_S + ATTEMPT_S)

    async def _one(self, agents: list[str]) -> None:
        if self._live and (not agents or self._random.random() < 0.7):
            conn_id = self._random.choice(sorted(self._live))
            data = KvList(pairs=[KvPair(key="clerk", string_value=str(self._number))])
            await self._ask(
                "AttachUserData", self._calls.AttachUserData, AttachUserDataRequest,
                dn=self._live[conn_id], conn_id=conn_id, user_data=data,
            )  # fmt: skip
        elif agents:
            number = self._random.choice(agents)
            fields = {"dn": number, "agent_id": f"A{number}"}
            if self._random.random() < 0.5:
                await self._ask("AgentReady", self._agents.AgentReady, AgentReadyRequest, **fields)
            else:
                await self._ask("AgentNotReady", self._agents.AgentNotReady, AgentNotReadyRequest, **fields)

    async def rest(self, agents: list[str]) -> None:
        """Leaves the agents not ready."""
        for number in agents:
            fields = {"dn": number, "agent_id": f"A{number}"}
            await self._ask("AgentNotReady", self._agents.AgentNotReady, AgentNotReadyRequest, **fields)

    async def _ask(
        self, method: str, send: Callable[..., Awaitable[Any]], make: Callable[..., Any], **fields: Any
    ) -> None:
        self._number += 1
        request_id = f"clerk-{self._tenant}-{self._number}"
        request = make(tenant=self._tenant, request_id=request_id, **fields)
        began, failures = time.time(), list[str]()
        while time.time() < began + PATIENCE_S:
            try:
                await send(request, timeout=ATTEMPT_S, metadata=self._metadata)
                self._note(request_id, method, began, "ok", failures)
                return
            except grpc.aio.AioRpcError as error:
                said = details(error)
                if error.code() not in UNANSWERED and not said.retryable:
                    outcome = Reason.Name(said.reason) if said.reason else error.code().name
                    self._note(request_id, method, began, outcome, failures)
                    return
                failures.append(f"{error.code().name}: {error.details()}"[:160])
            await asyncio.sleep(AGAIN_S)
        self._note(request_id, method, began, "", failures)

    def _note(self, request_id: str, method: str, began: float, outcome: str, failures: list[str]) -> None:
        answered = time.time() if outcome else None
        attempts = len(failures) + bool(outcome)
        self.requests.append(
            ClientRequest(request_id, method, began, answered, outcome, attempts, tuple(failures))
        )
