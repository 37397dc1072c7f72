"""The rules an object obeys by itself, as written at its fields in object.proto. Pure.

`check_object(checks, "object", message)` adds a violation for every rule broken, each named by its field
("object.dn.number").
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from voice.config.v1.object_pb2 import ConfigObject, Dn, DnType, OptionSection, Person, RoutePointSettings
from voice.config.v1.object_pb2 import TrunkSettings as Trunk

from mesh.dial_pattern import BadPattern, compile_pattern, compile_replacement
from mesh.validation import TENANT_ID, Checks
from services.config.schema import ROUTE_POINTS, kind_of
from services.config.secrets import is_hashed, is_sealed

MAX_OBJECT_BYTES = 1 << 20
"""Largest object, bytes: etcd takes requests of 1.5 MiB."""
MAX_MEMBERS = 20_000
UNTIMED = 1_000_000
"""wrapup_s that means untimed."""

NUMBER = re.compile(r"[0-9A-Za-z_.*#+-]{1,64}")
NUMBER_RULE = "must have 1 to 64 characters of 0-9 A-Z a-z _ . * # + -"
NAME = re.compile(r"[^\x00-\x1f\x7f/]{1,128}")
NAME_RULE = "must have 1 to 128 characters, no control characters and no /"
USER_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,128}")
SKILL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
PREFIX = re.compile(r"[0-9+*#]{0,32}")
COUNTRY = re.compile(r"([A-Z]{2})?")
_EXPRESSION = re.compile(r'\s*(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+|"[^"]*"|>=|<=|==|!=|&&|\|\||[><=!&|(),.+*/-])')


def check_object(checks: Checks, at: str, message: ConfigObject) -> bool:
    """Every rule; gives whether the object has a kind at all, without which nothing else can be said."""
    kind = kind_of(message)
    if not checks.that(at, kind, "must have exactly one object set"):
        return False
    checks.that(at, message.ByteSize() <= MAX_OBJECT_BYTES, f"must have at most {MAX_OBJECT_BYTES} bytes")
    check_options(checks, f"{at}.options", message.options)
    _RULES[kind](checks, f"{at}.{kind}", message)
    return True


def check_options(checks: Checks, at: str, sections: Sequence[OptionSection]) -> None:
    """Limits of an annex."""
    checks.length(at, sections, 0, 64, "sections")
    _distinct(checks, at, "name", [section.name for section in sections])
    for index, section in enumerate(sections[:64]):
        here = f"{at}[{index}]"
        checks.length(f"{here}.name", section.name, 1, 128)
        checks.length(f"{here}.options", section.options, 0, 256, "options")
        _distinct(checks, f"{here}.options", "name", [option.name for option in section.options])
        for number, option in enumerate(section.options[:256]):
            checks.length(f"{here}.options[{number}].name", option.name, 1, 128)
            checks.length(f"{here}.options[{number}].value", option.value, 0, 4096)


def _distinct(checks: Checks, at: str, field: str, values: Iterable[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        where = f"{at}.{field}" if field else at
        checks.that(where, False, f'must not repeat "{twice[0][:64]}"')


def _name(checks: Checks, at: str, value: str) -> None:
    checks.matches(f"{at}.name", value, NAME, NAME_RULE)


def _password(checks: Checks, at: str, value: str, is_stored_form: Callable[[str], bool]) -> None:
    if not is_stored_form(value):
        checks.length(f"{at}.password", value, 0, 128)


def _tenant(checks: Checks, at: str, message: ConfigObject) -> None:
    it = message.tenant
    checks.matches(f"{at}.tenant_id", it.tenant_id, TENANT_ID)
    checks.length(f"{at}.name", it.name, 0, 255)
    checks.length(f"{at}.domains", it.domains, 0, 32)
    _distinct(checks, f"{at}.domains", "", [domain.lower() for domain in it.domains])
    for index, domain in enumerate(it.domains[:32]):
        checks.matches(f"{at}.domains[{index}]", domain, DOMAIN, "must be a host name")
    checks.matches(f"{at}.country", it.country, COUNTRY, "must be two capital letters (ISO 3166 alpha-2)")
    registration = it.max_registration_s
    checks.that(
        f"{at}.max_registration_s",
        not registration or 60 <= registration <= 86400,
        "must be 0 or 60 to 86400 s",
    )
    checks.between(f"{at}.request_rate", it.request_rate, 0, 1_000_000)


def _switch(checks: Checks, at: str, message: ConfigObject) -> None:
    _name(checks, at, message.switch.name)
    checks.between(f"{at}.tserver_dbid", message.switch.tserver_dbid, 0, 2**63 - 1)


def _dn(checks: Checks, at: str, message: ConfigObject) -> None:
    it = message.dn
    checks.matches(f"{at}.number", it.number, NUMBER, NUMBER_RULE)
    checks.that(f"{at}.type", it.type and it.type in DnType.values(), "must be a type of DN")
    checks.required(f"{at}.switch", it.switch)
    _password(checks, at, it.password, is_sealed)
    if it.overflow:
        checks.matches(f"{at}.overflow", it.overflow, NUMBER, NUMBER_RULE)
    _dn_settings(checks, at, it)


def _dn_settings(checks: Checks, at: str, it: Dn) -> None:
    if it.type == DnType.DN_TYPE_TRUNK:
        if checks.that(f"{at}.trunk", it.HasField("trunk"), "is required for a trunk"):
            _trunk(checks, f"{at}.trunk", it.trunk)
    else:
        checks.that(f"{at}.trunk", not it.HasField("trunk"), "must be absent: the DN is no trunk")
    if it.type in ROUTE_POINTS:
        _route_point(checks, f"{at}.route_point", it.route_point)
    else:
        absent = not it.HasField("route_point")
        checks.that(f"{at}.route_point", absent, "must be absent: the DN is no route point")


def _trunk(checks: Checks, at: str, it: Trunk) -> None:
    checks.that(f"{at}.contact", is_host_port(it.contact, port="required"), "must be host:port")
    checks.length(f"{at}.sources", it.sources, 0, 64)
    for index, source in enumerate(it.sources[:64]):
        good = is_network(source) if "/" in source else is_host_port(source, port="optional")
        checks.that(
            f"{at}.sources[{index}]", good, "must be host, host:port or a network such as 10.0.0.0/24"
        )
    checks.matches(f"{at}.prefix", it.prefix, PREFIX, "must have at most 32 characters of 0-9 + * #")
    checks.matches(
        f"{at}.replace_prefix", it.replace_prefix, PREFIX, "must have at most 32 characters of 0-9 + * #"
    )


def _route_point(checks: Checks, at: str, it: RoutePointSettings) -> None:
    for field in ("application_url", "alternate_url"):
        value = getattr(it, field)
        if value:
            checks.length(f"{at}.{field}", value, 1, 2048)
            checks.that(f"{at}.{field}", is_application_url(value), "must be an http:, https: or file: URL")
    checks.length(f"{at}.parameters", it.parameters, 0, 256)
    for index, parameter in enumerate(it.parameters[:256]):
        checks.length(f"{at}.parameters[{index}].name", parameter.name, 1, 128)
        checks.length(f"{at}.parameters[{index}].value", parameter.value, 0, 4096)
    checks.length(f"{at}.default_dns", it.default_dns, 0, 32)
    _distinct(checks, f"{at}.default_dns", "", it.default_dns)
    wait = it.routing_timeout_ms
    checks.that(
        f"{at}.routing_timeout_ms", not wait or 1000 <= wait <= 3_600_000, "must be 0 or 1000 to 3600000 ms"
    )


def _agent_login(checks: Checks, at: str, message: ConfigObject) -> None:
    it = message.agent_login
    checks.matches(f"{at}.code", it.code, NUMBER, NUMBER_RULE)
    checks.required(f"{at}.switch", it.switch)
    _password(checks, at, it.password, is_hashed)
    timed = it.wrapup_s <= 3600 or it.wrapup_s == UNTIMED
    checks.that(f"{at}.wrapup_s", timed, f"must be 0 to 3600 s, or {UNTIMED} for untimed")
    check_options(checks, f"{at}.options", it.options)


def _person(checks: Checks, at: str, message: ConfigObject) -> None:
    it = message.person
    checks.matches(f"{at}.user_name", it.user_name, USER_NAME)
    checks.matches(f"{at}.employee_id", it.employee_id, USER_NAME)
    checks.length(f"{at}.first_name", it.first_name, 0, 128)
    checks.length(f"{at}.last_name", it.last_name, 0, 128)
    checks.length(f"{at}.agent_logins", it.agent_logins, 0, 32)
    _distinct(checks, f"{at}.agent_logins", "", it.agent_logins)
    _skills(checks, f"{at}.skills", it)


def _skills(checks: Checks, at: str, it: Person) -> None:
    checks.length(at, it.skills, 0, 1000)
    _distinct(checks, at, "skill", [level.skill for level in it.skills])
    for index, level in enumerate(it.skills[:1000]):
        checks.between(f"{at}[{index}].level", level.level, 0, 1000)


def _place(checks: Checks, at: str, message: ConfigObject) -> None:
    _name(checks, at, message.place.name)
    checks.length(f"{at}.dns", message.place.dns, 0, 32)
    _distinct(checks, f"{at}.dns", "", message.place.dns)


def _agent_group(checks: Checks, at: str, message: ConfigObject) -> None:
    it = message.agent_group
    _name(checks, at, it.name)
    checks.length(f"{at}.members", it.members, 0, MAX_MEMBERS)
    _distinct(checks, f"{at}.members", "", it.members)
    checks.length(f"{at}.expression", it.expression, 0, 1024)
    checks.that(f"{at}.expression", is_expression(it.expression), "must be a skill expression")
    checks.that(
        f"{at}.expression", not (it.members and it.expression), "must be empty when there are members"
    )


def _skill(checks: Checks, at: str, message: ConfigObject) -> None:
    checks.matches(f"{at}.name", message.skill.name, SKILL)


def _dial_rule(checks: Checks, at: str, message: ConfigObject) -> None:
    it = message.dial_rule
    _name(checks, at, it.name)
    for field, text, compiled in (
        ("pattern", it.pattern, compile_pattern),
        ("replacement", it.replacement, compile_replacement),
    ):
        try:
            compiled(text)
        except BadPattern as problem:
            checks.that(f"{at}.{field}", False, str(problem))


def _named(kind: str, second: str) -> Callable[[Checks, str, ConfigObject], None]:
    def check(checks: Checks, at: str, message: ConfigObject) -> None:
        it = getattr(message, kind)
        _name(checks, at, it.name)
        checks.length(f"{at}.{second}", getattr(it, second), 0, 255)

    return check


_RULES: Mapping[str, Callable[[Checks, str, ConfigObject], None]] = {
    "tenant": _tenant,
    "switch": _switch,
    "dn": _dn,
    "agent_login": _agent_login,
    "person": _person,
    "place": _place,
    "agent_group": _agent_group,
    "skill": _skill,
    "dial_rule": _dial_rule,
    "script": _named("script", "type"),
    "transaction": _named("transaction", "alias"),
    "application": _named("application", "type"),
    "host": _named("host", "address"),
}


def is_host_port(text: str, *, port: str) -> bool:
    """host:port with a host name, v4 address or [v6] address; `port` "required" or "optional"."""
    host, colon, number = text.rpartition(":")
    if text.endswith("]") or not colon:
        host, number = text, ""
    if not number and port == "required":
        return False
    if number and not (number.isascii() and number.isdigit() and 1 <= int(number) <= 65535):
        return False
    if host.startswith("[") and host.endswith("]"):
        return _is_ip(host[1:-1], 6)
    return bool(DOMAIN.fullmatch(host))


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def is_network(text: str) -> bool:
    """An IPv4 or IPv6 network in CIDR form; bits behind the prefix must be 0."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def is_application_url(text: str) -> bool:
    """http:, https: with a host, or file: with a path. [ANI] and the like may stand anywhere after it."""
    if any(ord(char) <= 32 or ord(char) == 127 for char in text):
        return False
    scheme, colon, rest = text.partition(":")
    if scheme.lower() == "file":
        return bool(colon and rest.strip("/"))
    if scheme.lower() not in ("http", "https") or not rest.startswith("//"):
        return False
    return bool(rest[2:].partition("/")[0])


def is_expression(text: str) -> bool:
    """Whether the text is made of the words of a skill expression and its brackets close. What it means is the
    Tenant service's."""
    at, depth = 0, 0
    while at < len(text.rstrip()):
        match = _EXPRESSION.match(text, at)
        if match is None:
            return False
        word = match[0].strip()
        depth += (word == "(") - (word == ")")
        if depth < 0:
            return False
        at = match.end()
    return depth == 0
