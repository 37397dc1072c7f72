"""Every function that documents may call, over the whole platform: what it returns, or the error that is documented."""

from __future__ import annotations

import datetime
import json
import zoneinfo
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from voice.config.v1.config_service_pb2 import CreateObjectRequest
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.config.v1.object_pb2 import ConfigObject, Option, OptionSection, Transaction

from services.orchestration.scxml.extensions import MODULES
from tests.e2e.platform import Desk, Platform
from tests.integration.orchestration_http.platform import HEAD, Client, eventually
from tests.integration.orchestration_http.web import Web

TODAY = datetime.datetime.now(datetime.UTC)
LISTS = {"Feasts": {"2026-12-25": {"name": "Christmas"}}, "Present": {f"{TODAY:%m-%d}": {"name": "today"}}}

ANSWERED: dict[str, Any] = {
    "_genesys.session.getListItemValue('Feasts', '2026-12-25', 'name')": "Christmas",
    "_genesys.session.getListItemValue('Feasts', '2026-12-25')": {"name": "Christmas"},
    "_genesys.session.listLookupValue('Feasts', '2026-12-25', 'name')": "Christmas",
    "_genesys.session.getConfigOption('1001', 'TServer', 'no-answer-timeout')": "20",
    "_genesys.session.getConfigOption('1001', 'TServer', 'nothing')": None,
    "_genesys.session.isSpecialDay('Present', 'UTC')": True,
    "_genesys.session.isSpecialDay('Feasts', 'UTC')": TODAY.strftime("%Y-%m-%d") == "2026-12-25",
    "_genesys.queue.checkAgentState('A1012')": True,
    "_genesys.queue.checkAgentState('A1012', 'ready')": False,
    "_genesys.queue.checkAgentState('A1012', 'notready')": True,
    "_genesys.queue.checkAgentState('A1013')": False,
    "_genesys.queue.checkAgentState('nobody', 'ready')": False,
    "_genesys.agent.isLoggedIn('A1012')": True,
    "_genesys.agent.isLoggedIn('A1013')": False,
    "_genesys.agent.getState('A1012').state": "notready",
    "_genesys.agent.getState('A1012').dn": "1012",
    "_genesys.agent.getState('A1013').state": "loggedout",
    "_genesys.resource.getState('A1012', 'agent').state": "notready",
    "_genesys.queue.targetState('A1012', 'agent').state": "notready",
    "_genesys.resource.getSkills('A1012')": {"English": 3, "German": 9, "Cards": 7},
    "_genesys.resource.getSkills('agent1012').German": 9,
    "_genesys.session.getListItemValue('Holidays', 'dates', '2026-12-25')": "closed",
    "_genesys.ixn.getuData('nothing') === undefined || _genesys.ixn.getuData('nothing') === null": True,
    "typeof _genesys.queue.excludeAgents(['A1012'])": "string",
}
"""What a call returns."""
REFUSED = {
    "_genesys.session.getListItemValue('Nothing', 'a', 'b')": "no list object is called 'Nothing'",
    "_genesys.session.getListItemValue('Feasts', 'a', 'b')": "has no item 'a'",
    "_genesys.session.timeInZone('Mars/Olympus')": "no time zone is called 'Mars/Olympus'",
    "_genesys.session.isSpecialDay('Nothing', 'UTC')": "no list object is called 'Nothing'",
    "_genesys.session.getConfigOption('nobody', 'a', 'b')": "no DN and no list object is called 'nobody'",
    "_genesys.resource.getSkills('nobody')": "nobody is called 'nobody'",
    "_genesys.queue.targetState('Sales', 'agentgroup')": "not available on this platform yet",
    "_genesys.queue.rvqdata('VQ_Sales', 'RVQ_SIZE')": "not available on this platform yet",
    "_genesys.queue.sData('VQ_Sales', 'StatCallsInQueue')": "not available on this platform yet",
    "_genesys.statistic.sData('VQ_Sales', 'CurrentInQueue')": "not available on this platform yet",
    "_genesys.statistic.getStat('VQ_Sales', 'CurrentInQueue')": "not available on this platform yet",
    "_genesys.statistic.getSkillInEx('English > 5')": "not available on this platform yet",
    "_genesys.classification.getCategory('billing')": "not available on this platform yet",
}
"""What a call throws; "not available" ones are listed in docs/applications/extensions.md."""
CLOCKS = {"timeInZone": "%H:%M", "dateInZone": "%m-%d", "dayInZone": "%w"}


