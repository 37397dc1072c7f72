"""Spans that are kept: OpenTelemetry's SDK behind the trace context of mesh/telemetry/tracing.py.

Imported only by a process that records, as the SDK costs each start 50 ms.
"""

from __future__ import annotations

from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mesh.telemetry.tracing import SpanRef


class Recorder:
    """Records spans for an exporter (any of OpenTelemetry's). One per process; `close` sends what is left."""

    def __init__(self, exporter: SpanExporter, *, service: str, node: str) -> None:
        resource = Resource.create({"service.name": service, "service.instance.id": node})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("voicemesh")

    def start(self, name: str, parent: SpanRef | None) -> Recorded:
        """A server span in the parent's trace, or in a new one; the present span of OpenTelemetry's
        context."""
        context = otel_context.Context()
        if parent is not None:
            context = otel.set_span_in_context(NonRecordingSpan(_context_of(parent)), context)
        span = self._tracer.start_span(name, context, SpanKind.SERVER)
        otel_context.attach(otel.set_span_in_context(span))
        return Recorded(span)

    def close(self) -> None:
        """Exports the spans not exported yet; blocks for as long as the exporter does."""
        self._provider.shutdown()


class Recorded:
    """A span being recorded."""

    def __init__(self, span: Span) -> None:
        self._span = span
        ids = span.get_span_context()
        self.ref = SpanRef(f"{ids.trace_id:032x}", f"{ids.span_id:016x}", f"{int(ids.trace_flags):02x}")

    def end(self, failure: str) -> None:
        """It is over; `failure` says what went wrong on our side."""
        if failure:
            self._span.set_status(Status(StatusCode.ERROR, failure))
        self._span.end()


def _context_of(ref: SpanRef) -> SpanContext:
    flags = TraceFlags(int(ref.flags, 16))
    return SpanContext(int(ref.trace, 16), int(ref.span, 16), is_remote=True, trace_flags=flags)
