"""What a number means: the resolution, from configuration alone. Pure: `now_us` is an argument.

In this order: a DN of exactly this number; an agent by login code or user name; the number after the closest
dial rule, as a DN; a trunk. Who came in from outside reaches what is inside and never a trunk: a stranger must
not call out at the tenant's cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from mesh.config_cache import Changed, ConfigView, DialRule, Dn, Login, Options, Person
from mesh.config_objects import NO_OPTIONS
from services.dial_plan.numbers import DIALLABLE, e164, inbound_forms
from services.dial_plan.options import do_not_disturb, effective, no_answer_timeout, overflow, telephony
from services.dial_plan.rules import DialRules
from services.dial_plan.source import Origin, Source, identify
from services.dial_plan.trunks import ways

VOIP_SERVICE = 29
"""DN_TYPE_VOIP_SERVICE: with the option service-type=voicemail it is the voicemail."""


class DeviceType(Enum):
    """Kind of device; values are those of voice.dial_plan.v1.DeviceType."""

    EXTENSION = 1
    ROUTE_POINT = 2
    AGENT = 3
    EXTERNAL = 4
    VOICEMAIL = 5
    VIRTUAL = 6


class Refusal(Exception):
    """Why there is no answer."""


class UnknownTenant(Refusal):
    """The source is nobody's, or the tenant named does not exist."""


class UnknownDestination(Refusal):
    """The number leads nowhere."""


class Barred(Refusal):
    """A dial rule refuses the number."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question."""

    destination: str
    tenant: str = ""
    source: Source | None = None
    caller_dn: str = ""
    destination_is_agent: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """The calling party."""

    dn: str = ""
    number: str = ""
    trunk: str = ""
    agent_id: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a device can be reached."""

    uri: str
    path: tuple[str, ...] = ()
    q: int = 1000


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the number means."""

    tenant: str
    caller: Caller
    type: DeviceType
    dn: str
    number: str
    contacts: tuple[Contact, ...] = ()
    agent_id: str = ""
    agent_user_name: str = ""
    place: str = ""
    options: Options = field(default_factory=lambda: NO_OPTIONS)
    default_dns: tuple[str, ...] = ()
    no_answer_timeout: int = 30
    overflow: str = ""
    dnd: bool = False
    routing_timeout_ms: int = 0
    """Route points: wait for the routing decision, ms."""


