"""Configuration as services see it: small immutable values, made from the contract's messages.

A tenant of 10,000 agents has some 40,000 objects in every process, so these are slotted and share their
strings; passwords are empty unless Config reveals them to this service (sip_proxy, agent_state, tenant).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from voice.config.v1 import config_service_pb2, object_pb2, registration_pb2

Options = Mapping[str, Mapping[str, str]]
"""Section -> option -> value."""
NO_OPTIONS: Options = MappingProxyType({})
_NOTHING: Mapping[str, str] = MappingProxyType({})

PASSWORD_MASK = "********"
"""What Config sends instead of a password to who may not see it. Nobody's password: here it becomes ""."""
PHONE_TYPES = frozenset({1, 2, 18, 25})
"""DnTypes with a device that rings: extension, ACD position, mixed, VoIP port."""
ROUTE_POINT_TYPES = frozenset({4, 6, 22})
"""DnTypes with route point settings: routing point, virtual routing point, routing queue."""
TRUNK_TYPE = 14
"""DN_TYPE_TRUNK."""


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """What every object has."""

    tenant: str
    """Tenant id."""
    dbid: int
    """DBID in its tenant."""
    revision: int
    """Revision of its last change."""
    options: Options
    """Its annex."""

    def option(self, section: str, name: str, default: str = "") -> str:
        """One option of the annex."""
        return self.options.get(section, _NOTHING).get(name, default)


@dataclass(frozen=True, slots=True)
class Tenant(ConfigEntry):
    """A tenant; its id is `tenant`."""

    name: str
    domains: tuple[str, ...]
    """SIP domains, lower case."""
    country: str
    """ISO 3166 alpha-2 of national numbers, "" when not said."""
    max_registration_s: int
    """Longest registration, seconds (the default of 3600 filled in)."""
    request_rate: int
    """Client requests a second; 0 no limit."""


@dataclass(frozen=True, slots=True)
class Switch(ConfigEntry):
    """A numbering space."""

    name: str
    tserver_dbid: int


@dataclass(frozen=True, slots=True)
class Trunk:
    """Trunk settings of a DN."""

    contact: str
    """host:port of the peer."""
    sources: tuple[str, ...]
    """Where its calls come from: host, host:port or network; the contact when none was given."""
    prefix: str
    replace_prefix: str
    priority: int
    capacity: int
    """Calls at once; 0 no limit."""


@dataclass(frozen=True, slots=True)
class RoutePoint:
    """Route point settings of a DN."""

    application_url: str
    alternate_url: str
    parameters: tuple[tuple[str, str], ...]
    default_dns: tuple[str, ...]
    routing_timeout_ms: int
    """Wait for a routing decision, ms (the default of 300000 filled in)."""


@dataclass(frozen=True, slots=True)
class Dn(ConfigEntry):
    """A DN of any type."""

    number: str
    type: object_pb2.DnType.ValueType
    switch: str
    enabled: bool
    password: str
    """Digest password; "" when there is none or this service may not see it."""
    trunk: Trunk | None
    route_point: RoutePoint | None
    overflow: str

    @property
    def is_phone(self) -> bool:
        """Whether a device can ring on it."""
        return self.type in PHONE_TYPES

    @property
    def is_route_point(self) -> bool:
        """Whether calls wait on it for a routing decision."""
        return self.type in ROUTE_POINT_TYPES


@dataclass(frozen=True, slots=True)
class AgentLogin(ConfigEntry):
    """A login code."""

    code: str
    switch: str
    password: str
    """Stored hash; "" when no password is needed or this service may not see it."""
    wrapup_s: int
    """After-call work: 0 none, 1000000 untimed."""
    login_options: Options
    """Options that override those of the device (the object's own annex merged over them)."""


@dataclass(frozen=True, slots=True)
class Person(ConfigEntry):
    """A person, usually an agent."""

    user_name: str
    employee_id: str
    first_name: str
    last_name: str
    is_agent: bool
    agent_logins: tuple[str, ...]
    skills: Mapping[str, int]
    """Skill -> level."""
    place: str


