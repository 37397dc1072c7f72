"""The W3C's tests of the Basic HTTP event processor against the platform's own HTTP interface: sessions of the real service
that reach each other through a real edge."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import httpx
import pytest

from mesh.local import LocalMesh, LocalSettings
from mesh.local.layout import DEFAULT_COUNTS
from tests.conformance.scxml import suite
from tests.integration.orchestration_http.platform import HEAD, WAIT_S, Region
from tests.integration.orchestration_http.web import Web

pytestmark = pytest.mark.skipif(
    not suite.present(), reason="suite absent: no shared/suites/scxml-w3c beside the checkout"
)
CASES = [case for case in (suite.cases() if suite.present() else []) if case.profile == "http"]
AUTOMATIC = [case for case in CASES if not case.manual]


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Region]:
    """Orchestration behind an edge."""
    counts = {**dict.fromkeys(DEFAULT_COUNTS, 0), "config": 1, "redis_queue": 1, "orchestration": 2}
    settings = LocalSettings(counts=counts, run_dir=tmp_path_factory.mktemp("mesh"), net=None)
    web = Web()
    try:
        async with LocalMesh(settings) as mesh:
            made = Region(mesh, web)
            yield made
            await made.client.http.aclose()
    finally:
        web.close()


@pytest.mark.feature("OR-22", "OR-24")
@pytest.mark.parametrize("case", AUTOMATIC, ids=lambda case: case.id)
async def test_w3c_basic_http(service: Region, case: suite.Case) -> None:
    for name in case.files:
        text = suite.resolve(name).decode()
        session = await service.client.start(service.web.put(f"w3c-{case.id}.scxml", text))
        steps, end = await service.client.end_of(session)
        assert end["configuration"] == ["pass"], f"{case.text}\n{end}\n{steps}"
        assert end["outcome"] == "finished"


@pytest.mark.feature("OR-22", "OR-24")
async def test_w3c_513_a_message_that_arrives_is_answered_2xx(service: Region) -> None:
    """The one test of the profile that the suite leaves to a person."""
    document = f"""{HEAD} initial="a"><state id="a">
  <transition event="session.request.where">
    <session:response requestid="_event.data.requestid" content="_ioprocessors['basichttp']['location']"/>
  </transition>
  <transition event="test" target="b"/></state><final id="b"/></scxml>"""
    session = await service.client.start(service.web.put("w3c-513.scxml", document))
    await service.client.running(session)
    address = (await service.client.ask(session, "where")).text
    context = ssl.create_default_context(cafile=str(service.mesh.ca_file))
    async with httpx.AsyncClient(verify=context, timeout=WAIT_S) as sender:
        answer = await sender.post(address, data={"_scxmleventname": "test"})
    assert answer.status_code // 100 == 2
    _, end = await service.client.end_of(session)
    assert end["configuration"] == ["b"]


def test_the_profile_is_complete() -> None:
    assert (len(AUTOMATIC), [case.id for case in CASES if case.manual]) == (11, ["513"])
