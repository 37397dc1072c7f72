"""Use cases of objects: look up, create, change, delete, import. Reads are answered from the copy; a write is
decided on the copy, committed under the tenant's guard, and decided again when somebody wrote in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence

from voice.config.v1.object_pb2 import ConfigObject

from mesh.errors import DomainError, Reason, invalid
from mesh.validation import Checks
from services.config.copy import Copy, TenantCopy
from services.config.integrity import Id, Plan, Stored, Write, existing, plan, planning
from services.config.passwords import Passwords, keep
from services.config.rules import check_object
from services.config.schema import Key, Kind, describe, kind_of
from services.config.store import Moved, Store, away

ATTEMPTS = 8
"""Times a write is decided anew when others write the same tenant."""
CATCH_UP_S = 2.0
"""Time for the copy to see what etcd has already, seconds."""
MAX_IMPORT = 200_000
"""Objects of one import at most."""
YIELD_EVERY = 200
"""Objects looked at between two turns of the loop."""


Decide = Callable[[TenantCopy], Awaitable[Plan]]
"""Decides what to write from a tenant as it is."""


async def _breathe(at: int) -> None:
    """Lets the loop turn now and then in a long run over objects."""
    if at % YIELD_EVERY == YIELD_EVERY - 1:
        await asyncio.sleep(0)


async def _in_steps(steps: Generator[None, None, Plan]) -> Plan:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Plan = end.value
            return result
        await asyncio.sleep(0)


def nothing(what: str) -> DomainError:
    """There is no such object."""
    return DomainError(Reason.REASON_UNKNOWN_OBJECT, f"there is no {what}")


class Objects:
    """Objects of all tenants."""

    def __init__(self, copy: Copy, store: Store, passwords: Passwords, import_pause_s: float = 0.0) -> None:
        self.copy = copy
        self._store = store
        self._passwords = passwords
        self._pause = import_pause_s
        self._locks: dict[str, asyncio.Lock] = {}

    # -- reads -----------------------------------------------------------------------------------------------

    async def get(self, tenant: str, find: Callable[[TenantCopy], Id | None], what: str) -> tuple[Id, Stored]:
        """The object that `find` finds. One that another node has just written is found too. Raises
        UNKNOWN_OBJECT."""
        found = self._find(tenant, find)
        if found is None and self.copy.alive:
            await self._current(tenant)
            found = self._find(tenant, find)
        if found is None:
            raise nothing(what)
        return found

    def _find(self, tenant: str, find: Callable[[TenantCopy], Id | None]) -> tuple[Id, Stored] | None:
        present = self.copy.tenant(tenant)
        id = find(present)
        stored = present.model.get(*id) if id is not None else None
        return (id, stored) if id is not None and stored is not None else None

    def list(self, tenant: str, kind: Kind, after: int, limit: int) -> list[tuple[int, Stored]]:
        """Up to `limit` objects of a kind with a DBID above `after`, in order."""
        objects = self.copy.tenant(tenant).model.objects.get(kind, {})
        return sorted((dbid, stored) for dbid, stored in objects.items() if dbid > after)[:limit]

    # -- writes ----------------------------------------------------------------------------------------------

    async def create(self, tenant: str, message: ConfigObject, request_id: str) -> tuple[Id, Stored]:
        """A new object; the same request id again gives the object it created. Raises INVALID_ATTRIBUTE,
        ALREADY_EXISTS, UNKNOWN_OBJECT, UNKNOWN_TENANT, DEPENDENCY_UNAVAILABLE."""
        message = _bare(message)
        check_all("object", [message], tenant, single=True)
        await self._passwords.protect("object", message, None)
        repeated: Id | None = None

        async def decide(present: TenantCopy) -> Plan:
            nonlocal repeated
            repeated = present.model.created_by(request_id) if request_id else None
            if repeated is not None:
                return Plan(next_dbid=present.next_dbid)
            _need_tenant(present, tenant, [message])
            keep("object", message, present.model, None)
            return plan(present.model, [Write("object", message, None, request_id)], present.next_dbid)

        done, revision = await self._write(tenant, decide)
        if repeated is not None:
            return self._repeated(tenant, repeated, message)
        id, stored = next(iter(done.puts.items()))
        return id, Stored(stored.message, revision, request_id)

    def _repeated(self, tenant: str, id: Id, message: ConfigObject) -> tuple[Id, Stored]:
        stored = self.copy.tenant(tenant).model.get(*id)
        if stored is None:
            raise nothing(f"{id[0]} {id[1]}")
        if kind_of(message) != id[0]:
            raise invalid(("request_id", "was used for an object of another type"))
        return id, stored

    async def update(self, tenant: str, message: ConfigObject) -> tuple[Id, Stored]:
        """Replaces an object that is at the revision given. Raises INVALID_ATTRIBUTE, UNKNOWN_OBJECT,
        REVISION_CONFLICT, ALREADY_EXISTS, OBJECT_IN_USE (a name that others use was changed)."""
        id, wanted = (kind_of(message), message.dbid), message.revision
        message = _bare(message)
        check_all("object", [message], tenant, single=True)
        await self._passwords.protect("object", message, self.copy.tenant(tenant).model.get(*id))

        async def decide(present: TenantCopy) -> Plan:
            _at_revision(present, id, wanted)
            keep("object", message, present.model, id)
            return plan(present.model, [Write("object", message, id)], present.next_dbid)

        done, revision = await self._write(tenant, decide)
        stored = self.copy.tenant(tenant).model.get(*id)
        if done.puts or stored is None:
            return id, Stored(message, revision)
        return id, stored

    async def delete(self, tenant: str, kind: Kind, dbid: int, revision: int) -> None:
        """Deletes an object that nothing refers to, at the revision given (0: at any). Raises UNKNOWN_OBJECT,
        REVISION_CONFLICT, OBJECT_IN_USE."""
        id = (kind, dbid)

        async def decide(present: TenantCopy) -> Plan:
            _at_revision(present, id, revision)
            return plan(present.model, [Write("object", None, id)], present.next_dbid)

        await self._write(tenant, decide)

    async def import_all(self, tenant: str, messages: Sequence[ConfigObject]) -> Plan:
        """Creates or replaces objects by their natural keys: all are checked first, then written in batches.
        Raises INVALID_ATTRIBUTE naming objects by index."""
        if len(messages) > MAX_IMPORT:
            raise invalid(("objects", f"must have at most {MAX_IMPORT} entries"))
        bare = list[ConfigObject]()
        for at, message in enumerate(messages):
            bare.append(_bare(message))
            await _breathe(at)
        for start in range(0, len(bare), YIELD_EVERY):
            check_all("objects", bare[start : start + YIELD_EVERY], tenant, first=start)
            await asyncio.sleep(0)
        await self._protect_all(tenant, bare)

        async def decide(present: TenantCopy) -> Plan:
            _need_tenant(present, tenant, bare)
            next_dbid, writes = present.next_dbid, list[Write]()
            for at, message in enumerate(bare):
                id = existing(present.model, message)
                keep(f"objects[{at}]", message, present.model, id)
                writes.append(Write(f"objects[{at}]", message, id))
                await _breathe(at)
            return await _in_steps(planning(present.model, writes, next_dbid))

        return (await self._write(tenant, decide))[0]

    async def _protect_all(self, tenant: str, messages: Sequence[ConfigObject]) -> None:
        model = self.copy.tenant(tenant).model
        for at, message in enumerate(messages):
            id = existing(model, message)
            await self._passwords.protect(f"objects[{at}]", message, model.get(*id) if id else None)
            await _breathe(at)

    async def _write(self, tenant: str, decide: Decide) -> tuple[Plan, int]:
        """Decides and commits until nobody wrote in between; gives the first plan and the last revision."""
        first: Plan | None = None
        async with self._locks.setdefault(tenant, asyncio.Lock()):
            await self._current(tenant)
            for _ in range(ATTEMPTS):
                present = self.copy.tenant(tenant)
                counter = present.counter_revision  # before deciding: what changes meanwhile spoils the plan
                planned = await decide(present)
                first = first or planned
                if not planned.puts and not planned.deletes:
                    return first, counter
                before = {id: old for id in planned.puts if (old := present.model.get(*id)) is not None}
                try:
                    revision = await self._store.commit(tenant, planned, counter, before, self._pause)
                except Moved as moved:
                    await self._caught_up(moved.revision)
                    continue
                # The caller reads what it wrote; should the watch lag, the write has happened all the same.
                await self.copy.reached(revision, CATCH_UP_S)
                return first, revision
        raise DomainError(Reason.REASON_REVISION_CONFLICT, f"tenant {tenant} is being changed by others")

    async def _current(self, tenant: str) -> None:
        await self._caught_up(await self._store.counter_revision(tenant))

    async def _caught_up(self, revision: int) -> None:
        if not await self.copy.reached(revision, CATCH_UP_S):
            raise away()


def check_all(
    at: str, messages: Sequence[ConfigObject], tenant: str, *, first: int = 0, single: bool = False
) -> None:
    """Rules of each object by itself. Raises INVALID_ATTRIBUTE with every violation (50 at most)."""
    checks = Checks()
    for number, message in enumerate(messages, first):
        where = at if single else f"{at}[{number}]"
        if check_object(checks, where, message) and kind_of(message) == "tenant":
            named = message.tenant.tenant_id
            checks.that(f"{where}.tenant.tenant_id", named == tenant, f'must be "{tenant}"')
    checks.done()


def _bare(message: ConfigObject) -> ConfigObject:
    bare = ConfigObject()
    bare.CopyFrom(message)
    bare.ClearField("dbid")
    bare.ClearField("revision")
    return bare


def _need_tenant(present: TenantCopy, tenant: str, messages: Sequence[ConfigObject]) -> None:
    if present.model.objects.get("tenant") or any(kind_of(message) == "tenant" for message in messages):
        return
    raise DomainError(Reason.REASON_UNKNOWN_TENANT, f'there is no tenant "{tenant}"')


def _at_revision(present: TenantCopy, id: Id, wanted: int) -> None:
    stored = present.model.get(*id)
    if stored is None:
        raise nothing(f"{id[0]} with DBID {id[1]}")
    if wanted and stored.revision != wanted:
        raise DomainError(
            Reason.REASON_REVISION_CONFLICT,
            f"object: {id[0]} {id[1]} was changed since revision {wanted}",
            expected=wanted,
            actual=stored.revision,
        )


def by_unique(key: Key) -> Callable[[TenantCopy], Id | None]:
    """Finds the object that has a unique key."""
    return lambda present: present.model.owner(key)


def by_number(number: str, switch: str, type: int) -> Callable[[TenantCopy], Id | None]:
    """Finds a DN by number, of a switch and type when they are given. Raises INVALID_ATTRIBUTE when several
    match."""

    def find(present: TenantCopy) -> Id | None:
        model = present.model
        found = list[Id]()
        for id in sorted(model.providers(("dn", number))):
            stored = model.get(*id)
            dn = stored.message.dn if stored is not None else None
            if dn is not None and switch in ("", dn.switch) and type in (0, dn.type):
                found.append(id)
        if len(found) > 1:
            raise invalid(("switch", f"or dn_type is needed: several DNs match {describe(('dn', number))}"))
        return found[0] if found else None

    return find
