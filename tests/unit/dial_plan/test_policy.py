"""Contacts, agents, options, sources and trunks of a resolution."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voice.config.v1 import object_pb2 as o
from voice.config.v1.object_pb2 import ConfigObject

from mesh.config_cache import DialRule
from mesh.config_objects import NO_OPTIONS
from services.dial_plan.numbers import e164, inbound_forms
from services.dial_plan.policy import (
    DeviceType,
    DialPlan,
    Query,
    Resolution,
    UnknownDestination,
    UnknownTenant,
)
from services.dial_plan.rules import DialRules
from services.dial_plan.source import Source, identify
from tests.unit.dial_plan.world import NOW_US, World, annex, world


@pytest.fixture
def made() -> World:
    return world()


def resolve(made: World, destination: str, **query: object) -> Resolution:
    query = {"tenant": "t1", "caller_dn": "1002", **query}
    return DialPlan(made.view).resolve(Query(destination, **query), NOW_US)  # type: ignore[arg-type]


# -- contacts ----------------------------------------------------------------------------------------------------


def test_contacts_are_those_that_have_not_ended_best_first(made: World) -> None:
    assert [c.uri for c in resolve(made, "1001").contacts] == ["sip:1001@10.5.1.1:5060"]
    made.register("t1", "1001", "sip:a", "sip:b", "sip:c", q=(100, 900, 500))
    found = resolve(made, "1001")
    assert [(c.uri, c.q, c.path) for c in found.contacts] == [
        ("sip:b", 900, ("sip:edge1;lr",)),
        ("sip:c", 500, ("sip:edge2;lr",)),
        ("sip:a", 100, ("sip:edge0;lr",)),
    ]
    made.register("t1", "1001", "sip:a", expires_us=NOW_US)
    assert resolve(made, "1001").contacts == ()
    assert resolve(made, "1003").contacts == ()


# -- agents ------------------------------------------------------------------------------------------------------


def test_an_agent_is_reached_where_she_is_logged_in(made: World) -> None:
    made.put("t1", ConfigObject(place=o.Place(name="desk", dns=["1001"])))
    made.log_in("t1", "A1", "1001", "ada")
    for name in ("A1", "ada"):
        found = resolve(made, name, destination_is_agent=True)
        assert (found.type, found.dn, found.agent_id, found.agent_user_name, found.place) == (
            DeviceType.AGENT,
            "1001",
            "A1",
            "ada",
            "desk",
        )
        assert [c.uri for c in found.contacts] == ["sip:1001@10.5.1.1:5060"]
    device = resolve(made, "1001")
    assert (device.type, device.agent_id, device.agent_user_name) == (DeviceType.EXTENSION, "A1", "ada")
    assert resolve(made, "1003", caller_dn="1001").caller.agent_id == "A1"
    made.delete("t1", "logins/A1")
    assert resolve(made, "1001").agent_id == ""
    gone = resolve(made, "A1", destination_is_agent=True)
    assert (gone.dn, gone.contacts, gone.agent_id) == ("", (), "A1")


def test_an_agent_of_the_other_tenant_is_nobody(made: World) -> None:
    made.log_in("t2", "A1", "1001", "ada")
    assert resolve(made, "A1", destination_is_agent=True).dn == ""
    with pytest.raises(UnknownDestination):
        resolve(made, "A9", destination_is_agent=True)
    with pytest.raises(UnknownDestination):
        resolve(made, "1001", destination_is_agent=True)


# -- options -----------------------------------------------------------------------------------------------------


def test_precedence_of_options() -> None:
    """Agent login over person over device over application over tenant, option by option."""
    layers = ("tenant", "application", "device", "person", "login")
    for strongest, name in enumerate(layers):
        made = world()
        own = {layer: annex(which=layer, **{f"only_{layer}": "yes"}) for layer in layers[: strongest + 1]}
        tenant = o.Tenant(tenant_id="t1", domains=["t1.example"], country="US")
        made.put("t1", ConfigObject(tenant=tenant, options=own.get("tenant", [])), 1)
        application = o.Application(name="sip server")
        made.put("t1", ConfigObject(application=application, options=own.get("application", [])), 999)
        made.dn("t1", "1050", options=own.get("device", []))
        made.agent("t1", "A5", "eve", options=own.get("person", []), login_options=own.get("login", []))
        made.log_in("t1", "A5", "1050", "eve")
        options = resolve(made, "1050").options["TServer"]
        assert options["which"] == name
        assert [layer for layer in layers if options.get(f"only-{layer}")] == list(layers[: strongest + 1])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("", 30), ("15", 15), ("0", 600), ("601", 600), ("600", 600), ("soon", 30), ("-1", 30), ("٣", 30)],
)
def test_no_answer_timeouts(made: World, value: str, seconds: int) -> None:
    made.dn("t1", "1050", options=annex(no_answer_timeout=value))
    assert resolve(made, "1050").no_answer_timeout == seconds


@pytest.mark.parametrize(
    ("configured", "option", "wanted"),
    [("1003", "", "1003"), ("1003", "none", ""), ("1003", "8000, 8001", "8000"), ("", "1002", "1002")],
)
def test_where_calls_overflow_to(made: World, configured: str, option: str, wanted: str) -> None:
    made.dn("t1", "1050", overflow=configured, options=annex(no_answer_overflow=option))
    assert resolve(made, "1050").overflow == wanted


def test_dnd_is_what_is_configured(made: World) -> None:
    made.dn("t1", "1050", options=annex(dnd="true"))
    assert resolve(made, "1050").dnd
    assert not resolve(made, "1001").dnd


def test_default_dns_of_a_route_point_or_of_its_profile(made: World) -> None:
    assert resolve(made, "8000").default_dns == ("1001", "1002")
    assert resolve(made, "8001").default_dns == ()
    made.dn("t1", "8050", 4, options=annex(alternate_route_profile="8000"))
    assert resolve(made, "8050").default_dns == ("1001", "1002")


# -- sources -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "tenant", "trunk", "phone"),
    [
        (Source("10.0.1.9:5060", "t2.example"), "t1", "trunk-main", ""),
        (Source("10.0.2.9:5060", "whatever"), "t2", "trunk-main", ""),
        (Source("203.0.113.1:5060", "T2.Example"), "t2", "", ""),
        (Source("203.0.113.1:5060", "x", "t1.example"), "t1", "", ""),
        (Source("10.5.1.1:49152", "t1.example", "t1.example", "1001"), "t1", "", "1001"),
        (Source("10.5.1.1:5060", "t1.example", "t2.example", "1001"), "t1", "", ""),
        (Source("10.5.1.2:5060", "t1.example", "t1.example", "1001"), "t1", "", ""),
        (Source("", "t1.example", "t1.example", "1001"), "t1", "", ""),
    ],
)
def test_whose_source_it_is(made: World, source: Source, tenant: str, trunk: str, phone: str) -> None:
    origin = identify(made.view, source)
    assert origin is not None
    assert origin.tenant == tenant
    assert (origin.trunk.number if origin.trunk else "") == trunk
    assert (origin.phone.number if origin.phone else "") == phone


def test_nobodys_source(made: World) -> None:
    assert identify(made.view, Source("203.0.113.1:5060", "x.example", "y.example")) is None
    with pytest.raises(UnknownTenant, match=r"x\.example"):
        resolve(made, "8000", tenant="", source=Source("203.0.113.1:5060", "x.example"))
    with pytest.raises(UnknownTenant):
        resolve(made, "8000", tenant="t9")


def test_tenants_behind_one_peer_are_told_apart_by_domain(made: World) -> None:
    for tenant in ("t1", "t2"):
        made.trunk(tenant, "trunk-shared", contact="192.0.2.1:5060")
    for tenant in ("t1", "t2"):
        origin = identify(made.view, Source("192.0.2.1:5060", f"{tenant}.example"))
        assert origin is not None
        assert (origin.tenant, origin.trunk is not None) == (tenant, True)
    assert identify(made.view, Source("192.0.2.1:5060", "unknown.example")) is None


def test_the_caller_of_a_trunk_is_shown_in_e164(made: World) -> None:
    def number(tenant: str, user: str) -> str:
        net = tenant[1]
        source = Source(f"10.0.{net}.9:5060", "x", "carrier", user)
        caller = resolve(made, "8000", tenant="", caller_dn="", source=source).caller
        assert caller.trunk == "trunk-main"
        assert caller.dn == ""
        return caller.number

    assert number("t1", "3125550000") == "+13125550000"
    assert number("t2", "030123456") == "+4930123456"
    assert number("t1", "anonymous") == "anonymous"


# -- numbers, rules, trunks --------------------------------------------------------------------------------------


def test_trunks_by_priority_and_equals_share(made: World) -> None:
    found = resolve(made, "92125551234")
    assert [c.uri for c in found.contacts] == [
        "sip:+12125551234@10.0.1.1:5060",
        "sip:+12125551234@10.0.1.2:5060",
    ]
    assert [c.q for c in found.contacts] == [1000, 999]
    made.trunk("t1", "trunk-twin", contact="10.0.1.6:5060", priority=5)
    firsts = {resolve(made, f"9212555{n:04d}").dn for n in range(40)}
    assert firsts == {"trunk-main", "trunk-twin"}
    assert resolve(made, "92125551234") == resolve(made, "92125551234")


def test_a_changed_rule_counts_at_once(made: World) -> None:
    plan = DialPlan(made.view)
    ask = Query("0", tenant="t1", caller_dn="1002")
    assert plan.resolve(ask, NOW_US).dn == "1001"
    dbid = made.rule("t1", "closer", "0", "1003")
    assert plan.resolve(ask, NOW_US).dn == "1003"  # "closer" comes before "reception"
    made.delete("t1", f"dial_rule/{dbid}")
    assert plan.resolve(ask, NOW_US).dn == "1001"


@pytest.mark.parametrize(
    ("number", "country", "full"),
    [
        ("2125551234", "US", "+12125551234"),
        ("12125551234", "US", "+12125551234"),
        ("+442079460000", "US", "+442079460000"),
        ("030123456", "DE", "+4930123456"),
        ("911", "US", ""),
        ("1001", "US", ""),
        ("abc", "US", ""),
        ("2125551234", "", ""),
        ("+12125551234", "", "+12125551234"),
        ("+999999", "US", ""),
        ("112", "DE", ""),
        ("110", "DE", ""),
        ("115115", "DE", ""),
    ],
)
def test_e164(number: str, country: str, full: str) -> None:
    assert e164(number, country) == full


def test_forms_of_a_number_that_comes_in() -> None:
    assert inbound_forms("+12125550101", "US") == (
        "+12125550101", "12125550101", "2125550101",
    )  # fmt: skip
    assert inbound_forms("030123456", "DE") == ("030123456", "+4930123456", "4930123456", "30123456")
    assert inbound_forms("8000", "US") == ("8000",)


def test_a_rule_of_a_later_release_matches_nothing() -> None:
    rules = DialRules([DialRule("t1", 1, 1, NO_OPTIONS, "new", "9?", "", False)])
    assert rules.broken == ["new"]
    assert rules.translate("91") is None


PATTERN = st.text("0129XNZ", min_size=1, max_size=4)


@settings(deadline=None)
@given(st.lists(PATTERN, max_size=8, unique=True), st.text("0129", min_size=1, max_size=4))
def test_the_rule_chosen_is_one_that_matches_and_none_is_closer(patterns: list[str], number: str) -> None:
    made = [DialRule("t1", n, 1, NO_OPTIONS, p, p, f"r{n}", False) for n, p in enumerate(patterns)]
    sets = {"X": "0123456789", "N": "23456789", "Z": "123456789"}

    def matches(pattern: str) -> bool:
        return len(pattern) == len(number) and all(
            digit in sets.get(place, place) for place, digit in zip(pattern, number, strict=True)
        )

    def closeness(pattern: str) -> list[int]:
        return [len(sets.get(place, place)) for place in pattern]

    found = DialRules(made).translate(number)
    matching = [pattern for pattern in patterns if matches(pattern)]
    if not matching:
        assert found is None
    else:
        assert found is not None
        assert closeness(found.rule) == min(map(closeness, matching))


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_is_too_strange_to_be_resolved(text: str) -> None:
    made = world()
    for query in (Query(text, tenant="t1"), Query(text, source=Source("10.0.1.9:1", text, text, text))):
        try:
            found = DialPlan(made.view).resolve(query, NOW_US)
        except UnknownDestination:
            continue
        assert found.type in DeviceType
