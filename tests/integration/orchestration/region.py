"""Orchestration with what it stands on: Redis Queue, Config with a tenant of ours, real Redis and etcd; SIP node and
tenant record what they are asked for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import redis.asyncio
import yaml
from voice.orchestration.v1.orchestration_service_pb2 import (
    GetSessionRequest,
    SendEventRequest,
    Session,
)
from voice.orchestration.v1.orchestration_service_pb2_grpc import OrchestrationServiceStub
from voice.record.v1.session_pb2 import SessionRecord
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.discovery import Directory, OwnerClient
from mesh.etcd import Etcd
from mesh.identifiers import new_call_uuid, new_conn_id, session_id, thread_slot
from mesh.rq import THREAD, Rq
from tests.integration.nodes import NodeProcess, observable
from tests.integration.orchestration.partners import RecordingSipNode, RecordingTenant, sip_node
from tests.integration.orchestration.server import ApplicationServer, application_server
from tests.integration.redis_queue.processes import Processes, processes
from tests.integration.servers import EtcdServer, RedisServer

DEFAULT_DN = "1901"
CANCELS, CANCEL_PAUSE_S = 20, 0.05
"""How often a request is sent that the router cancels, and the pause before it is sent again, seconds."""


async def eventually(what: Callable[[], Awaitable[bool]], seconds: float = 15.0, every: float = 0.05) -> None:
    """Waits until `what()` is true, looking so often (seconds): looking at all records costs the nodes their time."""
    async with asyncio.timeout(seconds):
        while not await what():
            await asyncio.sleep(every)


@dataclass
class Caller:
    """A call on a route point."""

    region: Region
    tenant: str
    route_point: str
    thread: str
    conn_id: int
    seq: int = 0

    @property
    def session(self) -> str:
        """Id of its session: of the route request, its first event."""
        return session_id(self.thread, 1)

    @property
    def slot(self) -> int:
        return thread_slot(self.thread)

    def tell(self, name: str, **fields: Any) -> None:
        """The call's next event."""
        self.seq += 1
        event = Event(
            event_type=MessageType.Value(f"MESSAGE_TYPE_EVENT_{name}"),
            conn_id=self.conn_id,
            call_uuid=self.thread,
            call_thread_id=self.thread,
            this_dn=self.route_point,
            ani="4711",
            dnis="0800",
            **fields,
        )
        envelope = EventEnvelope(
            event_id=f"{self.thread}/{self.seq}",
            tenant=self.tenant,
            stream_key=self.thread,
            seq=self.seq,
            epoch=1,
            time_us=time.time_ns() // 1000,
            call_thread_id=self.thread,
            event=event,
        )
        self.region.publisher.append(envelope)


