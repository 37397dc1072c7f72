"""Failures: raise `DomainError`, never abort by hand; one interceptor (mesh/translation.py) sends it.

    raise DomainError(Reason.REASON_UNKNOWN_CALL, f"no call has ConnID {conn_id:016x}")
    raise invalid(("tenant", "is required"))
    raise DomainError(Reason.REASON_NOT_OWNER, "slot moved", family="sip", slot="17", owner=incarnation)

On the other side: `reason_of(error)`, `details(error)`; `from_rpc_error(error, "config")` passes one on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from voice.error.v1 import detail_pb2
from voice.error.v1.reason_pb2 import Reason

from mesh.error_table import STATUS_SLI, TABLE, Row, Sli
from mesh.metadata import ENVOY_REASON_KEY, STATUS_KEY

__all__ = [
    "DETAIL_MESSAGES",
    "DOMAIN",
    "STATUS_SLI",
    "TABLE",
    "Details",
    "DomainError",
    "Reason",
    "Row",
    "Sli",
    "details",
    "from_rpc_error",
    "invalid",
    "reason_of",
]

DOMAIN = "voicemesh"
"""google.rpc.ErrorInfo.domain of every failure."""
MAX_MESSAGE = 1024
"""Longest error text put on the wire, characters."""

DETAIL_MESSAGES: Mapping[Reason.ValueType, type[Message]] = MappingProxyType(
    {
        Reason.REASON_NOT_OWNER: detail_pb2.NotOwner,
        Reason.REASON_REVISION_CONFLICT: detail_pb2.RevisionConflict,
        Reason.REASON_DEPENDENCY_UNAVAILABLE: detail_pb2.DependencyUnavailable,
        Reason.REASON_AGENT_RESERVED: detail_pb2.AgentReserved,
    }
)
"""Reasons with a detail message of their own; its fields are the keyword arguments of `DomainError`."""


class DomainError(Exception):
    """A failure with a reason. `detail` fills the reason's detail message where it has one and travels as
    ErrorInfo.metadata (text) otherwise. TypeError for a keyword the detail message does not have."""

    def __init__(self, reason: Reason.ValueType, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.detail: dict[str, Any] = detail
        self.violations: tuple[tuple[str, str], ...] = ()
        self._retryable: bool | None = None
        kind = DETAIL_MESSAGES.get(reason)
        unknown = set(detail) - set(kind.DESCRIPTOR.fields_by_name) if kind else set()
        if unknown:
            raise TypeError(f"{Reason.Name(reason)} has no detail {', '.join(sorted(unknown))}")

    @property
    def row(self) -> Row:
        """What the reason means: statuses, number, retryable, SLI class."""
        return TABLE[self.reason]

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed when sent again."""
        return self.row.retryable if self._retryable is None else self._retryable

    def after_effect(self) -> DomainError:
        """Marks that a side effect has left (an INVITE was sent): no longer retryable. Returns self."""
        self._retryable = False
        return self

    def to_status(self, trace_id: str = "") -> Status:
        """The google.rpc.Status that travels in the trailing metadata."""
        kind = DETAIL_MESSAGES.get(self.reason)
        info = ErrorInfo(domain=DOMAIN, reason=Reason.Name(self.reason))
        if kind is None:
            info.metadata.update({key: str(value)[:MAX_MESSAGE] for key, value in self.detail.items()})
        if trace_id:
            info.metadata["trace_id"] = trace_id
        failure = detail_pb2.Failure(reason=self.reason, tlib_error=self.row.tlib, retryable=self.retryable)
        parts: list[Message] = [info, failure]
        if kind is not None and self.detail:
            parts.append(kind(**self.detail))
        if self.violations:
            parts.append(_bad_request(self.violations))
        status = Status(code=self.row.grpc.value[0], message=self.message[:MAX_MESSAGE])
        for part in parts:
            status.details.add().Pack(part)
        return status


def _bad_request(violations: Iterable[tuple[str, str]]) -> BadRequest:
    named = [BadRequest.FieldViolation(field=name, description=rule) for name, rule in violations]
    return BadRequest(field_violations=named)


def invalid(*violations: tuple[str, str]) -> DomainError:
    """REASON_INVALID_ATTRIBUTE for one or more (field, rule), as in ("tenant", "is required")."""
    error = DomainError(
        Reason.REASON_INVALID_ATTRIBUTE, "; ".join(f"{name} {rule}" for name, rule in violations)
    )
    error.violations = violations
    return error


