"""W3C trace context (https://www.w3.org/TR/trace-context/), carried in the metadata of calls and in event
envelopes.

Each call carries a trace whether or not spans are recorded, so identifiers are kept as the text they travel
in: an OpenTelemetry span context costs 15 µs to read, make and write, this costs 2. With a recorder, spans
are OpenTelemetry's own, in OpenTelemetry's context, for any of its exporters.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
# Identifiers need to differ, not to be secret; the system's entropy seeds them once.
_bits = random.Random(random.SystemRandom().getrandbits(256)).getrandbits


class SpanRef(NamedTuple):
    """A span as a traceparent names it, in lower-case hex."""

    trace: str
    span: str
    flags: str = "01"

    @property
    def traceparent(self) -> str:
        """As it travels."""
        return f"00-{self.trace}-{self.span}-{self.flags}"


_present: ContextVar[SpanRef | None] = ContextVar("voicemesh_span", default=None)


def parse_traceparent(text: str) -> SpanRef | None:
    """The span a traceparent names, or None when it is malformed (it is then ignored, as W3C demands)."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    # Version ff is none; what follows is for versions above 00; all zeros are no identifiers (W3C §3.2.2).
    if version == "ff" or (more and version == "00") or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return SpanRef(trace, span, flags)


def new_span(parent: SpanRef | None = None) -> SpanRef:
    """A new span in the parent's trace, or in a new trace."""
    span = f"{_bits(64) or 1:016x}"
    if parent is None:
        return SpanRef(f"{_bits(128) or 1:032x}", span)
    return SpanRef(parent.trace, span, parent.flags)


def new_traceparent() -> str:
    """A traceparent that starts a new trace: one for each call thread, kept in its envelopes."""
    return new_span().traceparent


def current_traceparent() -> str:
    """The traceparent of what is being done now; "" outside of any trace."""
    present = _present.get()
    return present.traceparent if present else ""


def trace_id() -> str:
    """The present trace id, 32 hex digits; "" outside of any trace."""
    present = _present.get()
    return present.trace if present else ""


@contextmanager
def continued(traceparent: str) -> Iterator[None]:
    """What is done inside belongs to the trace of `traceparent` (an event's, a stored session's). A
    malformed or empty one changes nothing."""
    ref = parse_traceparent(traceparent)
    if ref is None:
        yield
        return
    token = _present.set(ref)
    try:
        yield
    finally:
        _present.reset(token)


class RecordedSpan(Protocol):
    """A span that a recorder keeps."""

    ref: SpanRef

    def end(self, failure: str) -> None:
        """It is over; `failure` says what went wrong on our side, "" when nothing did."""


class SpanRecorder(Protocol):
    """What keeps spans: mesh.telemetry.recording.Recorder."""

    def start(self, name: str, parent: SpanRef | None) -> RecordedSpan:
        """A span of a call served, in the parent's trace or in a new one; the present span of this task."""


class _Recording:
    recorder: SpanRecorder | None = None


def record_with(recorder: SpanRecorder | None) -> None:
    """Spans of this process are kept by `recorder` from now on; None: identifiers only."""
    _Recording.recorder = recorder


def begin_span(name: str, traceparent: str) -> RecordedSpan | None:
    """Starts a span below `traceparent` (a new trace when that is empty or malformed) and makes it the
    present one for the rest of this task. Returns it when it is recorded: to be ended."""
    parent = parse_traceparent(traceparent)
    recorder = _Recording.recorder
    if recorder is None:
        _present.set(new_span(parent))
        return None
    span = recorder.start(name, parent)
    _present.set(span.ref)
    return span
