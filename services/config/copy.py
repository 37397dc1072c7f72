"""This node's copy of everything under Config's prefix, kept by a watch: what reads are answered from and
writes are checked against. While etcd is away it stands still and goes on answering."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from voice.config.v1.config_service_pb2 import DnRegistrations
from voice.config.v1.registration_pb2 import Login
from voice.record.v1.config_pb2 import ConfigRecord

from mesh.etcd import Etcd, KeyValue
from mesh.watch import Batch, Change, Watch
from services.config.feed import Entry, Feed
from services.config.integrity import Stored, TenantModel
from services.config.keys import Keys, Parsed
from services.config.schema import IMPORT_ORDER, TYPE_OF

TURN = 500
"""Keys of a snapshot read in one turn of the loop."""


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """A login and the revision of its key."""

    login: Login
    revision: int


@dataclass(slots=True)
class TenantCopy:
    """A tenant as this node knows it."""

    model: TenantModel = field(default_factory=TenantModel)
    counter_revision: int = 0
    """Revision of the tenant's objects; 0 when there never were any."""
    next_dbid: int = 1
    registrations: dict[str, DnRegistrations] = field(default_factory=dict)
    logins: dict[str, StoredLogin] = field(default_factory=dict)
    dn_logins: dict[str, tuple[str, int]] = field(default_factory=dict)
    """DN -> login code and revision of the key."""

    def entries(self) -> Iterator[tuple[str, str, Stored | DnRegistrations | Login]]:
        """Everything, what is referred to first: (kind, id, value)."""
        for kind in IMPORT_ORDER:
            for dbid, stored in sorted(self.model.objects.get(kind, {}).items()):
                yield kind, str(dbid), stored
        for dn, bindings in self.registrations.items():
            yield "registrations", dn, bindings
        for agent_id, stored_login in self.logins.items():
            yield "logins", agent_id, stored_login.login


class Copy:
    """All tenants, and the feed of what changed."""

    def __init__(self, etcd: Etcd, keys: Keys, feed_changes: int) -> None:
        self._etcd = etcd
        self._keys = keys
        self.feed = Feed(feed_changes)
        self.tenants: dict[str, TenantCopy] = {}
        self.loaded = asyncio.Event()
        """Set when the first snapshot is in place."""
        self.reloaded = asyncio.Event()
        """Set at each snapshot, for who waits for the next one and clears it."""
        self.snapshots = 0
        """Snapshots taken: a new one means that history before it may be gone."""
        self._watch: Watch | None = None
        self._waiting: list[tuple[int, asyncio.Future[bool]]] = []

    @property
    def revision(self) -> int:
        """Everything up to this revision is in."""
        return self.feed.revision

    @property
    def alive(self) -> bool:
        """Whether etcd has been heard within the last 6 s."""
        return self._watch is not None and self._watch.alive

    def tenant(self, tenant: str) -> TenantCopy:
        """A tenant, an empty one when there is none of this id."""
        return self.tenants.get(tenant) or TenantCopy()

    def exists(self, tenant: str) -> bool:
        """Whether there is a tenant object of this id."""
        return bool(self.tenant(tenant).model.objects.get("tenant"))

    async def follow(self) -> None:
        """Keeps the copy until cancelled."""
        self._watch = self._etcd.watch(self._keys.prefix)
        try:
            async for batch in self._watch:
                await self.apply(batch)
        finally:
            await self._watch.close()

    async def reached(self, revision: int, timeout: float) -> bool:
        """Whether everything up to `revision` is in, waiting up to `timeout` seconds for it."""
        if self.revision >= revision:
            return True
        loop = asyncio.get_running_loop()
        waiting: tuple[int, asyncio.Future[bool]] = (revision, loop.create_future())
        self._waiting.append(waiting)
        timer = loop.call_later(timeout, _settle, waiting[1], False)
        try:
            return await waiting[1]
        finally:
            timer.cancel()

    def _tell_waiting(self) -> None:
        revision, waiting = self.revision, self._waiting
        self._waiting = [one for one in waiting if one[0] > revision and not one[1].done()]
        for wanted, future in waiting:
            if wanted <= revision:
                _settle(future, True)

    async def apply(self, batch: Batch) -> None:
        """Takes what the watch tells. Changes are in place at once; a snapshot is read beside what is there and
        put in its place when it is whole, the loop turning meanwhile."""
        if batch.snapshot is not None:
            self.tenants = await self._load(batch.snapshot)
            self.snapshots += 1
            self.feed.reset(batch.revision)
            self.loaded.set()
            self.reloaded.set()
        else:
            self.feed.add(list(self._take(batch.changes)), batch.revision)
        self._tell_waiting()

    async def _load(self, items: Iterable[KeyValue]) -> dict[str, TenantCopy]:
        tenants = dict[str, TenantCopy]()
        for at, kv in enumerate(items):
            parsed = self._keys.parse(kv.key)
            if parsed is not None and parsed.tenant:
                _put(tenants.setdefault(parsed.tenant, TenantCopy()), parsed, kv)
            if at % TURN == TURN - 1:
                await asyncio.sleep(0)
        return tenants

    def _take(self, changes: Iterable[Change]) -> Iterator[Entry]:
        for change in changes:
            parsed = self._keys.parse(change.key)
            if parsed is None or not parsed.tenant:
                continue
            tenant = self.tenants.setdefault(parsed.tenant, TenantCopy())
            if change.kv is not None:
                _put(tenant, parsed, change.kv)
            else:
                _delete(tenant, parsed)
            entry = entry_of(parsed, change)
            if entry is not None:
                yield entry


