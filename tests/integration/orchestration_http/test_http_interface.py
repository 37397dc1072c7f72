"""Sessions over HTTP, as an application server of a tenant drives them: through a real edge, on two nodes."""

from __future__ import annotations

import asyncio
import time

import grpc
import httpx
import pytest
from voice.orchestration.v1.orchestration_service_pb2 import SendEventRequest, StartSessionRequest
from voice.orchestration.v1.orchestration_service_pb2_grpc import OrchestrationServiceStub

from mesh.identity import tokens
from tests.integration.orchestration_http.platform import HEAD, Client, Region, eventually

KEEPER = (
    HEAD
    + """ initial="on">
<datamodel><data id="colour" expr="'none'"/><data id="size" expr="0"/><data id="seen" expr="[]"/></datamodel>
<state id="on">
  <transition event="session.request.report">
    <session:response requestid="_event.data.requestid" content="{colour: colour, size: size, seen: seen, x: _x}"/>
  </transition>
  <transition event="session.request.echo">
    <session:response requestid="_event.data.requestid" content="_event.data.parameters"/>
  </transition>
  <transition event="session.request.missing">
    <session:response requestid="_event.data.requestid" resultcode="404" type="'text/html'" content="'&lt;p>no&lt;/p>'"/>
  </transition>
  <transition event="session.request.silent"/>
  <transition event="session.request.end" target="done"/>
  <transition event="stop" target="done"/>
  <transition event="*"><script>seen.push([_event.name, _event.data === undefined ? 'none' : _event.data])</script></transition>
</state>
<final id="done"/>
</scxml>"""
)


@pytest.fixture
def keeper(service: Region) -> str:
    """Address of an application that remembers what it hears and tells when asked."""
    return service.web.put("keeper.scxml", KEEPER)


@pytest.mark.feature("OR-24", "OR-09")
async def test_a_session_is_started_by_form_fed_by_every_kind_of_event_and_asked(
    service: Region, keeper: str
) -> None:
    client = service.client
    session = await client.start(keeper, colour="red", size="5")
    told = await client.running(session)
    assert told["url"] == keeper
    assert told["origin"] == "SESSION_ORIGIN_API"
    assert told["configuration"] == ["on"]

    path = f"/scxml/session/{session}/event"
    assert (await client.http.get(f"{path}/by.query?a=1&b=two%20words")).status_code == 200
    assert (await client.http.post(f"{path}/by.form", data={"a": "2"})).status_code == 200
    assert (
        await client.http.post(f"{path}/by.json?q=x", json={"n": 3, "deep": {"list": [1, None]}})
    ).status_code == 200
    assert (await client.http.post(f"{path}/bare")).status_code == 200

    answer = await client.ask(session, "report")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    report = answer.json()
    assert (report["colour"], report["size"]) == ("red", "5")
    assert report["x"] == {"colour": "red", "size": "5"}
    assert report["seen"] == [
        ["by.query", {"a": "1", "b": "two words"}],
        ["by.form", {"a": "2"}],
        ["by.json", {"q": "x", "n": 3, "deep": {"list": [1, None]}}],
        ["bare", "none"],
    ]
    assert (await client.http.post(f"{path}/stop")).status_code == 200
    await client.over(session)


@pytest.mark.feature("OR-24")
async def test_json_keeps_its_types_and_the_id_comes_as_json(service: Region, keeper: str) -> None:
    client = service.client
    answer = await client.http.post(
        "/scxml/session/start", json={"src": keeper, "size": 7, "colour": ["a", {"b": 1}]}
    )
    assert answer.status_code == 200
    session = answer.json()["session_id"]
    await client.running(session)
    report = (await client.ask(session, "report")).json()
    assert (report["size"], report["colour"]) == (7, ["a", {"b": 1}])
    await client.http.post(f"/scxml/session/{session}/terminate")
    await client.over(session)


@pytest.mark.feature("OR-24")
async def test_the_application_chooses_status_type_and_content_of_its_answer(
    service: Region, keeper: str
) -> None:
    client = service.client
    session = await client.start(keeper)
    missing = await client.http.get(f"/scxml/session/{session}/request/missing")
    assert (missing.status_code, missing.headers["content-type"], missing.text) == (
        404,
        "text/html",
        "<p>no</p>",
    )
    assert "x-voicemesh-status" not in missing.headers
    echo = await client.http.get(f"/scxml/session/{session}/request/echo?a=1")
    assert echo.json() == {"a": "1"}
    body = {"request_id": "silent-1", "timeout_ms": 300}
    silent = await client.http.post(f"/v1/tenants/t1/sessions/{session}/requests/silent", json=body)
    assert silent.status_code == 504
    ended = await client.ask(session, "end")  # it ends without an answer
    assert ended.status_code == 504
    assert "ended without an answer" in ended.json()["message"]
    await client.over(session)


