"""The ladder of one call: what phones and services say of it, on one time axis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.message_type_pb2 import MessageType

from demo.phone import Phone

_MARKS = {"sip": "SIP", "event": "TLib", "rpc": "RPC", "session": "session", "state": "state"}


@dataclass(frozen=True, order=True)
class Step:
    """One line of the ladder."""

    time_us: int
    kind: str
    origin: str
    to: str
    text: str


def from_phone(phone: Phone, call_ids: Iterable[str]) -> Iterator[Step]:
    """What a phone saw of the calls."""
    wanted = set(call_ids)
    for seen in phone.seen:
        if seen.call_id in wanted:
            ends = (phone.name, "sip_proxy") if seen.sent else ("sip_proxy", phone.name)
            yield Step(seen.time_us, "sip", *ends, seen.text)


def from_logs(folder: Path, *, call_thread_id: str, trace: str, since_us: int) -> Iterator[Step]:
    """Ladder records of every service log that belong to the call: by its thread, or by the trace it began."""
    for file in sorted(folder.glob("*.log")):
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if '"ladder":1' in line:
                    yield from _step(line, call_thread_id, trace, since_us)


def _step(line: str, call_thread_id: str, trace: str, since_us: int) -> Iterator[Step]:
    try:
        record: dict[str, Any] = json.loads(line[line.index("{") :])
    except ValueError:
        return
    own = record["call_thread_id"] == call_thread_id or (trace and record["trace"] == trace)
    if own and record["ts_us"] >= since_us:
        text = str(record["text"])
        yield Step(int(record["ts_us"]), str(record["kind"]), str(record["from"]), str(record["to"]), text)


def from_events(envelopes: Iterable[EventEnvelope], *, call_thread_id: str, trace: str) -> Iterator[Step]:
    """Events of agents that the call caused; the call's own are drawn by its node."""
    for envelope in envelopes:
        caused = bool(trace) and trace in envelope.traceparent
        if envelope.stream_key != call_thread_id and caused:
            name = MessageType.Name(envelope.event.event_type).removeprefix("MESSAGE_TYPE_EVENT_")
            words = "Event" + "".join(word.capitalize() for word in name.split("_"))
            at = f"@{envelope.event.this_dn}" if envelope.event.this_dn else ""
            node = envelope.node.rpartition(".")[0]
            yield Step(envelope.time_us, "event", node, "redis_queue", f"{envelope.seq} {words}{at}")


def draw(steps: Iterable[Step]) -> str:
    """The ladder as text: milliseconds since the first step, kind, who to whom, what."""
    rows = sorted(steps)
    if not rows:
        return "  (nothing was recorded)"
    start = rows[0].time_us
    lines = [f"  {'ms':>9}  {'kind':8}{'from':>18}    {'to':18}  what"]
    for row in rows:
        arrow = "->" if row.to else "  "
        time = f"{(row.time_us - start) / 1000:9.1f}"
        lines.append(
            f"  {time}  {_MARKS.get(row.kind, row.kind):8}{row.origin[:18]:>18} {arrow} {row.to[:18]:18}  {row.text}"
        )
    return "\n".join(lines)
