"""DialPlanService: contract <-> policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from voice.dial_plan.v1 import dial_plan_service_pb2 as pb
from voice.dial_plan.v1.dial_plan_service_pb2_grpc import DialPlanServiceServicer
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.config_cache import ConfigCache, Options
from mesh.errors import DomainError, Reason
from mesh.telemetry.metrics import Metrics
from mesh.validation import Checks
from services.dial_plan.policy import (
    Barred,
    DialPlan,
    Query,
    Refusal,
    Resolution,
    UnknownDestination,
    UnknownTenant,
)
from services.dial_plan.source import Source

REASONS: dict[type[Refusal], Reason.ValueType] = {
    UnknownTenant: Reason.REASON_UNKNOWN_TENANT,
    UnknownDestination: Reason.REASON_UNKNOWN_DESTINATION,
    Barred: Reason.REASON_CALL_REJECTED,
}


class DialPlanRpc(DialPlanServiceServicer):
    """Reads memory only."""

    def __init__(
        self, cache: ConfigCache, metrics: Metrics, clock_us: Callable[[], int] | None = None
    ) -> None:
        self._cache = cache
        self._plan = DialPlan(cache)
        self._clock_us = clock_us or (lambda: time.time_ns() // 1000)
        self._resolved = metrics.counter("resolutions_total", "Numbers resolved", ["tenant", "type"])
        self._refused = metrics.counter("refusals_total", "Numbers not resolved", ["reason"])
        self._took = metrics.histogram("resolve_seconds", "Time to resolve a number")

    async def Resolve(self, request: pb.ResolveRequest, context: Any) -> pb.ResolveResponse:
        """See the contract."""
        checks = Checks()
        if request.tenant or not request.HasField("source"):
            checks.tenant("tenant", request.tenant)
        checks.length("destination", request.destination, 1, 255)
        checks.length("caller_dn", request.caller_dn, 0, 64)
        if request.HasField("source"):
            _check_source(checks, request.source)
        checks.done()
        self._need_data()
        query = Query(
            request.destination,
            request.tenant,
            _source(request.source) if request.HasField("source") else None,
            request.caller_dn,
            request.destination_is_agent,
        )
        started = time.perf_counter()
        try:
            found = self._plan.resolve(query, self._clock_us())
        except Refusal as refusal:
            raise self._refusal(refusal) from None
        self._took.observe(time.perf_counter() - started)
        self._resolved.labels(found.tenant, found.type.name.lower()).inc()
        return response_of(found, self._cache.revision)

    async def IdentifyTenant(
        self, request: pb.IdentifyTenantRequest, context: Any
    ) -> pb.IdentifyTenantResponse:
        """See the contract."""
        checks = Checks()
        checks.required("source", request.HasField("source"))
        _check_source(checks, request.source)
        checks.done()
        self._need_data()
        try:
            origin = self._plan.identify(_source(request.source))
        except Refusal as refusal:
            raise self._refusal(refusal) from None
        return pb.IdentifyTenantResponse(
            tenant=origin.tenant, trunk=origin.trunk.number if origin.trunk is not None else ""
        )

    def _need_data(self) -> None:
        # Without data every tenant would look unknown, which is final; this is not.
        if not self._cache.synced.is_set():
            raise DomainError(
                Reason.REASON_DEPENDENCY_UNAVAILABLE, "no configuration yet", dependency="config"
            )

    def _refusal(self, refusal: Refusal) -> DomainError:
        reason = REASONS[type(refusal)]
        self._refused.labels(Reason.Name(reason).removeprefix("REASON_").lower()).inc()
        return DomainError(reason, str(refusal))


def _check_source(checks: Checks, source: pb.Source) -> None:
    for field in ("address", "domain", "from_domain", "from_user"):
        checks.length(f"source.{field}", getattr(source, field), 0, 255)


def _source(source: pb.Source) -> Source:
    return Source(source.address, source.domain, source.from_domain, source.from_user)


def response_of(found: Resolution, revision: int) -> pb.ResolveResponse:
    """The contract's form of a resolution."""
    caller = found.caller
    return pb.ResolveResponse(
        tenant=found.tenant,
        caller=pb.Caller(dn=caller.dn, number=caller.number, trunk=caller.trunk, agent_id=caller.agent_id),
        type=pb.DeviceType.Value(f"DEVICE_TYPE_{found.type.name}"),
        dn=found.dn,
        number=found.number,
        contacts=[pb.Contact(uri=c.uri, path=c.path, q=c.q) for c in found.contacts],
        agent_id=found.agent_id,
        agent_user_name=found.agent_user_name,
        place=found.place,
        options=_options(found.options),
        default_dns=found.default_dns,
        no_answer_timeout=found.no_answer_timeout,
        overflow=found.overflow,
        revision=revision,
        dnd=found.dnd,
        routing_timeout_ms=found.routing_timeout_ms,
    )


def _options(options: Options) -> KvList:
    return KvList(
        pairs=[
            KvPair(key=f"{section}/{name}", string_value=value)
            for section, entries in options.items()
            for name, value in entries.items()
        ]
    )
