"""OrchestrationService: starting sessions, looking at them, events, requests and ends for them, their traces.

A session that is not here is asked for where it is; the tenant and the request stay what they are.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from voice.orchestration.v1.orchestration_service_pb2 import (
    GetSessionRequest,
    GetSessionResponse,
    GetTraceRequest,
    GetTraceResponse,
    ListSessionsRequest,
    ListSessionsResponse,
    SendEventRequest,
    SendEventResponse,
    SendRequestRequest,
    SendRequestResponse,
    StartSessionRequest,
    StartSessionResponse,
    TerminateSessionRequest,
    TerminateSessionResponse,
)
from voice.orchestration.v1.orchestration_service_pb2_grpc import (
    OrchestrationServiceServicer,
    OrchestrationServiceStub,
)

from mesh.deadline import timeout_for
from mesh.discovery import UnaryMethod
from mesh.errors import DomainError, Reason, invalid
from mesh.tenancy import caller
from mesh.validation import Checks
from services.orchestration import starts
from services.orchestration.app import App
from services.orchestration.finding import SERVICE, Finder, addressed, slot_of
from services.orchestration.inputs import Ask, Cancel, External, Input
from services.orchestration.location import new_key
from services.orchestration.record import to_view
from services.orchestration.scxml import Event, Json
from services.orchestration.session import Phase, Session
from services.orchestration.shard import Shard, now_us

Context = grpc.aio.ServicerContext[Any, Any]
Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
MAX_DATA = 64 * 1024
"""Longest event data, bytes of JSON."""
MAX_WAITING = 500
"""Events that wait for a session; more from outside are refused, so that they never fail it."""
FORWARD_S = 5.0
"""Longest wait for the node that has a session, seconds; requests wait as long as their answer may take."""
ANSWER_MS = 10_000
MAX_ANSWER_MS = 60_000
_TRIES = 4096


class OrchestrationRpc(OrchestrationServiceServicer):
    """Serves the contract."""

    def __init__(self, app: App, finder: Finder, channel: grpc.aio.Channel) -> None:
        self._app, self._finder, self._waiting, self._traces = app, finder, app.waiting, app.traces
        self._peer = OrchestrationServiceStub(channel)

    # -- starting ----------------------------------------------------------------------------------------------

    async def StartSession(self, request: StartSessionRequest, context: Context) -> StartSessionResponse:
        parameters = starts.check(request, now_us(), from_peer=caller().service == SERVICE)
        session_id = request.session_id or self._id(request)
        slot = slot_of(session_id)
        shard = self._app.shards.get(slot)
        if shard is None:
            if addressed(context):
                raise self._finder.missing(session_id)
            handed = StartSessionRequest()
            handed.CopyFrom(request)
            handed.session_id = session_id
            return await self._finder.owner(self._peer.StartSession, handed, slot, FORWARD_S)
        if not (request.request_id and await self._traces.exists(session_id)):
            session = starts.session_of(request, session_id, new_key(), parameters, now_us())
            await self._waiting.stored(slot, session_id, lambda stored: shard.start(session, stored))
        return StartSessionResponse(session_id=session_id)

    def _id(self, request: StartSessionRequest) -> str:
        """That of the request id; else one of a slot that is here, when any is."""
        if request.request_id:
            return starts.id_of_request(request.tenant, request.request_id)
        session_id = starts.new_id(secrets.randbits(128))
        for _ in range(_TRIES if self._app.shards else 0):
            if slot_of(session_id) in self._app.shards:
                break
            session_id = starts.new_id(secrets.randbits(128))
        return session_id

    # -- looking -----------------------------------------------------------------------------------------------

    async def GetSession(self, request: GetSessionRequest, context: Context) -> GetSessionResponse:
        async def tell(_: Shard, session: Session) -> GetSessionResponse:
            return GetSessionResponse(session=to_view(session))

        return await self._there(context, self._peer.GetSession, request, FORWARD_S, tell)

    async def ListSessions(self, request: ListSessionsRequest, context: Context) -> ListSessionsResponse:
        check = Checks()
        check.tenant("tenant", request.tenant)
        check.between("limit", request.limit, 0, 1000)
        check.done()
        found = [
            session
            for shard in list(self._app.shards.values())
            for session in await shard.sessions(request.limit or 100)
            if session.call.tenant == request.tenant
        ]
        found.sort(key=lambda session: session.call.since_us)
        return ListSessionsResponse(sessions=[to_view(session) for session in found[: request.limit or 100]])

    async def GetTrace(self, request: GetTraceRequest, context: Context) -> GetTraceResponse:
        check = Checks()
        check.tenant("tenant", request.tenant)
        check.length("session_id", request.session_id, 1, 128)
        check.between("limit", request.limit, 0, 1000)
        check.done()
        after = request.after_step or None
        return await self._traces.read(request.tenant, request.session_id, after, request.limit or 200)

    # -- talking -----------------------------------------------------------------------------------------------

    async def SendEvent(self, request: SendEventRequest, context: Context) -> SendEventResponse:
        check = _named(request.session_id, request.name, 256)
        check.request_id("request_id", request.request_id)
        data = _json(check, request.data_json)
        event = Event(request.name, data, has_data=bool(request.data_json))

        async def put(shard: Shard, session: Session) -> SendEventResponse:
            await self.put(shard, session, External(event, request.request_id))
            return SendEventResponse()

        return await self._there(context, self._peer.SendEvent, request, FORWARD_S, put)

    async def SendRequest(self, request: SendRequestRequest, context: Context) -> SendRequestResponse:
        check = _named(request.session_id, request.name, 128)
        check.request_id("request_id", request.request_id)
        check.between("timeout_ms", request.timeout_ms, 0, MAX_ANSWER_MS, "ms")
        data = _json(check, request.data_json)
        timeout = (request.timeout_ms or ANSWER_MS) / 1000

        async def ask(shard: Shard, session: Session) -> SendRequestResponse:
            item = Ask(request.request_id, request.name, data)
            with self._waiting.answer(shard.slot, session.id, request.request_id) as answered:
                await self.put(shard, session, item)
                try:
                    async with asyncio.timeout(timeout_for(timeout)):
                        answer = await answered
                except TimeoutError as error:
                    raise DomainError(Reason.REASON_TIMEOUT, f"no answer in {timeout:g} s") from error
            return SendRequestResponse(
                result_code=answer.status, content_type=answer.content_type, content=answer.content.encode()
            )

        return await self._there(context, self._peer.SendRequest, request, timeout + FORWARD_S, ask)

    async def TerminateSession(
        self, request: TerminateSessionRequest, context: Context
    ) -> TerminateSessionResponse:
        check = Checks()
        check.length("session_id", request.session_id, 1, 128)
        check.request_id("request_id", request.request_id)
        check.done()

        async def end(shard: Shard, session: Session) -> TerminateSessionResponse:
            await self.put(shard, session, Cancel())
            return TerminateSessionResponse()

        return await self._there(context, self._peer.TerminateSession, request, FORWARD_S, end)

    async def put(self, shard: Shard, session: Session, item: Input) -> None:
        """Hands something from outside to a session; returns when it is stored. Raises UNKNOWN_OBJECT for a session that
        is ending, QUEUE_FULL for one with too much to do."""
        if session.phase not in (Phase.STARTING, Phase.RUNNING):
            raise DomainError(Reason.REASON_UNKNOWN_OBJECT, f"session {session.id} is ending")
        if len(session.inbox) >= MAX_WAITING:
            raise DomainError(
                Reason.REASON_QUEUE_FULL, f"{len(session.inbox)} events wait for session {session.id}"
            )
        await self._waiting.stored(
            shard.slot, session.id, lambda stored: shard.post(session.id, item, stored)
        )

    async def _there(
        self,
        context: Context,
        method: UnaryMethod[Q, R],
        request: Q,
        timeout: float,
        here: Callable[[Shard, Session], Awaitable[R]],
    ) -> R:
        """Does it here when the session is here, else hands it to the node that has it."""
        tenant, session_id = request.tenant, request.session_id  # type: ignore[attr-defined]
        found = await self._finder.here(tenant, session_id)
        if found is not None:
            try:
                return await here(*found)
            except DomainError as error:
                if error.reason != Reason.REASON_NOT_OWNER or addressed(context):
                    raise
                return await self._finder.elsewhere(
                    method, request, session_id, timeout
                )  # its slot has just left
        if addressed(context):
            raise self._finder.missing(session_id)
        return await self._finder.elsewhere(method, request, session_id, timeout)


def _named(session_id: str, name: str, longest: int) -> Checks:
    check = Checks()
    check.length("session_id", session_id, 1, 128)
    check.length("name", name, 1, longest)
    check.that(
        "name", name.isprintable() and " " not in name, "must have printable characters without blanks"
    )
    return check


def _json(check: Checks, text: str) -> Json:
    check.length("data_json", text.encode(), 0, MAX_DATA)
    check.done()
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise invalid(("data_json", f"must be JSON: {error}")) from error
