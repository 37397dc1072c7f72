"""What is measured, traced and drawn of every call: a stage on the server's side, an observer on the
client's."""

from __future__ import annotations

import asyncio
import functools
import time
from types import TracebackType
from typing import Any

import grpc
import structlog

from mesh.errors import STATUS_SLI, TABLE, Sli
from mesh.metadata import EDGE_SERVICE, PEER_KEY, TENANT_KEY, TRACEPARENT_KEY
from mesh.pipeline import Call, Method, Stage
from mesh.telemetry import steps, tracing
from mesh.telemetry.metrics import Metrics

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_EDGE = f"/sa/{EDGE_SERVICE}"


class ServedCalls(Stage):
    """Counts and times every call served, puts it into its caller's trace, binds the tenant to its log
    lines."""

    def __init__(self, metrics: Metrics) -> None:
        self.handled = metrics.counter("rpc_handled_total", "Calls served", ["method", "code", "sli"])
        self.seconds = metrics.histogram("rpc_handling_seconds", "Time to serve a unary call", ["method"])
        self.active = 0
        metrics.gauge("rpc_active", "Calls being served, streams included").set_function(lambda: self.active)
        self._counted = functools.cache(self.handled.labels)
        self._timed = functools.cache(self.seconds.labels)

    def around(self, call: Call) -> _Serving:
        """Measures one call."""
        return _Serving(self, call)

    def ended(self, method: Method, code: grpc.StatusCode, sli: Sli, took: float) -> None:
        """Counts a call served in `took` seconds."""
        self.active -= 1
        self._counted(method.name, code.name, sli.value).inc()
        if not method.response_streaming:
            self._timed(method.name).observe(took)


class _Serving:
    __slots__ = ("_call", "_span", "_stage", "_started")

    def __init__(self, stage: ServedCalls, call: Call) -> None:
        self._stage = stage
        self._call = call
        self._started = 0
        self._span: tracing.RecordedSpan | None = None

    async def __aenter__(self) -> None:
        self._started = time.perf_counter_ns()
        metadata = self._call.metadata
        self._span = tracing.begin_span(self._call.method.name, metadata.get(TRACEPARENT_KEY, ""))
        tenant = metadata.get(TENANT_KEY)
        if tenant:
            structlog.contextvars.bind_contextvars(tenant=tenant)
        self._stage.active += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_: TracebackType | None
    ) -> None:
        took = (time.perf_counter_ns() - self._started) / 1e9
        call, stage = self._call, self._stage
        code = self._code(error)
        reason = call.reason
        sli = TABLE[reason].sli if reason is not None and code is not grpc.StatusCode.OK else STATUS_SLI[code]
        stage.ended(call.method, code, sli, took)
        if self._span is not None:
            self._span.end(code.name if sli is Sli.SERVER_ERROR else "")
        if steps.enabled() and call.metadata.get(PEER_KEY, "").endswith(_EDGE):
            _draw(call.method, code, took, from_="client", to=steps.node())

    def _code(self, error: BaseException | None) -> grpc.StatusCode:
        if isinstance(error, asyncio.CancelledError):
            return grpc.StatusCode.CANCELLED
        said: Any = self._call.context.code()
        code = _CODES.get(said, grpc.StatusCode.UNKNOWN) if isinstance(said, int) else said
        if error is not None and code in (grpc.StatusCode.OK, None):
            return grpc.StatusCode.UNKNOWN
        return code or grpc.StatusCode.OK


class SentCalls:
    """Counts and times every call made on a channel."""

    def __init__(self, metrics: Metrics) -> None:
        self.sent = metrics.counter("rpc_sent_total", "Calls made", ["method", "code", "sli"])
        self.seconds = metrics.histogram(
            "rpc_sending_seconds", "Time until a unary call was answered", ["method"]
        )
        self._counted = functools.cache(self.sent.labels)
        self._timed = functools.cache(self.seconds.labels)

    def done(self, method: Method, started_ns: int, call: Any) -> None:
        """A call made at `started_ns` (perf_counter_ns) has ended."""
        took = (time.perf_counter_ns() - started_ns) / 1e9
        code = status_of_done(call)
        self._counted(method.name, code.name, STATUS_SLI[code].value).inc()
        if not method.response_streaming:
            self._timed(method.name).observe(took)
        if steps.enabled():
            _draw(method, code, took, from_="", to=method.domain)


def status_of_done(call: Any) -> grpc.StatusCode:
    """The status of a call that has ended: its `code()` is a coroutine that then answers without waiting."""
    waiting = call.code()
    try:
        waiting.send(None)
    except StopIteration as answer:
        code: grpc.StatusCode = answer.value
        return code
    waiting.close()
    return grpc.StatusCode.UNKNOWN


def _draw(method: Method, code: grpc.StatusCode, took: float, *, from_: str, to: str) -> None:
    if not steps.call_known():
        return
    outcome = "" if code is grpc.StatusCode.OK else f" {code.name}"
    started_us = time.time_ns() // 1000 - int(took * 1e6)
    steps.ladder(
        "rpc",
        f"{method.name}{outcome} ({took * 1000:.1f} ms)",
        from_=from_,
        to=to,
        ts_us=started_us,
        took_us=int(took * 1e6),
    )