def asker(calls: list[str]) -> str:
    """A document that evaluates one call a request."""
    branches = "".join(
        f"""<transition event="session.request.call" cond="_event.data.parameters.n == {number}">
  <script>var found; try {{ found = {{value: {_escaped(call)}}}; if (found.value === undefined) found.value = null; }}
    catch (problem) {{ found = {{error: String(problem.message || problem)}}; }}</script>
  <session:response requestid="_event.data.requestid" content="found"/></transition>"""
        for number, call in enumerate(calls)
    )
    return f"""{HEAD} initial="a"><state id="a">{branches}<transition event="bye" target="b"/></state><final id="b"/></scxml>"""


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


@pytest_asyncio.fixture(loop_scope="session")
async def web() -> AsyncIterator[Web]:
    """The application server of these tests."""
    made = Web()
    yield made
    made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def client(platform: Platform) -> AsyncIterator[Client]:
    """Tenant t1 at the edge."""
    made = Client(platform.mesh)
    yield made
    await made.http.aclose()


async def put_lists(platform: Platform) -> None:
    """List objects of tenant t1."""
    async with platform.edge() as channel:
        stub = ConfigServiceStub(channel)
        for name, items in LISTS.items():
            sections = [
                OptionSection(name=item, options=[Option(name=k, value=v) for k, v in pairs.items()])
                for item, pairs in items.items()
            ]
            made = ConfigObject(options=sections, transaction=Transaction(name=name))
            request = CreateObjectRequest(tenant="t1", object=made)
            await stub.CreateObject(request, timeout=10, metadata=platform.bearer("t1"))


async def evaluate(client: Client, web: Web, calls: list[str]) -> list[dict[str, Any]]:
    """What each call gives."""
    # An address of its own: what an address gave is used for a second without asking again.
    session = await client.start(web.put(f"asker{len(web.documents)}.scxml", asker(calls)))
    await client.running(session)
    answers = []
    for number in range(len(calls)):
        answer = await client.ask(session, "call", n=number)
        assert answer.status_code == 200, (calls[number], answer.text)
        answers.append(answer.json())
    await client.http.post(f"/scxml/session/{session}/event/bye")
    await client.over(session)
    return answers


@pytest.mark.feature("OR-23")
async def test_every_function_returns_what_is_documented_or_says_why_not(
    platform: Platform, client: Client, web: Web
) -> None:
    await put_lists(platform)
    async with platform.edge() as channel:
        desk = Desk(platform, channel, "t1", "1012")
        await desk.login()
        await desk.not_ready()

        async def known() -> bool:
            calls = [
                "_genesys.agent.isLoggedIn('A1012')",
                "_genesys.session.isSpecialDay('Present', 'UTC')",
            ]
            return all(found.get("value") is True for found in await evaluate(client, web, calls))

        await eventually(known, "agent and lists are known")
        found = await evaluate(client, web, list(ANSWERED))
        assert dict(zip(ANSWERED, found, strict=True)) == {
            call: {"value": value} for call, value in ANSWERED.items()
        }
        for (call, words), answer in zip(
            REFUSED.items(), await evaluate(client, web, list(REFUSED)), strict=True
        ):
            assert words in answer.get("error", ""), (call, answer)
        await desk.logout()


@pytest.mark.feature("OR-23")
async def test_clocks_of_time_zones(client: Client, web: Web) -> None:
    zones = ["UTC", "Europe/Berlin"]
    calls = [f"_genesys.session.{name}('{zone}')" for name in CLOCKS for zone in zones]
    before = datetime.datetime.now(datetime.UTC)
    found = await evaluate(client, web, calls)
    after = datetime.datetime.now(datetime.UTC)
    assert (after - before).total_seconds() < 60, "a minute in between would not be among those compared"
    asked = [(zone, form) for form in CLOCKS.values() for zone in zones]
    for call, (zone, form), answer in zip(calls, asked, found, strict=True):
        minutes = {at.astimezone(zoneinfo.ZoneInfo(zone)).strftime(form) for at in (before, after)}
        assert answer.get("value") in minutes, (call, answer)


