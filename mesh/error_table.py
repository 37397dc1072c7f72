"""The one table of failures: reason -> gRPC status, SIP status, T-Library error number, retryable, SLI class.

The first three columns repeat the comments of proto/voice/error/v1/reason.proto, which are the source; a
contract test compares them. `retryable` says whether the same request, unchanged, may succeed when sent
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from grpc import StatusCode
from voice.error.v1 import reason_pb2 as r
from voice.error.v1.reason_pb2 import Reason


class Sli(Enum):
    """Whose fault a result is, for service levels."""

    SUCCESS = "success"
    CLIENT_ERROR = "client_error"
    """The request was wrong; counts as served."""
    SERVER_ERROR = "server_error"
    """We failed."""
    UPSTREAM_ERROR = "upstream_error"
    """Somebody we depend on failed: another service, a phone, an application."""
    INDETERMINATE = "indeterminate"
    """The outcome is not known, or nobody is to blame (a lost race, a hand-over)."""


@dataclass(frozen=True)
class Row:
    """What a reason means to each kind of peer."""

    grpc: StatusCode
    sip: int
    """SIP status (RFC 3261 §21) when the failure ends an INVITE."""
    tlib: int
    """T-Library error number, as in EventError's ErrorCode."""
    retryable: bool
    sli: Sli


_C = StatusCode
_AGAIN, _FINAL = True, False