@dataclass(frozen=True)
class Details:
    """A failure as its receiver sees it."""

    status: grpc.StatusCode
    message: str
    reason: Reason.ValueType | None = None
    """None when the failure does not come from one of our services."""
    tlib_error: int = 0
    retryable: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()
    detail: Message | None = None
    """The reason's own detail message, see DETAIL_MESSAGES."""
    trace_id: str = ""


# How the sidecar names what it met (local_reply_config): node-gone for UH; UF, UC for a lost connection.
_ENVOY_REASONS = MappingProxyType({"node-gone": Reason.REASON_NOT_OWNER})


def reason_of(error: BaseException) -> Reason.ValueType | None:
    """The reason of a failed call, or None when it names none. Accepts grpc.RpcError and DomainError."""
    if isinstance(error, DomainError):
        return error.reason
    return details(error).reason if isinstance(error, grpc.RpcError) else None


def details(error: grpc.RpcError) -> Details:
    """All that a failed call says about its failure."""
    code: grpc.StatusCode = error.code()
    text: str = error.details() or ""
    trailing = _pairs(error.trailing_metadata())
    raw = trailing.get(STATUS_KEY)
    if not isinstance(raw, bytes):
        return _without_status(code, text, error, trailing)
    try:
        status = Status.FromString(raw)
    except DecodeError:
        return Details(code, text)
    return _parse(code, text, status.details)


def _without_status(
    code: grpc.StatusCode, text: str, error: grpc.RpcError, trailing: dict[str, Any]
) -> Details:
    said = trailing.get(ENVOY_REASON_KEY) or _initial_metadata(error).get(ENVOY_REASON_KEY)
    if said is None:
        return Details(code, text)
    reason = _ENVOY_REASONS.get(said, Reason.REASON_DEPENDENCY_UNAVAILABLE)
    row = TABLE[reason]
    return Details(code, text, reason, row.tlib, row.retryable, {"envoy": str(said)})


def _initial_metadata(error: grpc.RpcError) -> dict[str, Any]:
    return _pairs(error.initial_metadata()) if isinstance(error, grpc.aio.AioRpcError) else {}


def _pairs(metadata: Any) -> dict[str, Any]:
    return dict(metadata or ())


def _parse(code: grpc.StatusCode, text: str, parts: Iterable[PackedAny]) -> Details:
    failure, info, violations = detail_pb2.Failure(), ErrorInfo(), BadRequest()
    detail: Message | None = None
    for part in parts:
        for known in (failure, info, violations):
            if part.Unpack(known):
                break
        else:
            detail = _unpack_detail(part) or detail
    known_reason = failure.reason if failure.reason in TABLE and failure.reason else None
    return Details(
        status=code,
        message=text,
        reason=known_reason,
        tlib_error=failure.tlib_error,
        retryable=failure.retryable,
        metadata={key: value for key, value in info.metadata.items() if key != "trace_id"},
        violations=tuple((v.field, v.description) for v in violations.field_violations),
        detail=detail,
        trace_id=info.metadata.get("trace_id", ""),
    )


def _unpack_detail(part: PackedAny) -> Message | None:
    for kind in DETAIL_MESSAGES.values():
        message = kind()
        if part.Unpack(message):
            return message
    return None


def from_rpc_error(error: grpc.RpcError, dependency: str) -> DomainError:
    """The failure of a call to `dependency` (a service name), to be raised on our own behalf.

    A reason that was given is kept with its details. Without one: UNAVAILABLE, CANCELLED and a reset stream
    become REASON_DEPENDENCY_UNAVAILABLE, DEADLINE_EXCEEDED becomes REASON_TIMEOUT, anything else
    REASON_INTERNAL.
    """
    said = details(error)
    if said.reason is None:
        return _nameless(said, dependency)
    own: dict[str, Any] = dict(said.metadata)
    if said.reason in DETAIL_MESSAGES:
        own = {f.name: value for f, value in said.detail.ListFields()} if said.detail is not None else {}
    passed_on = DomainError(said.reason, said.message or f"{dependency} failed", **own)
    passed_on.violations = said.violations
    return passed_on if said.retryable else passed_on.after_effect()


def _nameless(said: Details, dependency: str) -> DomainError:
    # A sidecar whose endpoint was killed resets open streams, and grpc calls that INTERNAL.
    reset = said.status is grpc.StatusCode.INTERNAL and "RST_STREAM" in said.message
    if reset or said.status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return DomainError(
            Reason.REASON_DEPENDENCY_UNAVAILABLE, f"{dependency} is not available", dependency=dependency
        )
    if said.status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DomainError(
            Reason.REASON_TIMEOUT, f"{dependency} did not answer in time", dependency=dependency
        )
    return DomainError(
        Reason.REASON_INTERNAL, f"{dependency} failed: {said.status.name}", dependency=dependency
    )
