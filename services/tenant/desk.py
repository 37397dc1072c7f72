"""The router of one tenant at work: feeds it what happens, does what it decides.

Nothing is stored. A request stays in the tenant's queue until its answer is in the answer queue, so an heir finds every
waiting request there with its age and priority; agents are known from Agent State and from the event streams. What
leaves (asks, answers, acknowledgements) passes the tenant's gate: nothing of a node that has lost the tenant.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from voice.agent_state.v1.agent_state_service_pb2 import ListAgentsRequest
from voice.redis_queue.v1.queue_service_pb2 import QueueEntry
from voice.tenant.v1.routing_pb2 import RouteAnswer, RouteRequest
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.discovery import to_node
from mesh.identifiers import agent_slot, conn_id_text
from mesh.rq import AGENT, THREAD, SlotReader
from mesh.telemetry import ladder
from services.tenant import facts
from services.tenant.agents import Change
from services.tenant.answering import Answering
from services.tenant.asking import Asking
from services.tenant.effects import Effect, Found, GiveBack, NotFound, Reserve
from services.tenant.inputs import (
    AgentChanged,
    AgentSeen,
    Cancel,
    Input,
    Rebuilt,
    Reconfigured,
    Submit,
    Tick,
    Update,
)
from services.tenant.machine import Router
from services.tenant.mates import Deskmates, May
from services.tenant.targets import TargetError

SLOTS = 256
OWNERS_TIMEOUT_S = 30.0
"""How long to wait for the agents of every agent slot before starting over, seconds."""
LIST_TIMEOUT_S = 2.0
RETRY_S = 0.05


def now_us() -> int:
    """UTC microseconds."""
    return time.time_ns() // 1000


@dataclass
class _Entry:
    """A request of the queue with the ids of all entries that concern it."""

    message: RouteRequest
    entry_ids: list[str] = field(default_factory=list)


class Desk:
    """One tenant."""

    def __init__(self, tenant: str, router: Router, mates: Deskmates, may: May) -> None:
        self.tenant = tenant
        self.router = router
        self._mates = mates
        self._queue = f"route_requests:{tenant}"
        self._asking = Asking(tenant, mates, may)
        self._answering = Answering(self._queue, mates, may)
        self._entries: dict[str, _Entry] = {}
        self._seen_seq: dict[str, int] = defaultdict(int)
        self._on_dn: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wake = asyncio.Event()
        self._reconfigured = False

    async def run(self) -> None:
        """Serves the tenant until cancelled. Whatever fails ends it; the supervisor starts it again from scratch."""
        rq = self._mates.rq
        agent_events = rq.read_slots(AGENT, tenant=self.tenant)
        call_events = rq.read_slots(THREAD, tenant=self.tenant)
        try:
            held = await asyncio.gather(
                self._follow_from_now(agent_events), self._follow_from_now(call_events)
            )
            await self._meet_agents()
            for envelope in [e for events in held for e in events]:
                self._take_event(envelope)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_events(agent_events))
                group.create_task(self._read_events(call_events))
                group.create_task(self._read_requests())
                group.create_task(self._tick())
                group.create_task(self._watch_tasks())
        finally:
            if not self._failed.cancel() and not self._failed.cancelled():
                self._failed.exception()  # it has been told, or comes too late to matter
            for task in self._tasks:
                task.cancel()
            await agent_events.close()
            await call_events.close()

    def waiting(self) -> list[RouteRequest]:
        """Requests in the order of service."""
        return [self._entries[request.request_id].message for request in self.router.waiting()]

    def handle(self, item: Input) -> None:
        """Gives the router an input and does what it decides."""
        for effect in self.router.handle(item, now_us()):
            self._perform(effect)
        self._wake.set()

    def reconfigured(self) -> None:
        """Who matches what may have changed: all changes of this turn are looked at together."""
        self._reconfigured = True
        self._wake.set()

    # -- what comes in -----------------------------------------------------------------------------------------

    async def _follow_from_now(self, reader: SlotReader) -> list[EventEnvelope]:
        """Begins to follow all slots; what comes until each has begun is kept for after the snapshot."""
        for slot in range(SLOTS):
            reader.add(slot, "")
        missing = set(range(SLOTS))
        held: list[EventEnvelope] = []
        async for batch in reader:
            held += batch.events
            if batch.caught_up:
                missing.discard(batch.slot)
            if not missing:
                break
        return held

    async def _meet_agents(self) -> None:
        """Reads every logged-in agent of the tenant from the owners of all agent slots, whose answers say which slots
        they are of: a slot that moves meanwhile is asked for at its next owner."""
        missing = set(range(SLOTS))
        async with asyncio.timeout(OWNERS_TIMEOUT_S):
            while True:
                owners = {owner.incarnation for s in missing if (owner := self._mates.agents.owner(s))}
                for incarnation in sorted(owners):
                    missing -= await self._meet_agents_of(incarnation, missing)
                if not missing:
                    return
                await asyncio.sleep(RETRY_S)

    async def _meet_agents_of(self, incarnation: str, missing: set[int]) -> set[int]:
        """Takes the agents of those slots that are missing; gives the slots that the node has told of."""
        request = ListAgentsRequest(tenant=self.tenant)
        try:
            answer = await self._mates.stub.ListAgents(
                request, timeout=LIST_TIMEOUT_S, metadata=to_node(incarnation)
            )
        except grpc.aio.AioRpcError as error:
            self._mates.log.info("agents not told yet", node=incarnation, why=str(error)[:200])
            return set()
        told = set(answer.slots)
        for agent in answer.agents:
            if agent_slot(self.tenant, f"agent:{agent.agent_id}") in missing & told:
                self._seen_seq[f"{self.tenant}:{agent.agent_id}"] = agent.last_seq
                self._on_dn[agent.dn] = agent.agent_id
                self.handle(AgentSeen(facts.agent_view(agent)))
        return told

    async def _read_events(self, reader: SlotReader) -> None:
        async for batch in reader:
            if batch.expired:
                raise RuntimeError(f"events of slot {batch.slot} were trimmed before they were read")
            for envelope in batch.events:
                self._take_event(envelope)

    def _take_event(self, envelope: EventEnvelope) -> None:
        if envelope.WhichOneof("body") != "event":
            return
        if envelope.stream_key == envelope.call_thread_id:
            change = facts.call_change(envelope.event, self._agent_on)
        elif envelope.seq <= self._seen_seq[envelope.stream_key]:
            return
        else:
            self._seen_seq[envelope.stream_key] = envelope.seq
            change = facts.agent_change(envelope, self._agent_on)
        if change is not None:
            self._remember_dn(change)
            self.handle(AgentChanged(change))

    def _agent_on(self, dn: str) -> str:
        return self._on_dn.get(dn, "")

    def _remember_dn(self, change: Change) -> None:
        if change.dn:
            self._on_dn[change.dn] = change.agent_id
        elif change.dn == "":
            before = self.router.roster.agents.get(change.agent_id)
            if before is not None and self._on_dn.get(before.dn) == change.agent_id:
                del self._on_dn[before.dn]

    async def _read_requests(self) -> None:
        async for entries in self._mates.rq.read_queue(self._queue):
            for entry in entries:
                self._take_request(entry)
            if not entries and self.router.rebuilding:
                self._mates.log.info("queue rebuilt", tenant=self.tenant, waiting=len(self._entries))
                self.handle(Rebuilt())

    def _take_request(self, entry: QueueEntry) -> None:
        try:
            message = RouteRequest.FromString(entry.payload)
        except DecodeError as error:  # it would be as unreadable to every heir
            self._mates.log.error("unreadable entry", tenant=self.tenant, entry=entry.id[:64], why=str(error))
            self._spawn(self._answering.acknowledge(entry.id))
            return
        known = self._entries.get(message.request_id)
        match message.operation:
            case RouteRequest.OPERATION_SUBMIT:
                self._submit(message, entry)
            case RouteRequest.OPERATION_UPDATE if known is not None:
                known.entry_ids.append(entry.id)
                self.handle(Update(message.request_id, message.priority))
            case RouteRequest.OPERATION_CANCEL if known is not None:
                known.entry_ids.append(entry.id)
                self.handle(Cancel(message.request_id))
            case _:
                # Answered already, or nothing this version knows: there is nothing left to wait for.
                self._spawn(self._answering.acknowledge(entry.id))

    def _submit(self, message: RouteRequest, entry: QueueEntry) -> None:
        held = self._entries.setdefault(message.request_id, _Entry(message))
        if entry.id not in held.entry_ids:
            held.entry_ids.append(entry.id)
        ladder("session", "route request", call_thread_id=message.call_thread_id, to=self.tenant)
        try:
            request = facts.request_of(message, entry.time_us or now_us())
        except TargetError as error:
            self._answer(NotFound(message.request_id, str(error)))
            return
        self.handle(Submit(request))

    async def _tick(self) -> None:
        while True:
            due = self.router.next_us()
            pause = None if due is None else max(0.0, (due - now_us()) / 1e6)
            self._wake.clear()
            try:
                # not wait_for: it forgets that it was cancelled when the wait ends in the same turn (Python 3.11), and a
                # task group cancels once
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                self.handle(Tick())
            if self._reconfigured:
                self._reconfigured = False
                self.handle(Reconfigured())

    # -- what is done ------------------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Reserve():
                self._spawn(self._reserve(effect))
            case GiveBack(agent_id, token):
                self._spawn(self._asking.give_back(agent_id, token))
            case Found() | NotFound():
                self._answer(effect)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Nothing may be forgotten because a task of it failed: the desk begins again from what is stored."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - handed on to whoever runs the desk
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _watch_tasks(self) -> None:
        await self._failed

    async def _reserve(self, ask: Reserve) -> None:
        outcome = await self._asking.reserve(ask)
        if outcome is not None:
            self.handle(outcome)

    def _answer(self, answer: Found | NotFound) -> None:
        entry = self._entries.pop(answer.request_id, None)
        if entry is None:
            return
        message = facts.answer_message(entry.message, answer)
        who = message.agent_id or message.message
        ladder(
            "session",
            f"answer {who}",
            call_thread_id=message.call_thread_id,
            conn=conn_id_text(entry.message.conn_id),
        )
        self._spawn(self._deliver(entry, answer, message))

    async def _deliver(self, entry: _Entry, answer: Found | NotFound, message: RouteAnswer) -> None:
        """The request leaves the queue only when its answer is in the other."""
        taken = await self._answering.answer(entry.message.answer_queue, message, entry.entry_ids)
        if not taken and isinstance(answer, Found):
            await self._asking.give_back(answer.agent.agent_id, answer.token)
            self.handle(AgentChanged(Change(answer.agent.agent_id, reserved_until_us=0)))
