"""Use cases of devices and agents at work: bindings of DNs, logins, passwords."""

from __future__ import annotations

from voice.config.v1.config_service_pb2 import DnRegistrations
from voice.config.v1.registration_pb2 import Login

from mesh.config_objects import PHONE_TYPES
from mesh.errors import DomainError, Reason
from services.config.copy import Copy, TenantCopy
from services.config.integrity import Id, Stored
from services.config.objects import ATTEMPTS, CATCH_UP_S
from services.config.passwords import Passwords
from services.config.store import Moved, Store, away


class Devices:
    """Registrations and logins of all tenants."""

    def __init__(self, copy: Copy, store: Store, passwords: Passwords, node: str) -> None:
        self._copy = copy
        self._store = store
        self._passwords = passwords
        self._node = node

    async def put_registrations(self, tenant: str, wanted: DnRegistrations) -> int:
        """Replaces the bindings of a DN computed from `wanted.revision`; gives the new revision, 0 for none.
        Raises UNKNOWN_DN, REVISION_CONFLICT, DEPENDENCY_UNAVAILABLE."""
        id = phone(self._copy.tenant(tenant), wanted.dn)
        if id is None:
            await self._current()
            id = phone(self._copy.tenant(tenant), wanted.dn)
        if id is None:
            raise _unknown_dn(wanted.dn)
        key = self._store.keys.object(tenant, *id)
        revision = await self._store.put_registrations(tenant, key, wanted)
        await self._copy.reached(revision, CATCH_UP_S)
        return revision

    def get_registrations(self, tenant: str, dn: str, now_us: int) -> DnRegistrations:
        """The bindings of a DN that have not ended at `now_us`. Raises UNKNOWN_DN."""
        present = self._copy.tenant(tenant)
        if phone(present, dn) is None:
            raise _unknown_dn(dn)
        stored = present.registrations.get(dn)
        if stored is None:
            return DnRegistrations(dn=dn)
        live = [binding for binding in stored.registrations if binding.expires_us > now_us]
        return DnRegistrations(dn=dn, registrations=live, revision=stored.revision)

    async def put_login(self, login: Login) -> Login:
        """Records a login: one agent a DN, one DN an agent, in one guarded transaction. Raises UNKNOWN_DN,
        WRONG_AGENT_ID, AGENT_ID_IN_USE, DN_HAS_AGENT, DEPENDENCY_UNAVAILABLE."""
        certain = False
        for _ in range(ATTEMPTS):
            try:
                filled, guards = self._decide(login)
                revision = await self._store.put_login(login.tenant, filled, guards)
            except Moved:
                await self._current()
                certain = True
                continue
            except DomainError as refusal:
                if certain or refusal.reason == Reason.REASON_DEPENDENCY_UNAVAILABLE:
                    raise
                # What the copy refuses may have been made possible a moment ago by another node.
                await self._current()
                certain = True
                continue
            await self._copy.reached(revision, CATCH_UP_S)
            return filled
        raise DomainError(Reason.REASON_IN_PROGRESS, f"logins on DN {login.dn} change too fast")

    def _decide(self, login: Login) -> tuple[Login, dict[str, int]]:
        """The login as it will be stored and the revisions that this was decided from."""
        tenant, present, keys = login.tenant, self._copy.tenant(login.tenant), self._store.keys
        dn_id = phone(present, login.dn)
        if dn_id is None:
            raise _unknown_dn(login.dn)
        code, person_id = self._agent(present, login.agent_id)
        on_dn = present.dn_logins.get(login.dn)
        if on_dn is not None and on_dn[0] != login.agent_id:
            raise DomainError(Reason.REASON_DN_HAS_AGENT, f"agent {on_dn[0]} is logged in on DN {login.dn}")
        at = present.logins.get(login.agent_id)
        if at is not None and at.login.dn != login.dn:
            raise DomainError(
                Reason.REASON_AGENT_ID_IN_USE, f"agent {login.agent_id} is logged in on DN {at.login.dn}"
            )
        ids = (dn_id, code, person_id)
        guards = {keys.object(tenant, *id): _stored(present, id).revision for id in ids}
        guards[keys.login(tenant, login.agent_id)] = at.revision if at is not None else 0
        guards[keys.dn_login(tenant, login.dn)] = on_dn[1] if on_dn is not None else 0
        return _filled(present, login, person_id), guards

    def _agent(self, present: TenantCopy, agent_id: str) -> tuple[Id, Id]:
        """The login code and the person it belongs to."""
        code = present.model.owner(("agent_login", agent_id))
        person = present.model.owner(("login of a person", agent_id))
        if code is None:
            raise DomainError(Reason.REASON_WRONG_AGENT_ID, f"no agent has the login code {agent_id}")
        if person is None or not _stored(present, person).message.person.is_agent:
            raise DomainError(Reason.REASON_WRONG_AGENT_ID, f"login code {agent_id} belongs to no agent")
        return code, person

    async def delete_login(self, tenant: str, agent_id: str, session_id: str) -> None:
        """Removes an agent's login, of the session given (any when empty); none is no error."""
        for _ in range(ATTEMPTS):
            at = self._copy.tenant(tenant).logins.get(agent_id)
            if at is None:
                await self._current()
                at = self._copy.tenant(tenant).logins.get(agent_id)
            if at is None or session_id not in ("", at.login.session_id):
                return
            try:
                revision = await self._store.delete_login(tenant, at.login, at.revision)
            except Moved:
                await self._current()
                continue
            await self._copy.reached(revision, CATCH_UP_S)
            return
        raise DomainError(Reason.REASON_IN_PROGRESS, f"logins of agent {agent_id} change too fast")

    def get_login(self, tenant: str, dn: str, agent_id: str) -> Login:
        """The login on a DN or of an agent. Raises AGENT_NOT_LOGGED_IN."""
        present = self._copy.tenant(tenant)
        if dn:
            agent_id = present.dn_logins.get(dn, ("", 0))[0]
        at = present.logins.get(agent_id)
        if at is None:
            who = f"DN {dn} has no agent" if dn else f"agent {agent_id} is not logged in"
            raise DomainError(Reason.REASON_AGENT_NOT_LOGGED_IN, who)
        return at.login

    async def check_password(self, tenant: str, agent_id: str, password: str) -> tuple[str, int]:
        """(user name, after-call work in seconds) of an agent whose password this is. Raises WRONG_AGENT_ID,
        PASSWORD_MISMATCH."""
        present = self._copy.tenant(tenant)
        code, person = self._agent(present, agent_id)
        login = _stored(present, code).message.agent_login
        if login.password and not await self._passwords.verify(login.password, password):
            raise DomainError(Reason.REASON_PASSWORD_MISMATCH, f"the password of agent {agent_id} is wrong")
        return _stored(present, person).message.person.user_name, login.wrapup_s

    async def _current(self) -> None:
        """The copy has all that etcd has at this moment."""
        revision = await self._store.announce(self._node)
        if not await self._copy.reached(revision, CATCH_UP_S):
            raise away()


def phone(present: TenantCopy, number: str) -> Id | None:
    """The DN of a number that a device can be on; the enabled one first."""
    found = [
        (not stored.message.dn.enabled, id)
        for id in present.model.providers(("dn", number))
        if (stored := _stored(present, id)).message.dn.type in PHONE_TYPES
    ]
    return min(found)[1] if found else None


def _stored(present: TenantCopy, id: Id) -> Stored:
    stored = present.model.get(*id)
    if stored is None:
        raise AssertionError(f"an index names {id}, which is not there")
    return stored


def _filled(present: TenantCopy, login: Login, person: Id) -> Login:
    filled = Login()
    filled.CopyFrom(login)
    filled.user_name = _stored(present, person).message.person.user_name
    place = present.model.owner(("DN of a place", login.dn))
    filled.place = _stored(present, place).message.place.name if place is not None else ""
    return filled


def _unknown_dn(dn: str) -> DomainError:
    return DomainError(Reason.REASON_UNKNOWN_DN, f"DN {dn} is not configured, or no device can be on it")
