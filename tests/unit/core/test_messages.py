"""Messages: parsing, reading, editing, building."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voicecore import sip

INVITE = (
    b"INVITE sip:bob@biloxi.example:5070;transport=udp SIP/2.0\r\n"
    b"v: SIP/2.0/UDP pc33.atlanta.example;branch=z9hG4bK776asdhds , SIP/2.0/TCP second\r\n"
    b"Via:SIP/2.0/UDP [2001:db8::1]:5061\r\n"
    b"Max-Forwards:   70\r\n"
    b"t: Bob <sip:bob@biloxi.example>\r\n"
    b'f: "Alice \\"A\\", the first" <sip:alice@atlanta.example>;tag=1928301774\r\n'
    b"i: a84b4c76e66710@pc33\r\n"
    b"CSeq: 314159\r\n INVITE\r\n"
    b"m: <sip:alice@pc33>, <sip:alice@home>;q=0.5\r\n"
    b"Record-Route: <sip:p2;lr>\r\nRecord-Route: <sip:p1;lr>\r\n"
    b"X-Odd :  folded\r\n\t  value  \r\n"
    b"l: 4\r\n\r\nbodyEXTRA"
)


def invite() -> sip.Request:
    message = sip.parse(INVITE)
    assert isinstance(message, sip.Request)
    return message


def test_reading_in_every_spelling() -> None:
    message = invite()
    assert (message.method, str(message.uri)) == ("INVITE", "sip:bob@biloxi.example:5070;transport=udp")
    assert message.call_id == message.get("CALL-ID") == message.get("i") == "a84b4c76e66710@pc33"
    assert (message.cseq.number, message.cseq.method) == (314159, "INVITE")
    assert message.from_.display_name == 'Alice "A", the first'
    assert (message.from_tag, message.to_tag) == ("1928301774", None)
    assert message.via is not None
    assert (message.via.host, message.via.branch) == ("pc33.atlanta.example", "z9hG4bK776asdhds")
    assert [str(contact.uri) for contact in message.contacts] == ["sip:alice@pc33", "sip:alice@home"]
    assert [str(route.uri) for route in message.record_routes] == ["sip:p2;lr", "sip:p1;lr"]
    assert message.get("x-odd") == "folded value"
    assert len(message.get_all("via")) == 2
    assert len(message.get_values("via")) == 3
    assert (message.max_forwards, message.expires, message.content_type) == (70, None, None)
    assert message.body == b"body"


def test_untouched_is_byte_exact_and_an_edit_touches_only_its_line() -> None:
    message = invite()
    assert message.to_bytes() == INVITE.removesuffix(b"EXTRA")
    message.set("Max-Forwards", "69")
    assert message.to_bytes() == INVITE.removesuffix(b"EXTRA").replace(
        b"Max-Forwards:   70", b"Max-Forwards: 69"
    )


def test_editing_lines() -> None:
    message = invite()
    message.append("Record-Route", "<sip:p0;lr>")
    message.prepend("record-route", "<sip:p3;lr>")
    assert [str(route.uri) for route in message.record_routes] == [
        "sip:p3;lr",
        "sip:p2;lr",
        "sip:p1;lr",
        "sip:p0;lr",
    ]
    assert message.remove("RECORD-ROUTE") == 4
    assert message.get("Record-Route") is None
    message.set("Contact", "*")
    assert message.contacts == [] and message.contact is None and message.get("m") == "*"
    message.uri = sip.Uri("10.0.0.1", user="x y")
    message.method = "OPTIONS"
    assert message.to_bytes().startswith(b"OPTIONS sip:x%20y@10.0.0.1 SIP/2.0\r\n")


def test_body_sets_the_length() -> None:
    message = invite()
    message.body = b"longer body"
    assert b"\r\nContent-Length: 11\r\n" in message.to_bytes()
    assert message.to_bytes().endswith(b"\r\n\r\nlonger body")
    again = sip.parse(message.to_bytes())
    assert again.body == b"longer body"


def test_copies_are_apart() -> None:
    message = invite()
    other = message.copy()
    other.set("Subject", "x")
    assert isinstance(other, sip.Request)
    assert message.get("Subject") is None and other.get("s") == "x"


@pytest.mark.parametrize(
    ("name", "value"), [("Bad Name", "x"), ("", "x"), ("X", "a\r\nInjected: y"), ("X", "a\0b"), ("X:", "y")]
)
def test_lines_that_would_break_the_message_are_refused(name: str, value: str) -> None:
    message = invite()
    for edit in (message.set, message.append, message.prepend):
        with pytest.raises(ValueError, match="header"):
            edit(name, value)
    with pytest.raises(ValueError, match="header"):
        message.reply(200, headers=[(name, value)])


def test_reply_copies_what_rfc_3261_8_2_6_says() -> None:
    response = invite().reply(180, to_tag="tt", contact="<sip:bob@10.0.0.9>", headers=[("X-A", "1")])
    assert (response.status, response.reason) == (180, "Ringing")
    assert len(response.get_values("Via")) == 3
    assert response.to_tag == "tt"
    assert len(response.record_routes) == 2
    assert response.get("X-A") == "1"
    assert isinstance(sip.parse(response.to_bytes()), sip.Response)
    assert invite().reply(100).to_tag is None
    random = invite().reply(404)
    assert random.to_tag is not None and random.record_routes == []
    with pytest.raises(ValueError, match="status"):
        invite().reply(99)
    with pytest.raises(ValueError, match="to_tag"):
        invite().reply(200, to_tag="a b")


def test_building_a_request() -> None:
    request = sip.Request.new(
        "MESSAGE",
        "sip:bob@b",
        from_="sip:a@b",
        to=sip.NameAddr("sip:bob@b", display_name='B "x"'),
        routes=["<sip:p;lr>"],
        body=b"hello",
        content_type="text/plain",
        headers=(pair for pair in [("Subject", "hi")]),
    )
    assert request.from_tag and len(request.call_id) == 24
    parsed = sip.parse(b"%sVia: SIP/2.0/UDP x\r\n%s" % tuple(split_first_line(request.to_bytes())))
    assert parsed.to.display_name == 'B "x"'
    assert (parsed.body, parsed.content_type, parsed.get("Subject")) == (b"hello", "text/plain", "hi")
    assert [str(route.uri) for route in parsed.routes] == ["sip:p;lr"]


def split_first_line(data: bytes) -> tuple[bytes, bytes]:
    end = data.index(b"\r\n") + 2
    return data[:end], data[end:]


@pytest.mark.parametrize(
    ("change", "rule", "status"),
    [
        ((b"INVITE sip", b"INV ITE sip"), "uri", 400),
        ((b"SIP/2.0\r\nv", b"SIP/3.0\r\nv"), "version", 505),
        ((b"SIP/2.0\r\nv", b"HTTP/1.1\r\nv"), "start-line", 400),
        ((b"i: a84", b"X: a84"), "missing-call-id", 400),
        ((b"t: Bob", b"t: Bob, Jr"), "to", 400),
        ((b"314159", b"2147483648"), "cseq", 400),
        ((b" INVITE\r\nm", b" OPTIONS\r\nm"), "cseq-method", 400),
        ((b"l: 4", b"l: 400"), "content-length", 400),
        ((b"l: 4", b"l: -4"), "content-length", 400),
        ((b"l: 4", b"l: 4\r\nContent-Length: 5"), "repeated-content-length", 400),
        ((b"l: 4", b"CSeq: 1 INVITE\r\nl: 4"), "repeated-cseq", 400),
        ((b"X-Odd :", b"X Odd :"), "header-name", 400),
        ((b"X-Odd :  folded\r\n", b"X-Odd :  folded\n"), "line-end", 400),
        ((b"v: SIP/2.0/UDP", b"v: SIP/1.0/UDP"), "via", 400),
        ((b"Max-Forwards:   70", b"Max-Forwards: 256"), "max-forwards", 400),
    ],
)
def test_refused_with_position_and_rule(change: tuple[bytes, bytes], rule: str, status: int) -> None:
    data = INVITE.replace(*change)
    assert data != INVITE
    with pytest.raises(sip.ParseError) as caught:
        sip.parse(data)
    assert (caught.value.rule, caught.value.status) == (rule, status)
    assert 0 <= caught.value.position <= len(data)


def test_limits() -> None:
    def rule(data: bytes) -> tuple[str, int]:
        with pytest.raises(sip.ParseError) as caught:
            sip.parse(data)
        return caught.value.rule, caught.value.status

    head, rest = split_first_line(INVITE)
    assert rule(head + b"X: y\r\n" * sip.MAX_HEADER_COUNT + rest) == ("header-count", 400)
    assert rule(head + b"X: " + b"y" * sip.MAX_LINE_LENGTH + b"\r\n" + rest) == ("line-length", 400)
    assert rule(INVITE.replace(b"bob@biloxi", b"b" * sip.MAX_URI_LENGTH + b"@biloxi", 1)) == (
        "uri-length",
        414,
    )
    assert rule(INVITE + b"x" * sip.MAX_MESSAGE_SIZE) == ("message-size", 413)
    params = b";a" * (sip.MAX_PARAMS + 1)
    assert rule(INVITE.replace(b"tag=1928301774", b"tag=1" + params)) == ("param-count", 400)


@given(st.binary(max_size=600))
def test_any_bytes_either_parse_or_raise_parse_error(data: bytes) -> None:
    with contextlib.suppress(sip.ParseError):
        again = sip.parse(sip.parse(data).to_bytes())
        assert again.call_id


@given(st.data())
def test_any_damage_either_parses_or_raises_parse_error(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(INVITE) - 1))
    length = data.draw(st.integers(0, 8))
    damaged = INVITE[:at] + data.draw(st.binary(max_size=8)) + INVITE[at + length :]
    try:
        message = sip.parse(damaged)
    except sip.ParseError:
        return
    again = sip.parse(message.to_bytes())
    assert again.to_bytes() == message.to_bytes()
    for name, _ in message.headers():
        assert message.get_all(name) == again.get_all(name)
