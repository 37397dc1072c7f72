"""Call control: to the node that owns the call's slot, or to a free one for a new call."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
from voice.sip_cluster.v1.sip_node_service_pb2 import ExecuteRequest, ExecuteResponse
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.request_pb2 import MakeCallRequest, Request

from mesh.discovery import Directory, OwnerClient, OwnerUnknown, to_node
from mesh.errors import DomainError, Reason, from_rpc_error, reason_of
from mesh.identifiers import sip_slot_of_conn_id

if TYPE_CHECKING:
    from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceAsyncStub

NEW_CALL_TRIES = 3
"""Nodes asked for a new call at most."""
_NOT_TAKEN = frozenset({Reason.REASON_DRAINING, Reason.REASON_NOT_OWNER, Reason.REASON_QUEUE_FULL})
"""Refusals after which certainly nothing has happened: another node may be asked."""


class Calls:
    """Sends T-Library requests to SIP nodes."""

    def __init__(
        self,
        directory: Directory,
        stub: SipNodeServiceAsyncStub,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._directory = directory
        self._owners = OwnerClient(directory)
        self._stub = stub
        self._chance = chance

    async def on_call(self, request: Request, tenant: str, conn_id: int, timeout_s: float) -> Event:
        """A request about a call that exists. Raises DomainError."""
        try:
            slot = sip_slot_of_conn_id(conn_id)
        except ValueError as error:
            raise DomainError(Reason.REASON_UNKNOWN_CALL, f"no call has ConnID {conn_id:016x}") from error
        message = ExecuteRequest(tenant=tenant, request=request)
        try:
            answer: ExecuteResponse = await self._owners.call(self._stub.Execute, message, slot, timeout_s)
        except OwnerUnknown as error:
            raise DomainError(
                Reason.REASON_TIMEOUT, f"no SIP node answered for the call in {timeout_s:.1f} s"
            ) from error
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "sip_cluster") from error
        return answer.event

    async def new_call(self, request: Request, body: MakeCallRequest, timeout_s: float) -> Event:
        """A new call on a node with free capacity. Raises DomainError; once an INVITE may have left, it is not retried."""
        message = ExecuteRequest(tenant=body.tenant, request=request)
        refusal: DomainError | None = None
        tried: set[str] = set()
        for _ in range(NEW_CALL_TRIES):
            node = self._directory.choose(self._chance(), tenant=body.tenant)
            if node is None or node.incarnation in tried:
                continue
            tried.add(node.incarnation)
            try:
                answer = await self._stub.Execute(message, timeout=timeout_s, metadata=to_node(node))
            except grpc.aio.AioRpcError as error:
                refusal = from_rpc_error(error, "sip_cluster")
                if reason_of(error) not in _NOT_TAKEN:
                    raise refusal from error
                continue
            return answer.event
        raise refusal or DomainError(
            Reason.REASON_DEPENDENCY_UNAVAILABLE, "no SIP node takes new calls", dependency="sip_cluster"
        )
