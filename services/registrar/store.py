"""What is kept where: bindings in Config, reports made in Redis, reports themselves in the agent request log.

Keys in Redis: `{registrar:<slot>}:reported` (hash: "<tenant>:<dn>" -> revision of the bindings reported) and
`{registrar:<slot>}:revision` (revision of the configuration the last reports were made from).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import grpc
import grpc.aio
from voice.config.v1.config_service_pb2 import DnRegistrations, PutRegistrationsRequest
from voice.config.v1.config_service_pb2_grpc import DeviceServiceStub
from voice.config.v1.registration_pb2 import Registration as RegistrationMessage
from voice.error.v1.detail_pb2 import RevisionConflict

from mesh.config_cache import Registration
from mesh.errors import DomainError, Reason, details, from_rpc_error
from mesh.store import FencedStore, Operation, put, put_fields, remove_fields
from services.registrar.service_state import Device, Report

PUT_S = 1.5
"""Time for Config to store bindings, seconds."""
REPORTED = "reported"
REVISION = "revision"


class Conflict(Exception):
    """The bindings have changed; `actual` is their revision now, 0 when there are none."""

    def __init__(self, actual: int) -> None:
        super().__init__(f"bindings are at revision {actual}")
        self.actual = actual


class Bindings:
    """Bindings in Config."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = DeviceServiceStub(channel)

    async def put(self, device: Device, bindings: Iterable[Registration], revision: int) -> int:
        """Replaces the bindings computed from `revision`; gives the new one. Raises Conflict, and DomainError
        as Config says (UNKNOWN_DN, DEPENDENCY_UNAVAILABLE)."""
        tenant, dn = device
        messages = [message_of(tenant, dn, binding) for binding in bindings]
        wanted = DnRegistrations(dn=dn, registrations=messages, revision=revision)
        request = PutRegistrationsRequest(tenant=tenant, registrations=wanted)
        try:
            answer = await self._stub.PutRegistrations(request, timeout=PUT_S)
        except grpc.aio.AioRpcError as error:
            said = details(error)
            if said.reason == Reason.REASON_REVISION_CONFLICT and isinstance(said.detail, RevisionConflict):
                raise Conflict(said.detail.actual) from None
            raise from_rpc_error(error, "config") from None
        return answer.revision


def message_of(tenant: str, dn: str, binding: Registration) -> RegistrationMessage:
    """The contract's form of a binding."""
    return RegistrationMessage(
        tenant=tenant,
        dn=dn,
        contact=binding.contact,
        received=binding.received,
        path=binding.path,
        q=binding.q,
        expires_us=binding.expires_us,
        call_id=binding.call_id,
        cseq=binding.cseq,
        instance_id=binding.instance_id,
        reg_id=binding.reg_id,
        proxy=binding.proxy,
        user_agent=binding.user_agent,
    )


class Reported:
    """Reports made, by slot, fenced."""

    def __init__(self, store: FencedStore) -> None:
        self._store = store

    async def take_over(self, slot: int, epoch: int) -> tuple[dict[Device, int], int]:
        """Raises the fence, then reads: (device -> revision, revision of the configuration seen)."""
        await self._store.raise_fence(slot, epoch)
        fields = await self._store.read_fields(slot, REPORTED)
        seen = await self._store.read(slot, REVISION)
        return {_device(name): int(value) for name, value in fields.items()}, int(seen or 0)

    async def save(self, slot: int, epoch: int, reports: Sequence[Report], seen: int) -> None:
        """Writes that reports have been made. Raises StaleEpoch, StoreUnavailable."""
        came = {_field(r.device): str(r.revision) for r in reports if r.in_service}
        went = [_field(r.device) for r in reports if not r.in_service]
        operations: list[Operation] = [put(REVISION, str(seen))]
        if came:
            operations.append(put_fields(REPORTED, came))
        if went:
            operations.append(remove_fields(REPORTED, *went))
        await self._store.write(slot, epoch, operations, timeout=2.0)

    async def prove(self, slot: int, epoch: int) -> None:
        """Returns when the slot is provably this node's. Raises StaleEpoch, StoreUnavailable."""
        await self._store.prove(slot, epoch, timeout=2.0)

    async def rewrite(self, slot: int, epoch: int, reported: Mapping[Device, int], seen: int) -> None:
        """Redis may have forgotten: writes everything again."""
        await self._store.raise_fence(slot, epoch)
        every = [Report(device, True, "", revision) for device, revision in reported.items()]
        for at in range(0, max(1, len(every)), 500):
            await self.save(slot, epoch, every[at : at + 500], seen)


def _field(device: Device) -> str:
    return f"{device[0]}:{device[1]}"


def _device(field: str) -> Device:
    tenant, _, dn = field.partition(":")
    return tenant, dn


def unavailable(error: DomainError) -> bool:
    """Whether trying again later may do."""
    return error.reason in (
        Reason.REASON_DEPENDENCY_UNAVAILABLE,
        Reason.REASON_TIMEOUT,
        Reason.REASON_DRAINING,
    )