class DialPlan:
    """Resolves numbers from a view of the configuration; keeps compiled dial rules by tenant."""

    def __init__(self, view: ConfigView) -> None:
        self._view = view
        self._rules: dict[str, DialRules] = {}
        view.on_change(self._changed)

    def _changed(self, change: Changed) -> None:
        if isinstance(change.entry, DialRule):
            self._rules.pop(change.tenant, None)

    def rules(self, tenant: str) -> DialRules:
        """The compiled rules of a tenant."""
        found = self._rules.get(tenant)
        if found is None:
            found = self._rules[tenant] = DialRules(self._view.dial_rules(tenant))
        return found

    def identify(self, source: Source, tenant: str = "") -> Origin:
        """Whose source it is. Raises UnknownTenant."""
        origin = identify(self._view, source, tenant)
        if origin is None:
            where = source.address or "unknown address"
            raise UnknownTenant(f'no trunk has {where} and no tenant the domain "{source.domain}"')
        return origin

    def resolve(self, query: Query, now_us: int) -> Resolution:
        """The answer. Raises UnknownTenant, UnknownDestination, Barred."""
        origin = self.identify(query.source, query.tenant) if query.source else Origin(query.tenant)
        tenant = origin.tenant
        if self._view.tenant(tenant) is None:
            raise UnknownTenant(f'there is no tenant "{tenant}"')
        caller = self._caller(origin, query)
        if query.destination_is_agent:
            found = self._agent(tenant, query.destination, caller, now_us)
            if found is None:
                raise UnknownDestination(f"no agent {query.destination}")
            return found
        outside = query.source is not None and not caller.dn
        return self._number(tenant, query.destination, caller, outside, now_us)

    def _caller(self, origin: Origin, query: Query) -> Caller:
        view, tenant = self._view, origin.tenant
        if origin.trunk is not None:
            number = query.source.from_user if query.source else ""
            return Caller(number=self._e164(tenant, number) or number, trunk=origin.trunk.number)
        known = view.dn(tenant, query.caller_dn) if query.caller_dn else origin.phone
        if known is None:
            return Caller(number=query.source.from_user if query.source else query.caller_dn)
        login = view.login_on(tenant, known.number)
        return Caller(known.number, known.number, "", login.agent_id if login else "")

    def _number(self, tenant: str, number: str, caller: Caller, outside: bool, now_us: int) -> Resolution:
        forms: Iterable[str] = inbound_forms(number, self._country(tenant)) if caller.trunk else (number,)
        for form in forms:
            dn = self._view.dn(tenant, form)
            if dn is not None and dn.enabled and dn.trunk is None:
                return self._device(tenant, dn, form, caller, now_us)
        agent = self._agent(tenant, number, caller, now_us)
        if agent is not None:
            return agent
        translated = self.rules(tenant).translate(number)
        if translated is not None:
            if translated.barred:
                raise Barred(f"dial rule {translated.rule} bars {number}")
            number = translated.number
            dn = self._view.dn(tenant, number)
            if dn is not None and dn.enabled and dn.trunk is None:
                return self._device(tenant, dn, number, caller, now_us)
        if not outside:
            external = self._external(tenant, number, caller)
            if external is not None:
                return external
        raise UnknownDestination(f"{number} leads nowhere")

    # -- kinds of destination --------------------------------------------------------------------------------

    def _device(self, tenant: str, dn: Dn, number: str, caller: Caller, now_us: int) -> Resolution:
        login = self._view.login_on(tenant, dn.number)
        type = _type_of(dn)
        if type is DeviceType.EXTENSION:
            return self._phone(tenant, dn, login, type, number, caller, now_us)
        options = effective(self._view, tenant, dn, None, "")
        if type is DeviceType.VIRTUAL and telephony(options, "service-type") == "voicemail":
            type = DeviceType.VOICEMAIL
        return Resolution(
            tenant,
            caller,
            type,
            dn.number,
            number,
            options=options,
            default_dns=self._default_dns(tenant, dn, options),
            no_answer_timeout=no_answer_timeout(options),
            overflow=overflow(options, dn.overflow),
            routing_timeout_ms=dn.route_point.routing_timeout_ms if dn.route_point is not None else 0,
        )

    def _default_dns(self, tenant: str, dn: Dn, options: Options) -> tuple[str, ...]:
        """Of the route point, else of the one that `alternate-route-profile` names."""
        own = dn.route_point.default_dns if dn.route_point is not None else ()
        profile = telephony(options, "alternate-route-profile")
        if own or not profile:
            return own
        other = self._view.route_point(tenant, profile)
        return other.route_point.default_dns if other is not None and other.route_point is not None else ()

    def _phone(
        self,
        tenant: str,
        dn: Dn,
        login: Login | None,
        type: DeviceType,
        number: str,
        caller: Caller,
        now_us: int,
    ) -> Resolution:
        view = self._view
        person = view.person(tenant, login.user_name) if login is not None else None
        agent_id = login.agent_id if login is not None else ""
        options = effective(view, tenant, dn, person, agent_id)
        bindings = view.registrations(tenant, dn.number)
        place = view.place_of_dn(tenant, dn.number)
        return Resolution(
            tenant,
            caller,
            type,
            dn.number,
            number,
            tuple(Contact(b.contact, b.path, b.q) for b in (bindings.live(now_us) if bindings else ())),
            agent_id,
            person.user_name if person is not None else (login.user_name if login is not None else ""),
            place.name if place is not None else "",
            options,
            (),
            no_answer_timeout(options),
            overflow(options, dn.overflow),
            do_not_disturb(options),
        )

    def _agent(self, tenant: str, name: str, caller: Caller, now_us: int) -> Resolution | None:
        """An agent by login code or user name, on the DN she is logged in on; without one nothing rings."""
        agent_id, person = self._agent_named(tenant, name)
        if person is None:
            return None
        login = self._view.login_of(tenant, agent_id)
        dn = self._view.dn(tenant, login.dn) if login is not None else None
        if dn is not None:
            return self._phone(tenant, dn, login, DeviceType.AGENT, name, caller, now_us)
        options = effective(self._view, tenant, None, person, agent_id)
        return Resolution(
            tenant,
            caller,
            DeviceType.AGENT,
            "",
            name,
            agent_id=agent_id,
            agent_user_name=person.user_name,
            options=options,
            no_answer_timeout=no_answer_timeout(options),
            overflow=overflow(options, ""),
        )

    def _agent_named(self, tenant: str, name: str) -> tuple[str, Person | None]:
        """(login code, person); of several codes of a person the one that is logged in."""
        view = self._view
        person = view.person_of_login(tenant, name)
        if person is not None:
            return name, person
        person = view.person(tenant, name)
        if person is None or not person.agent_logins:
            return "", None
        codes = person.agent_logins
        return next((code for code in codes if view.login_of(tenant, code)), codes[0]), person

    def _external(self, tenant: str, number: str, caller: Caller) -> Resolution | None:
        if not DIALLABLE.fullmatch(number):
            return None
        found = ways(self._view.trunks(tenant), number, self._e164(tenant, number))
        if not found:
            return None
        best = found[0]
        options = effective(self._view, tenant, best.trunk, None, "")
        contacts = tuple(Contact(way.uri, (), max(0, 1000 - at)) for at, way in enumerate(found))
        return Resolution(
            tenant,
            caller,
            DeviceType.EXTERNAL,
            best.trunk.number,
            best.number,
            contacts,
            options=options,
            no_answer_timeout=no_answer_timeout(options),
        )

    def _country(self, tenant: str) -> str:
        found = self._view.tenant(tenant)
        return found.country if found is not None else ""

    def _e164(self, tenant: str, number: str) -> str:
        return e164(number, self._country(tenant))


def _type_of(dn: Dn) -> DeviceType:
    if dn.is_phone:
        return DeviceType.EXTENSION
    return DeviceType.ROUTE_POINT if dn.is_route_point else DeviceType.VIRTUAL