@pytest.mark.feature("OR-24")
async def test_a_scheduled_session_starts_at_its_time_and_not_before(service: Region, keeper: str) -> None:
    client, due = service.client, time.time() + 2.5
    address = service.web.put("scheduled.scxml", KEEPER)
    session = await client.start(address, idealtime=str(int(due * 1000)), colour="late")
    told = await client.query(session)
    assert told is not None
    assert told["phase"] == "SESSION_PHASE_STARTING"
    assert int(told["start_at_us"]) == int(due * 1000) * 1000
    await client.running(session)
    (fetched,) = service.web.requests("/docs/scheduled.scxml")
    assert fetched.at >= int(due * 1000) / 1000
    assert (await client.ask(session, "report")).json()["colour"] == "late"
    await client.http.post(f"/scxml/session/{session}/event/stop")
    await client.over(session)


@pytest.mark.feature("OR-24")
async def test_a_scheduled_session_can_be_ended_before_its_time(service: Region, keeper: str) -> None:
    client = service.client
    session = await client.start(keeper, idealtime=str(int((time.time() + 3600) * 1000)))
    assert (await client.http.get(f"/scxml/session/{session}/terminate")).status_code == 200
    await client.over(session)


@pytest.mark.feature("OR-24")
async def test_termination_runs_the_exit_handlers(service: Region) -> None:
    client = service.client
    address = service.web.put(
        "exits.scxml",
        f"""{HEAD}><state id="a"><onexit><log label="left" expr="'a'"/></onexit></state></scxml>""",
    )
    session = await client.start(address)
    await client.running(session)
    assert (await client.http.post(f"/scxml/session/{session}/terminate")).status_code == 200
    await client.over(session)
    steps, end = await client.end_of(session)
    assert [e["name"] for e in steps[-1]["effects"] if e["kind"] == "Log"] == ["left"]
    assert end["outcome"] == "cancelled"


@pytest.mark.feature("OR-24")
async def test_errors_name_what_is_wrong(service: Region, keeper: str) -> None:
    client = service.client
    session = await client.start(keeper)
    start, event = "/scxml/session/start", f"/scxml/session/{session}/event/e"

    async def refused(answer: httpx.Response, status: int, word: str) -> None:
        assert answer.status_code == status, answer.text
        assert word in answer.json()["message"]

    await refused(await client.http.post(start, data={"colour": "red"}), 400, "src is required")
    await refused(
        await client.http.post(start, data={"src": "file:///etc/passwd"}), 400, "src must be an address"
    )
    await refused(await client.http.post(start, data={"src": keeper, "idealtime": "soon"}), 400, "idealtime")
    await refused(
        await client.http.post(start, data={"src": keeper, "idealtime": "99999999999999"}), 400, "366 days"
    )
    json_type, xml_type = {"content-type": "application/json"}, {"content-type": "text/xml"}
    await refused(await client.http.post(start, content=b"{", headers=json_type), 400, "body must be JSON")
    await refused(
        await client.http.post(event, content=b"<a/>", headers=xml_type), 400, "content-type must be"
    )
    await refused(await client.http.post(event, content=b"x" * 70_000), 400, "at most 65536 bytes")
    await refused(await client.http.post("/scxml/session/nobody.1/event/e"), 404, "no session")
    await refused(await client.http.get("/scxml/session/nobody.1/query"), 404, "no session")
    assert (await client.http.get(start)).status_code in (403, 404, 405)
    assert (await client.http.post("/scxml/session/x/dance")).status_code in (403, 404)
    none = httpx.Headers({"authorization": ""})
    assert (await client.http.post(start, data={"src": keeper}, headers=none)).status_code == 401
    help_ = await client.http.get("/scxml/ors/help")
    assert help_.status_code == 200
    assert "/scxml/session/start" in help_.text
    await client.http.post(f"/scxml/session/{session}/event/stop")


@pytest.mark.feature("OR-24")
async def test_no_tenant_reaches_the_sessions_of_another(service: Region, keeper: str) -> None:
    session = await service.client.start(keeper)
    await service.client.running(session)
    other = Client(service.mesh, "t2")
    for path in ("query", "terminate", "event/stop", "request/report"):
        answer = await other.http.get(f"/scxml/session/{session}/{path}")
        assert answer.status_code == 404, path
    assert (await other.http.get(f"/v1/tenants/t1/sessions/{session}")).status_code == 403
    assert (await other.http.get(f"/v1/tenants/t2/sessions/{session}")).status_code == 404
    assert (await other.http.get(f"/v1/tenants/t2/sessions/{session}/trace")).status_code == 404
    await other.http.aclose()
    assert await service.client.query(session) is not None
    await service.client.http.post(f"/scxml/session/{session}/event/stop")
    await service.client.over(session)


