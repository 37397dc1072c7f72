"""The slots of call threads that this node owns, each with its sessions."""

from __future__ import annotations

import asyncio
from functools import partial

from voice.redis_queue.v1.queue_service_pb2 import QueueEntry
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceStub
from voice.tenant.v1.routing_pb2 import RouteAnswer
from voice.tlib.v1.call_control_service_pb2_grpc import CallControlServiceStub

from mesh.config_cache import ConfigCache
from mesh.discovery import Directory, OwnerClient
from mesh.errors import Reason
from mesh.ownership import ReleaseReason, SlotKey, Slots
from mesh.rq import THREAD, Rq, SlotReader
from mesh.service import Service
from services.orchestration.agent_states import AgentStates
from services.orchestration.applications import Applications
from services.orchestration.documents import Documents
from services.orchestration.fetching import Fetcher, trusting, warm
from services.orchestration.inputs import Selected
from services.orchestration.location import http_location
from services.orchestration.neighbours import Neighbours
from services.orchestration.perform import Partners, Performer
from services.orchestration.queries import Queries
from services.orchestration.record import from_kv
from services.orchestration.session import Phase
from services.orchestration.settings import OrchestrationSettings
from services.orchestration.shard import Shard, now_us
from services.orchestration.store import Store
from services.orchestration.trace_store import TraceStore
from services.orchestration.tracer import Tracer
from services.orchestration.waiting import Waiting
from services.orchestration.workers import Workers

SLOTS = 256
CONFIG_S = 60.0
"""Longest wait for the first configuration before that is logged and tried again, seconds."""


