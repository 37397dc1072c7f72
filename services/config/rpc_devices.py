"""DeviceService: contract <-> use cases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1.config_service_pb2_grpc import DeviceServiceServicer
from voice.config.v1.registration_pb2 import Registration

from mesh.errors import invalid
from mesh.validation import Checks
from services.config.devices import Devices
from services.config.rules import NUMBER, NUMBER_RULE

MAX_BINDINGS = 10
"""Bindings of a DN."""
MAX_QUEUES = 64
"""Queues an agent may be logged in to."""


class DeviceRpc(DeviceServiceServicer):
    """Handlers raise DomainError; the pipeline sends it."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    async def PutRegistrations(
        self, request: pb.PutRegistrationsRequest, context: Any
    ) -> pb.PutRegistrationsResponse:
        """See the contract."""
        wanted = request.registrations
        checks = _of(request.tenant, "registrations.dn", wanted.dn)
        checks.between("registrations.revision", wanted.revision, 0, 2**62)
        _check_bindings(
            checks, "registrations.registrations", wanted.registrations, request.tenant, wanted.dn
        )
        checks.done()
        return pb.PutRegistrationsResponse(
            revision=await self._devices.put_registrations(request.tenant, wanted)
        )

    async def GetRegistrations(
        self, request: pb.GetRegistrationsRequest, context: Any
    ) -> pb.GetRegistrationsResponse:
        """See the contract."""
        _of(request.tenant, "dn", request.dn).done()
        now_us = time.time_ns() // 1000
        return pb.GetRegistrationsResponse(
            registrations=self._devices.get_registrations(request.tenant, request.dn, now_us)
        )

    async def PutLogin(self, request: pb.PutLoginRequest, context: Any) -> pb.PutLoginResponse:
        """See the contract."""
        login = request.login
        checks = _of(request.tenant, "login.dn", login.dn)
        checks.matches("login.agent_id", login.agent_id, NUMBER, NUMBER_RULE)
        checks.that("login.tenant", login.tenant in ("", request.tenant), "must be the tenant of the request")
        checks.length("login.session_id", login.session_id, 1, 128)
        checks.length("login.queues", login.queues, 0, MAX_QUEUES)
        for at, queue in enumerate(login.queues[:MAX_QUEUES]):
            checks.matches(f"login.queues[{at}]", queue, NUMBER, NUMBER_RULE)
        checks.that("login.since_us", login.since_us > 0, "must be UTC microseconds")
        checks.done()
        login.tenant = request.tenant
        return pb.PutLoginResponse(login=await self._devices.put_login(login))

    async def DeleteLogin(self, request: pb.DeleteLoginRequest, context: Any) -> pb.DeleteLoginResponse:
        """See the contract."""
        checks = _of(request.tenant, "agent_id", request.agent_id)
        checks.length("session_id", request.session_id, 0, 128)
        checks.done()
        await self._devices.delete_login(request.tenant, request.agent_id, request.session_id)
        return pb.DeleteLoginResponse()

    async def GetLogin(self, request: pb.GetLoginRequest, context: Any) -> pb.GetLoginResponse:
        """See the contract."""
        field = "dn" if request.dn else "agent_id"
        checks = _of(request.tenant, field, request.dn or request.agent_id)
        checks.that("agent_id", not (request.dn and request.agent_id), "must be empty when dn is given")
        checks.done()
        return pb.GetLoginResponse(
            login=self._devices.get_login(request.tenant, request.dn, request.agent_id)
        )

    async def CheckPassword(self, request: pb.CheckPasswordRequest, context: Any) -> pb.CheckPasswordResponse:
        """See the contract."""
        checks = _of(request.tenant, "agent_id", request.agent_id)
        checks.length("password", request.password, 0, 128)
        checks.done()
        user_name, wrapup_s = await self._devices.check_password(
            request.tenant, request.agent_id, request.password
        )
        return pb.CheckPasswordResponse(user_name=user_name, wrapup_s=wrapup_s)


def _of(tenant: str, field: str, number: str) -> Checks:
    checks = Checks()
    checks.tenant("tenant", tenant)
    checks.matches(field, number, NUMBER, NUMBER_RULE)
    return checks


def _check_bindings(checks: Checks, at: str, bindings: Sequence[Registration], tenant: str, dn: str) -> None:
    if len(bindings) > MAX_BINDINGS:
        raise invalid((at, f"must have 0 to {MAX_BINDINGS} entries"))
    for number, binding in enumerate(bindings):
        here = f"{at}[{number}]"
        checks.that(f"{here}.tenant", binding.tenant in ("", tenant), "must be the tenant of the request")
        checks.that(f"{here}.dn", binding.dn in ("", dn), "must be the DN of the set")
        checks.length(f"{here}.contact", binding.contact, 1, 1024)
        checks.length(f"{here}.received", binding.received, 0, 128)
        checks.length(f"{here}.path", binding.path, 0, 8)
        for hop, uri in enumerate(binding.path[:8]):
            checks.length(f"{here}.path[{hop}]", uri, 1, 1024)
        checks.between(f"{here}.q", binding.q, 0, 1000)
        checks.that(f"{here}.expires_us", binding.expires_us > 0, "must be UTC microseconds")
        for field in ("call_id", "instance_id", "user_agent", "proxy"):
            checks.length(f"{here}.{field}", getattr(binding, field), 0, 512)
    contacts = [binding.contact for binding in bindings]
    checks.that(at, len(set(contacts)) == len(contacts), "must not have one contact twice")
