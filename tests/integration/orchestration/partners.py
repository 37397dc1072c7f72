"""Who a session talks to, as recording receivers that speak the real contracts: a SIP node and a tenant.

Both remember request ids as the real ones do: the same id again has no effect and gets the same answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState, SlotClaim
from voice.sip_cluster.v1.sip_node_service_pb2 import (
    ExecuteRequest,
    ExecuteResponse,
    GetCallRequest,
    GetCallResponse,
)
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import (
    SipNodeServiceServicer,
    add_SipNodeServiceServicer_to_server,
)
from voice.tenant.v1.routing_pb2 import RouteAnswer, RouteRequest
from voice.tlib.v1.request_pb2 import Request

from mesh.etcd import Etcd
from mesh.membership import nodes_prefix
from mesh.rq import Rq
from tests.integration.redis_queue.egress import Egress

INCARNATION = "sip_cluster-0.00000001"


class RecordingSipNode(SipNodeServiceServicer):
    """Executes nothing; tells what it was asked for. `refuse` maps destinations to gRPC failures."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}
        """By id, in the order in which they took effect."""
        self.arrivals: Counter[str] = Counter()
        self.first: dict[int, float] = {}
        """ConnID -> when its first RouteCall came, UTC seconds."""

    async def Execute(self, request: ExecuteRequest, context: Any) -> ExecuteResponse:
        body = getattr(request.request, str(request.request.WhichOneof("body")))
        self.arrivals[body.request_id] += 1
        self.requests.setdefault(body.request_id, request.request)
        if request.request.WhichOneof("body") == "route_call":
            self.first.setdefault(body.conn_id, time.time())
        return ExecuteResponse()

    async def GetCall(self, request: GetCallRequest, context: Any) -> GetCallResponse:
        await context.abort(grpc.StatusCode.NOT_FOUND, "nothing is executed here")
        raise AssertionError  # abort has raised

    def routes(self) -> dict[int, list[Request]]:
        """ConnID -> routes that took effect."""
        found: dict[int, list[Request]] = {}
        for request in self.requests.values():
            if request.WhichOneof("body") == "route_call":
                found.setdefault(request.route_call.conn_id, []).append(request)
        return found


@contextlib.asynccontextmanager
async def sip_node(etcd: Etcd, region: str, router: Egress) -> AsyncIterator[RecordingSipNode]:
    """A SIP node that has slot 0 of the calls."""
    with tempfile.TemporaryDirectory(prefix="vm-sip-") as folder:
        node, server = RecordingSipNode(), grpc.aio.server()
        add_SipNodeServiceServicer_to_server(node, server)
        target = f"unix:{Path(folder) / 's'}"
        server.add_insecure_port(target)
        await server.start()
        router.name_target("sip_cluster", INCARNATION.rpartition(".")[0], target)
        record = NodeRecord(
            node="sip_cluster-0",
            incarnation=INCARNATION,
            service="sip_cluster",
            state=NodeState.NODE_STATE_SERVING,
            capacity=1000,
        )
        await etcd.put(nodes_prefix(region, "sip_cluster") + INCARNATION, record.SerializeToString())
        claim = SlotClaim(node=INCARNATION).SerializeToString()
        await etcd.put(f"/voicemesh/{region}/sip_cluster/slots/0", claim)
        try:
            yield node
        finally:
            await server.stop(0)


class RecordingTenant:
    """Answers routing requests when `open` is set: an agent for each, or none when there are no agents."""

    def __init__(self, rq: Rq, tenant: str = "t1") -> None:
        self._rq = rq
        self._queue = f"route_requests:{tenant}"
        self.open = asyncio.Event()
        self.requests: dict[str, RouteRequest] = {}
        self.withdrawn: set[str] = set()
        self.arrivals: Counter[str] = Counter()
        self._answered: set[str] = set()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._answer())]

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self.requests.keys() - self._answered - self.withdrawn)

    async def _read(self) -> None:
        async for entries in self._rq.read_queue(self._queue):
            for entry in entries:
                self._take(RouteRequest.FromString(entry.payload))
                self._rq.acknowledge(self._queue, entry.id)

    def _take(self, request: RouteRequest) -> None:
        if request.operation == RouteRequest.OPERATION_CANCEL:
            self.withdrawn.add(request.request_id)
        elif request.operation == RouteRequest.OPERATION_SUBMIT:
            self.arrivals[request.request_id] += 1
            self.requests.setdefault(request.request_id, request)

    async def _answer(self) -> None:
        while True:
            await self.open.wait()
            open_requests = self.requests.keys() - self._answered - self.withdrawn
            self._answered |= open_requests
            await asyncio.gather(*(self._agent_for(self.requests[name]) for name in sorted(open_requests)))
            await asyncio.sleep(0.01)

    async def _agent_for(self, request: RouteRequest) -> None:
        answer = RouteAnswer(
            request_id=request.request_id,
            tenant=request.tenant,
            session_id=request.session_id,
            call_thread_id=request.call_thread_id,
            agent_id="A1001",
            dn="1001",
            reservation_token=f"token-{request.request_id}",
        )
        await self._rq.enqueue(request.answer_queue, request.request_id, answer)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