class App:
    """Acquires slots, feeds their shards, releases them."""

    def __init__(self, service: Service, config: ConfigCache, settings: OrchestrationSettings) -> None:
        self._service = service
        self._config = config
        self._settings = settings
        self.shards: dict[int, Shard] = {}
        self._store = Store(service.redis)
        self._rq = Rq(service)
        self._nodes = Directory(service.etcd, service.settings.region, "sip_cluster")
        self._agent_nodes = Directory(service.etcd, service.settings.region, "agent_state")
        self._workers = Workers(settings.workers, service.metrics, service.log)
        self._applications = Applications(service.metrics)
        self._documents = Documents(self._store, service.log)
        self._http = trusting(settings.ca_file)
        self.traces = TraceStore(
            service.redis,
            service.metrics,
            service.log,
            steps=settings.trace_steps,
            keep_s=settings.trace_keep_s,
        )
        self.waiting = Waiting()
        self._tracer = Tracer(self.traces, config, service.log, service.settings.node)
        partners = Partners(
            self._rq,
            OwnerClient(self._nodes),
            SipNodeServiceStub(service.channel),
            CallControlServiceStub(service.channel),
            self._applications,
            self._documents,
            self._workers,
            Queries(config, AgentStates(service.channel, self._agent_nodes)),
            Fetcher(self._http),
            Neighbours(service.channel),
            self._tracer,
            self.waiting,
            partial(http_location, settings.http_base),
            service.log,
        )
        self._performer = Performer(partners, self._listen)
        self._supervisor = service.supervisor
        self._reader: SlotReader | None = None
        self._cursors: dict[int, str] = {}
        self.slots = Slots(service, "thread", SLOTS, acquire=self._acquire, release=self._release)
        service.owned_slots("thread", lambda: self.slots.owned)
        service.on_start(self._start)
        service.on_stop(self._stop)
        service.background("events", self._read_events)
        service.background("slots", self._claim)
        service.background("rest", self._rest)
        service.background("traces", self.traces.run)
        self._measure()

    def _measure(self) -> None:
        metrics = self._service.metrics
        metrics.queue("inputs", lambda: sum(shard.depth for shard in self.shards.values()))
        sessions = metrics.gauge("interactions", "Sessions that live", ["phase"])
        for phase in (Phase.STARTING, Phase.RUNNING, Phase.ENDING):
            sessions.labels(phase.value).set_function(partial(self._count, phase))
        metrics.gauge("rq_state", "1 while events of all owned slots are being read").set_function(
            lambda: float(self._reader is not None)
        )
        metrics.queue("requests", lambda: self.waiting.count, "Requests that wait for answers of sessions")
        metrics.gauge("interactions_asleep", "Sessions that only Redis has").set_function(
            lambda: float(sum(shard.asleep.count for shard in self.shards.values()))
        )
        self._started = metrics.counter("strategies_total", "Sessions started")
        self._latency = metrics.histogram("rq_latency_seconds", "From an event's time to its arrival here")
        self._answers = metrics.counter("urs_answers_total", "Answers of tenants", ["tenant", "result"])

    def _count(self, phase: Phase) -> int:
        return sum(
            m.session.phase is phase for shard in self.shards.values() for m in shard.machines.values()
        )

    async def _start(self) -> None:
        self._store.on_primary_change(self._rewrite)
        await self._store.start()
        await self._rq.start()
        await self._nodes.start()
        await self._agent_nodes.start()
        await self._workers.start()
        await warm()
        self._reader = self._rq.read_slots(THREAD)

    async def _claim(self) -> None:
        """Takes part when the configuration is there: a route request must find its route point."""
        await self._config.ready(CONFIG_S)
        await self.slots.start()

    async def _stop(self) -> None:
        await self.slots.stop()
        for slot in list(self.shards):
            await self._end(slot)
        if self._reader is not None:
            await self._reader.close()
        await self._rq.stop()
        await self._workers.stop()
        await self._applications.close()
        await self._http.aclose()
        await self._nodes.stop()
        await self._agent_nodes.stop()
        await self._store.stop()

    async def _rewrite(self) -> None:
        """Another Redis primary answers: sessions, cursors and their documents are written again (design §6)."""
        await self._documents.rewrite()
        for shard in self.shards.values():
            shard.rewrite()

    # -- slots -------------------------------------------------------------------------------------------------

    async def _acquire(self, slot: SlotKey, epoch: int) -> None:
        number = int(slot)
        service, perform = self._service, self._performer.perform
        shard = Shard(
            number,
            epoch,
            self._store,
            self._config,
            perform,
            self._performer.busy,
            service.log,
            self._started.inc,
            self._tracer,
        )
        cursor = await shard.take_over()
        self.shards[number] = shard
        self._supervisor.start(f"shard {number}", shard.run)
        self._cursors[number] = cursor
        if shard.machines or shard.asleep.count:
            self._listen(shard)
        assert self._reader is not None
        self._reader.add(number, cursor)

    async def _release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        await self._end(int(slot))

    async def _end(self, slot: int) -> None:
        """Nothing more happens for the slot here: its state is in the store, as of the last write."""
        if self._reader is not None:
            self._reader.remove(slot)
        if (shard := self.shards.pop(slot, None)) is not None:
            shard.close()
            self.waiting.released(slot)
        await self._supervisor.end(f"shard {slot}", f"answers {slot}")
        await asyncio.gather(*self._performer.stop(slot), return_exceptions=True)

    # -- sessions ----------------------------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Lets sessions and contexts go that nobody needs at the moment."""
        idle_s = self._settings.passivate_seconds
        while True:
            await asyncio.sleep(min(1.0, idle_s / 2))
            await self._workers.rest()
            since_us = now_us() - int(idle_s * 1e6)
            for shard in self.shards.values():
                if shard.machines:
                    shard.rest(since_us)

    # -- what comes in -----------------------------------------------------------------------------------------

    async def _read_events(self) -> None:
        assert self._reader is not None
        async for batch in self._reader:
            shard = self.shards.get(batch.slot)
            if shard is None:
                continue
            if batch.expired:
                self._service.log.error("events were trimmed before they were read", slot=batch.slot)
            if batch.events:
                self._latency.observe(max(0.0, (now_us() - batch.events[-1].time_us) / 1e6))
            await shard.post_events(batch)

    def _listen(self, shard: Shard) -> None:
        """Reads the slot's answers from now on, when it is not done yet."""
        name = f"answers {shard.slot}"
        if not self._supervisor.runs(name) and self.shards.get(shard.slot) is shard:
            self._supervisor.start(name, lambda: self._read_answers(shard))

    async def _read_answers(self, shard: Shard) -> None:
        queue = f"route_answers:{shard.slot}"
        async for entries in self._rq.read_queue(queue):
            for entry in entries:
                self._take_answer(shard, entry, queue)

    def _take_answer(self, shard: Shard, entry: QueueEntry, queue: str) -> None:
        answer = RouteAnswer.FromString(entry.payload)
        found = not answer.reason
        self._answers.labels(answer.tenant, "found" if found else "none").inc()
        details = {
            "place": answer.place,
            "user": answer.user_name,
            "target": answer.target.expression,
            "vqid": answer.vq_id,
        }
        item = Selected(
            submit_id=answer.request_id,
            reason="" if found else Reason.Name(answer.reason),
            message=answer.message,
            destination=answer.dn,
            agent_id=answer.agent_id,
            token=answer.reservation_token,
            details=details,
            user_data=from_kv(answer.user_data),
        )

        def stored() -> None:
            self._rq.acknowledge(queue, entry.id)

        # The answer leaves its queue only when the session has it in its record.
        shard.post(answer.session_id, item, stored)