def test_no_function_is_forgotten() -> None:
    written = " ".join([*ANSWERED, *REFUSED, *(f"_genesys.session.{name}(" for name in CLOCKS)])
    elsewhere = {"ixn.setuData", "ixn.deleteuData", "queue.priorityTuning"}
    for module in MODULES.values():
        for name in module.functions:
            call = f"{module.root}.{name}"
            assert f"_genesys.{call}(" in written or call in elsewhere, call


@pytest.mark.feature("OR-23")
async def test_actions_that_are_not_built_answer_unsupported_and_the_session_goes_on(
    client: Client, web: Web
) -> None:
    actions = {
        "error.dialog.play": "<dialog:play/>",
        "error.dialog.playandcollect": "<dialog:playandcollect/>",
        "error.statistic.get": "<statistic:get statistic=\"'a'\" object=\"'b'\"/>",
        "error.statistic.subscribe": "<statistic:subscribe statistic=\"'a'\"/>",
        "error.resource.reserve": "<resource:reserve name=\"'a1'\"/>",
        "error.classification.classify": "<classification:classify text=\"'x'\"/>",
        "error.agent.setstate": "<agent:setstate agent=\"'a1'\" state=\"'ready'\"/>",
        "error.queue.query": "<queue:query queue=\"'q'\"/>",
        "error.queue.priorityTuning": "<script>_genesys.queue.priorityTuning(true, 60, 1, 5)</script>",
    }
    names = " ".join(
        f'xmlns:{name}="http://www.genesyslab.com/modules/{name}"'
        for name in ("dialog", "statistic", "resource", "classification", "agent")
    )
    document = f"""{HEAD} {names} initial="a"><datamodel><data id="heard" expr="{{}}"/></datamodel><state id="a">
  <onentry>{"".join(actions.values())}</onentry>
  <transition event="session.request.heard"><session:response requestid="_event.data.requestid" content="heard"/></transition>
  <transition event="error"><script>heard[_event.name] = _event.data.error</script></transition>
  <transition event="bye" target="b"/></state><final id="b"/></scxml>"""
    session = await client.start(web.put("unsupported.scxml", document))
    await client.running(session)

    async def all_heard() -> dict[str, str]:
        heard: dict[str, str] = (await client.ask(session, "heard")).json()
        return heard if len(heard) >= len(actions) else {}

    heard = await eventually(all_heard, json.dumps(list(actions)))
    assert heard == dict.fromkeys(actions, "unsupported")
    await client.http.post(f"/scxml/session/{session}/event/bye")
    await client.over(session)


@pytest.mark.feature("OR-23")
async def test_an_unknown_element_is_an_error_that_names_it(client: Client, web: Web) -> None:
    document = f"""{HEAD} initial="a"><state id="a"><onentry><queue:dance/></onentry></state></scxml>"""
    session = await client.start(web.put("unknown.scxml", document))
    _, end = await client.end_of(session)
    assert end["outcome"] == "failed"
    assert "queue:dance" in end["problem"]


@pytest.mark.feature("OR-23", "OR-09")
async def test_a_session_starts_another_asks_after_it_and_ends_it(client: Client, web: Web) -> None:
    child = web.put("child.scxml", f"""{HEAD} initial="a"><datamodel><data id="n"/></datamodel><state id="a">
  <transition event="session.request.n"><session:response requestid="_event.data.requestid" content="n"/></transition>
  </state></scxml>""")  # fmt: skip
    parent = web.put("parent.scxml", f"""{HEAD} initial="a"><datamodel><data id="to"/><data id="id"/></datamodel>
<state id="a"><onentry><session:start requestid="id" src="to" data="{{n: [1, 2]}}"/></onentry>
  <transition event="session.start.done" target="b"><assign location="id" expr="_event.data.sessionid"/></transition></state>
<state id="b">
  <transition event="session.request.id"><session:response requestid="_event.data.requestid" content="id"/></transition>
  <transition event="end" target="c"/></state>
<state id="c"><onentry><session:terminate sessionid="id"/></onentry>
  <transition event="session.terminate.done" target="d"/></state>
<final id="d"/></scxml>""")  # fmt: skip
    session = await client.start(parent, to=child)
    await client.running(session, "b")
    other = (await client.ask(session, "id")).text
    await client.running(other)
    assert (await client.ask(other, "n")).json() == [1, 2]
    await client.http.post(f"/scxml/session/{session}/event/end")
    await client.over(other)
    _, end = await client.end_of(session)
    assert (end["configuration"], end["outcome"]) == (["d"], "finished")
