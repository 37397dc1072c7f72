"""Call control: to the node that owns the call's slot, or to a free one for a new call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from voice.mesh.v1.node_pb2 import NodeState
from voice.sip_cluster.v1.sip_node_service_pb2 import ExecuteRequest, ExecuteResponse
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.request_pb2 import MakeCallRequest, Request
from voicecore.hash import rendezvous_order

from mesh.discovery import Directory, OwnerClient, OwnerUnknown, may_repeat, to_node
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

    def __init__(self, directory: Directory, stub: SipNodeServiceAsyncStub) -> None:
        self._directory = directory
        self._owners = OwnerClient(directory)
        self._stub = stub

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
            raise _nobody(timeout_s) from error
        except grpc.aio.AioRpcError as error:
            if may_repeat(error):  # and there was no time left to
                raise _nobody(timeout_s) from error
            raise from_rpc_error(error, "sip_cluster") from error
        return answer.event

    async def new_call(self, request: Request, body: MakeCallRequest, timeout_s: float) -> Event:
        """A new call on a node with free capacity. Raises DomainError; once an INVITE may have left, it is not retried."""
        message = ExecuteRequest(tenant=body.tenant, request=request)
        refusal: DomainError | None = None
        for incarnation in self._candidates(body)[:NEW_CALL_TRIES]:
            try:
                answer = await self._stub.Execute(message, timeout=timeout_s, metadata=to_node(incarnation))
            except grpc.aio.AioRpcError as error:
                refusal = from_rpc_error(error, "sip_cluster")
                if reason_of(error) not in _NOT_TAKEN:
                    raise refusal from error
                continue
            return answer.event
        raise refusal or DomainError(
            Reason.REASON_DEPENDENCY_UNAVAILABLE, "no SIP node takes new calls", dependency="sip_cluster"
        )

    def _candidates(self, body: MakeCallRequest) -> list[str]:
        """Nodes with room, in an order that the request's id decides: sent again, it meets the node that has it."""
        nodes = [
            node
            for node in self._directory.nodes()
            if node.state == NodeState.NODE_STATE_SERVING
            and node.load < node.capacity
            and (not node.tenants or body.tenant in node.tenants)
        ]
        weights = [1.0 if node.load < 0.8 * node.capacity else 0.25 for node in nodes]
        names = [node.incarnation for node in nodes]
        return [
            names[index] for index in rendezvous_order(f"{body.tenant}/{body.request_id}", names, weights)
        ]


def _nobody(timeout_s: float) -> DomainError:
    text = f"no SIP node answered for the call in {timeout_s:.1f} s; ask again with the same id"
    return DomainError(Reason.REASON_TIMEOUT, text)