@dataclass(frozen=True, slots=True)
class Place(ConfigEntry):
    """The DNs one agent occupies."""

    name: str
    dns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgentGroup(ConfigEntry):
    """A group: static members, or by skill expression."""

    name: str
    members: tuple[str, ...]
    expression: str


@dataclass(frozen=True, slots=True)
class DialRule(ConfigEntry):
    """A rule of the dial plan."""

    name: str
    pattern: str
    replacement: str
    barred: bool


@dataclass(frozen=True, slots=True)
class Named(ConfigEntry):
    """A skill, script, transaction, application or host: mostly its name and its options."""

    name: str
    detail: str
    """Script and application: type; transaction: alias; host: address."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A binding of a device; fields as in voice.config.v1.Registration."""

    contact: str
    received: str
    path: tuple[str, ...]
    q: int
    """0 to 1000."""
    expires_us: int
    """UTC µs."""
    call_id: str
    cseq: int
    instance_id: str
    reg_id: int
    proxy: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Registrations:
    """All bindings of a DN; an ended one stays listed until the registrar or Config removes it."""

    tenant: str
    dn: str
    revision: int
    """Guard of the next change."""
    bindings: tuple[Registration, ...]

    def live(self, now_us: int) -> tuple[Registration, ...]:
        """Those that have not ended at `now_us`, highest q first."""
        present = [b for b in self.bindings if b.expires_us > now_us]
        return tuple(sorted(present, key=lambda b: -b.q))


@dataclass(frozen=True, slots=True)
class Login:
    """An agent at work on a DN; fields as in voice.config.v1.Login."""

    tenant: str
    agent_id: str
    dn: str
    place: str
    user_name: str
    queues: tuple[str, ...]
    since_us: int
    session_id: str


Entry = (
    Tenant | Switch | Dn | AgentLogin | Person | Place | AgentGroup | DialRule | Named | Registrations | Login
)
"""Anything the cache holds."""


def options_of(sections: Iterable[object_pb2.OptionSection]) -> Options:
    """An annex as a mapping; a section named twice is merged, the later option wins."""
    found: dict[str, dict[str, str]] = {}
    for section in sections:
        into = found.setdefault(sys.intern(section.name), {})
        for option in section.options:
            into[sys.intern(option.name)] = sys.intern(option.value)
    return found or NO_OPTIONS


def overlay(*layers: Options) -> Options:
    """Annexes over one another: the first layer is the weakest, the last one wins, option by option."""
    found: dict[str, dict[str, str]] = {}
    for layer in layers:
        for section, options in layer.items():
            found.setdefault(section, {}).update(options)
    return found or NO_OPTIONS


def entry_of(tenant: str, message: object_pb2.ConfigObject) -> Entry | None:
    """The value of a contract object; None for a type this release does not know."""
    build = _BUILDERS.get(message.WhichOneof("object") or "")
    if build is None:
        return None
    head = (sys.intern(tenant), message.dbid, message.revision, options_of(message.options))
    return build(message, head)


Head = tuple[str, int, int, Options]


def _tenant(message: object_pb2.ConfigObject, head: Head) -> Tenant:
    it = message.tenant
    domains = tuple(domain.lower() for domain in it.domains)
    return Tenant(*head, it.name, domains, it.country, it.max_registration_s or 3600, it.request_rate)


def _seen(password: str) -> str:
    return "" if password == PASSWORD_MASK else password


def _switch(message: object_pb2.ConfigObject, head: Head) -> Switch:
    return Switch(*head, sys.intern(message.switch.name), message.switch.tserver_dbid)


