"""Bindings under REGISTER (RFC 3261 §10.3), and what is reported of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.config_cache import Registration, Registrations
from services.registrar.contact import is_route, is_sip, same_uri
from services.registrar.machine import (
    SECOND_US,
    ContactUpdate,
    Limits,
    OutOfOrder,
    Refused,
    Register,
    TooBrief,
    TooMany,
    expire,
    granted,
    handle,
)
from services.registrar.service_state import Report, SlotReports

NOW = 1_000 * SECOND_US
LIMITS = Limits()
A, B = "sip:1001@10.0.0.1:5060", "sip:1001@10.0.0.2:5060"


def register(cseq: int, *contacts: tuple[str, int], call_id: str = "c1", **more: object) -> Register:
    updates = tuple(ContactUpdate(uri, expires) for uri, expires in contacts)
    return Register(call_id, cseq, updates, **more)  # type: ignore[arg-type]


def after(
    *registers: Register, now: int = NOW, start: tuple[Registration, ...] = ()
) -> tuple[Registration, ...]:
    bindings = start
    for one in registers:
        bindings = handle(bindings, one, now, LIMITS).bindings
    return bindings


def times(bindings: tuple[Registration, ...]) -> dict[str, int]:
    return {b.contact: (b.expires_us - NOW) // SECOND_US for b in bindings}


def test_a_contact_is_added_refreshed_and_removed() -> None:
    one = handle((), register(1, (A, 600)), NOW, LIMITS)
    assert one.changed
    assert times(one.bindings) == {A: 600}
    two = handle(one.bindings, register(2, (A, 900)), NOW + 60 * SECOND_US, LIMITS)
    assert times(two.bindings) == {A: 960}
    gone = handle(two.bindings, register(3, (A, 0)), NOW, LIMITS)
    assert (gone.bindings, gone.changed) == ((), True)


def test_what_a_register_says_of_the_device_is_kept() -> None:
    told = register(
        1, (A, 600), received="198.51.100.1:1024", path=("sip:p1;lr", "sip:p2;lr"), user_agent="phone/1"
    )
    (binding,) = after(replace(told, contacts=(ContactUpdate(A, 600, 500, "urn:uuid:1", 1),)))
    assert binding == Registration(
        A, "198.51.100.1:1024", ("sip:p1;lr", "sip:p2;lr"), 500, NOW + 600 * SECOND_US, "c1", 1, "urn:uuid:1", 1, "", "phone/1"
    )  # fmt: skip


def test_several_bindings_stand_beside_each_other() -> None:
    assert times(after(register(1, (A, 600)), register(1, (B, 300), call_id="c2"))) == {A: 600, B: 300}
    assert times(after(register(1, (A, 600), (B, 300)), register(2, (A, 0)))) == {B: 300}


def test_the_wildcard_removes_all() -> None:
    bindings = after(register(1, (A, 600)), register(7, (B, 300), call_id="c2"))
    gone = handle(bindings, register(2, wildcard=True), NOW, LIMITS)
    assert (gone.bindings, gone.changed) == ((), True)
    nothing = handle((), register(3, wildcard=True), NOW, LIMITS)
    assert (nothing.bindings, nothing.changed) == ((), False)
    with pytest.raises(OutOfOrder):
        handle(bindings, register(7, wildcard=True, call_id="c2"), NOW, LIMITS)


def test_a_query_changes_nothing() -> None:
    bindings = after(register(1, (A, 600)))
    asked = handle(bindings, register(1, call_id="other"), NOW, LIMITS)
    assert (asked.bindings, asked.changed) == (bindings, False)


@pytest.mark.parametrize(("cseq", "expires"), [(4, 600), (1, 600), (5, 0), (4, 0)])
def test_an_older_register_changes_nothing(cseq: int, expires: int) -> None:
    bindings = after(register(5, (A, 600)))
    with pytest.raises(OutOfOrder):
        handle(bindings, register(cseq, (A, expires)), NOW, LIMITS)


def test_the_same_register_again_is_answered_as_before() -> None:
    first = handle((), register(5, (A, 600)), NOW, LIMITS)
    again = handle(first.bindings, register(5, (A, 600)), NOW + SECOND_US, LIMITS)
    assert (again.bindings, again.changed) == (first.bindings, False)


def test_another_call_id_has_its_own_order() -> None:
    assert times(after(register(50, (A, 600)), register(1, (A, 300), call_id="after a restart"))) == {A: 300}


def test_expiry_is_bounded_by_the_tenant_and_by_the_least() -> None:
    assert times(after(register(1, (A, 2**31 - 1)))) == {A: 3600}
    with pytest.raises(TooBrief) as caught:
        handle((), register(1, (A, 600), (B, 59)), NOW, LIMITS)
    assert (caught.value.contact, caught.value.min_expires_s) == (1, 60)
    assert times(after(register(1, (A, 60)))) == {A: 60}


def test_ten_bindings_and_no_more() -> None:
    ten = after(*(register(1, (f"sip:1001@10.0.0.{n}", 600), call_id=f"c{n}") for n in range(10)))
    assert len(ten) == 10
    with pytest.raises(TooMany):
        handle(ten, register(1, (A + ";x=1", 600), call_id="new"), NOW, LIMITS)
    # One goes as another comes.
    swapped = handle(ten, register(2, (A, 600), ("sip:1001@10.0.0.0", 0), call_id="c0"), NOW, LIMITS)
    assert len(swapped.bindings) == 10
    # Those that have ended do not count.
    later = NOW + 601 * SECOND_US
    assert len(handle(ten, register(1, (A, 600), call_id="new"), later, LIMITS).bindings) == 1


def test_a_device_that_moves_keeps_one_binding_by_instance() -> None:
    def move(cseq: int, uri: str, call_id: str) -> Register:
        return Register(call_id, cseq, (ContactUpdate(uri, 600, 1000, "<urn:uuid:1>", 1),))

    assert times(after(move(1, A, "c1"), move(1, B, "c2"))) == {B: 600}


def test_ended_bindings_are_gone_at_the_next_change() -> None:
    bindings = after(register(1, (A, 60), (B, 600)))
    later = NOW + 61 * SECOND_US
    assert [b.contact for b in expire(bindings, later)] == [B]
    asked = handle(bindings, register(9, call_id="q"), later, LIMITS)
    assert [b.contact for b in asked.bindings] == [B]
    assert times(handle(bindings, register(2, (B, 600)), later, LIMITS).bindings) == {B: 661}


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (A, A, True),
        ("sip:1001@H.example", "sip:1001@h.EXAMPLE", True),
        ("sip:1001@h;transport=tcp", "sip:1001@h;transport=TCP", True),
        ("sip:1001@h", "sip:1001@h:5060", False),
        ("sip:1001@h", "sip:1002@h", False),
        ("sip:1001@h;transport=udp", "sip:1001@h", False),
        ("sip:1001@h", "sips:1001@h", False),
        ("not a uri", "sip:x@h", False),
    ],
)
def test_when_two_contacts_are_one(left: str, right: str, same: bool) -> None:
    assert same_uri(left, right) is same
    assert same_uri(right, left) is same


def test_what_can_be_called_and_routed_through() -> None:
    assert is_sip(A)
    assert not any(map(is_sip, ("", "tel:+1", "*", "mailto:a@b", "sip:")))
    assert is_route("<sip:p.example;lr>;ob")
    assert is_route("sip:p.example;lr")
    assert not is_route("<tel:1>")


# -- properties ----------------------------------------------------------------------------------------------------

CONTACTS = st.lists(
    st.tuples(st.sampled_from([A, B, "sip:x@h"]), st.sampled_from([0, 30, 60, 600, 9999])), max_size=3
)
REGISTERS = st.lists(
    st.tuples(st.sampled_from(["c1", "c2"]), st.integers(0, 6), CONTACTS, st.booleans(), st.integers(0, 400)),
    max_size=12,
)


@settings(max_examples=300)
@given(REGISTERS)
def test_whatever_is_registered(steps: list[tuple[str, int, list[tuple[str, int]], bool, int]]) -> None:
    bindings: tuple[Registration, ...] = ()
    now, highest = NOW, dict[tuple[str, str], int]()
    for call_id, cseq, contacts, wildcard, pause in steps:
        now += pause * SECOND_US
        request = register(cseq, *(() if wildcard else contacts), call_id=call_id, wildcard=wildcard)
        try:
            outcome = handle(bindings, request, now, LIMITS)
        except Refused:
            continue
        assert len(outcome.bindings) <= LIMITS.max_bindings
        assert all(now < b.expires_us <= now + 3600 * SECOND_US for b in outcome.bindings)
        uris = [b.contact for b in outcome.bindings]
        assert len(set(uris)) == len(uris)
        if not outcome.changed:
            assert set(outcome.bindings) <= set(bindings)
            continue
        bindings = outcome.bindings
        # The same REGISTER sent again, as after a lost answer, does nothing more.
        try:
            assert handle(bindings, request, now, LIMITS).bindings == bindings
        except OutOfOrder:
            assert any(expires == 0 for _, expires in contacts) or len({u for u, _ in contacts}) < len(
                contacts
            )
        for binding in bindings:
            key = (binding.contact, binding.call_id)
            assert binding.cseq >= highest.get(key, 0) or binding.cseq == cseq
            highest[key] = binding.cseq


# -- reports -------------------------------------------------------------------------------------------------------

PHONE = ("t1", "1001")


def bound(revision: int, ends_us: int = NOW + 60 * SECOND_US) -> Registrations:
    (binding,) = after(register(1, (A, 600)))
    return Registrations("t1", "1001", revision, (replace(binding, expires_us=ends_us),))


def test_a_device_is_reported_once_in_and_once_out() -> None:
    reports = SlotReports({})
    came = reports.due(PHONE, bound(7), NOW)
    assert came == Report(PHONE, True, "register", 7)
    reports.done(came)
    assert reports.due(PHONE, bound(9), NOW) is None
    went = reports.due(PHONE, None, NOW)
    assert went == Report(PHONE, False, "unregister", 7)
    reports.done(went)
    assert reports.due(PHONE, None, NOW) is None
    assert reports.reported == {}


def test_the_end_of_time_is_told_from_a_removal() -> None:
    reports = SlotReports({PHONE: 7})
    reports.due(PHONE, bound(7, NOW + SECOND_US), NOW)
    went = reports.due(PHONE, None, NOW + 2 * SECOND_US)
    assert went is not None
    assert went.cause == "expired"


def test_an_heir_reports_what_its_predecessor_had_not() -> None:
    heir = SlotReports({PHONE: 7, ("t1", "1002"): 8})
    assert heir.due(PHONE, bound(9), NOW) is None
    went = heir.due(("t1", "1002"), None, NOW)
    assert went is not None
    assert went.input_id == Report(("t1", "1002"), False, "expired", 8).input_id


def test_a_report_repeated_has_the_same_id() -> None:
    one, other = SlotReports({}).due(PHONE, bound(7), NOW), SlotReports({}).due(PHONE, bound(7), NOW + 5)
    assert one is not None
    assert other is not None
    assert one.input_id == other.input_id == "t1/1001/in/7"


def test_what_is_granted_is_spread_below_what_was_asked_for_and_never_below_the_least() -> None:
    limits = Limits(min_expires_s=60, max_expires_s=3600, jitter_percent=10)
    assert granted(1000, limits, 0.0) == 1000
    assert granted(1000, limits, 0.5) == 950
    assert 900 <= granted(1000, limits, 0.999) <= 901
    assert granted(7200, limits, 0.5) == 3420
    assert granted(60, limits, 0.9) == 60
    assert granted(63, limits, 0.99) == 60
    one = handle((), register(1, (A, 600)), NOW, limits, 0.5)
    assert one.bindings[0].expires_us == NOW + 570 * SECOND_US
