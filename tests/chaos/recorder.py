"""Gathers the facts that the platform itself keeps: etcd's history while it happens, streams and states at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Self, cast

import grpc
import grpc.aio
import redis.asyncio
from voice.agent_state.v1.agent_pb2 import AgentPhase
from voice.agent_state.v1.agent_state_service_pb2 import ListAgentsRequest
from voice.agent_state.v1.agent_state_service_pb2_grpc import AgentStateServiceStub
from voice.mesh.v1.node_pb2 import SlotClaim
from voice.mesh.v1.node_service_pb2 import GetNodeRequest
from voice.mesh.v1.node_service_pb2_grpc import NodeServiceStub
from voice.record.v1.sip_call_pb2 import SipCall
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.etcd import Etcd
from mesh.local import LocalMesh
from mesh.metadata import PEER_KEY
from services.sip_cluster.calls import LegState
from tests.chaos.facts import AgentAtEnd, Claim, QueueAtEnd, RecordsAtEnd, SlotAtEnd, StreamEvent
from tests.chaos.faults import primary
from tests.chaos.schedule import STATEFUL
from tests.e2e.platform import name_of

OPERATOR = ((PEER_KEY, "spiffe://voicemesh.local/ns/voice/sa/tenant"),)
"""Who asks at the nodes' sockets: somebody who may list agents."""
FAMILIES = {"t": "thread", "a": "agent"}
PAGE = 1000
CALLS = "{sip_cluster:*}:calls"
SNAPSHOTS = (CALLS, "{orchestration:*}:sessions", "{orchestration:*}:asleep")
"""Hashes that are empty, so gone, when every call is over."""


class OwnershipHistory:
    """Follows every claim in etcd from before the load on."""

    def __init__(self, mesh: LocalMesh) -> None:
        self.claims: list[Claim] = []
        self._etcd = Etcd(mesh.etcd)
        self._prefix = f"/voicemesh/{mesh.settings.region}/"
        self._watch = self._etcd.watch(self._prefix)
        self._task: asyncio.Task[None] | None = None
        self._stands = asyncio.Event()
        self._known: set[tuple[str, str, int]] = set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        await asyncio.wait_for(self._stands.wait(), 10)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        await self._watch.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._etcd.close()

    async def _follow(self) -> None:
        async for batch in self._watch:
            now = time.time()
            for item in batch.snapshot or ():
                self._note(item.key, item.value, item.mod_revision, item.create_revision, now)
            for change in batch.changes:
                value = change.kv.value if change.kv else b""
                self._note(
                    change.key, value, change.revision, change.kv.create_revision if change.kv else 0, now
                )
            self._stands.set()

    def _note(self, key: str, value: bytes, revision: int, created: int, now: float) -> None:
        service, _, rest = key.removeprefix(self._prefix).partition("/")
        if not rest.startswith("slots/"):
            return
        owner = SlotClaim.FromString(value).node if value else ""
        key_of_change = (service, rest, revision)
        if key_of_change not in self._known:  # a snapshot after an outage tells much that is known
            self._known.add(key_of_change)
            self.claims.append(Claim(service, rest.removeprefix("slots/"), owner, revision, created, now))


@contextlib.asynccontextmanager
async def redis_primary(mesh: LocalMesh) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of whichever Redis is the primary."""
    name = await primary(mesh)
    host, _, port = (mesh.layout.redis if name == "redis" else mesh.layout.redis_replica).rpartition(":")
    client = redis.asyncio.Redis(host=host, port=int(port))
    try:
        yield client
    finally:
        await client.aclose()


async def stream_events(client: redis.asyncio.Redis) -> list[StreamEvent]:
    """Every event of every stream, each stream in order."""
    found: list[StreamEvent] = []
    async for key in client.scan_iter(match="{rq:*}:s:*", count=PAGE):
        slot, _, stream = key.decode().partition("}:s:")
        family = FAMILIES[slot.removeprefix("{rq:")[0]]
        found += [_event(family, stream, entry, fields) for entry, fields in await _entries(client, key)]
    return found


async def _entries(client: redis.asyncio.Redis, key: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", await client.xrange(key))


def _event(family: str, stream: str, entry: bytes, fields: Mapping[bytes, bytes]) -> StreamEvent:
    envelope = EventEnvelope.FromString(fields[b"e"])
    event = envelope.event
    return StreamEvent(
        stream=stream, family=family, entry=int(entry.partition(b"-")[0]), seq=envelope.seq, epoch=int(fields[b"p"]),
        node=envelope.node, tenant=envelope.tenant,
        name=name_of(envelope) if envelope.WhichOneof("body") == "event" else "REQUEST",
        at=envelope.time_us / 1e6, event_id=envelope.event_id, conn_id=event.conn_id, agent_id=event.agent_id,
        this_dn=event.this_dn, request_id=envelope.requester.request_id.rpartition("/")[2],
    )  # fmt: skip


async def slot_orders(client: redis.asyncio.Redis) -> dict[str, list[tuple[str, int]]]:
    """What each slot's stream tells, for slots of which nothing has been trimmed."""
    found: dict[str, list[tuple[str, int]]] = {}
    async for key in client.scan_iter(match="{rq:*}:slot", count=PAGE):
        slot = key.decode().removeprefix("{rq:").removesuffix("}:slot")
        if await client.exists(f"{{rq:{slot}}}:first"):
            continue
        envelopes = [EventEnvelope.FromString(fields[b"e"]) for _, fields in await _entries(client, key)]
        found[f"{FAMILIES[slot[0]]}/{slot[1:]}"] = [(e.stream_key, e.seq) for e in envelopes]
    return found


