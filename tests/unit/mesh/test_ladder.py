"""Steps of a call as lines for its ladder."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from mesh import telemetry
from mesh.telemetry import steps

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def drawn() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    steps.configure(enabled=True, node="sip_cluster-0", stream=stream)
    yield stream
    steps.configure(enabled=False, node="")


def test_a_step_says_when_who_what_and_of_which_call(drawn: io.StringIO) -> None:
    with telemetry.bound(call_thread_id="01-t"), telemetry.continued(PARENT):
        telemetry.ladder("event", "EventRinging", to="redis_queue", ts_us=1_700_000_000_000_000, seq=4)
    line = drawn.getvalue()
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "ladder": 1,
        "ts_us": 1_700_000_000_000_000,
        "node": "sip_cluster-0",
        "kind": "event",
        "call_thread_id": "01-t",
        "trace": PARENT.split("-")[1],
        "from": "sip_cluster-0",
        "to": "redis_queue",
        "text": "EventRinging",
        "seq": 4,
    }


def test_who_sent_it_and_whose_call_it_is_may_be_said(drawn: io.StringIO) -> None:
    with telemetry.bound(call_thread_id="01-t"):
        telemetry.ladder("sip", "INVITE\r\nTo: x", from_="127.1.0.9:5060", call_thread_id="02-u")
    record = json.loads(drawn.getvalue())
    assert (record["from"], record["call_thread_id"]) == ("127.1.0.9:5060", "02-u")
    assert record["text"] == "INVITE\r\nTo: x"
    assert record["ts_us"] > 1_700_000_000_000_000


def test_nothing_is_written_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    steps.configure(enabled=False, node="x")
    telemetry.ladder("sip", "INVITE")
    assert capsys.readouterr() == ("", "")
    assert not steps.enabled()
