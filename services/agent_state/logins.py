"""Logins at Config: one agent a DN, one DN an agent, whoever asks at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
from voice.agent_state.v1.agent_pb2 import AgentInput
from voice.config.v1.config_service_pb2 import CheckPasswordRequest, DeleteLoginRequest, PutLoginRequest
from voice.config.v1.config_service_pb2_grpc import DeviceServiceStub
from voice.config.v1.registration_pb2 import Login
from voice.error.v1.reason_pb2 import Reason
from voice.record.v1.agent_pb2 import EndedLogin
from voice.tlib.v1.enums_pb2 import AgentWorkMode

from mesh.errors import from_rpc_error
from services.agent_state.machine import LoggedIn

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Config does not take the login."""

    reason: str
    message: str


class Logins:
    """Config's DeviceService as Agent State uses it."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        self._stub = DeviceServiceStub(channel)
        self._timeout_s = timeout_s

    async def begin(
        self, entry: AgentInput, session_id: str, may: Callable[[], Awaitable[bool]]
    ) -> LoggedIn | Refused:
        """Checks the password and records the login. The same again, after a crash in between, is no conflict.

        `may`: asked before the login is recorded: an owner that was paused must not record one that its heir has ended.
        """
        request = entry.request.agent_login
        login = Login(
            tenant=entry.tenant,
            agent_id=request.agent_id,
            dn=request.dn,
            place=request.place,
            queues=[request.queue] if request.queue else [],
            since_us=entry.time_us,
            session_id=session_id,
        )
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                checked = await self._stub.CheckPassword(
                    CheckPasswordRequest(
                        tenant=entry.tenant, agent_id=request.agent_id, password=request.password
                    ),
                    timeout=self._timeout_s,
                )
                if not await may():
                    return Refused("REASON_NOT_OWNER", "the agent has another owner")
                put = await self._stub.PutLogin(
                    PutLoginRequest(tenant=entry.tenant, login=login), timeout=self._timeout_s
                )
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error, "config")
            return Refused(Reason.Name(failure.reason), failure.message)
        except TimeoutError:
            return Refused("REASON_TIMEOUT", "config did not answer in time")
        return LoggedIn(
            dn=request.dn,
            queue=request.queue,
            place=put.login.place,
            user_name=put.login.user_name or checked.user_name,
            session_id=session_id,
            wrapup_s=checked.wrapup_s,
            auto_in=request.work_mode == AgentWorkMode.AGENT_WORK_MODE_AUTO_IN,
        )

    async def end(self, ended: EndedLogin) -> None:
        """Removes a login; one that is not there is no error. Raises grpc.aio.AioRpcError."""
        await self._stub.DeleteLogin(
            DeleteLoginRequest(tenant=ended.tenant, agent_id=ended.agent_id, session_id=ended.session_id),
            timeout=self._timeout_s,
        )
