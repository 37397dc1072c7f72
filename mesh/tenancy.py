"""Tenancy: the one place where the caller's tenant is compared with the tenant a request names (design §5).

The edge sets `x-voicemesh-tenant` from the verified token and strips what the client sent; the sidecar sets
`x-voicemesh-peer` to the caller's SPIFFE id from mTLS, overwriting what was there. A call with a tenant may
only name that tenant, in every field marked (voice.type.v1.tenant_scope). A call without one must come from
a peer service.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from voice.error.v1.reason_pb2 import Reason
from voice.type.v1 import options_pb2

from mesh.errors import DomainError
from mesh.metadata import CLIENT_KEY, EDGE_SERVICE, PEER_KEY, TENANT_KEY
from mesh.pipeline import Call, Inspector, Method, Stage
from mesh.telemetry.logs import logger
from mesh.telemetry.metrics import Metrics

log = logger("tenancy")


@dataclass(frozen=True)
class Caller:
    """Who makes the call being served."""

    tenant: str = ""
    """Tenant of a client; "" for a call between services."""
    client: str = ""
    """Subject of the client's token ("agent:<login code>", "client:<name>"); "" for a call between services."""
    peer: str = ""
    """SPIFFE id of the calling service; "" when no sidecar stands in front."""

    @property
    def service(self) -> str:
        """Service name in the SPIFFE id spiffe://<domain>/ns/<ns>/sa/<service>; "" without one."""
        return self.peer.rpartition("/sa/")[2] if "/sa/" in self.peer else ""

    @property
    def name(self) -> str:
        """Whose requests these are: the client, or the calling service."""
        return self.client or self.service or "unknown"


_caller: ContextVar[Caller] = ContextVar("voicemesh_caller", default=Caller())  # noqa: B039


def caller() -> Caller:
    """Who makes the call being served; empty outside of one."""
    return _caller.get()


Path = tuple[str, ...]
"""Names of fields from the request down to one marked tenant_scope: ("request", "tenant")."""

MAX_PATH = 6
"""Deepest nesting at which a tenant_scope field is looked for."""


def scoped_paths(request: Descriptor) -> tuple[Path, ...]:
    """Every field marked tenant_scope in the request or in what it contains."""
    return tuple(_walk(request, (), (request.full_name,)))


def _walk(kind: Descriptor, above: Path, seen: tuple[str, ...]) -> Iterator[Path]:
    for field in kind.fields:
        if field.GetOptions().Extensions[options_pb2.tenant_scope]:
            if field.type != FieldDescriptor.TYPE_STRING:
                raise TypeError(f"{field.full_name}: a tenant_scope field must be a string")
            yield (*above, field.name)
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry or inner.full_name in seen or len(above) >= MAX_PATH:
            continue
        yield from _walk(inner, (*above, field.name), (*seen, inner.full_name))


def tenants_named(message: Message, paths: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    """(field, tenant) of every scoped field; in a message that is not set there is none."""
    for path in paths:
        yield from _values(message, path, ".".join(path))


def _values(message: Any, path: Path, name: str) -> Iterator[tuple[str, str]]:
    head, rest = path[0], path[1:]
    value = getattr(message, head)
    if not rest:
        values = [value] if isinstance(value, str) else value
        yield from ((name, tenant) for tenant in values)
    elif isinstance(value, Message):
        if message.HasField(head):
            yield from _values(value, rest, name)
    else:
        for item in value:
            yield from _values(item, rest, name)


class Tenancy(Stage):
    """Refuses a call that names another tenant than its caller's: PERMISSION_DENIED REASON_FOREIGN_TENANT."""

    def __init__(self, metrics: Metrics, *, require_peer: bool = True) -> None:
        self._require_peer = require_peer
        self._refused = metrics.counter(
            "foreign_tenant_refusals_total", "Calls refused because they named a foreign tenant", ["method"]
        )

    def around(self, call: Call) -> AbstractAsyncContextManager[Any] | None:
        """Notes who calls, for `caller()`."""
        metadata = call.metadata
        _caller.set(
            Caller(metadata.get(TENANT_KEY, ""), metadata.get(CLIENT_KEY, ""), metadata.get(PEER_KEY, ""))
        )
        return None

    def inspector(self, method: Method) -> Inspector | None:
        """Compares what a method's requests name; None for a method that names no tenant."""
        request = request_descriptor(method)
        paths = scoped_paths(request) if request is not None else ()
        if not paths:
            return None
        return lambda call, message: self._check(call, tenants_named(message, paths))

    def _check(self, call: Call, named: Iterator[tuple[str, str]]) -> None:
        who = caller()
        if not who.tenant:
            if who.service == EDGE_SERVICE or (self._require_peer and not who.peer):
                raise DomainError(Reason.REASON_UNAUTHENTICATED, "the call carries neither tenant nor peer")
            return
        seen = False
        for field, tenant in named:
            seen = True
            if tenant != who.tenant:
                raise self._foreign(call, who, field, tenant)
        if not seen:
            raise self._foreign(call, who, "request", "")

    def _foreign(self, call: Call, who: Caller, field: str, tenant: str) -> DomainError:
        self._refused.labels(call.method.name).inc()
        log.warning(
            "foreign tenant refused",
            audit=True,
            method=call.method.name,
            field=field,
            caller_tenant=who.tenant,
            named_tenant=tenant[:64],
            peer=who.peer,
        )
        named = "names another tenant than" if tenant else "must name"
        return DomainError(Reason.REASON_FOREIGN_TENANT, f"{field} {named} the caller's", field=field)


def request_descriptor(method: Method) -> Descriptor | None:
    """The request message of a method, or None for a contract this process does not know."""
    service, _, name = method.full_name.rpartition(".")
    try:
        found = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return None
    described = found.methods_by_name.get(name)
    return None if described is None else described.input_type
