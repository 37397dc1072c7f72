"""W3C trace context (https://www.w3.org/TR/trace-context/), carried in metadata "traceparent" and in event
envelopes.

The span context is an OpenTelemetry one in OpenTelemetry's own context, so other instrumentation joins in.
Spans are recorded only when an exporter is configured; without one a trace costs its identifiers and
nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def parse_traceparent(text: str) -> SpanContext | None:
    """The span context a traceparent names, or None when it is malformed (it is then ignored, as W3C
    demands)."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    trace_hex, span_hex, flags = match.groups()
    context = SpanContext(
        int(trace_hex, 16), int(span_hex, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
    return context if context.is_valid else None


def format_traceparent(context: SpanContext) -> str:
    """The traceparent of a span context; "" for an invalid one."""
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def new_span_context(parent: SpanContext | None = None) -> SpanContext:
    """A new span in the parent's trace, or in a new trace."""
    raw = int.from_bytes(os.urandom(24), "big")
    span_id = (raw & 0xFFFFFFFFFFFFFFFF) or 1
    if parent is not None and parent.is_valid:
        return SpanContext(parent.trace_id, span_id, is_remote=False, trace_flags=parent.trace_flags)
    return SpanContext((raw >> 64) or 1, span_id, is_remote=False, trace_flags=_SAMPLED)


def new_traceparent() -> str:
    """A traceparent that starts a new trace: one for each call thread, kept in its envelopes."""
    return format_traceparent(new_span_context())


def current_traceparent() -> str:
    """The traceparent of what is being done now; "" outside of any trace."""
    return format_traceparent(trace.get_current_span().get_span_context())


def trace_id() -> str:
    """The present trace id, 32 hex digits; "" outside of any trace."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


class Recorder:
    """Records spans for an exporter (any of OpenTelemetry's). One per process; `close` sends what is left."""

    def __init__(self, exporter: SpanExporter, *, service: str, node: str) -> None:
        resource = Resource.create({"service.name": service, "service.instance.id": node})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("voicemesh")

    def start(self, name: str, parent: SpanContext | None, kind: SpanKind) -> Span:
        """A recording span in the parent's trace, or in a new one."""
        context = otel_context.Context()
        if parent is not None:
            context = trace.set_span_in_context(NonRecordingSpan(parent), context)
        return self._tracer.start_span(name, context, kind)

    def close(self) -> None:
        """Exports the spans not exported yet; blocks for as long as the exporter does."""
        self._provider.shutdown()


class _Recording:
    recorder: Recorder | None = None


def record_with(recorder: Recorder | None) -> None:
    """Spans of this process are recorded by `recorder` from now on; None: identifiers only."""
    _Recording.recorder = recorder


def begin_span(name: str, traceparent: str, kind: SpanKind) -> Span:
    """Starts a span below `traceparent` (a new trace when that is empty or malformed) and makes it the
    present one for the rest of this task."""
    parent = parse_traceparent(traceparent)
    recorder = _Recording.recorder
    span = recorder.start(name, parent, kind) if recorder else NonRecordingSpan(new_span_context(parent))
    otel_context.attach(trace.set_span_in_context(span))
    return span


@contextmanager
def continued(traceparent: str) -> Iterator[None]:
    """What is done inside belongs to the trace of `traceparent` (an event's, a stored session's). A
    malformed or empty one changes nothing."""
    context = parse_traceparent(traceparent)
    if context is None:
        yield
        return
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(context)))
    try:
        yield
    finally:
        otel_context.detach(token)
