"""Every rule written in object.proto, kept and broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from voice.config.v1 import object_pb2 as o
from voice.config.v1.object_pb2 import ConfigObject

from mesh.errors import DomainError
from mesh.validation import Checks
from services.config.rules import check_object, is_application_url, is_expression, is_host_port, is_network
from tests.unit.config.examples import good

Break = Callable[[ConfigObject], object]


def violations(message: ConfigObject) -> dict[str, str]:
    checks = Checks()
    check_object(checks, "object", message)
    error: DomainError | None = checks.error
    return dict(error.violations) if error is not None else {}


@pytest.mark.parametrize("kind", good())
def test_a_good_object_breaks_no_rule(kind: str) -> None:
    assert violations(good()[kind]) == {}


def options(*sections: tuple[str, list[tuple[str, str]]]) -> list[o.OptionSection]:
    return [
        o.OptionSection(name=name, options=[o.Option(name=n, value=v) for n, v in pairs])
        for name, pairs in sections
    ]


BROKEN: list[tuple[str, str, Break]] = [
    ("tenant", "tenant.tenant_id", lambda m: setattr(m.tenant, "tenant_id", "T 1")),
    ("tenant", "tenant.domains[0]", lambda m: m.tenant.domains.__setitem__(0, "-no-")),
    ("tenant", "tenant.domains", lambda m: m.tenant.domains.append("T1.Example")),
    ("tenant", "tenant.domains", lambda m: m.tenant.domains.extend(f"d{n}.example" for n in range(40))),
    ("tenant", "tenant.country", lambda m: setattr(m.tenant, "country", "us")),
    ("tenant", "tenant.max_registration_s", lambda m: setattr(m.tenant, "max_registration_s", 59)),
    ("tenant", "tenant.max_registration_s", lambda m: setattr(m.tenant, "max_registration_s", 86401)),
    ("switch", "switch.name", lambda m: setattr(m.switch, "name", "")),
    ("switch", "switch.name", lambda m: setattr(m.switch, "name", "a/b")),
    ("skill", "skill.name", lambda m: setattr(m.skill, "name", "9lives")),
    ("dn", "dn.number", lambda m: setattr(m.dn, "number", "")),
    ("dn", "dn.number", lambda m: setattr(m.dn, "number", "10 01")),
    ("dn", "dn.number", lambda m: setattr(m.dn, "number", "1" * 65)),
    ("dn", "dn.type", lambda m: setattr(m.dn, "type", 0)),
    ("dn", "dn.type", lambda m: setattr(m.dn, "type", 7)),
    ("dn", "dn.switch", lambda m: setattr(m.dn, "switch", "")),
    ("dn", "dn.password", lambda m: setattr(m.dn, "password", "x" * 129)),
    ("dn", "dn.overflow", lambda m: setattr(m.dn, "overflow", "sip:x@y")),
    ("dn", "dn.trunk", lambda m: m.dn.trunk.CopyFrom(o.TrunkSettings(contact="a:1"))),
    ("dn", "dn.route_point", lambda m: m.dn.route_point.CopyFrom(o.RoutePointSettings())),
    ("trunk", "dn.trunk", lambda m: m.dn.ClearField("trunk")),
    ("trunk", "dn.trunk.contact", lambda m: setattr(m.dn.trunk, "contact", "10.0.0.1")),
    ("trunk", "dn.trunk.contact", lambda m: setattr(m.dn.trunk, "contact", "10.0.0.1:99999")),
    ("trunk", "dn.trunk.sources[0]", lambda m: m.dn.trunk.sources.__setitem__(0, "10.0.0.1/24")),
    ("trunk", "dn.trunk.sources[1]", lambda m: m.dn.trunk.sources.__setitem__(1, "a b")),
    ("trunk", "dn.trunk.prefix", lambda m: setattr(m.dn.trunk, "prefix", "9a")),
    ("trunk", "dn.trunk.replace_prefix", lambda m: setattr(m.dn.trunk, "replace_prefix", "0" * 33)),
    (
        "route_point",
        "dn.route_point.application_url",
        lambda m: setattr(m.dn.route_point, "application_url", "ftp://x"),
    ),
    (
        "route_point",
        "dn.route_point.alternate_url",
        lambda m: setattr(m.dn.route_point, "alternate_url", "http:/x"),
    ),
    (
        "route_point",
        "dn.route_point.parameters[0].name",
        lambda m: setattr(m.dn.route_point.parameters[0], "name", ""),
    ),
    ("route_point", "dn.route_point.default_dns", lambda m: m.dn.route_point.default_dns.append("1001")),
    (
        "route_point",
        "dn.route_point.routing_timeout_ms",
        lambda m: setattr(m.dn.route_point, "routing_timeout_ms", 999),
    ),
    ("agent_login", "agent_login.code", lambda m: setattr(m.agent_login, "code", "a b")),
    ("agent_login", "agent_login.wrapup_s", lambda m: setattr(m.agent_login, "wrapup_s", 3601)),
    ("agent_login", "agent_login.password", lambda m: setattr(m.agent_login, "password", "x" * 129)),
    ("agent_login", "agent_login.options[0].name", lambda m: m.agent_login.options.extend(options(("", [])))),
    ("person", "person.user_name", lambda m: setattr(m.person, "user_name", "")),
    ("person", "person.employee_id", lambda m: setattr(m.person, "employee_id", "")),
    ("person", "person.agent_logins", lambda m: m.person.agent_logins.append("A1")),
    ("person", "person.skills[0].level", lambda m: setattr(m.person.skills[0], "level", 1001)),
    ("person", "person.skills[0].level", lambda m: setattr(m.person.skills[0], "level", -1)),
    ("person", "person.skills.skill", lambda m: m.person.skills.append(o.SkillLevel(skill="English"))),
    ("place", "place.dns", lambda m: m.place.dns.append("1001")),
    ("agent_group", "agent_group.expression", lambda m: setattr(m.agent_group, "expression", "English > 5")),
    ("agent_group", "agent_group.members", lambda m: m.agent_group.members.append("ada@t1")),
    ("host", "host.address", lambda m: setattr(m.host, "address", "x" * 256)),
    ("dial_rule", "dial_rule.pattern", lambda m: setattr(m.dial_rule, "pattern", "9A")),
    ("dial_rule", "dial_rule.pattern", lambda m: setattr(m.dial_rule, "pattern", "")),
    ("dial_rule", "dial_rule.replacement", lambda m: setattr(m.dial_rule, "replacement", "${NUMBER}")),
    ("skill", "options.name", lambda m: m.options.extend(options(("s", []), ("s", [])))),
    (
        "skill",
        "options[0].options.name",
        lambda m: m.options.extend(options(("s", [("a", "1"), ("a", "2")]))),
    ),
    ("skill", "options[0].options[0].value", lambda m: m.options.extend(options(("s", [("a", "x" * 4097)])))),
    ("skill", "options", lambda m: m.options.extend(options(*((f"s{n}", []) for n in range(65))))),
    (
        "skill",
        "options[0].options",
        lambda m: m.options.extend(options(("s", [(f"o{n}", "") for n in range(257)]))),
    ),
]


@pytest.mark.parametrize(
    ("kind", "field", "break_it"), BROKEN, ids=[f"{k}-{f}-{n}" for n, (k, f, _) in enumerate(BROKEN)]
)
def test_a_broken_rule_is_named(kind: str, field: str, break_it: Break) -> None:
    message = good()[kind]
    break_it(message)
    assert set(violations(message)) == {f"object.{field}"}


def test_an_object_without_a_kind_says_nothing_else() -> None:
    assert violations(ConfigObject(dbid=3)) == {"object": "must have exactly one object set"}


def test_an_object_larger_than_a_transaction_is_refused() -> None:
    message = ConfigObject(agent_group=o.AgentGroup(name="g", members=[f"{n:0>128}" for n in range(10_000)]))
    assert "object" in violations(message)


@pytest.mark.parametrize(
    ("text", "required", "optional"),
    [
        ("h.example:5060", True, True),
        ("10.0.0.1:1", True, True),
        ("[2001:db8::1]:5060", True, True),
        ("[2001:db8::1]", False, True),
        ("h.example", False, True),
        ("h:0", False, False),
        ("h:65536", False, False),
        ("h:5060:1", False, False),
        ("[::1", False, False),
        ("", False, False),
        (":5060", False, False),
        ("h:٣", False, False),
    ],
)
def test_hosts_and_ports(text: str, required: bool, optional: bool) -> None:
    assert is_host_port(text, port="required") is required
    assert is_host_port(text, port="optional") is optional


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("", True),
        ("English > 5 & Loans >= 2", True),
        ("(A > 1 | B = 2) & !(C < 3)", True),
        ('Skill("English") > 5', True),
        ("(A > 1", False),
        ("A > 1)", False),
        ("A > $5", False),
        ("A; B", False),
    ],
)
def test_expressions_are_made_of_the_words_of_expressions(text: str, valid: bool) -> None:
    assert is_expression(text) is valid


def test_urls_and_networks() -> None:
    assert is_application_url("HTTPS://h/x?dnis=[DNIS]")
    assert is_application_url("file:demo/x.scxml")
    assert not any(map(is_application_url, ("file:", "http://", "http://h/a b", "javascript:x", "")))
    assert is_network("2001:db8::/32")
    assert not is_network("10.0.0.0/33")
