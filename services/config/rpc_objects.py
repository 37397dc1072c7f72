"""ConfigService: contract <-> use cases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from google.protobuf.message import Message
from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1.config_service_pb2_grpc import ConfigServiceServicer
from voice.config.v1.object_pb2 import ConfigObject, DnType
from voice.config.v1.registration_pb2 import Login

from mesh.errors import DomainError, Reason, invalid
from mesh.tenancy import Caller, caller
from mesh.validation import Checks
from services.config.copy import TenantCopy
from services.config.feed import Entry
from services.config.integrity import Id, Stored
from services.config.objects import Objects, by_number, by_unique
from services.config.passwords import Passwords, mask
from services.config.schema import IMPORT_ORDER, KIND_OF, TYPE_OF, describe, kind_of
from services.config.watching import Wanted, Watching

MAY_SEE_PASSWORDS = frozenset({"sip_proxy"})
"""Services that get passwords: who answers digest challenges. Agents' are compared here (CheckPassword)."""
PART = 500
"""Objects of one part of an import or export."""
MAX_PAGE = 1000
MAX_CHANGES = 1000
"""Changes of one response."""
PART_BYTES = 1 << 20
"""Bytes of a response, but for its last object (1 MiB at most): well below the mesh's 4 MiB."""
M = TypeVar("M", bound=Message)
_BY_NAME = frozenset(
    {
        "switch",
        "skill",
        "agent_group",
        "place",
        "script",
        "transaction",
        "application",
        "host",
        "dial_rule",
    }
)


class ConfigRpc(ConfigServiceServicer):
    """Handlers raise DomainError; the pipeline sends it."""

    def __init__(
        self, objects: Objects, watching: Watching, passwords: Passwords, *, trust_unnamed: bool = False
    ) -> None:
        """`trust_unnamed`: callers without an identity see passwords; only where no sidecar stands in front."""
        self._objects = objects
        self._watching = watching
        self._passwords = passwords
        self._trust_unnamed = trust_unnamed

    async def CreateObject(self, request: pb.CreateObjectRequest, context: Any) -> pb.CreateObjectResponse:
        """See the contract."""
        checks = _tenant_named(request.tenant)
        if request.request_id:
            checks.request_id("request_id", request.request_id)
        checks.that("object.dbid", not request.object.dbid, "must be 0: it is given at creation")
        checks.done()
        self._operators_only(request.object)
        id, stored = await self._objects.create(request.tenant, request.object, request.request_id)
        return pb.CreateObjectResponse(object=self._shown(id, stored))

    async def GetObject(self, request: pb.GetObjectRequest, context: Any) -> pb.GetObjectResponse:
        """See the contract."""
        checks = _tenant_named(request.tenant)
        checks.one_of("type", request.type, KIND_OF)
        checks.that("key", request.WhichOneof("key"), "must have exactly one set")
        checks.done()
        find, what = _finder(request)
        return pb.GetObjectResponse(object=self._shown(*await self._objects.get(request.tenant, find, what)))

    async def ListObjects(self, request: pb.ListObjectsRequest, context: Any) -> pb.ListObjectsResponse:
        """See the contract."""
        checks = _tenant_named(request.tenant)
        checks.one_of("type", request.type, KIND_OF)
        checks.between("page_size", request.page_size, 0, MAX_PAGE)
        token = request.page_token
        checks.that(
            "page_token", not token or (token.isascii() and token.isdigit()), "must be from a response"
        )
        checks.done()
        kind, size = KIND_OF[request.type], request.page_size or 100
        found = self._objects.list(request.tenant, kind, int(token or 0), size + 1)
        return pb.ListObjectsResponse(
            objects=[self._shown((kind, dbid), stored) for dbid, stored in found[:size]],
            next_page_token=str(found[size - 1][0]) if len(found) > size else "",
        )

    async def UpdateObject(self, request: pb.UpdateObjectRequest, context: Any) -> pb.UpdateObjectResponse:
        """See the contract."""
        checks = _tenant_named(request.tenant)
        checks.that("object", kind_of(request.object), "must have exactly one object set")
        checks.required("object.dbid", request.object.dbid)
        checks.required("object.revision", request.object.revision)
        checks.done()
        self._operators_only(request.object)
        return pb.UpdateObjectResponse(
            object=self._shown(*await self._objects.update(request.tenant, request.object))
        )

    async def DeleteObject(self, request: pb.DeleteObjectRequest, context: Any) -> pb.DeleteObjectResponse:
        """See the contract."""
        checks = _tenant_named(request.tenant)
        checks.one_of("type", request.type, KIND_OF)
        checks.required("dbid", request.dbid)
        checks.done()
        kind = KIND_OF[request.type]
        if kind == "tenant" and caller().tenant:
            raise _operators("tenants are deleted by operators")
        await self._objects.delete(request.tenant, kind, request.dbid, request.revision)
        return pb.DeleteObjectResponse()

    async def ImportObjects(
        self, request_iterator: AsyncIterator[pb.ImportObjectsRequest], context: Any
    ) -> pb.ImportObjectsResponse:
        """See the contract."""
        tenant, objects = "", list[ConfigObject]()
        async for part in request_iterator:
            checks = _tenant_named(part.tenant)
            checks.that("tenant", tenant in ("", part.tenant), "must be the same in all parts")
            checks.length("objects", part.objects, 0, PART)
            checks.done()
            tenant = part.tenant
            objects.extend(part.objects)
            for message in part.objects:
                self._operators_only(message)
        if not tenant:
            raise invalid(("tenant", "is required"))
        done = await self._objects.import_all(tenant, objects)
        return pb.ImportObjectsResponse(created=done.created, updated=done.updated, unchanged=done.unchanged)

    async def ExportObjects(
        self, request: pb.ExportObjectsRequest, context: Any
    ) -> AsyncIterator[pb.ExportObjectsResponse]:
        """See the contract."""
        _tenant_named(request.tenant).done()
        present = self._objects.copy.tenant(request.tenant)
        if not self._objects.copy.exists(request.tenant):
            raise DomainError(Reason.REASON_UNKNOWN_TENANT, f'there is no tenant "{request.tenant}"')
        found = [
            ((kind, dbid), stored)
            for kind in IMPORT_ORDER
            for dbid, stored in sorted(present.model.objects.get(kind, {}).items())
        ]
        for part in parted((numbered(id, stored) for id, stored in found), PART):
            yield pb.ExportObjectsResponse(objects=part)

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        """See the contract."""
        checks = Checks()
        if request.tenant:
            checks.tenant("tenant", request.tenant)
        elif caller().tenant:
            checks.that("tenant", False, "is required")
        checks.between("after_revision", request.after_revision, 0, 2**62)
        for at, number in enumerate(request.types):
            checks.one_of(f"types[{at}]", number, KIND_OF)
        checks.done()
        reveal = self._may_see_passwords(caller())
        wanted = Wanted(request.tenant, _kinds(request))
        async for told in self._watching.watch(wanted, request.after_revision):
            *first, last = parted((self._change(entry, reveal) for entry in told.entries), MAX_CHANGES) or [
                []
            ]
            for part in first:
                yield pb.WatchResponse(changes=part)
            yield pb.WatchResponse(changes=last, revision=told.revision, synced=told.synced)

    # -- passwords, permissions ------------------------------------------------------------------------------

    def _may_see_passwords(self, who: Caller) -> bool:
        unnamed = not who.peer and not who.tenant
        return not who.tenant and (who.service in MAY_SEE_PASSWORDS or (unnamed and self._trust_unnamed))

    def _shown(self, id: Id, stored: Stored) -> ConfigObject:
        return self._for(numbered(id, stored), self._may_see_passwords(caller()))

    def _for(self, message: ConfigObject, reveal: bool) -> ConfigObject:
        if reveal:
            self._passwords.revealed(message)
        else:
            mask(message)
        return message

    def _change(self, entry: Entry, reveal: bool) -> pb.Change:
        change = pb.Change(tenant=entry.tenant, revision=entry.revision)
        match entry.value:
            case Stored() as stored:
                change.object.CopyFrom(self._for(numbered((entry.kind, int(entry.id)), stored), reveal))
            case pb.DnRegistrations() as bindings:
                change.registrations.CopyFrom(bindings)
            case Login() as login:
                change.login.CopyFrom(login)
            case None:
                change.deleted = f"{entry.kind}/{entry.id}"
        return change

    def _operators_only(self, message: ConfigObject) -> None:
        if kind_of(message) == "tenant" and caller().tenant:
            raise _operators("tenants are written by operators")


