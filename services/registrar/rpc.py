"""RegistrarService: contract <-> use cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from voice.registrar.v1 import registrar_service_pb2 as pb
from voice.registrar.v1.registrar_service_pb2_grpc import RegistrarServiceServicer

from mesh.config_cache import Registration
from mesh.errors import DomainError, Reason
from mesh.telemetry.metrics import Metrics
from mesh.validation import Checks
from services.registrar.app import Registering
from services.registrar.contact import is_route, is_sip
from services.registrar.machine import ContactUpdate, OutOfOrder, Refused, Register, TooBrief, TooMany
from services.registrar.store import message_of

MAX_CONTACTS = 10
MAX_PATH = 8


class RegistrarRpc(RegistrarServiceServicer):
    """Handlers raise DomainError; the pipeline sends it."""

    def __init__(self, registering: Registering, metrics: Metrics) -> None:
        self._registering = registering
        self._registers = metrics.counter("registers_total", "REGISTERs", ["tenant", "outcome"])

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.RegisterResponse:
        """See the contract. A contact that wants less than the least time to live is an INVALID_ATTRIBUTE
        whose ErrorInfo has `min_expires`: the proxy answers 423 with it."""
        _check(request)
        register = Register(
            request.call_id,
            request.cseq,
            tuple(ContactUpdate(c.uri, c.expires, c.q, c.instance_id, c.reg_id) for c in request.contacts),
            request.wildcard,
            request.received,
            tuple(request.path),
            request.proxy,
            request.user_agent,
        )
        device = (request.tenant, request.dn)
        try:
            bindings = await self._registering.register(device, register)
        except Refused as refused:
            self._registers.labels(request.tenant, type(refused).__name__).inc()
            raise _failure(refused) from None
        self._registers.labels(request.tenant, "done").inc()
        return pb.RegisterResponse(registrations=_messages(device, bindings))

    async def GetBindings(self, request: pb.GetBindingsRequest, context: Any) -> pb.GetBindingsResponse:
        """See the contract."""
        checks = Checks()
        checks.tenant("tenant", request.tenant)
        checks.length("dn", request.dn, 1, 64)
        checks.done()
        device = (request.tenant, request.dn)
        return pb.GetBindingsResponse(registrations=_messages(device, self._registering.present(device)))


def _messages(device: tuple[str, str], bindings: Iterable[Registration]) -> list[Any]:
    return [message_of(*device, binding) for binding in bindings]


def _failure(refused: Refused) -> DomainError:
    match refused:
        case TooBrief():
            field = f"contacts[{refused.contact}].expires"
            error = DomainError(
                Reason.REASON_INVALID_ATTRIBUTE, f"{field} {refused}", min_expires=refused.min_expires_s
            )
            error.violations = ((field, str(refused)),)
            return error
        case OutOfOrder():
            return DomainError(Reason.REASON_WRONG_STATE, str(refused))
        case TooMany():
            return DomainError(Reason.REASON_QUEUE_FULL, str(refused))
        case _:
            raise AssertionError(f"a refusal without reason: {refused!r}")


def _check(request: pb.RegisterRequest) -> None:
    checks = Checks()
    checks.tenant("tenant", request.tenant)
    checks.length("dn", request.dn, 1, 64)
    checks.length("call_id", request.call_id, 1, 255)
    checks.between("cseq", request.cseq, 0, 2**31 - 1)
    checks.length("contacts", request.contacts, 0, MAX_CONTACTS)
    checks.that("wildcard", not (request.wildcard and request.contacts), "must stand without contacts")
    for at, contact in enumerate(request.contacts[:MAX_CONTACTS]):
        here = f"contacts[{at}]"
        checks.that(f"{here}.uri", len(contact.uri) <= 1024 and is_sip(contact.uri), "must be a SIP URI")
        checks.between(f"{here}.q", contact.q, 0, 1000)
        checks.length(f"{here}.instance_id", contact.instance_id, 0, 255)
    checks.length("path", request.path, 0, MAX_PATH)
    for at, uri in enumerate(request.path[:MAX_PATH]):
        checks.that(f"path[{at}]", len(uri) <= 1024 and is_route(uri), "must be a SIP URI")
    checks.length("received", request.received, 0, 128)
    checks.length("proxy", request.proxy, 0, 128)
    checks.length("user_agent", request.user_agent, 0, 512)
    checks.done()
