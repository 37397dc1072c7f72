"""Logs are lines of JSON with no secret in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from voice.tenant.v1.tenant_service_pb2 import IssueTokenRequest
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh import telemetry
from mesh.telemetry import logs
from tests.captured_logs import CapturedLogs, captured_logs

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def out() -> Iterator[CapturedLogs]:
    with captured_logs("tenant", "tenant-0") as captured:
        yield captured


def test_a_line_names_its_node_its_part_and_what_is_bound(out: CapturedLogs) -> None:
    with telemetry.bound(call_thread_id="01-t", tenant="t1"), telemetry.continued(PARENT):
        telemetry.logger("router").info("target selected", agent="a7", waited_ms=12)
    telemetry.logger().warning("later")
    first, second = out.lines()
    assert first["event"] == "target selected"
    assert (first["service"], first["node"], first["part"]) == ("tenant", "tenant-0", "router")
    assert (first["call_thread_id"], first["tenant"], first["agent"]) == ("01-t", "t1", "a7")
    assert first["trace_id"] == PARENT.split("-")[1]
    assert first["level"] == "info"
    assert first["time"].endswith("Z")
    assert "tenant" not in second
    assert "trace_id" not in second


def test_sensitive_fields_never_get_in(out: CapturedLogs) -> None:
    request = IssueTokenRequest(tenant="t1", agent_id="7", secret="hunter2")
    telemetry.logger().info("signing in", request=request, requests=[request])
    assert "hunter2" not in out.text
    (line,) = out.lines()
    assert line["request"] == {"tenant": "t1", "agent_id": "7", "secret": "[redacted]"}
    assert line["requests"] == [line["request"]]


def test_nested_and_repeated_messages_become_plain_data() -> None:
    value = KvList(
        pairs=[KvPair(key="a", string_value="x"), KvPair(key="b", list_value=KvList(pairs=[KvPair(key="c")]))]
    )
    assert telemetry.redacted(value) == {
        "pairs": [{"key": "a", "string_value": "x"}, {"key": "b", "list_value": {"pairs": [{"key": "c"}]}}]
    }


def test_lines_below_the_level_are_not_written(out: CapturedLogs) -> None:
    telemetry.logger().debug("detail")
    assert out.text == ""


def test_the_standard_library_s_lines_look_the_same(out: CapturedLogs) -> None:
    logging.getLogger("asyncio").warning("took %s", "long")
    (line,) = out.lines()
    assert (line["event"], line["node"], line["level"]) == ("took long", "tenant-0", "warning")


def test_an_exception_is_one_line(out: CapturedLogs) -> None:
    try:
        raise LookupError("no slot")
    except LookupError as error:
        telemetry.logger().error("lost", exc_info=error)
    (line,) = out.lines()
    assert "LookupError: no slot" in line["exception"]


def test_a_value_json_cannot_say_is_written_as_text(out: CapturedLogs) -> None:
    telemetry.logger().info("odd", value={1, 2}, raw=b"\xff")
    assert len(out.lines()) == 1


def test_a_warning_repeated_without_end_is_counted_instead() -> None:
    now = [0.0]
    limit = logs.WarningLimit(lambda: now[0])

    def written(event: str = "etcd away", **more: Any) -> dict[str, Any] | None:
        try:
            return dict(limit(None, "", {"event": event, "level": "warning", **more}))
        except structlog.DropEvent:
            return None

    assert sum(written() is not None for _ in range(100)) == logs.WARNINGS_IN_A_ROW
    assert written("something else") is not None
    assert written(part="lease") is not None
    assert written(audit=True) is not None
    assert written(level="error") is not None
    now[0] += logs.WARNINGS_PERIOD_S
    again = written()
    assert again is not None
    assert again["left_out"] == 90
    assert "left_out" not in (written() or {"left_out": 1})


def test_kinds_of_warnings_remembered_are_bounded() -> None:
    limit = logs.WarningLimit(lambda: 0.0)
    for number in range(logs.MAX_KINDS * 2):
        limit(None, "", {"event": f"odd {number}", "level": "warning"})
    assert len(limit._kinds) == logs.MAX_KINDS


def test_a_dropped_line_of_the_standard_library_is_no_error(out: CapturedLogs) -> None:
    for _ in range(50):
        logging.getLogger("asyncio").warning("took long")
    assert len(out.lines()) == logs.WARNINGS_IN_A_ROW