def _operators(text: str) -> DomainError:
    return DomainError(Reason.REASON_NOT_AUTHORIZED, text)


def _tenant_named(tenant: str) -> Checks:
    checks = Checks()
    checks.tenant("tenant", tenant)
    return checks


def parted(messages: Iterable[M], count: int) -> list[list[M]]:
    """Messages in parts of at most `count` and some PART_BYTES."""
    parts, size = list[list[M]](), PART_BYTES
    for message in messages:
        if size >= PART_BYTES or len(parts[-1]) >= count:
            parts.append([])
            size = 0
        parts[-1].append(message)
        size += message.ByteSize()
    return parts


def numbered(id: Id, stored: Stored) -> ConfigObject:
    """The object with its DBID and revision, in a message of its own."""
    message = ConfigObject()
    message.CopyFrom(stored.message)
    message.dbid, message.revision = id[1], stored.revision
    return message


def _kinds(request: pb.WatchRequest) -> frozenset[str]:
    kinds: Iterable[str] = (KIND_OF[number] for number in request.types) if request.types else TYPE_OF
    extra = [
        name for name, on in (("registrations", request.registrations), ("logins", request.logins)) if on
    ]
    return frozenset([*kinds, *extra])


def _finder(request: pb.GetObjectRequest) -> tuple[Callable[[TenantCopy], Id | None], str]:
    """How to find the object a request asks for, and what to call it when it is not there."""
    kind, key = KIND_OF[request.type], request.WhichOneof("key") or ""
    value = getattr(request, key)
    what = f'{kind} with {key} "{value}"'
    match kind, key:
        case _, "dbid":
            return lambda present: (kind, value), what
        case "tenant", "name":
            return by_unique(("tenant", "")) if value == request.tenant else lambda present: None, what
        case _, "name" if kind in _BY_NAME:
            return by_unique((kind, value)), what
        case "dn", "number":
            if request.dn_type and request.dn_type not in DnType.values():
                raise invalid(("dn_type", "must be a type of DN"))
            return by_number(value, request.switch, request.dn_type), describe(("dn", value))
        case "agent_login", "number":
            return by_unique(("agent_login", value)), what
        case "person", "employee_id" | "user_name":
            return by_unique(("person" if key == "user_name" else "employee_id", value)), what
        case "switch", "tserver_dbid":
            return _switch_of_tserver(value), what
        case _:
            raise invalid((key, f"is no key of objects of type {kind}"))


def _switch_of_tserver(tserver_dbid: int) -> Callable[[TenantCopy], Id | None]:
    def find(present: TenantCopy) -> Id | None:
        switches = present.model.objects.get("switch", {})
        found = (dbid for dbid, s in switches.items() if s.message.switch.tserver_dbid == tserver_dbid)
        dbid = next(found, None)
        return ("switch", dbid) if dbid is not None else None

    return find
