"""What a session did can be looked at while it lives and afterwards, without what its tenant hides."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from voice.config.v1.config_service_pb2 import GetObjectRequest, UpdateObjectRequest
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.config.v1.object_pb2 import ObjectType, Option, OptionSection

from mesh.envoy.authorization import WATCHMAN
from tests.integration.orchestration_http.platform import HEAD, Client, Region, eventually

CASHIER = (
    HEAD
    + """ initial="ask"><datamodel><data id="pin"/></datamodel>
<state id="ask">
  <transition event="digits" target="check">
    <assign location="pin" expr="_event.data.CollectedDigits"/>
    <log label="heard" expr="'digits ' + pin + ' of ' + _event.data.from"/>
  </transition>
</state>
<state id="check">
  <onentry><session:fetch srcexpr="_event.data.to + '?pin=' + pin" headers="{'x-cardnumber': '5500111122223333'}"/></onentry>
  <transition event="session.fetch.done" target="ask"/>
  <transition event="error.session.fetch" target="ask"/>
  <transition event="bye" target="done"/>
</state>
<final id="done"/></scxml>"""
)
SECRET, CARD = "471147", "5500111122223333"


async def set_options(service: Region, tenant: str, **options: str) -> None:
    """Options of a tenant, section orchestration: written by who looks after the mesh, straight at Config."""
    mesh = service.mesh
    folder = mesh.identities.folder(WATCHMAN)
    credentials = grpc.ssl_channel_credentials(
        *((folder / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
    )
    address = mesh.instances("config")[0].nodes[0].address
    async with grpc.aio.secure_channel(address, credentials) as channel:
        stub = ConfigServiceStub(channel)
        get = GetObjectRequest(tenant=tenant, type=ObjectType.OBJECT_TYPE_TENANT, name=tenant)
        found = (await stub.GetObject(get, timeout=10)).object
        kept = [section for section in found.options if section.name != "orchestration"]
        del found.options[:]
        found.options.extend(kept)
        values = [Option(name=name.replace("_", "-"), value=value) for name, value in options.items()]
        found.options.append(OptionSection(name="orchestration", options=values))
        await stub.UpdateObject(UpdateObjectRequest(tenant=tenant, object=found), timeout=10)


def log_lines(service: Region) -> list[dict[str, Any]]:
    """What the orchestration nodes have logged."""
    found = []
    for number in range(2):
        file = Path(service.mesh.run_dir) / "logs" / f"orchestration-{number}.log"
        for line in file.read_text().splitlines():
            with contextlib.suppress(ValueError):  # a line that is being written
                found.append(json.loads(line))
    return found


async def trace_of(client: Client, tenant: str, session: str, **query: int) -> dict[str, Any]:
    """The trace as REST tells it."""
    answer = await client.http.get(f"/v1/tenants/{tenant}/sessions/{session}/trace", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.feature("OR-30")
async def test_a_live_session_is_traced_step_by_step(service: Region) -> None:
    client = service.client
    session = await client.start(service.web.put("cashier.scxml", CASHIER))
    await client.running(session)
    data = {"CollectedDigits": SECRET, "from": "ann", "to": f"{service.web.base}/pay"}
    await client.http.post(f"/scxml/session/{session}/event/digits", json=data)

    async def three() -> list[dict[str, Any]]:
        steps = await client.trace(session)
        return steps if len(steps) >= 3 else []

    start, digits, fetched = (await eventually(three, "three steps"))[:3]
    assert [int(s["step"]) for s in (start, digits, fetched)] == [0, 1, 2]
    assert (start["event"], start["configuration"], start["transitions"]) == ("", ["ask"], [])
    assert (digits["event"], json.loads(digits["dataJson"])) == ("digits", data)
    (way,) = digits["transitions"]
    assert (way["source"], way["event"], way["targets"], way["line"] > 1) == (
        "ask",
        "digits",
        ["check"],
        True,
    )
    assert [(e["kind"], e["name"]) for e in digits["effects"]] == [
        ("Log", "heard"),
        ("Action", "session.fetch"),
    ]
    assert fetched["event"] == "session.fetch.done"
    assert int(start["timeUs"]) < int(digits["timeUs"]) < int(fetched["timeUs"])
    assert digits["node"].startswith("orchestration-")
    later = await trace_of(client, "t1", session, afterStep=1)
    assert [int(s["step"]) for s in later["steps"]] == [2]
    assert not later["truncated"]
    await client.http.post(f"/scxml/session/{session}/terminate")
    _, end = await client.end_of(session)
    assert (end["outcome"], end["problem"]) == ("cancelled", "")


@pytest.mark.feature("OR-30")
async def test_the_last_steps_of_a_long_session_are_kept(service: Region) -> None:
    client = service.client
    document = f"""{HEAD} initial="a"><state id="a">
      <transition event="go"><send event="next"><param name="n" expr="400"/></send></transition>
      <transition event="next" cond="_event.data.n > 0"><send event="next"><param name="n" expr="_event.data.n - 1"/></send>
      </transition><transition event="next" target="b"/></state><final id="b"/></scxml>"""
    session = await client.start(service.web.put("long.scxml", document))
    await client.running(session)
    await client.http.post(f"/scxml/session/{session}/event/go")
    await client.over(session)

    async def ended() -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = (await trace_of(client, "t1", session, limit=1000))["steps"]
        return steps if steps[-1]["outcome"] else []

    steps = await eventually(ended, "the end")
    found = await trace_of(client, "t1", session, limit=1000)
    assert found["truncated"]
    assert 200 <= len(steps) < 350
    numbers = [int(s["step"]) for s in steps]
    assert numbers[-1] == 403
    assert numbers[:-1] == list(range(numbers[0], 403))


@pytest.mark.feature("OR-30")
async def test_what_a_tenant_hides_is_in_no_trace_and_no_log_and_others_are_not_logged(
    service: Region,
) -> None:
    await set_options(service, "t3", mask="CollectedDigits, *card*", debug_log="true")
    address = service.web.put("cashier.scxml", CASHIER)
    client = Client(service.mesh, "t3")
    data = {"CollectedDigits": SECRET, "from": "bob", "to": f"{service.web.base}/pay"}

    async def debugged() -> str:
        """Sessions until one is logged: the option takes effect in a moment."""
        session = await client.start(address)
        await client.running(session)
        await asyncio.sleep(0.1)
        logged = any(
            line.get("session") == session and line["event"] == "step" for line in log_lines(service)
        )
        if not logged:
            await client.http.post(f"/scxml/session/{session}/terminate")
        return session if logged else ""

    session = await eventually(debugged, "steps of t3 are logged")
    await client.http.post(f"/scxml/session/{session}/event/digits", json=data)

    async def all_logged() -> list[dict[str, Any]]:
        lines = [line for line in log_lines(service) if line.get("session") == session]
        return lines if sum(line["event"] == "step" for line in lines) >= 3 else []

    lines = await eventually(all_logged, "three steps are logged")
    said = [line for line in lines if line["event"] == "application"]
    assert [line["text"] for line in said] == ["digits *** of bob"]

    async def written() -> bool:
        return len((await trace_of(client, "t3", session))["steps"]) >= 3

    await eventually(written, "the trace is written")
    found = await trace_of(client, "t3", session)
    text = json.dumps(found) + json.dumps(lines)
    assert SECRET not in text
    assert CARD not in text
    assert json.loads(found["steps"][1]["dataJson"]) == {**data, "CollectedDigits": "***"}
    everything = "".join(
        (Path(service.mesh.run_dir) / "logs" / f"orchestration-{n}.log").read_text() for n in range(2)
    )
    assert CARD not in everything
    logged = [line for line in everything.splitlines() if SECRET in line]
    assert not [line for line in logged if '"tenant": "t1"' not in line]  # t1 hides nothing
    assert {line["tenant"] for line in log_lines(service) if line["event"] == "step"} == {"t3"}
    asked = service.web.requests("/pay")[-1]
    assert SECRET in asked.path  # the application itself has the value
    await client.http.post(f"/scxml/session/{session}/terminate")
    await client.http.aclose()


@pytest.mark.feature("OR-30")
async def test_traces_can_be_switched_off(service: Region) -> None:
    await set_options(service, "t2", trace="false")
    address = service.web.put("cashier.scxml", CASHIER)
    client = Client(service.mesh, "t2")

    async def untraced() -> bool:
        session = await client.start(address)
        await client.running(session)
        await client.http.post(f"/scxml/session/{session}/terminate")
        await client.over(session)
        await asyncio.sleep(0.3)
        answer = await client.http.get(f"/v1/tenants/t2/sessions/{session}/trace")
        return answer.status_code == 404

    await eventually(untraced, "no trace of t2")
    await client.http.aclose()
