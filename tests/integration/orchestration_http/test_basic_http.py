"""The Basic HTTP event processor over the real interface: addresses with keys, no tokens."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.integration.orchestration_http.platform import HEAD, WAIT_S, Region, eventually

HEARER = (
    HEAD
    + """ initial="on">
<datamodel><data id="seen" expr="[]"/></datamodel>
<state id="on">
  <transition event="session.request.where">
    <session:response requestid="_event.data.requestid" content="_ioprocessors['basichttp']['location']"/>
  </transition>
  <transition event="session.request.report">
    <session:response requestid="_event.data.requestid" content="seen"/>
  </transition>
  <transition event="stop" target="done"/>
  <transition event="*"><script>seen.push({name: _event.name, data: _event.data, type: _event.origintype})</script></transition>
</state>
<final id="done"/>
</scxml>"""
)
PROCESSOR = "http://www.w3.org/TR/scxml/#BasicHTTPEventProcessor"


@pytest.fixture
async def outsider(service: Region) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a token."""
    context = ssl.create_default_context(cafile=str(service.mesh.ca_file))
    async with httpx.AsyncClient(verify=context, timeout=WAIT_S) as client:
        yield client


async def hearer(service: Region) -> tuple[str, str]:
    """A session, and its address."""
    session = await service.client.start(service.web.put("hearer.scxml", HEARER))
    await service.client.running(session)
    return session, (await service.client.ask(session, "where")).text


async def report(service: Region, session: str) -> list[dict[str, Any]]:
    """What it has heard."""
    found: list[dict[str, Any]] = (await service.client.ask(session, "report")).json()
    return found


@pytest.mark.feature("OR-20", "OR-24")
async def test_whoever_has_the_address_sends_events_and_a_2xx_says_that_they_arrived(
    service: Region, outsider: httpx.AsyncClient
) -> None:
    session, address = await hearer(service)
    assert address.startswith(f"https://{service.mesh.edge}/scxml/session/{session}/basichttp/")
    sent = await outsider.post(address, data={"_scxmleventname": "form.event", "a": "1", "b": "two words"})
    assert sent.status_code == 200
    assert (await outsider.post(address, headers={"_scxmleventname": "header.event"})).status_code == 200
    assert (await outsider.post(f"{address}?q=5", json={"n": [1]})).status_code == 200
    assert (await outsider.post(address, content=b"plain%20words")).status_code == 200
    assert await report(service, session) == [
        {"name": "form.event", "data": {"a": "1", "b": "two words"}, "type": PROCESSOR},
        {"name": "header.event", "type": PROCESSOR},
        {"name": "HTTP.POST", "data": {"q": "5"}, "type": PROCESSOR},
        {"name": "HTTP.POST", "data": "plain words", "type": PROCESSOR},
    ]
    await service.client.http.post(f"/scxml/session/{session}/event/stop")
    await service.client.over(session)
    assert (await outsider.post(address)).status_code == 404


@pytest.mark.feature("OR-20", "OR-24")
async def test_without_the_key_nothing_arrives_and_nothing_is_told(
    service: Region, outsider: httpx.AsyncClient
) -> None:
    session, address = await hearer(service)
    folder, _, key = address.rpartition("/")
    _, other = await hearer(service)
    for wrong in ("x", key[:-1], key + "x", other.rpartition("/")[2]):
        refused = await outsider.post(f"{folder}/{wrong}")
        assert refused.status_code == 404, wrong
    nobody = f"https://{service.mesh.edge}/scxml/session/nobody.1/basichttp/{key}"
    assert (await outsider.post(nobody)).status_code == 404
    assert (
        await outsider.post(f"https://{service.mesh.edge}/scxml/session/{session}/event/x")
    ).status_code == 401
    assert (await outsider.post(address, content=b"x" * 70_000)).status_code == 400
    assert await report(service, session) == []
    told = await service.client.query(session)
    assert key not in json.dumps(told)
    for one in (session, other.split("/")[5]):
        await service.client.http.post(f"/scxml/session/{one}/event/stop")


@pytest.mark.feature("OR-20", "OR-24")
async def test_sessions_send_each_other_events_by_http_and_hear_of_failure(service: Region) -> None:
    session, address = await hearer(service)
    dead = f"{service.web.base}/status?code=500"
    sender = service.web.put(
        "sender.scxml",
        f"""{HEAD} initial="a"><datamodel><data id="to"/><data id="dead"/></datamodel>
<state id="a">
  <onentry>
    <send event="greeting" type="{PROCESSOR}" targetexpr="to"><param name="n" expr="7"/></send>
    <send event="late" type="{PROCESSOR}" targetexpr="to" delay="300ms"/>
    <send event="never" type="{PROCESSOR}" targetexpr="to" delay="300ms" id="gone"/>
    <cancel sendid="gone"/>
    <send event="lost" type="{PROCESSOR}" targetexpr="dead" id="lost"/>
  </onentry>
  <transition event="error.communication" cond="_event.sendid == 'lost'" target="b"/>
</state>
<state id="b"><onentry><send event="go" delay="500ms"/></onentry><transition event="go" target="c"/></state>
<final id="c"/></scxml>""",
    )
    other = await service.client.start(sender, to=address, dead=dead)
    steps, end = await service.client.end_of(other)
    assert (end["configuration"], end["outcome"]) == (["c"], "finished"), steps

    async def heard() -> list[str]:
        names = [one["name"] for one in await report(service, session)]
        return names if len(names) >= 2 else []

    assert await eventually(heard, "both events arrive") == ["greeting", "late"]
    assert (await report(service, session))[0]["data"] == {"n": "7"}
    await service.client.http.post(f"/scxml/session/{session}/event/stop")
