"""What is traced, logged and hidden, by the options of the tenant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from voice.config.v1.config_service_pb2 import Change, WatchResponse
from voice.config.v1.object_pb2 import ConfigObject, Option, OptionSection, Tenant
from voice.orchestration.v1.orchestration_service_pb2 import TraceStep

from mesh.config_view import ConfigView
from services.orchestration.scxml import Event, Log, StepResult
from services.orchestration.session import Session
from services.orchestration.trace_store import TraceStore
from services.orchestration.tracer import Tracer
from tests.unit.orchestration.test_machine import CALL

EVENT = Event("digits", {"pin": "4711", "n": 1})


class Kept:
    """Remembers what is written and logged."""

    def __init__(self) -> None:
        self.steps: list[TraceStep] = []
        self.lines: list[dict[str, Any]] = []

    def write(self, session_id: str, tenant: str, made: Any) -> None:
        self.steps.append(made())

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})


def tracer(**options: str) -> tuple[Tracer, Kept]:
    values = [Option(name=name.replace("_", "-"), value=value) for name, value in options.items()]
    section = OptionSection(name="orchestration", options=values)
    tenant = ConfigObject(dbid=1, revision=1, options=[section], tenant=Tenant(tenant_id="t1"))
    view, kept = ConfigView(), Kept()
    view.apply(WatchResponse(changes=[Change(tenant="t1", revision=1, object=tenant)], revision=1))
    return Tracer(cast(TraceStore, kept), view, cast(Any, kept), "n-0"), kept


def session() -> Session:
    return Session(CALL, step=3)


def test_without_options_steps_are_traced_and_nothing_is_logged() -> None:
    one, kept = tracer()
    one.stepped(session(), EVENT, StepResult(configuration=["a"]), 9)
    one.ended(session(), "finished", "", 10)
    assert [(s.step, s.event, s.outcome) for s in kept.steps] == [(3, "digits", ""), (3, "", "finished")]
    assert kept.lines == []
    assert one.text(session(), "digits 4711") == "digits 4711"


def test_a_tenant_that_wants_no_trace_has_none() -> None:
    one, kept = tracer(trace="false")
    one.stepped(session(), EVENT, StepResult(), 9)
    one.ended(session(), "finished", "", 10)
    assert kept.steps == []


@pytest.mark.parametrize("trace", ["true", "false"])
def test_what_is_hidden_is_hidden_in_trace_log_and_text(trace: str) -> None:
    one, kept = tracer(mask="pin", debug_log="true", trace=trace)
    one.stepped(session(), EVENT, StepResult(effects=[Log("", "pin is 4711")]), 9)
    assert "4711" not in str(kept.steps) + str(kept.lines)
    assert [line["event"] for line in kept.lines] == ["step"]
    assert one.text(session(), "digits 4711") == "digits ***"
    one.ended(session(), "finished", "", 10)
    assert one.text(session(), "digits 4711") == "digits 4711"  # the session is forgotten, and its secrets


def test_a_mask_alone_hides_too() -> None:
    one, kept = tracer(mask="pin", trace="false")
    one.stepped(session(), EVENT, StepResult(), 9)
    assert one.text(session(), "digits 4711") == "digits ***"
    assert kept.lines == []


def test_user_data_is_known_to_every_node() -> None:
    one, _ = tracer(mask="pin")
    data = (("pin", "8888"), ("deep", [["pin", "9999"]]))
    known = replace(CALL, session_id="uuid.4")
    assert one.text(Session(known, user_data=data), "8888 and 9999") == "*** and ***"


def test_sessions_whose_secrets_are_known_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.orchestration.tracer.MAX_SESSIONS", 2)
    one, _ = tracer(mask="pin")
    for number in range(4):
        call = replace(CALL, session_id=f"uuid.{number}")
        one.stepped(Session(call), EVENT, StepResult(), 9)
    assert one.text(Session(replace(CALL, session_id="uuid.3")), "4711") == "***"
    assert one.text(Session(replace(CALL, session_id="uuid.0")), "4711") == "4711"
