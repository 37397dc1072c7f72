"""What stands around SIP nodes in these tests: a dial plan and an event stream over real gRPC on one Unix socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from voice.dial_plan.v1 import dial_plan_service_pb2 as dp
from voice.dial_plan.v1.dial_plan_service_pb2_grpc import (
    DialPlanServiceServicer,
    add_DialPlanServiceServicer_to_server,
)
from voice.error.v1.reason_pb2 import Reason
from voice.redis_queue.v1 import queue_service_pb2 as rq
from voice.redis_queue.v1.queue_service_pb2_grpc import (
    QueueServiceServicer,
    add_QueueServiceServicer_to_server,
)
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.errors import DomainError
from mesh.pipeline import Pipeline
from mesh.server import NodeServer
from mesh.telemetry import Metrics
from mesh.translation import Translation


class DialPlan(DialPlanServiceServicer):
    """Answers from a table: (tenant, number) -> what it means. The tenant follows from the domain of the request URI."""

    def __init__(self) -> None:
        self.devices: dict[tuple[str, str], dp.ResolveResponse] = {}
        self.domains: dict[str, str] = {}
        self.trunks: dict[str, str] = {}
        """Source address -> tenant."""
        self.asked: list[dp.ResolveRequest] = []
        self.away = False

    def add(self, tenant: str, number: str, **fields: Any) -> None:
        """A device."""
        options = fields.pop("options", {})
        answer = dp.ResolveResponse(tenant=tenant, dn=number, number=number, no_answer_timeout=30, **fields)
        answer.options.CopyFrom(KvList(pairs=[KvPair(key=k, string_value=v) for k, v in options.items()]))
        self.devices[tenant, number] = answer

    def phone(self, tenant: str, number: str, *addresses: str, **fields: Any) -> None:
        """An extension with phones at host:port."""
        contacts = [dp.Contact(uri=f"sip:{number}@{address}") for address in addresses]
        self.add(tenant, number, type=dp.DEVICE_TYPE_EXTENSION, contacts=contacts, **fields)

    def route_point(self, tenant: str, number: str, **fields: Any) -> None:
        """A route point."""
        self.add(tenant, number, type=dp.DEVICE_TYPE_ROUTE_POINT, **fields)

    def _tenant(self, request: dp.ResolveRequest) -> str:
        if request.tenant:
            return request.tenant
        return self.trunks.get(request.source.address, "") or self.domains.get(request.source.domain, "t1")

    async def Resolve(self, request: dp.ResolveRequest, context: Any) -> dp.ResolveResponse:
        self.asked.append(request)
        if self.away:
            raise DomainError(Reason.REASON_DEPENDENCY_UNAVAILABLE, "away", dependency="config")
        tenant = self._tenant(request)
        found = self.devices.get((tenant, request.destination))
        if found is None:
            raise DomainError(Reason.REASON_UNKNOWN_DESTINATION, f"no number {request.destination}")
        answer = dp.ResolveResponse()
        answer.CopyFrom(found)
        caller = request.caller_dn or request.source.from_user
        own = self.devices.get((tenant, caller))
        inside = own is not None and request.source.address not in self.trunks
        answer.caller.CopyFrom(dp.Caller(dn=caller if inside else "", number=caller))
        return answer

    async def IdentifyTenant(
        self, request: dp.IdentifyTenantRequest, context: Any
    ) -> dp.IdentifyTenantResponse:
        return dp.IdentifyTenantResponse(tenant=self.domains.get(request.source.domain, "t1"))


class Streams(QueueServiceServicer):
    """Takes events as Redis Queue does: the next of each stream only."""

    def __init__(self) -> None:
        self.events: dict[str, list[EventEnvelope]] = {}
        self.gaps: list[str] = []
        self.repeated = 0
        """Events that were in their stream already."""
        self.conflicts: list[str] = []
        """Events whose place in the stream another one has."""

    async def Publish(
        self, request_iterator: AsyncIterator[rq.PublishRequest], context: Any
    ) -> AsyncIterator[rq.PublishResponse]:
        async for batch in request_iterator:
            response = rq.PublishResponse(batch=batch.batch)
            for envelope in batch.events:
                stream = self.events.setdefault(envelope.stream_key, [])
                if envelope.seq == len(stream) + 1:
                    stream.append(envelope)
                elif envelope.seq > len(stream):
                    self.gaps.append(envelope.event_id)
                    response.results.add(reason="REASON_SEQUENCE_GAP", last_seq=len(stream))
                    continue
                elif same_event(stream[envelope.seq - 1], envelope):
                    self.repeated += 1
                else:
                    self.conflicts.append(envelope.event_id)
                    response.results.add(reason="REASON_ALREADY_EXISTS", last_seq=len(stream))
                    continue
                response.results.add(last_seq=len(stream), epoch=envelope.epoch)
            yield response

    async def FenceStreams(self, request: rq.FenceStreamsRequest, context: Any) -> rq.FenceStreamsResponse:
        ends = [(len(self.events.get(fence.stream_key, ())), fence.epoch) for fence in request.fences]
        return rq.FenceStreamsResponse(ends=[rq.StreamEnd(last_seq=seq, epoch=epoch) for seq, epoch in ends])

    async def ReadStream(
        self, request: rq.ReadStreamRequest, context: Any
    ) -> AsyncIterator[rq.ReadStreamResponse]:
        assert request.once
        yield rq.ReadStreamResponse(events=self.events.get(request.stream_key, [])[request.from_seq - 1 :])
        yield rq.ReadStreamResponse()

    async def FollowStore(
        self, request: rq.FollowStoreRequest, context: Any
    ) -> AsyncIterator[rq.FollowStoreResponse]:
        yield rq.FollowStoreResponse(store="the only one")
        await asyncio.Event().wait()  # it stays the only one

    def find(self, name: str) -> Event:
        """The newest event of a name such as "Ringing@1002"."""
        for stream in self.events.values():
            for envelope, one in zip(reversed(stream), reversed(names(stream, everything=True)), strict=True):
                if one == name:
                    return envelope.event
        raise LookupError(name)

    def only(self) -> list[EventEnvelope]:
        """The only stream."""
        (stream,) = self.events.values()
        return stream

    def names(self, *, everything: bool = False) -> list[str]:
        """Events of the only stream, as "Ringing@1002"; the call-based ones too when `everything`."""
        return names(self.only(), everything=everything)


def same_event(one: EventEnvelope, other: EventEnvelope) -> bool:
    """As Redis Queue compares: an heir sends an event again under its own epoch."""
    copies = [EventEnvelope.FromString(envelope.SerializeToString()) for envelope in (one, other)]
    for copy in copies:
        copy.epoch = 0
    return copies[0] == copies[1]


def names(stream: list[EventEnvelope], *, everything: bool = False) -> list[str]:
    """Events as "Ringing@1002", a user-data request as "AttachUserData!"."""
    found = []
    for envelope in stream:
        if envelope.WhichOneof("body") == "request":
            kind = envelope.request.WhichOneof("body") or ""
            found.append("".join(word.capitalize() for word in kind.split("_")) + "!")
            continue
        name = MessageType.Name(envelope.event.event_type).removeprefix("MESSAGE_TYPE_EVENT_")
        if name.startswith("CALL_") and not everything:
            continue
        text = "".join(word.capitalize() for word in name.split("_"))
        found.append(f"{text}@{envelope.event.this_dn}" if envelope.event.this_dn else text)
    return found


class Around:
    """The services that a node calls, behind one socket, as its sidecar's egress would be."""

    def __init__(self) -> None:
        self.dial_plan = DialPlan()
        self.streams = Streams()  # type: ignore[abstract]
        self.folder = Path(tempfile.mkdtemp(prefix="vm-sip-"))
        self.socket = self.folder / "egress"
        self._server: NodeServer | None = None

    async def start(self) -> None:
        server = NodeServer(Pipeline([Translation(Metrics("around"))]))
        server.add(add_DialPlanServiceServicer_to_server, self.dial_plan)
        server.add(add_QueueServiceServicer_to_server, self.streams)
        await server.start(str(self.socket))
        self._server = server

    def reset(self) -> None:
        """Forgets devices and events."""
        for table in (
            self.dial_plan.devices,
            self.dial_plan.domains,
            self.dial_plan.trunks,
            self.streams.events,
        ):
            table.clear()
        self.dial_plan.asked.clear()
        self.dial_plan.away = False
        self.streams.gaps.clear()
        self.streams.conflicts.clear()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0.1)
