"""REGISTER: who is challenged, who is refused, what the Registrar is asked."""

from __future__ import annotations

import pytest
from voicecore import sip
from voicecore.sip import digest

from services.sip_proxy.register import Ask, Decision, Refuse, Register, contact_headers

NOW = 1_780_000_000.0
SOURCE = ("192.0.2.7", 5062)


class Devices:
    """One tenant with one phone."""

    def tenant_of(self, domain: str) -> str:
        return {"t1.example": "t1", "t2.example": "t2"}.get(domain, "")

    def password(self, tenant: str, dn: str) -> str | None:
        return {("t1", "1001"): "secret-1", ("t2", "1001"): "secret-2"}.get((tenant, dn))


@pytest.fixture
def register() -> Register:
    return Register(Devices(), digest.NonceKeeper(b"0123456789abcdef", window=300))


def request(
    contact: str = "<sip:1001@192.0.2.7:5062>", domain: str = "t1.example", **headers: str
) -> sip.Request:
    aor = f"<sip:1001@{domain}>"
    made = sip.Request.new(
        "REGISTER", f"sip:{domain}", from_=f"{aor};tag=a", to=aor, cseq=7, call_id="call-1"
    )
    made.set("Via", "SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK1")
    if contact:
        made.set("Contact", contact)
    for name, value in headers.items():
        made.set(name.replace("_", "-"), value)
    return made


def signed(
    register: Register,
    password: str = "secret-1",
    domain: str = "t1.example",
    user: str = "1001",
    which: int = 0,
    **more: str,
) -> tuple[sip.Request, Decision]:
    first = register.decide(request(domain=domain), SOURCE, NOW)
    assert isinstance(first, Refuse)
    answer = digest.answer(first.challenges[which], "REGISTER", f"sip:{domain}", user, password=password)
    again = request(domain=domain, Authorization=answer, **more)
    return again, register.decide(again, SOURCE, NOW + 1)


def test_without_credentials_both_algorithms_are_offered(register: Register) -> None:
    decision = register.decide(request(), SOURCE, NOW)
    assert isinstance(decision, Refuse)
    assert (decision.status, decision.counted) == (401, "no_credentials")
    assert [digest.parse_challenge(c).algorithm for c in decision.challenges] == ["SHA-256", "MD5"]


@pytest.mark.parametrize("which", [0, 1])
def test_right_credentials_ask_the_registrar(register: Register, which: int) -> None:
    _, decision = signed(register, which=which, User_Agent="phone/1", Expires="120")
    assert isinstance(decision, Ask)
    asked = decision.request
    assert (asked.tenant, asked.dn, asked.call_id, asked.cseq) == ("t1", "1001", "call-1", 7)
    assert (asked.received, asked.user_agent) == ("192.0.2.7:5062", "phone/1")
    assert [(c.uri, c.expires, c.q) for c in asked.contacts] == [("sip:1001@192.0.2.7:5062", 120, 1000)]


def test_equal_numbers_of_two_tenants_have_their_own_passwords(register: Register) -> None:
    _, decision = signed(register, "secret-2", "t2.example")
    assert isinstance(decision, Ask)
    assert decision.request.tenant == "t2"
    _, decision = signed(register, "secret-1", "t2.example")
    assert decision == Refuse(403, "wrong_credentials")


@pytest.mark.parametrize(
    ("password", "user", "counted"),
    [("wrong", "1001", "wrong_credentials"), ("secret-1", "1002", "foreign_credentials")],
)
def test_wrong_credentials_are_refused(register: Register, password: str, user: str, counted: str) -> None:
    assert signed(register, password, user=user)[1] == Refuse(403, counted)


def test_a_replayed_nonce_is_challenged_again_as_stale(register: Register) -> None:
    again, first = signed(register)
    assert isinstance(first, Ask)
    second = register.decide(again, SOURCE, NOW + 2)
    assert isinstance(second, Refuse)
    assert (second.status, second.counted) == (401, "replayed_nonce")
    assert digest.parse_challenge(second.challenges[0]).stale


def test_the_nonce_of_another_proxy_is_stale(register: Register) -> None:
    other = Register(Devices(), digest.NonceKeeper(b"fedcba9876543210"))
    again, _ = signed(other)
    decision = register.decide(again, SOURCE, NOW + 2)
    assert isinstance(decision, Refuse)
    assert (decision.status, decision.counted) == (401, "stale_nonce")


def test_an_unknown_domain_is_not_found(register: Register) -> None:
    assert register.decide(request(domain="t9.example"), SOURCE, NOW) == Refuse(404, "unknown_domain")


def _authorized(register: Register, contact: str, **headers: str) -> Decision:
    first = register.decide(request(), SOURCE, NOW)
    assert isinstance(first, Refuse)
    answer = digest.answer(first.challenges[0], "REGISTER", "sip:t1.example", "1001", password="secret-1")
    return register.decide(request(contact, Authorization=answer, **headers), SOURCE, NOW)


def test_wildcard_needs_expires_zero(register: Register) -> None:
    gone = _authorized(register, "*", Expires="0")
    assert isinstance(gone, Ask)
    assert gone.request.wildcard
    assert _authorized(register, "*", Expires="60") == Refuse(400, "wildcard_with_expiry")


def test_too_short_an_interval_is_told_the_shortest(register: Register) -> None:
    decision = _authorized(register, "<sip:a@192.0.2.7>;expires=30")
    assert decision == Refuse(423, "interval_too_brief", headers=(("Min-Expires", "60"),))
    assert isinstance(_authorized(register, "<sip:a@192.0.2.7>;expires=0"), Ask)


def test_more_contacts_than_a_device_may_have_are_refused(register: Register) -> None:
    contacts = ", ".join(f"<sip:{n}@192.0.2.7>" for n in range(11))
    assert _authorized(register, contacts) == Refuse(403, "too_many_contacts")


def test_contact_parameters_reach_the_registrar(register: Register) -> None:
    decision = _authorized(
        register,
        '<sip:1001@192.0.2.7>;q=0.5;expires=600;reg-id=1;+sip.instance="<urn:uuid:1>"',
        Path="<sip:edge1;lr>, <sip:edge2;lr>",
    )
    assert isinstance(decision, Ask)
    contact = decision.request.contacts[0]
    assert (contact.q, contact.expires, contact.reg_id, contact.instance_id) == (500, 600, 1, "<urn:uuid:1>")
    assert list(decision.request.path) == ["<sip:edge1;lr>", "<sip:edge2;lr>"]


@pytest.mark.parametrize("authorization", ["Basic abc", "Digest", 'Digest username="1001"', "nonsense"])
def test_credentials_that_do_not_parse_are_malformed(register: Register, authorization: str) -> None:
    decision = register.decide(request(Authorization=authorization), SOURCE, NOW)
    assert isinstance(decision, Refuse)
    assert (decision.status, decision.counted) == (400, "malformed")


def test_contacts_of_the_answer() -> None:
    assert contact_headers([("sip:a@h", 60, 1000), ("sip:b@h", 5, 500)]) == [
        ("Contact", "<sip:a@h>;expires=60;q=1"),
        ("Contact", "<sip:b@h>;expires=5;q=0.5"),
    ]
