"""HTTP requests of applications against servers that are slow, broken and flaky."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from tests.integration.orchestration_http.platform import HEAD, Region

SLACK_S = 2.0
"""How much later than stated an error may be told on a busy machine."""


def fetcher(action: str) -> str:
    """A document that makes one request and ends in `ok`, or in `bad` with the error as donedata."""
    return (
        HEAD
        + f""" initial="a"><datamodel><data id="base"/><data id="req"/><data id="found"/></datamodel>
<state id="a"><onentry>{action}</onentry>
  <transition event="session.fetch.done ws.request.done" target="ok"><assign location="found" expr="_event.data"/></transition>
  <transition event="error.session.fetch error.ws.request error.ws.send" target="bad">
    <assign location="found" expr="_event.data"/></transition>
</state>
<final id="ok"><onentry><log label="found" expr="found"/></onentry></final>
<final id="bad"><onentry><log label="found" expr="found"/></onentry></final></scxml>"""
    )


async def fetched(service: Region, name: str, action: str) -> tuple[str, dict[str, Any], float]:
    """How it ended, what it was told, and how many seconds after the request, by the trace."""
    document = service.web.put(f"{name}.scxml", fetcher(action))
    session = await service.client.start(document, base=service.web.base)
    steps, end = await service.client.end_of(session)
    assert end["outcome"] == "finished", end
    log = next(e for e in steps[-1]["effects"] if e["kind"] == "Log")
    waited = (int(steps[-1]["timeUs"]) - int(steps[0]["timeUs"])) / 1e6
    return end["configuration"][0], json.loads(json.loads(log["detailJson"])["text"]), waited


@pytest.mark.feature("OR-25")
async def test_a_good_answer_has_its_status_and_content(service: Region) -> None:
    action = """<session:fetch requestid="req" srcexpr="base + '/echo'" method="'post'" data="{a: 1}"
        headers="{'x-one': 'two'}" username="'me'" password="'secret'"/>"""
    state, found, _ = await fetched(service, "good", action)
    assert state == "ok"
    assert (found["statuscode"], json.loads(found["content"])) == (200, {"a": 1})
    (asked,) = service.web.requests("/echo")
    assert (asked.method, asked.body) == ("POST", b'{"a": 1}')
    headers = {key.lower(): value for key, value in asked.headers.items()}
    assert headers["x-one"] == "two"
    assert headers["authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
    assert found["requestid"]


@pytest.mark.feature("OR-25")
async def test_a_slow_server_is_an_error_at_the_stated_time(service: Region) -> None:
    action = """<session:fetch requestid="req" srcexpr="base + '/late?s=15'" timeout="1.5"/>"""
    began = time.monotonic()
    state, found, waited = await fetched(service, "slow", action)
    assert (state, found["error"]) == ("bad", "timeout")
    assert "1500 ms" in found["description"]
    assert 1.5 <= waited < 1.5 + SLACK_S
    assert time.monotonic() - began < 15


@pytest.mark.feature("OR-25")
@pytest.mark.parametrize("code", [400, 404, 500, 503])
async def test_a_status_of_400_and_above_is_an_error_with_its_number(service: Region, code: int) -> None:
    action = f"""<ws:request requestid="req" url="base + '/status?code={code}'"/>"""
    state, found, _ = await fetched(service, f"status-{code}", action)
    assert (state, found["error"], found["description"]) == ("bad", f"http {code}", "as told")


@pytest.mark.feature("OR-25")
async def test_a_flaky_server_is_asked_again_as_often_as_the_application_says(service: Region) -> None:
    action = """<session:fetch requestid="req" srcexpr="base + '/flaky?key=a&amp;n=2'" retries="2"/>"""
    state, found, _ = await fetched(service, "flaky", action)
    assert (state, json.loads(found["content"])) == ("ok", {"fine": True})
    asked = [one for one in service.web.requests("/flaky") if "key=a" in one.path]
    assert len(asked) == 3
    assert (
        len({one.headers.get("Idempotency-Key") or one.headers.get("idempotency-key") for one in asked}) == 1
    )

    once = """<session:fetch requestid="req" srcexpr="base + '/flaky?key=b&amp;n=1'"/>"""
    state, found, _ = await fetched(service, "flaky-once", once)
    assert (state, found["error"]) == ("bad", "http 503")


@pytest.mark.feature("OR-25")
async def test_nobody_there_is_an_error_after_all_attempts(service: Region) -> None:
    action = """<session:fetch requestid="req" srcexpr="'http://127.0.0.1:9/'" retries="1" timeout="2"/>"""
    state, found, waited = await fetched(service, "nobody", action)
    assert (state, found["error"]) == ("bad", "dependency_unavailable")
    assert waited >= 0.2  # the pause before the second attempt


@pytest.mark.feature("OR-25")
async def test_what_cannot_be_asked_is_refused_with_its_reason(service: Region) -> None:
    for name, action, words in (
        ("scheme", """<session:fetch requestid="req" srcexpr="'ftp://a/b'"/>""", "must begin with http"),
        (
            "method",
            """<session:fetch requestid="req" srcexpr="base" method="'dance'"/>""",
            "is not one of GET",
        ),
        (
            "retries",
            """<session:fetch requestid="req" srcexpr="base" retries="9"/>""",
            "'retries' must be 0 to 5",
        ),
    ):
        state, found, _ = await fetched(service, f"refused-{name}", action)
        assert state == "bad"
        assert words in found["description"]
