"""Each message of RFC 4475: the parser's verdict, and what user agent core and proxy do with it."""

from __future__ import annotations

import pytest
from voicecore import sip

from tests.conformance.sip import suite

pytestmark = pytest.mark.skipif(
    not suite.present(), reason="shared/suites/sip-rfc4475 is not beside the checkout"
)

by_name = pytest.mark.parametrize("case", suite.CASES, ids=lambda case: str(case.name))


def test_no_message_is_left_out() -> None:
    found = {path.stem for path in suite.FOLDER.glob("*.dat")}
    assert found - suite.BESIDE == {case.name for case in suite.CASES}


@by_name
def test_parser(case: suite.Case) -> None:
    data = suite.message(case)
    assert suite.parsed_rule(data) == case.rule
    if case.rule is None:
        message = sip.parse(data)
        again = sip.parse(message.to_bytes())
        assert again.headers() == message.headers() or message.get("Content-Length") is None
        assert again.body == message.body


@by_name
@pytest.mark.parametrize("kind", ["agent", "proxy"])
def test_behaviour(case: suite.Case, kind: str) -> None:
    wanted = case.agent if kind == "agent" else case.proxy
    assert suite.outcome(kind, suite.message(case)) == wanted


def test_what_the_tortuous_ones_say() -> None:
    def request(name: str) -> sip.Request:
        message = sip.parse((suite.FOLDER / f"{name}.dat").read_bytes())
        assert isinstance(message, sip.Request)
        return message

    wsinv = request("wsinv")
    assert (wsinv.max_forwards, wsinv.cseq.number, wsinv.call_id) == (68, 9, "wsinv.ndaksdj@192.0.2.1")
    assert len(wsinv.get_values("Via")) == 3 and wsinv.from_.display_name is not None
    assert wsinv.get("NewFangledHeader") == "newfangled value continued newfangled value"
    esc01 = request("esc01")
    assert (esc01.uri.user, esc01.uri.host) == ("sips:user@example.com", "example.net")
    assert request("esc02").method == "RE%47IST%45R"
    assert request("semiuri").uri.user == "user;par=u@example.net"
    assert request("escnull").to.uri.user == "null-\0-null"
    assert request("cparam01").contacts[0].uri.param("unknownparam") is None
    assert request("cparam02").contacts[0].uri.param("unknownparam") == ""
    escaped = request("regescrt").contacts[0].uri
    assert escaped.headers == "Route=%3Csip:sip.example.com%3E"
    assert request("dblreq").body == b""
    with pytest.raises(sip.ParseError):
        _ = request("regbadct").contacts
