"""Reading and making traceparents, by the rules of W3C trace context."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.telemetry import continued, current_traceparent, new_traceparent, trace_id
from mesh.telemetry.tracing import SpanRef, new_span, parse_traceparent

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        (PARENT, SpanRef(TRACE, SPAN, "01")),
        (PARENT[:-2] + "00", SpanRef(TRACE, SPAN, "00")),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", SpanRef(TRACE, SPAN, "01")),
        (f"cc-{TRACE}-{SPAN}-01", SpanRef(TRACE, SPAN, "01")),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"cc-{TRACE}-{SPAN}-01.more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (PARENT.upper(), None),
        (f" {PARENT}", None),
        (f"{PARENT}\n", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read(text: str, ref: SpanRef | None) -> None:
    assert parse_traceparent(text) == ref


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    ref = parse_traceparent(text)
    assert ref is None or parse_traceparent(ref.traceparent) == ref


def test_what_is_made_can_be_read_and_differs() -> None:
    made = {new_traceparent() for _ in range(100)}
    assert len(made) == 100
    assert all(parse_traceparent(text) is not None for text in made)


def test_a_span_below_another_keeps_its_trace_and_flags() -> None:
    child = new_span(SpanRef(TRACE, SPAN, "00"))
    assert (child.trace, child.flags) == (TRACE, "00")
    assert child.span != SPAN


def test_what_is_done_inside_belongs_to_the_trace() -> None:
    with continued(PARENT):
        assert current_traceparent() == PARENT
        with continued("garbage"):
            assert trace_id() == TRACE
    assert current_traceparent() == ""
