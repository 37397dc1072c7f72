"""The ladder of a call: with VOICEMESH_LADDER=1 each service logs one line for each step it sees.

A record has ts_us, node, kind, call_thread_id, trace, from, to and text; the demo gathers those of one call
from all logs and draws them on one time axis.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Literal, TextIO

from mesh.telemetry.logs import bound_fields
from mesh.telemetry.tracing import trace_id

Kind = Literal["sip", "event", "rpc", "session", "state"]


class _Writer:
    stream: TextIO | None = None
    node: str = ""


def configure(*, enabled: bool, node: str, stream: TextIO | None = None) -> None:
    """Turns ladder records on or off for this process. `stream`: standard error by default, as the log."""
    _Writer.stream = (stream or sys.stderr) if enabled else None
    _Writer.node = node


def enabled() -> bool:
    """Whether records are written; ask before computing anything costly for one."""
    return _Writer.stream is not None


def node() -> str:
    """The node that records are written for."""
    return _Writer.node


def call_known() -> bool:
    """Whether what is done now belongs to a trace or a call."""
    return bool(bound_fields().get("call_thread_id") or trace_id())


def ladder(
    kind: Kind,
    text: str = "",
    *,
    to: str = "",
    from_: str = "",
    call_thread_id: str = "",
    ts_us: int = 0,
    **more: str | int | float,
) -> None:
    """Writes one step. `from_` defaults to this node, `call_thread_id` to the one bound, `ts_us` (UTC
    microseconds) to now. Does nothing unless VOICEMESH_LADDER=1."""
    if _Writer.stream is None:
        return
    record = {
        "ladder": 1,
        "ts_us": ts_us or time.time_ns() // 1000,
        "node": _Writer.node,
        "kind": kind,
        "call_thread_id": call_thread_id or str(bound_fields().get("call_thread_id", "")),
        "trace": trace_id(),
        "from": from_ or _Writer.node,
        "to": to,
        "text": text,
        **more,
    }
    _Writer.stream.write(json.dumps(record, separators=(",", ":")) + "\n")
    _Writer.stream.flush()