class Region:
    """What a test has."""

    def __init__(
        self,
        nodes: Processes,
        rq: Rq,
        directory: Directory,
        client: redis.asyncio.Redis,
        applications: ApplicationServer,
        sip: RecordingSipNode,
        tenant: RecordingTenant,
    ) -> None:
        self.nodes, self.rq, self.directory, self.redis = nodes, rq, directory, client
        self.applications, self.sip, self.tenant = applications, sip, tenant
        self.publisher = rq.publisher(THREAD)
        self.stub = OrchestrationServiceStub(nodes.channel())
        self.owners = OwnerClient(directory)
        self._numbers = itertools.count(secrets.randbelow(1 << 20))
        self._requests = itertools.count(1)

    def owner(self, slot: int) -> str:
        """Node id of the slot's owner."""
        found = self.directory.owner(slot)
        return found.node if found else ""

    def slots_of(self, node: str) -> list[int]:
        return [slot for slot in range(256) if self.owner(slot) == node]

    def call(
        self, route_point: str = "8000", *, slots: Sequence[int] | None = None, tenant: str = "t1"
    ) -> Caller:
        """A call arrives at a route point; `slots`: its thread is in one of these."""
        now_ms = time.time_ns() // 1_000_000
        while True:
            number = next(self._numbers)
            thread = new_call_uuid(0, 0, now_ms, secrets.randbits(56))
            if slots is None or thread_slot(thread) in slots:
                break
        conn_id = new_conn_id(0, 0, now_ms + 10 * number, number % 256)
        caller = Caller(self, tenant, route_point, thread, conn_id)
        caller.tell("ROUTE_REQUEST")
        return caller

    async def session(self, caller: Caller) -> Session:
        """The session of a call as the owner of its slot tells it."""
        request = GetSessionRequest(tenant=caller.tenant, session_id=caller.session)
        answer = await self.owners.call(self.stub.GetSession, request, caller.slot, 10.0)
        found: Session = answer.session
        return found

    async def send(self, caller: Caller, name: str, data: str = "") -> None:
        """An event for the session from outside, sent until it is taken. The owner may die after it has taken it; when the
        heir is asked again, the session may have ended with it."""
        request = SendEventRequest(
            tenant=caller.tenant,
            session_id=caller.session,
            name=name,
            data_json=data,
            request_id=f"r-{next(self._requests)}",
        )
        for left in reversed(range(CANCELS)):
            try:
                await self.owners.call(self.stub.SendEvent, request, caller.slot, 60.0)
                return
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return
                # grpc cancels handlers of the router in the test when a node dies that another call of it goes to.
                if not left or error.code() is not grpc.StatusCode.CANCELLED:
                    raise
            await asyncio.sleep(CANCEL_PAUSE_S)

    async def records(self, kind: str = "sessions") -> dict[str, SessionRecord]:
        """What Redis has: sessions that are awake, or `asleep`."""
        found: dict[str, SessionRecord] = {}
        for slot in range(256):
            rows: dict[Any, Any] = await self.redis.hgetall(f"{{orchestration:{slot}}}:{kind}")
            found |= {key.decode(): SessionRecord.FromString(row) for key, row in rows.items()}
        return found

    async def record(self, caller: Caller, kind: str = "sessions") -> SessionRecord | None:
        """What Redis has of a call's session."""
        row: Any = await self.redis.hget(f"{{orchestration:{caller.slot}}}:{kind}", caller.session)
        return None if row is None else SessionRecord.FromString(row)

    async def metric(self, node: str, name: str) -> float:
        """A figure of a node, as Prometheus reads it."""
        text = await asyncio.to_thread(self.nodes.nodes[node].metrics)
        found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name + " ")]
        assert found, f"{name} is not among the metrics of {node}"
        return float(found[0])

    def cpu(self, node: str) -> float:
        """CPU seconds of a node and its worker processes."""
        process = self.nodes.nodes[node].process
        assert process is not None
        return sum(_cpu(pid) for pid in (process.pid, *self._workers(process.pid)))

    async def terminate(self, node: str) -> int:
        """SIGTERM; gives the exit code."""
        return await asyncio.to_thread(self.nodes.nodes[node].terminate)

    def kill_workers(self, node: str) -> int:
        """kill -9 of a node's worker processes; how many there were."""
        process = self.nodes.nodes[node].process
        assert process is not None
        children = self._workers(process.pid)
        for child in children:
            os.kill(child, signal.SIGKILL)
        return len(children)

    @staticmethod
    def _workers(pid: int) -> list[int]:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]

    async def routed(self, callers: Sequence[Caller], destination: str, seconds: float = 15.0) -> None:
        """Waits until each of the calls was routed there, exactly once."""
        wanted = {caller.conn_id for caller in callers}

        async def all_routed() -> bool:
            return wanted <= self.sip.routes().keys()

        try:
            await eventually(all_routed, seconds)
        except TimeoutError:
            for caller in [c for c in callers if c.conn_id not in self.sip.routes()]:
                record = await self.record(caller) or await self.record(caller, "asleep")
                print(caller.route_point, self.owner(caller.slot), str(record)[:3000])
            raise
        routes = self.sip.routes()
        for conn_id in wanted:
            assert [r.route_call.destination for r in routes[conn_id]] == [destination]

    async def settled(self, seconds: float = 15.0) -> None:
        """Waits until no session is left."""

        async def none() -> bool:
            return not await self.records() and not await self.records("asleep")

        await eventually(none, seconds, 0.3)

    async def start(self, index: int, **variables: str) -> NodeProcess:
        """One more node; returns when it has its share of the slots."""
        before = {node.node for node in self.directory.nodes()}
        node = await self.nodes.start("orchestration", index, **observable(), **variables)
        share = 256 // (len(before | {f"orchestration-{index}"}))

        async def has_share() -> bool:
            return len(self.slots_of(f"orchestration-{index}")) >= share

        await eventually(has_share, 30)
        return node


def _cpu(pid: int) -> float:
    """User and system time of a process, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")


def _tenant(applications: ApplicationServer, route_points: dict[str, dict[str, Any]]) -> str:
    points = [
        {"number": number, "type": "routing_point", "switch": "sip", "enabled": True, "route_point": settings}
        for number, settings in route_points.items()
    ]
    phones = [
        {"number": number, "type": "extension", "switch": "sip", "enabled": True, "password": f"p-{number}"}
        for number in ("1001", DEFAULT_DN)
    ]
    tenant = {"tenant_id": "t1", "name": "T", "domains": ["t1.example"], "country": "US"}
    switches = [{"name": "sip", "tserver_dbid": 101}]
    return yaml.safe_dump({"tenant": tenant, "switches": switches, "dns": phones + points})


@contextlib.asynccontextmanager
async def region_of(
    etcd: EtcdServer,
    redis_server: RedisServer,
    client: redis.asyncio.Redis,
    region: str,
    documents: dict[str, str],
    *,
    nodes: int = 1,
    **variables: str,
) -> AsyncIterator[Region]:
    """A region whose route points run documents: number -> SCXML. `variables` are further settings of the nodes."""
    async with application_server() as applications, processes(etcd, redis_server, region) as made:
        applications.documents |= {f"/{number}.scxml": text for number, text in documents.items()}
        points: dict[str, dict[str, Any]] = {
            number: {
                "application_url": applications.url(f"/{number}.scxml"),
                "alternate_url": applications.url("/alternate.scxml"),
                "default_dns": [DEFAULT_DN],
            }
            for number in documents
        }
        own = Etcd(etcd.endpoint)
        with tempfile.TemporaryDirectory(prefix="vm-seed-") as folder:
            (Path(folder) / "t1.yaml").write_text(_tenant(applications, points))
            await asyncio.gather(
                made.start("redis_queue"), made.start("config", CONFIG_SEED=folder, CONFIG_SCRYPT_LOG_N="10")
            )
        directory = Directory(own, region, "orchestration")
        await directory.start()
        async with sip_node(own, region, made.router) as sip, made.rq() as rq:
            tenant = RecordingTenant(rq)
            view = Region(made, rq, directory, client, applications, sip, tenant)
            try:
                for index in range(nodes):
                    await view.start(index, **variables)
                yield view
            except BaseException:
                for name, node in made.nodes.items():
                    lines = [
                        line for line in node.log().splitlines() if not line.startswith('{"level": "info"')
                    ]
                    print(name, *lines[-30:], sep="\n")
                raise
            finally:
                await tenant.close()
        await directory.stop()
        await own.close()
