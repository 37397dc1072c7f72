"""Uri, NameAddr, Via, CSeq, and the identifiers that name slots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voicecore import sip


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@atlanta.com",
        "sips:alice@atlanta.com:5061;transport=tls?subject=project%20x",
        "sip:al%69ce;isub=1:secret%20word@[2001:db8::1]:5060;lr;maddr=239.255.255.1",
        "sip:+1-212-555-1212:1234@gateway.com;user=phone",
        "tel:+358-555-1234567;phone-context=+358",
        "sip:atlanta.com",
        "urn:service:sos",
    ],
)
def test_text_is_kept(text: str) -> None:
    uri = sip.Uri.parse(text)
    assert str(uri) == text
    assert uri == sip.Uri.parse(text) and hash(uri) == hash(sip.Uri.parse(text))
    assert str(sip.NameAddr(uri).uri) == text


def test_parts_are_decoded() -> None:
    uri = sip.Uri.parse("SIP:al%69ce;x=%20:pw@Host:5070;LR;p=%41?h=v")
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port) == (
        "sip",
        "alice;x= ",
        "pw",
        "Host",
        5070,
    )
    assert uri.params == (("lr", None), ("p", "A"))
    assert (uri.param("lr"), uri.param("P"), uri.param("none"), uri.headers) == ("", "A", None, "h=v")
    assert uri.aor() == "sip:alice;x=%20@host"


@given(user=st.text(min_size=1, max_size=20), value=st.text(min_size=1, max_size=20))
def test_building_escapes_what_it_must(user: str, value: str) -> None:
    uri = sip.Uri("example.com", user=user, port=5070, params={"lr": None, "x": value})
    parsed = sip.Uri.parse(str(uri))
    assert (parsed.user, parsed.param("x"), parsed.param("lr")) == (user, value, "")


def test_changes_make_copies() -> None:
    uri = sip.Uri.parse("sip:a@b:1;x=1;y")
    assert str(uri.with_param("x", "2")) == "sip:a@b:1;x=2;y"
    assert str(uri.with_param("z")) == "sip:a@b:1;x=1;y;z"
    assert str(uri.without_param("X").with_user("c d").with_host("::1", 9)) == "sip:c%20d@[::1]:9;y"
    assert str(uri) == "sip:a@b:1;x=1;y"
    with pytest.raises(ValueError, match="x"):
        uri.with_param("x", "")
    with pytest.raises(ValueError):
        sip.Uri("no host")


def test_equivalence_is_not_equality() -> None:
    a, b = (
        sip.Uri.parse("sip:alice@AtLanTa.CoM;Transport=tcp"),
        sip.Uri.parse("sip:%61lice@atlanta.com;transport=TCP"),
    )
    assert a != b and a.equivalent(b)
    assert not a.equivalent(sip.Uri.parse("sip:alice@atlanta.com"))


@pytest.mark.parametrize(
    "text",
    [
        '"A \\"B\\"" <sip:a@b;x=1>;tag=1;y="q;,"',
        "sip:a@b;tag=7",
        "Mr Watson <tel:+12>",
        "<sip:a@b?Replaces=x>;expires=60",
    ],
)
def test_name_addr_round_trip(text: str) -> None:
    assert str(sip.NameAddr.parse(text)) == text


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=30))
def test_any_display_name_survives(name: str) -> None:
    built = sip.NameAddr("sip:a@b", display_name=name, params={"tag": "x"})
    parsed = sip.NameAddr.parse(str(built))
    assert (parsed.display_name, parsed.tag, str(parsed.uri)) == (name, "x", "sip:a@b")


def test_name_addr_params() -> None:
    address = sip.NameAddr.parse("<sip:a@b>;tag=1;q=0.5")
    assert str(address.with_param("tag", "2")) == "<sip:a@b>;tag=2;q=0.5"
    assert str(address.without_param("tag")) == "<sip:a@b>;q=0.5"
    assert str(address.with_param("text", 'say "x"')) == '<sip:a@b>;tag=1;q=0.5;text="say \\"x\\""'
    assert address.params == (("tag", "1"), ("q", "0.5"))


def test_via() -> None:
    via = sip.Via.parse("SIP/2.0/udp [2001:db8::9]:5090;rport=77;received=10.0.0.1;branch=z9hG4bKx")
    assert (via.transport, via.host, via.port) == ("UDP", "[2001:db8::9]", 5090)
    assert (via.branch, via.received, via.rport) == ("z9hG4bKx", "10.0.0.1", 77)
    assert sip.Via.parse("SIP/2.0/UDP a;rport").rport is None


def test_cseq() -> None:
    assert sip.CSeq(5, "INVITE") == sip.CSeq(5, "INVITE") != sip.CSeq(6, "INVITE")
    assert str(sip.CSeq(5, "BYE")) == "5 BYE"
    with pytest.raises(ValueError, match="number"):
        sip.CSeq(2**31, "BYE")


@pytest.mark.parametrize("slot", [0, 163, 1023])
def test_slots_in_tags_and_branches(slot: int) -> None:
    assert sip.slot_of_tag(sip.new_tag(slot)) == slot
    assert sip.slot_of_branch(f"z9hG4bK{sip.branch_prefix(slot)}abc") == slot
    assert sip.slot_of_tag(sip.new_tag()) is None
    assert sip.slot_of_tag(None) is None and sip.slot_of_branch("v10a3-x") is None


def test_names_do_not_repeat() -> None:
    assert len({sip.new_tag() for _ in range(1000)}) == 1000
    assert len({sip.new_call_id() for _ in range(1000)}) == 1000
    with pytest.raises(ValueError, match="slot"):
        sip.new_tag(1024)
