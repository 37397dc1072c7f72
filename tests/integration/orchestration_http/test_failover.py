"""A node dies under sessions that clients started: scheduled ones start on time, requests are answered, events count once."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.integration.orchestration_http.platform import HEAD, Client, Region, eventually

PATIENT = (
    HEAD
    + """ initial="on">
<datamodel><data id="waiting" expr="[]"/><data id="seen" expr="0"/></datamodel>
<state id="on">
  <transition event="session.request.slow">
    <script>waiting.push(_event.data.requestid)</script><send event="answer" delay="3s"/>
  </transition>
  <transition event="answer"><session:response requestid="waiting.shift()" content="{seen: seen}"/></transition>
  <transition event="count"><assign location="seen" expr="seen + 1"/></transition>
  <transition event="stop" target="done"/>
</state>
<final id="done"/></scxml>"""
)


async def patiently(client: Client, path: str, key: str) -> httpx.Response:
    """Sends a request until it is answered, always under the same key: what any careful client does."""
    deadline = time.monotonic() + 40
    while True:
        try:
            answer = await client.http.post(path, headers={"idempotency-key": key})
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code < 500:
            return answer
        assert time.monotonic() < deadline, (path, answer and answer.text)
        await asyncio.sleep(0.1)


@pytest.mark.feature("OR-19", "OR-24")
async def test_a_node_that_dies_takes_no_session_request_or_start_with_it(service: Region) -> None:
    client = service.client
    address = service.web.put("patient.scxml", PATIENT)
    late = service.web.put("late.scxml", PATIENT)
    sessions = await asyncio.gather(*(client.start(address) for _ in range(10)))
    for session in sessions:
        await client.running(session)
    due = time.time() + 6
    scheduled = await asyncio.gather(*(client.start(late, idealtime=str(int(due * 1000))) for _ in range(6)))
    counting = [
        patiently(client, f"/scxml/session/{session}/event/count", f"count-{session}-{number}")
        for session in sessions
        for number in range(3)
    ]
    asking = [
        asyncio.ensure_future(patiently(client, f"/scxml/session/{session}/request/slow", f"slow-{session}"))
        for session in sessions
    ]
    await asyncio.sleep(1)  # the requests are under way
    service.mesh.process("orchestration-0").kill()
    counted = await asyncio.gather(*counting)
    assert {answer.status_code for answer in counted} == {200}
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    for session in sessions:
        again = await patiently(client, f"/scxml/session/{session}/request/slow", f"again-{session}")
        assert again.json() == {"seen": 3}

    async def all_started() -> bool:
        found = [await client.query(session) for session in scheduled]
        return all(one and one["phase"] == "SESSION_PHASE_RUNNING" for one in found)

    await eventually(all_started, "scheduled sessions run", 40)
    fetched = service.web.requests("/docs/late.scxml")
    assert fetched
    assert min(one.at for one in fetched) >= int(due * 1000) / 1000
    for session in [*sessions, *scheduled]:
        await patiently(client, f"/scxml/session/{session}/event/stop", f"stop-{session}")
        await client.over(session)
    await service.mesh.wait_ready(60)
