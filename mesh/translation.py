"""Where exceptions of handlers become statuses: the only place that aborts a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc
import redis.exceptions
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import DomainError, from_rpc_error
from mesh.etcd import EtcdUnavailable
from mesh.metadata import STATUS_KEY
from mesh.pipeline import Call, Stage
from mesh.slots import NotOwner
from mesh.store import SequenceGap, StaleEpoch
from mesh.telemetry.logs import logger
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.tracing import trace_id

log = logger("rpc")

_R = Reason


def _away(dependency: str) -> DomainError:
    text = f"{dependency} is not available"
    return DomainError(_R.REASON_DEPENDENCY_UNAVAILABLE, text, dependency=dependency)


KNOWN: tuple[tuple[type[BaseException], Callable[[Any], DomainError]], ...] = (
    (NotOwner, lambda e: DomainError(_R.REASON_NOT_OWNER, str(e), family=e.family, slot=str(e.slot))),
    (StaleEpoch, lambda e: DomainError(_R.REASON_STALE_EPOCH, str(e))),
    (SequenceGap, lambda e: DomainError(_R.REASON_SEQUENCE_GAP, str(e))),
    (EtcdUnavailable, lambda e: _away("etcd")),
    (redis.exceptions.ConnectionError, lambda e: _away("redis")),
    (redis.exceptions.TimeoutError, lambda e: _away("redis")),
    (TimeoutError, lambda e: DomainError(_R.REASON_TIMEOUT, str(e) or "not done in time")),
    (grpc.RpcError, lambda e: from_rpc_error(e, "a service called")),
)
"""Exceptions of the mesh that stand for a failure; the first that fits counts."""


class Translation(Stage):
    """DomainError and the mesh's own exceptions become their status; anything else INTERNAL with the trace
    id only, logged with its traceback and counted."""

    def __init__(self, metrics: Metrics) -> None:
        self._unexpected = metrics.counter(
            "rpc_unexpected_errors_total", "Exceptions of handlers that nobody foresaw", ["method"]
        )

    def around(self, call: Call) -> _Translating:
        return _Translating(self, call)

    def expected(self, error: BaseException) -> DomainError | None:
        """The failure that a known exception stands for."""
        if isinstance(error, DomainError):
            return error
        for kind, translate in KNOWN:
            if isinstance(error, kind):
                return translate(error)
        return None

    def failure(self, call: Call, error: Exception) -> DomainError:
        """The failure to send for any exception."""
        known = self.expected(error)
        if known is not None and known.reason != Reason.REASON_INTERNAL:
            return known
        self._unexpected.labels(call.method.name).inc()
        log.error("unexpected error", method=call.method.name, exc_info=error)
        return DomainError(Reason.REASON_INTERNAL, f"internal error, trace {trace_id()}")


class _Translating:
    __slots__ = ("_call", "_stage")

    def __init__(self, stage: Translation, call: Call) -> None:
        self._stage = stage
        self._call = call

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, grpc.aio.AbortError):
            return
        if isinstance(error, asyncio.CancelledError) and self._call.draining:
            failure = DomainError(Reason.REASON_DRAINING, "this node is draining")
        elif isinstance(error, Exception):
            failure = self._stage.failure(self._call, error)
        else:
            return
        self._call.reason = failure.reason
        status = failure.to_status(trace_id())
        await self._call.context.abort(
            failure.row.grpc, status.message, ((STATUS_KEY, status.SerializeToString()),)
        )
