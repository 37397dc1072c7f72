"""An application that makes a call: its request goes to Front End, which has a SIP node make it."""

from __future__ import annotations

import re

import httpx
import pytest

from demo.phone import Phone
from tests.e2e.platform import Platform, events_of
from tests.integration.orchestration_http.platform import HEAD, Client
from tests.integration.orchestration_http.web import Web

DOCUMENT = f"""{HEAD} initial="asks">
  <datamodel><data id="req"/><data id="found"/></datamodel>
  <state id="asks">
    <onentry><ixn:createcall requestid="req" from="'1901'" to="'%s'" udata="{{reason: 'callback', tries: 2}}"/></onentry>
    <transition event="interaction.createcall.done" cond="_event.data.requestid == req" target="told">
      <assign location="found" expr="_event.data"/></transition>
    <transition event="error.interaction.createcall" cond="_event.data.requestid == req" target="told">
      <assign location="found" expr="_event.data"/></transition>
  </state>
  <state id="told">
    <transition event="session.request.found"><session:response requestid="_event.data.requestid" content="found"/></transition>
    <transition event="bye" target="over"/>
  </state>
  <final id="over"/>
</scxml>"""


async def made_by_front_ends(platform: Platform) -> float:
    """MakeCall requests that all Front Ends have taken."""
    total = 0.0
    async with httpx.AsyncClient() as client:
        for node, address in platform.mesh.metrics.items():
            if node.startswith("front_end"):
                text = (await client.get(f"http://{address}/metrics")).text
                pattern = r'(?m)^voicemesh_front_end_requests_total\{request="make_call"\} (\S+)$'
                total += sum(float(value) for value in re.findall(pattern, text))
    return total


@pytest.mark.feature("OR-15")
async def test_createcall_lands_on_front_end_and_a_sip_node_makes_the_call(
    platform: Platform, phones: tuple[Phone, Phone]
) -> None:
    web, client = Web(), Client(platform.mesh)
    before = await made_by_front_ends(platform)
    try:
        async with platform.edge() as channel, events_of(platform, channel) as events:
            session = await client.start(web.put("makes.scxml", DOCUMENT % "1902"))
            await client.running(session, "told")
            found = (await client.ask(session, "found")).json()
            conn_id = int(found["newinteractionid"], 16)
            ringing = await events.first("RINGING", this_dn="1902", conn_id=conn_id)
            talks = await events.first("ESTABLISHED", this_dn="1902", conn_id=conn_id)
            assert ringing.event.other_dn == talks.event.other_dn == "1901"
            pairs = {p.key: p.string_value or p.int_value for p in talks.event.user_data.pairs}
            assert pairs == {"reason": "callback", "tries": 2}
            assert await made_by_front_ends(platform) == before + 1
            assert [len(phone.legs) for phone in phones] == [1, 1]
            await phones[1].hang_up(next(iter(phones[1].legs.values())))
            await events.first("CALL_DELETED", conn_id=conn_id)
            await client.http.post(f"/scxml/session/{session}/event/bye")
            await client.over(session)
    finally:
        web.close()
        await client.http.aclose()


@pytest.mark.feature("OR-15")
async def test_a_call_that_front_end_refuses_is_an_error_event(
    platform: Platform, phones: tuple[Phone, Phone]
) -> None:
    web, client = Web(), Client(platform.mesh)
    try:
        session = await client.start(web.put("refused.scxml", DOCUMENT % "no such dn!"))
        await client.running(session, "told")
        found = (await client.ask(session, "found")).json()
        assert "destination" in str(found), found
        assert "newinteractionid" not in found
        await client.http.post(f"/scxml/session/{session}/event/bye")
        await client.over(session)
        assert [len(phone.legs) for phone in phones] == [0, 0]
    finally:
        web.close()
        await client.http.aclose()
