"""The read side of configuration: indexes over what ConfigService.Watch told. Pure: fed by `apply`, read by
everybody; no I/O, so tests of other parts feed it by hand.

view = ConfigView()
view.apply(WatchResponse(changes=[...], revision=7, synced=True))
view.dn("t1", "1001")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from voice.config.v1.config_service_pb2 import Change, WatchResponse

from mesh.config_objects import (
    AgentGroup,
    AgentLogin,
    DialRule,
    Dn,
    Entry,
    Login,
    Named,
    Person,
    Place,
    Registrations,
    Switch,
    Tenant,
    entry_of,
    login_of,
    registrations_of,
)
from mesh.config_sources import TrunkSources

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Changed:
    """One change of one entry; `old` is None when it is new, `new` None when it is gone."""

    tenant: str
    old: Entry | None
    new: Entry | None

    @property
    def entry(self) -> Entry:
        """The entry that changed, as it is or, when it is gone, as it was."""
        entry = self.new if self.new is not None else self.old
        assert entry is not None  # one of the two always is
        return entry


class _TenantState:
    """Entries and indexes of one tenant."""

    __slots__ = ("entries", "many", "unique")

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Entry]] = {}
        """By kind, then by the rest of the key: "<type>" / "<dbid>", "registrations" / "<dn>", "logins" /
        "<agent id>"."""
        self.unique: dict[str, dict[str, Entry]] = {}
        self.many: dict[str, dict[str, tuple[Entry, ...]]] = {}

    def put(self, kind: str, key: str, new: Entry | None) -> Entry | None:
        of_kind = self.entries.setdefault(kind, {})
        old = of_kind.pop(key, None) if new is None else of_kind.get(key)
        if old is not None:
            self._unindex(kind, old)
        if new is not None:
            of_kind[key] = new
            for name, value in _unique_keys(kind, new):
                self.unique.setdefault(name, {})[value] = new
            for name, value in _many_keys(kind, new):
                index = self.many.setdefault(name, {})
                index[value] = (*index.get(value, ()), new)
        return old

    def _unindex(self, kind: str, old: Entry) -> None:
        for name, value in _unique_keys(kind, old):
            if self.unique[name].get(value) is old:
                del self.unique[name][value]
        for name, value in _many_keys(kind, old):
            index = self.many[name]
            rest = tuple(entry for entry in index[value] if entry is not old)
            if rest:
                index[value] = rest
            else:
                del index[value]


def _unique_keys(kind: str, entry: Entry) -> Iterator[tuple[str, str]]:
    match entry:
        case AgentLogin():
            yield kind, entry.code
        case Person():
            yield kind, entry.user_name
            yield "employee_id", entry.employee_id
            for code in entry.agent_logins:
                yield "person_of_login", code
        case Place():
            yield kind, entry.name
            for number in entry.dns:
                yield "place_of_dn", number
        case Registrations():
            yield kind, entry.dn
        case Login():
            yield kind, entry.agent_id
            yield "login_on_dn", entry.dn
        case Dn():
            return
        case Tenant():
            yield kind, entry.tenant
        case _:
            yield kind, entry.name


def _many_keys(kind: str, entry: Entry) -> Iterator[tuple[str, str]]:
    match entry:
        case Dn():
            yield kind, entry.number
            if entry.trunk is not None:
                yield "trunks", ""
        case AgentGroup():
            for user_name in dict.fromkeys(entry.members):
                yield "groups_of", user_name


def _rank(dn: Dn) -> tuple[bool, bool, bool, int]:
    # Of DNs that share a number, the one a caller means: what takes calls first, trunks last.
    return (not dn.enabled, dn.trunk is not None, not (dn.is_phone or dn.is_route_point), dn.type)


class ConfigView:
    """Typed lookups. Each takes the tenant first and gives None (or nothing) when there is no such entry."""

    def __init__(self) -> None:
        self.revision = 0
        """Revision up to which everything is known; 0 before the first snapshot is complete."""
        self._tenants: dict[str, _TenantState] = {}
        self._loading: dict[str, _TenantState] | None = None
        self._domains: dict[str, str] = {}
        self._sources: TrunkSources | None = None
        self._callbacks: list[Callable[[Changed], None]] = []

    # -- tenants, trunks -------------------------------------------------------------------------------------

    def tenants(self) -> list[Tenant]:
        """Every tenant."""
        return [found for tenant in self._tenants for found in self._all(tenant, "tenant", Tenant)]

    def tenant(self, tenant: str) -> Tenant | None:
        """A tenant by its id."""
        return self._unique(tenant, "tenant", tenant, Tenant)

    def tenant_of_domain(self, domain: str) -> Tenant | None:
        """The tenant a SIP domain belongs to; case does not matter (RFC 3261 §19.1.4)."""
        return self.tenant(self._domains.get(domain.lower(), ""))

    def domains(self) -> Mapping[str, str]:
        """Domain -> tenant id."""
        return self._domains

    def trunks_from(self, address: str) -> list[Dn]:
        """Enabled trunks a request received from `address` ("host:port") may have come over."""
        if self._sources is None:
            self._sources = TrunkSources(dn for tenant in self._tenants for dn in self.trunks(tenant))
        return self._sources.match(address)

    def trunks(self, tenant: str) -> list[Dn]:
        """Trunks of a tenant."""
        return [dn for dn in self._many(tenant, "trunks", "", Dn)]

    # -- DNs -------------------------------------------------------------------------------------------------

    def switch(self, tenant: str, name: str) -> Switch | None:
        """A switch by name."""
        return self._unique(tenant, "switch", name, Switch)

    def dn(self, tenant: str, number: str) -> Dn | None:
        """The DN of a number. When several share it (other switch or type): an enabled one first, phones and
        route points before the others, trunks last."""
        found = self._many(tenant, "dn", number, Dn)
        return min(found, key=_rank) if found else None

    def dns(self, tenant: str, number: str = "") -> list[Dn]:
        """Every DN of a number, or of the tenant."""
        return self._many(tenant, "dn", number, Dn) if number else self._all(tenant, "dn", Dn)

    def route_point(self, tenant: str, number: str) -> Dn | None:
        """The routing point, virtual routing point or routing queue of a number."""
        return next((dn for dn in self._many(tenant, "dn", number, Dn) if dn.is_route_point), None)

    def dial_rules(self, tenant: str) -> list[DialRule]:
        """The rules of the dial plan, unordered."""
        return self._all(tenant, "dial_rule", DialRule)

    # -- agents ----------------------------------------------------------------------------------------------

    def agent_login(self, tenant: str, code: str) -> AgentLogin | None:
        """A login code (AgentID)."""
        return self._unique(tenant, "agent_login", code, AgentLogin)

    def person(self, tenant: str, user_name: str) -> Person | None:
        """A person by user name."""
        return self._unique(tenant, "person", user_name, Person)

    def person_of_login(self, tenant: str, code: str) -> Person | None:
        """The person a login code belongs to."""
        return self._unique(tenant, "person_of_login", code, Person)

    def person_of_employee(self, tenant: str, employee_id: str) -> Person | None:
        """A person by employee id."""
        return self._unique(tenant, "employee_id", employee_id, Person)

    def persons(self, tenant: str) -> list[Person]:
        """Every person."""
        return self._all(tenant, "person", Person)

    def skills_of(self, tenant: str, user_name: str) -> Mapping[str, int]:
        """Skill -> level of a person; empty for an unknown one."""
        person = self.person(tenant, user_name)
        return person.skills if person is not None else {}

    def group(self, tenant: str, name: str) -> AgentGroup | None:
        """An agent group by name."""
        return self._unique(tenant, "agent_group", name, AgentGroup)

    def groups(self, tenant: str) -> list[AgentGroup]:
        """Every agent group."""
        return self._all(tenant, "agent_group", AgentGroup)

    def groups_of(self, tenant: str, user_name: str) -> list[AgentGroup]:
        """Groups that list the person as a member (skill expressions are the Tenant service's)."""
        return self._many(tenant, "groups_of", user_name, AgentGroup)

    def place(self, tenant: str, name: str) -> Place | None:
        """A place by name."""
        return self._unique(tenant, "place", name, Place)

    def place_of_dn(self, tenant: str, number: str) -> Place | None:
        """The place that has the DN."""
        return self._unique(tenant, "place_of_dn", number, Place)

    def named(self, tenant: str, kind: str, name: str) -> Named | None:
        """A "skill", "script", "transaction", "application" or "host" by name."""
        return self._unique(tenant, kind, name, Named)

    def by_dbid(self, tenant: str, kind: str, dbid: int) -> Entry | None:
        """An object by the name of its type ("dn", "application" …) and its DBID."""
        state = self._tenants.get(tenant)
        return state.entries.get(kind, {}).get(str(dbid)) if state is not None else None

    # -- devices ---------------------------------------------------------------------------------------------

    def registrations(self, tenant: str, dn: str) -> Registrations | None:
        """The bindings of a DN; ask `.live(now_us)` for those that have not ended."""
        return self._unique(tenant, "registrations", dn, Registrations)

    def all_registrations(self, tenant: str) -> list[Registrations]:
        """The bindings of every DN of the tenant."""
        return self._all(tenant, "registrations", Registrations)

    def login_on(self, tenant: str, dn: str) -> Login | None:
        """The login on a DN."""
        return self._unique(tenant, "login_on_dn", dn, Login)

    def login_of(self, tenant: str, agent_id: str) -> Login | None:
        """The login of an agent."""
        return self._unique(tenant, "logins", agent_id, Login)

    def logins(self, tenant: str) -> list[Login]:
        """Every login."""
        return self._all(tenant, "logins", Login)

    # -- being told ------------------------------------------------------------------------------------------

    def on_change(self, callback: Callable[[Changed], None]) -> Callable[[], None]:
        """`callback` is called for each entry that changed, after all of its batch is in place; the result
        unsubscribes it. What it raises ends up with whoever feeds the view."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    # -- being fed -------------------------------------------------------------------------------------------

    def begin_snapshot(self) -> None:
        """The whole state follows: it replaces what is known when it is complete (`synced`), not before."""
        self._loading = {}

    def apply(self, response: WatchResponse) -> list[Changed]:
        """Takes a response of ConfigService.Watch; gives what changed and tells the callbacks."""
        into = self._tenants if self._loading is None else self._loading
        changed = [entry for change in response.changes if (entry := _put(into, change)) is not None]
        if self._loading is not None:
            if not response.synced:
                return []
            before, self._tenants, self._loading = self._tenants, self._loading, None
            changed = list(_difference(before, self._tenants))
        self._after(changed)
        if response.revision:
            self.revision = response.revision
        for change in changed:
            for callback in tuple(self._callbacks):
                self._tell(callback, change)
        return changed

    def _tell(self, callback: Callable[[Changed], None], change: Changed) -> None:
        callback(change)

    def _after(self, changed: Iterable[Changed]) -> None:
        for change in changed:
            if isinstance(change.entry, Tenant):
                old = change.old.domains if isinstance(change.old, Tenant) else ()
                for domain in old:
                    if self._domains.get(domain) == change.tenant:
                        del self._domains[domain]
                if isinstance(change.new, Tenant):
                    self._domains.update(dict.fromkeys(change.new.domains, change.tenant))
            if any(isinstance(e, Dn) and e.trunk is not None for e in (change.old, change.new)):
                self._sources = None

    # -- inside ----------------------------------------------------------------------------------------------

    def _unique(self, tenant: str, index: str, key: str, kind: type[E]) -> E | None:
        state = self._tenants.get(tenant)
        found = state.unique.get(index, {}).get(key) if state is not None else None
        return found if isinstance(found, kind) else None

    def _many(self, tenant: str, index: str, key: str, kind: type[E]) -> list[E]:
        state = self._tenants.get(tenant)
        found = state.many.get(index, {}).get(key, ()) if state is not None else ()
        return [entry for entry in found if isinstance(entry, kind)]

    def _all(self, tenant: str, index: str, kind: type[E]) -> list[E]:
        state = self._tenants.get(tenant)
        found = state.entries.get(index, {}).values() if state is not None else ()
        return [entry for entry in found if isinstance(entry, kind)]


def _put(tenants: dict[str, _TenantState], change: Change) -> Changed | None:
    name, new = _entry(change)
    kind, _, key = name.partition("/")
    if not key:
        return None
    state = tenants.setdefault(change.tenant, _TenantState())
    old = state.put(kind, key, new)
    if not any(state.entries.values()):
        del tenants[change.tenant]
    return None if old is None and new is None else Changed(change.tenant, old, new)


def _entry(change: Change) -> tuple[str, Entry | None]:
    match change.WhichOneof("put"):
        case "object":
            entry = entry_of(change.tenant, change.object)
            kind = change.object.WhichOneof("object")
            return (f"{kind}/{change.object.dbid}", entry) if entry is not None else ("", None)
        case "registrations":
            return f"registrations/{change.registrations.dn}", registrations_of(
                change.tenant, change.registrations
            )
        case "login":
            return f"logins/{change.login.agent_id}", login_of(change.login)
        case _:
            return change.deleted, None


def _difference(before: dict[str, _TenantState], after: dict[str, _TenantState]) -> Iterator[Changed]:
    for tenant in (*before, *(t for t in after if t not in before)):
        past, present = _flat(before.get(tenant)), _flat(after.get(tenant))
        yield from (Changed(tenant, old, None) for key, old in past.items() if key not in present)
        yield from (
            Changed(tenant, past.get(key), new) for key, new in present.items() if past.get(key) != new
        )


def _flat(state: _TenantState | None) -> dict[tuple[str, str], Entry]:
    kinds = state.entries.items() if state is not None else ()
    return {(kind, key): entry for kind, entries in kinds for key, entry in entries.items()}