TABLE: Mapping[Reason.ValueType, Row] = MappingProxyType(
    {
        r.REASON_UNSPECIFIED: Row(_C.UNKNOWN, 500, 50, _FINAL, Sli.SERVER_ERROR),
        r.REASON_INVALID_ATTRIBUTE: Row(_C.INVALID_ARGUMENT, 400, 53, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_UNKNOWN_CALL: Row(_C.NOT_FOUND, 481, 56, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_UNKNOWN_DN: Row(_C.NOT_FOUND, 404, 59, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_UNKNOWN_DESTINATION: Row(_C.NOT_FOUND, 404, 71, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_UNKNOWN_OBJECT: Row(_C.NOT_FOUND, 404, 59, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_UNKNOWN_TENANT: Row(_C.NOT_FOUND, 404, 59, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_ALREADY_EXISTS: Row(_C.ALREADY_EXISTS, 400, 43, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_REVISION_CONFLICT: Row(_C.ABORTED, 500, 185, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_OBJECT_IN_USE: Row(_C.FAILED_PRECONDITION, 400, 185, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_WRONG_STATE: Row(_C.FAILED_PRECONDITION, 491, 185, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_ALREADY_IN_STATE: Row(_C.FAILED_PRECONDITION, 400, 186, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_UNSUPPORTED: Row(_C.UNIMPLEMENTED, 501, 51, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_FOREIGN_TENANT: Row(_C.PERMISSION_DENIED, 403, 41, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_NOT_AUTHORIZED: Row(_C.PERMISSION_DENIED, 403, 41, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_UNAUTHENTICATED: Row(_C.UNAUTHENTICATED, 401, 119, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_RATE_LIMITED: Row(_C.RESOURCE_EXHAUSTED, 503, 40, _AGAIN, Sli.CLIENT_ERROR),
        r.REASON_QUEUE_FULL: Row(_C.RESOURCE_EXHAUSTED, 503, 166, _AGAIN, Sli.SERVER_ERROR),
        r.REASON_TIMEOUT: Row(_C.DEADLINE_EXCEEDED, 408, 57, _AGAIN, Sli.INDETERMINATE),
        r.REASON_DEPENDENCY_UNAVAILABLE: Row(_C.UNAVAILABLE, 503, 118, _AGAIN, Sli.UPSTREAM_ERROR),
        r.REASON_NOT_OWNER: Row(_C.UNAVAILABLE, 503, 118, _AGAIN, Sli.INDETERMINATE),
        r.REASON_DRAINING: Row(_C.UNAVAILABLE, 503, 118, _AGAIN, Sli.INDETERMINATE),
        r.REASON_STALE_EPOCH: Row(_C.ABORTED, 500, 52, _AGAIN, Sli.INDETERMINATE),
        r.REASON_IN_PROGRESS: Row(_C.ABORTED, 500, 110, _AGAIN, Sli.INDETERMINATE),
        r.REASON_OUT_OF_SERVICE: Row(_C.UNAVAILABLE, 480, 58, _AGAIN, Sli.UPSTREAM_ERROR),
        r.REASON_DN_BUSY: Row(_C.FAILED_PRECONDITION, 486, 231, _FINAL, Sli.UPSTREAM_ERROR),
        r.REASON_NO_ANSWER: Row(_C.DEADLINE_EXCEEDED, 480, 232, _FINAL, Sli.UPSTREAM_ERROR),
        r.REASON_CALL_REJECTED: Row(_C.FAILED_PRECONDITION, 603, 233, _FINAL, Sli.UPSTREAM_ERROR),
        r.REASON_INVALID_TARGET: Row(_C.NOT_FOUND, 404, 177, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_AGENT_RESERVED: Row(_C.ABORTED, 500, 1700, _AGAIN, Sli.CLIENT_ERROR),
        r.REASON_WRONG_AGENT_ID: Row(_C.NOT_FOUND, 404, 1703, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_AGENT_ID_IN_USE: Row(_C.FAILED_PRECONDITION, 400, 1704, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_PASSWORD_MISMATCH: Row(_C.UNAUTHENTICATED, 403, 1705, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_DN_HAS_AGENT: Row(_C.FAILED_PRECONDITION, 400, 1706, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_AGENT_NOT_LOGGED_IN: Row(_C.FAILED_PRECONDITION, 400, 1707, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_NO_TARGET: Row(_C.DEADLINE_EXCEEDED, 480, 57, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_RESERVATION_INVALID: Row(_C.FAILED_PRECONDITION, 403, 1700, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_APPLICATION_FAILED: Row(_C.UNAVAILABLE, 500, 118, _AGAIN, Sli.UPSTREAM_ERROR),
        r.REASON_CURSOR_EXPIRED: Row(_C.OUT_OF_RANGE, 500, 53, _FINAL, Sli.CLIENT_ERROR),
        r.REASON_SEQUENCE_GAP: Row(_C.FAILED_PRECONDITION, 500, 52, _FINAL, Sli.SERVER_ERROR),
        r.REASON_INTERNAL: Row(_C.INTERNAL, 500, 52, _FINAL, Sli.SERVER_ERROR),
    }
)

STATUS_SLI: Mapping[StatusCode, Sli] = MappingProxyType(
    {
        _C.OK: Sli.SUCCESS,
        _C.CANCELLED: Sli.INDETERMINATE,
        _C.UNKNOWN: Sli.SERVER_ERROR,
        _C.INVALID_ARGUMENT: Sli.CLIENT_ERROR,
        _C.DEADLINE_EXCEEDED: Sli.INDETERMINATE,
        _C.NOT_FOUND: Sli.CLIENT_ERROR,
        _C.ALREADY_EXISTS: Sli.CLIENT_ERROR,
        _C.PERMISSION_DENIED: Sli.CLIENT_ERROR,
        _C.RESOURCE_EXHAUSTED: Sli.SERVER_ERROR,
        _C.FAILED_PRECONDITION: Sli.CLIENT_ERROR,
        _C.ABORTED: Sli.INDETERMINATE,
        _C.OUT_OF_RANGE: Sli.CLIENT_ERROR,
        _C.UNIMPLEMENTED: Sli.CLIENT_ERROR,
        _C.INTERNAL: Sli.SERVER_ERROR,
        _C.UNAVAILABLE: Sli.UPSTREAM_ERROR,
        _C.DATA_LOSS: Sli.SERVER_ERROR,
        _C.UNAUTHENTICATED: Sli.CLIENT_ERROR,
    }
)
"""SLI class of a status that came without a reason."""