@pytest.mark.feature("OR-24")
async def test_sessions_on_both_nodes_are_reached_from_either(service: Region, keeper: str) -> None:
    client = service.client
    sessions = await asyncio.gather(*(client.start(keeper, colour=str(n)) for n in range(12)))
    assert len(set(sessions)) == 12
    reports = await asyncio.gather(*(client.ask(session, "report") for session in sessions for _ in range(2)))
    assert [r.json()["colour"] for r in reports] == [str(n) for n in range(12) for _ in range(2)]
    metrics = [service.mesh.metrics[f"orchestration-{n}"] for n in range(2)]
    async with httpx.AsyncClient() as plain:
        texts = [(await plain.get(f"http://{address}/metrics")).text for address in metrics]
    started = [
        [line for line in text.splitlines() if "strategies_total" in line and line[0] != "#"]
        for text in texts
    ]
    assert all(float(lines[0].split()[-1]) > 0 for lines in started), started
    await asyncio.gather(*(client.http.post(f"/scxml/session/{s}/event/stop") for s in sessions))
    for session in sessions:
        await client.over(session)


@pytest.mark.feature("OR-24")
async def test_what_is_sent_again_under_its_key_counts_once(service: Region, keeper: str) -> None:
    client, key = service.client, {"idempotency-key": f"k-{time.time_ns()}"}
    ids = {
        (await client.http.post("/scxml/session/start", data={"src": keeper}, headers=key)).text
        for _ in range(4)
    }
    (session,) = ids
    await client.running(session)
    for _ in range(4):
        sent = await client.http.post(
            f"/scxml/session/{session}/event/once", headers={"idempotency-key": "e1"}
        )
        assert sent.status_code == 200
    report = (await client.ask(session, "report")).json()
    assert report["seen"] == [["once", "none"]]
    await client.http.post(f"/scxml/session/{session}/event/stop")
    await client.over(session)
    await client.end_of(session)
    late = await client.http.post("/scxml/session/start", data={"src": keeper}, headers=key)
    assert late.text == session  # it was, and is not again
    assert await client.query(session) is None


@pytest.mark.feature("OR-09", "OR-24")
async def test_the_same_over_grpc_and_rest(service: Region, keeper: str) -> None:
    mesh = service.mesh
    metadata = (("authorization", f"Bearer {mesh.token('t1', tokens.CLIENT)}"),)
    credentials = grpc.ssl_channel_credentials(mesh.ca_file.read_bytes())
    async with grpc.aio.secure_channel(mesh.edge, credentials) as channel:
        stub = OrchestrationServiceStub(channel)
        request = StartSessionRequest(
            tenant="t1", src=keeper, parameters_json='{"size": 3}', request_id="g-1"
        )
        session = (await stub.StartSession(request, timeout=10, metadata=metadata)).session_id
        await service.client.running(session)
        event = SendEventRequest(
            tenant="t1", session_id=session, name="hi", data_json="[1]", request_id="g-2"
        )
        await stub.SendEvent(event, timeout=10, metadata=metadata)
        forged = StartSessionRequest(tenant="t1", src=keeper, session_id="mine.1")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StartSession(forged, timeout=10, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    http = service.client.http
    body = {"request_id": "g-3", "data_json": "{}"}
    answer = await http.post(f"/v1/tenants/t1/sessions/{session}/requests/report", json=body)
    assert answer.status_code == 200
    assert answer.json()["resultCode"] == 200
    started = await http.post("/v1/tenants/t1/sessions", json={"src": keeper})
    assert started.status_code == 200
    for one in (session, started.json()["sessionId"]):
        ended = await http.post(f"/v1/tenants/t1/sessions/{one}/terminate", json={"request_id": "end"})
        assert ended.status_code == 200
        await service.client.over(one)


@pytest.mark.feature("OR-05")
async def test_an_application_that_cannot_be_had_ends_the_session_and_the_alternate_is_tried(
    service: Region, keeper: str
) -> None:
    client = service.client
    gone = f"{service.web.base}/docs/no-such.scxml"
    session = await client.start(gone, **{"alternate-src": keeper})
    assert (await client.running(session))["url"] == keeper
    await client.http.post(f"/scxml/session/{session}/event/stop")
    lost = await client.start(gone)
    await client.over(lost)

    async def failed() -> bool:
        steps = await client.trace(lost)
        return bool(steps) and steps[-1]["outcome"] == "failed" and "404" in steps[-1]["problem"]

    await eventually(failed, "the trace says why")
