"""Questions to the Dial Plan service: one unary call each, with a deadline; its answers as the model takes them."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
from voice.dial_plan.v1 import dial_plan_service_pb2 as pb
from voice.dial_plan.v1.dial_plan_service_pb2_grpc import DialPlanServiceStub
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import TABLE, Details, details
from mesh.telemetry import continued
from services.sip_cluster import outcomes
from services.sip_cluster.calls import Ask, CallThread, Contact, DeviceType, Purpose, Resolution
from services.sip_cluster.inputs import Resolved, Unresolved
from services.sip_cluster.outcomes import Outcome
from services.sip_cluster.tlib import CallState, Why

DEFAULT_RING_S = 30
"""Ring time of a device for which the dial plan gives none, seconds."""
_DEVICES: dict[int, DeviceType] = {int(kind): kind for kind in DeviceType}
FALSE = frozenset({"false", "0", "no", "off"})

_UNREACHABLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


class Resolver:
    """Asks the dial plan. `observe(seconds, ok)` is told of each call."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        timeout_s: float,
        max_ring_s: int,
        observe: Callable[[float, bool], None],
    ) -> None:
        self._stub = DialPlanServiceStub(channel)
        self._timeout_s = timeout_s
        self._max_ring_s = max_ring_s
        self._observe = observe

    async def resolve(self, thread: CallThread, ask: Ask, source: pb.Source | None) -> Resolved | Unresolved:
        """The answer to an ask. Never raises for what the dial plan or the way to it may do."""
        arrival = ask.purpose is Purpose.ARRIVAL
        request = pb.ResolveRequest(
            tenant=thread.tenant,
            source=source if arrival else None,
            destination=ask.destination,
            caller_dn=ask.caller_dn,
            destination_is_agent=ask.is_agent,
        )
        started = time.perf_counter()
        try:
            with continued(thread.traceparent):
                answer: pb.ResolveResponse = await self._stub.Resolve(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            said = details(error)
            away = said.reason is None and said.status in _UNREACHABLE
            self._observe(time.perf_counter() - started, not away)
            return await self._unresolved(thread, ask, source if arrival else None, said)
        self._observe(time.perf_counter() - started, True)
        return Resolved(ask.id, resolution(answer, self._max_ring_s))

    async def _unresolved(
        self, thread: CallThread, ask: Ask, source: pb.Source | None, said: Details
    ) -> Unresolved:
        outcome = outcome_of(said)
        tenant, trunk = str(said.metadata.get("tenant", thread.tenant)), ""
        known = said.reason in (Reason.REASON_UNKNOWN_DESTINATION, Reason.REASON_CALL_REJECTED)
        if source is not None and known:
            try:
                with continued(thread.traceparent):
                    identified: pb.IdentifyTenantResponse = await self._stub.IdentifyTenant(
                        pb.IdentifyTenantRequest(source=source), timeout=self._timeout_s
                    )
                tenant, trunk = identified.tenant, identified.trunk
            except grpc.aio.AioRpcError:
                tenant = ""  # the caller is told; nobody else can be
        return Unresolved(ask.id, outcome, said.message or "the dial plan does not answer", tenant, trunk)


def outcome_of(said: Details) -> Outcome:
    """What a failure of the dial plan means for the call."""
    if said.reason == Reason.REASON_UNKNOWN_DESTINATION:
        return outcomes.NO_ROUTE
    if said.reason == Reason.REASON_CALL_REJECTED:
        return outcomes.REJECTED
    if said.reason is None or said.reason in (
        Reason.REASON_DEPENDENCY_UNAVAILABLE,
        Reason.REASON_TIMEOUT,
        Reason.REASON_INTERNAL,
        Reason.REASON_QUEUE_FULL,
        Reason.REASON_NOT_OWNER,
        Reason.REASON_DRAINING,
    ):
        return outcomes.DIAL_PLAN_AWAY
    status = TABLE[said.reason].sip
    if status == 404:
        return outcomes.NO_ROUTE
    return Outcome(status, CallState.GENERAL_ERROR, Why.INVALID_TARGET)


def resolution(answer: pb.ResolveResponse, max_ring_s: int = 600) -> Resolution:
    """The contract's answer as the model takes it."""
    caller = answer.caller
    options = (
        {pair.key: pair.string_value for pair in answer.options.pairs} if answer.HasField("options") else {}
    )
    return Resolution(
        answer.tenant,
        _DEVICES.get(answer.type, DeviceType.UNKNOWN),
        answer.dn,
        number=answer.number,
        caller_dn=caller.dn,
        caller_number=caller.number,
        caller_trunk=caller.trunk,
        caller_agent=caller.agent_id,
        contacts=tuple([Contact(contact.uri, tuple(contact.path), contact.q) for contact in answer.contacts]),
        agent_id=answer.agent_id,
        place=answer.place,
        default_dns=tuple(answer.default_dns),
        no_answer_s=min(answer.no_answer_timeout or DEFAULT_RING_S, max_ring_s),
        overflow=answer.overflow,
        dnd=answer.dnd,
        divert_on_ringing=options.get("TServer/divert-on-ringing", "true").lower() not in FALSE,
        can_talk="talk" in options.get("TServer/sip-cti-control", "").replace(" ", "").split(","),
        routing_timeout_ms=answer.routing_timeout_ms,
        wrap_up=options.get("TServer/wrap-up-time", ""),
    )
