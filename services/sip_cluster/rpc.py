"""SipNodeService: requests to the calls of this node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from voice.error.v1.reason_pb2 import Reason
from voice.sip_cluster.v1 import sip_node_service_pb2 as pb
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceServicer
from voice.tlib.v1.event_pb2 import Event

from mesh.errors import DomainError, invalid
from mesh.gate import Gate
from mesh.identifiers import BadIdentifier, sip_slot_of_conn_id
from mesh.slots import NotOwner
from mesh.telemetry import current_traceparent
from services.sip_cluster import inputs
from services.sip_cluster.calls import Refusal, RequestRecord, Told
from services.sip_cluster.entry import Entry, Outcome
from services.sip_cluster.node import Node
from services.sip_cluster.numbers import Numbers
from services.sip_cluster.records import outcome_event
from services.sip_cluster.remembered import Ended
from services.sip_cluster.requests import translate
from services.sip_cluster.tlib import Why

PUBLISH_WAIT_S = 1.0
"""How long an answer waits for its event to be in the stream, seconds; the event is in the snapshot then."""


class SipNodeRpc(SipNodeServiceServicer):
    """Serves the contract."""

    def __init__(
        self, node: Node, numbers: Numbers, ready: Callable[[int], Awaitable[int]], gate: Gate
    ) -> None:
        """`ready(slot)`: epoch of a slot of ours, once its calls are here; raises NotOwner. `gate`: whether we may speak for
        a slot now."""
        self._node = node
        self._numbers = numbers
        self._ready = ready
        self._gate = gate

    async def Execute(self, request: pb.ExecuteRequest, context: Any) -> pb.ExecuteResponse:
        name = request.request.WhichOneof("body") or "none"
        try:
            asked = translate(request.request, request.tenant, self._node.next_rotation)
            outcome = await self._carry_out(request.tenant, asked)
        except DomainError as error:
            self._numbers.requests.labels(name, Reason.Name(error.reason)).inc()
            raise
        told, acknowledged = outcome
        if isinstance(told, Refusal):
            self._numbers.requests.labels(name, str(told.why)).inc()
            raise _error(told)
        if acknowledged is not None and not acknowledged.done():
            await asyncio.wait((acknowledged,), timeout=PUBLISH_WAIT_S)
        self._numbers.requests.labels(name, "ok").inc()
        return pb.ExecuteResponse(event=_event(told, asked.request.reference_id))

    async def GetCall(self, request: pb.GetCallRequest, context: Any) -> pb.GetCallResponse:
        entry = await self._live(request.tenant, request.conn_id)
        if not isinstance(entry, Entry):
            raise _unknown(request.conn_id)
        thread = entry.thread
        call = thread.calls.get(request.conn_id)
        if call is None:
            raise _unknown(request.conn_id)
        response = pb.GetCallResponse(
            conn_id=call.conn_id,
            call_uuid=call.call_uuid,
            call_thread_id=thread.id,
            last_seq=thread.seq,
            slot=thread.slot,
        )
        for party in call.parties.values():
            signals = [entry.signals[leg] for leg in party.legs if leg in entry.signals]
            invites = [signal.invite.call_id for signal in signals if signal.invite is not None]
            response.parties.add(
                dn=party.dn,
                phase=int(party.phase),
                agent_id=party.agent_id,
                sip_call_id=invites[0] if invites else "",
            )
        return response

    async def _carry_out(self, tenant: str, asked: inputs.RequestInput) -> Outcome:
        if isinstance(asked, inputs.MakeCall):
            return await self._make(asked)
        conn_id = asked.request.conn_id
        entry = await self._live(tenant, conn_id)
        if isinstance(entry, Ended):
            known = entry.requests.get(asked.request.id)
            if known is None or known.outcome is None:
                raise _unknown(conn_id)
            _same(known, asked)
            return known.outcome, None
        known = entry.thread.requests.get(asked.request.id)
        if known is not None:
            _same(known, asked)
            if known.outcome is not None:
                return known.outcome, entry.acknowledgements.get(asked.request.id)
            return await self._wait(entry, asked.request.id, None)
        return await self._wait(entry, asked.request.id, asked)

    async def _make(self, asked: inputs.MakeCall) -> Outcome:
        entry = self._node.remembered.make(asked.tenant, asked.request.id)
        if entry is None:
            if self._node.draining:
                raise DomainError(Reason.REASON_DRAINING, "the node takes no new calls")
            if self._node.admit():
                raise DomainError(Reason.REASON_QUEUE_FULL, "the node carries as many calls as it can")
            entry = self._node.make(asked, current_traceparent())
        known = entry.thread.requests[asked.request.id]
        _same(known, asked)
        if known.outcome is not None:
            return known.outcome, None
        return await self._wait(entry, asked.request.id, None)

    async def _wait(self, entry: Entry, request: str, asked: inputs.RequestInput | None) -> Outcome:
        """The outcome of a request, given to the thread now unless that happened before. A caller that goes away
        does not undo the request."""
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiters = entry.waiters.setdefault(request, [])
        waiters.append(waiter)
        try:
            if asked is not None:
                self._node.feed(entry, asked)
            return await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)

    async def _live(self, tenant: str, conn_id: int) -> Entry | Ended:
        """The call, alive or ended, here or at an owner of its slot before us. Raises NOT_OWNER, UNKNOWN_CALL;
        DEPENDENCY_UNAVAILABLE when neither lease nor Redis vouches for us."""
        try:
            slot = sip_slot_of_conn_id(conn_id)
        except BadIdentifier:
            raise _unknown(conn_id) from None
        if not await self._gate.passes(slot, await self._ready(slot)):
            raise NotOwner("sip", slot)
        entry = self._node.threads.get(conn_id)
        if entry is not None and entry.thread.tenant == tenant:
            return entry
        ended = await self._node.recall(slot, conn_id)
        if ended is not None and ended.tenant == tenant:
            return ended
        raise _unknown(conn_id)


def _same(known: RequestRecord, asked: inputs.RequestInput) -> None:
    if known.fingerprint != asked.request.fingerprint:
        raise invalid(("request_id", "was used for a request with other contents"))


def _unknown(conn_id: int) -> DomainError:
    return DomainError(Reason.REASON_UNKNOWN_CALL, f"no call has ConnID {conn_id:016x}")


def _error(refusal: Refusal) -> DomainError:
    if refusal.why is Why.INVALID_ATTRIBUTE:
        return invalid((refusal.field or "request", refusal.text))
    detail = {"dependency": "dial_plan"} if refusal.why is Why.DEPENDENCY_UNAVAILABLE else {}
    return DomainError(Reason.Value(refusal.why), refusal.text, **detail)


def _event(told: Told, reference_id: int) -> Event:
    event = outcome_event(told)
    event.reference_id = reference_id
    return event
