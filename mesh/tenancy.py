"""Tenancy: the one place where the caller's tenant is compared with the tenant a request names (design §5).

The edge sets `x-voicemesh-tenant` from the verified token and strips what the client sent; the sidecar sets
`x-voicemesh-peer` to the caller's SPIFFE id from mTLS, overwriting what was there. A call with a tenant may
only name that tenant, in every field marked (voice.type.v1.tenant_scope). A call without one must come from
a peer service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    """Subject of the client's token ("agent:<login code>", "client:<name>"); "" for a call between
    services."""
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


class Scope:
    """Where a request names tenants: its own marked fields, and the scopes of the messages it contains."""

    def __init__(self, paths: Iterable[Path], above: str = "") -> None:
        paths = tuple(paths)
        self._leaves = tuple((path[0], above + path[0]) for path in paths if len(path) == 1)
        heads = dict.fromkeys(path[0] for path in paths if len(path) > 1)
        self._branches = {
            head: Scope((path[1:] for path in paths if path[0] == head and len(path) > 1), f"{above}{head}.")
            for head in heads
        }

    def tenants(self, message: Any) -> Iterator[tuple[str, str]]:
        """(field, tenant) of every marked field; a message that is not set names none."""
        for name, full in self._leaves:
            value = getattr(message, name)
            yield from ((full, tenant) for tenant in ([value] if isinstance(value, str) else value))
        if not self._branches:
            return
        # A request may be one of a hundred kinds: looking at what is set is cheaper than asking for each.
        for field, value in message.ListFields():
            branch = self._branches.get(field.name)
            if branch is None:
                continue
            for item in value if field.is_repeated else (value,):
                yield from branch.tenants(item)


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
        if request is None and method.path.startswith("/voice."):
            return _unknown  # one of ours that cannot be checked is not served
        paths = scoped_paths(request) if request is not None else ()
        if not paths:
            return None
        scope = Scope(paths)
        return lambda call, message: self._check(call, scope.tenants(message))

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


def _unknown(call: Call, _: Message) -> None:
    raise DomainError(Reason.REASON_INTERNAL, f"{call.method.name} is in no contract that is loaded")


def request_descriptor(method: Method) -> Descriptor | None:
    """The request message of a method, or None for a contract this process does not know."""
    service, _, name = method.full_name.rpartition(".")
    try:
        found = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return None
    described = found.methods_by_name.get(name)
    return None if described is None else described.input_type