def _settle(future: asyncio.Future[bool], outcome: bool) -> None:
    if not future.done():
        future.set_result(outcome)


def _put(tenant: TenantCopy, parsed: Parsed, kv: KeyValue) -> None:
    match parsed.kind:
        case "counter":
            tenant.counter_revision, tenant.next_dbid = kv.mod_revision, int(kv.value)
        case "dn_logins":
            tenant.dn_logins[parsed.id] = (kv.value.decode(), kv.mod_revision)
        case "registrations":
            tenant.registrations[parsed.id] = _registrations(kv)
        case "logins":
            tenant.logins[parsed.id] = StoredLogin(Login.FromString(kv.value), kv.mod_revision)
        case _:
            tenant.model.put(parsed.kind, int(parsed.id), _stored(kv))


def _delete(tenant: TenantCopy, parsed: Parsed) -> None:
    match parsed.kind:
        case "counter":
            tenant.counter_revision, tenant.next_dbid = 0, 1
        case "dn_logins":
            tenant.dn_logins.pop(parsed.id, None)
        case "registrations":
            tenant.registrations.pop(parsed.id, None)
        case "logins":
            tenant.logins.pop(parsed.id, None)
        case _:
            tenant.model.remove(parsed.kind, int(parsed.id))


def entry_of(parsed: Parsed, change: Change) -> Entry | None:
    """A change of a key as readers of the feed see it; None for keys that are Config's own affair."""
    if not parsed.tenant or parsed.kind in ("counter", "dn_logins"):
        return None
    value: Stored | DnRegistrations | Login | None = None
    if change.kv is not None:
        if parsed.kind == "registrations":
            value = _registrations(change.kv)
        elif parsed.kind == "logins":
            value = Login.FromString(change.kv.value)
        elif parsed.kind in TYPE_OF:
            value = _stored(change.kv)
    return Entry(change.revision, parsed.tenant, parsed.kind, parsed.id, value)


def _registrations(kv: KeyValue) -> DnRegistrations:
    bindings = DnRegistrations.FromString(kv.value)
    bindings.revision = kv.mod_revision
    return bindings


def _stored(kv: KeyValue) -> Stored:
    record = ConfigRecord.FromString(kv.value)
    return Stored(record.object, kv.mod_revision, record.request_id)