async def queue_depths(client: redis.asyncio.Redis) -> list[QueueAtEnd]:
    """Entries of every queue. Outcomes are for one front end's life, and go with it."""
    found = []
    async for key in client.scan_iter(match="{rq:q:*}:entries", count=PAGE):
        name = key.decode().removeprefix("{rq:q:").removesuffix("}:entries")
        if not name.startswith("outcomes:"):
            found.append(QueueAtEnd(name, await client.xlen(key)))
    return found


async def records_left(client: redis.asyncio.Redis) -> list[RecordsAtEnd]:
    """Snapshots of calls and of sessions."""
    found = []
    for pattern in SNAPSHOTS:
        async for key in client.scan_iter(match=pattern, count=PAGE):
            fields = cast("dict[bytes, bytes]", await client.hgetall(key))
            names = (_call_left(raw) if pattern == CALLS else name.decode() for name, raw in fields.items())
            found.append(RecordsAtEnd(key.decode(), tuple(sorted(names))))
    return found


def _call_left(raw: bytes) -> str:
    """A call that is left, and what it has left to do."""
    call = SipCall.FromString(raw)
    legs = " ".join(f"{leg.id}:{LegState(leg.state).name}" for leg in call.legs)
    return (
        f"{call.id} (seq {call.seq}, calls {len(call.calls)}, legs [{legs}], asks {len(call.asks)},"
        f" pending {len(call.pending)}, not stored {len(call.unacknowledged)})"
    )


async def agents(mesh: LocalMesh, expected: Mapping[tuple[str, str], str]) -> list[AgentAtEnd]:
    """Agents as the owners of their slots tell them. `expected`: (tenant, agent id) -> phase of everybody who logged in."""
    found: dict[tuple[str, str], AgentAtEnd] = {}
    for tenant in sorted({tenant for tenant, _ in expected}):
        for channel in _channels(mesh, "agent_state"):
            async with channel:
                request = ListAgentsRequest(tenant=tenant)
                answer = await AgentStateServiceStub(channel).ListAgents(
                    request, timeout=5, metadata=OPERATOR
                )
                for agent in answer.agents:
                    phase = AgentPhase.Name(agent.phase).removeprefix("AGENT_PHASE_")
                    wanted = expected.get((tenant, agent.agent_id), "NULL")
                    found[tenant, agent.agent_id] = AgentAtEnd(
                        tenant,
                        agent.agent_id,
                        phase,
                        tuple(agent.calls),
                        agent.HasField("reservation"),
                        wanted,
                    )
    gone = [AgentAtEnd(*who, "NULL", expected=phase) for who, phase in expected.items() if who not in found]
    return [*found.values(), *gone]


async def slots(mesh: LocalMesh) -> list[SlotAtEnd]:
    """Slots as nodes say they own them."""
    found = []
    for service in STATEFUL:
        for channel in _channels(mesh, service):
            async with channel:
                answer = await NodeServiceStub(channel).GetNode(
                    GetNodeRequest(), timeout=5, metadata=OPERATOR
                )
                found += [
                    SlotAtEnd(service, slot.slot, answer.node.incarnation, slot.epoch)
                    for slot in answer.slots
                ]
    return found


def _channels(mesh: LocalMesh, service: str) -> list[grpc.aio.Channel]:
    """A channel to each node's own socket: what it says itself, whatever sidecars think of it."""
    nodes = [node for instance in mesh.instances(service) for node in instance.nodes]
    return [grpc.aio.insecure_channel(f"unix:{node.listen}") for node in nodes]