def _dn(message: object_pb2.ConfigObject, head: Head) -> Dn:
    it = message.dn
    return Dn(
        *head,
        sys.intern(it.number),
        it.type,
        sys.intern(it.switch),
        it.enabled,
        _seen(it.password),
        _trunk(it.trunk) if it.type == TRUNK_TYPE else None,
        _route_point(it.route_point) if it.type in ROUTE_POINT_TYPES else None,
        sys.intern(it.overflow),
    )


def _trunk(it: object_pb2.TrunkSettings) -> Trunk:
    sources = tuple(it.sources) or (it.contact,)
    return Trunk(it.contact, sources, it.prefix, it.replace_prefix, it.priority, it.capacity)


def _route_point(it: object_pb2.RoutePointSettings) -> RoutePoint:
    parameters = tuple((p.name, p.value) for p in it.parameters)
    timeout = it.routing_timeout_ms or 300_000
    return RoutePoint(it.application_url, it.alternate_url, parameters, tuple(it.default_dns), timeout)


def _agent_login(message: object_pb2.ConfigObject, head: Head) -> AgentLogin:
    it = message.agent_login
    merged = overlay(options_of(it.options), head[3])
    return AgentLogin(
        *head, sys.intern(it.code), sys.intern(it.switch), _seen(it.password), it.wrapup_s, merged
    )


def _person(message: object_pb2.ConfigObject, head: Head) -> Person:
    it = message.person
    logins = tuple(sys.intern(code) for code in it.agent_logins)
    skills = {sys.intern(s.skill): s.level for s in it.skills}
    names = (sys.intern(it.user_name), it.employee_id, it.first_name, it.last_name)
    return Person(*head, *names, it.is_agent, logins, skills, sys.intern(it.place))


def _place(message: object_pb2.ConfigObject, head: Head) -> Place:
    return Place(*head, sys.intern(message.place.name), tuple(sys.intern(n) for n in message.place.dns))


def _group(message: object_pb2.ConfigObject, head: Head) -> AgentGroup:
    it = message.agent_group
    return AgentGroup(*head, sys.intern(it.name), tuple(sys.intern(n) for n in it.members), it.expression)


def _rule(message: object_pb2.ConfigObject, head: Head) -> DialRule:
    it = message.dial_rule
    return DialRule(*head, it.name, it.pattern, it.replacement, it.barred)


_BUILDERS: Mapping[str, Callable[[object_pb2.ConfigObject, Head], Entry]] = {
    "tenant": _tenant,
    "switch": _switch,
    "dn": _dn,
    "agent_login": _agent_login,
    "person": _person,
    "place": _place,
    "agent_group": _group,
    "dial_rule": _rule,
    "skill": lambda m, head: Named(*head, sys.intern(m.skill.name), ""),
    "script": lambda m, head: Named(*head, m.script.name, m.script.type),
    "transaction": lambda m, head: Named(*head, m.transaction.name, m.transaction.alias),
    "application": lambda m, head: Named(*head, m.application.name, m.application.type),
    "host": lambda m, head: Named(*head, m.host.name, m.host.address),
}


def registrations_of(tenant: str, message: config_service_pb2.DnRegistrations) -> Registrations:
    """The bindings of a DN."""
    bindings = tuple(_registration(r) for r in message.registrations)
    return Registrations(sys.intern(tenant), sys.intern(message.dn), message.revision, bindings)


def _registration(r: registration_pb2.Registration) -> Registration:
    return Registration(
        r.contact, r.received, tuple(r.path), r.q, r.expires_us, r.call_id, r.cseq, r.instance_id, r.reg_id,
        sys.intern(r.proxy), sys.intern(r.user_agent),
    )  # fmt: skip


def login_of(message: registration_pb2.Login) -> Login:
    """A login."""
    return Login(
        sys.intern(message.tenant),
        sys.intern(message.agent_id),
        sys.intern(message.dn),
        sys.intern(message.place),
        sys.intern(message.user_name),
        tuple(sys.intern(queue) for queue in message.queues),
        message.since_us,
        message.session_id,
    )
