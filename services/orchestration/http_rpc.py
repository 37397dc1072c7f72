"""SessionHttpService: the HTTP interface of sessions, in terms of OrchestrationService.

Bodies and queries of any shape pass the edge as they are (docs/decisions/0090); this turns them into requests of the
contract, for the tenant of the token.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import MessageToDict
from voice.orchestration.v1 import session_http_service_pb2 as pb
from voice.orchestration.v1.orchestration_service_pb2 import (
    GetSessionRequest,
    SendEventRequest,
    SendRequestRequest,
    StartSessionRequest,
    TerminateSessionRequest,
)
from voice.orchestration.v1.session_http_service_pb2_grpc import (
    SessionHttpServiceServicer,
    SessionHttpServiceStub,
)

from mesh.errors import DomainError, Reason, invalid
from mesh.metadata import HTTP_METHOD_KEY, HTTP_PATH_KEY, HTTP_STATUS_KEY
from mesh.tenancy import caller
from services.orchestration import http_requests as http
from services.orchestration.finding import SERVICE, Finder, addressed
from services.orchestration.inputs import External
from services.orchestration.location import key_matches
from services.orchestration.rpc import FORWARD_S, MAX_ANSWER_MS, OrchestrationRpc
from services.orchestration.scxml import basichttp

Context = grpc.aio.ServicerContext[Any, Any]
IDEMPOTENCY = "idempotency-key"
EVENT_NAME = basichttp.EVENT_NAME


class SessionHttpRpc(SessionHttpServiceServicer):
    """Serves the contract."""

    def __init__(self, sessions: OrchestrationRpc, finder: Finder, channel: grpc.aio.Channel) -> None:
        self._sessions, self._finder = sessions, finder
        self._peer = SessionHttpServiceStub(channel)

    async def StartByHttp(self, request: pb.StartByHttpRequest, context: Context) -> pb.StartByHttpResponse:
        told = _metadata(context)
        asked = _request(told, request.body)
        start = http.start_of(asked)
        answer = await self._sessions.StartSession(
            StartSessionRequest(
                tenant=_tenant(),
                src=start.src,
                alternate_src=start.alternate_src,
                ideal_time_ms=_int64("idealtime", start.ideal_time_ms),
                parameters_json=json.dumps(start.parameters) if start.parameters else "",
                request_id=told.get(IDEMPOTENCY, ""),
            ),
            context,
        )
        if http.wants_json(asked, told.get("accept", "")):
            body = HttpBody(
                content_type=http.JSON, data=json.dumps({"session_id": answer.session_id}).encode()
            )
        else:
            body = HttpBody(content_type="text/plain", data=answer.session_id.encode())
        return pb.StartByHttpResponse(body=body)

    async def SendEventByHttp(
        self, request: pb.SendEventByHttpRequest, context: Context
    ) -> pb.SendEventByHttpResponse:
        told = _metadata(context)
        asked = _request(told, request.body)
        await self._sessions.SendEvent(
            SendEventRequest(
                tenant=_tenant(),
                session_id=asked.session_id,
                name=asked.name,
                data_json=_data(asked),
                request_id=_request_id(told),
            ),
            context,
        )
        return pb.SendEventByHttpResponse(body=_nothing())

    async def SendRequestByHttp(
        self, request: pb.SendRequestByHttpRequest, context: Context
    ) -> pb.SendRequestByHttpResponse:
        told = _metadata(context)
        asked = _request(told, request.body)
        left = context.time_remaining()
        answer = await self._sessions.SendRequest(
            SendRequestRequest(
                tenant=_tenant(),
                session_id=asked.session_id,
                name=asked.name,
                data_json=_data(asked),
                request_id=_request_id(told),
                timeout_ms=0 if left is None else max(1, min(int(left * 1000), MAX_ANSWER_MS)),
            ),
            context,
        )
        await context.send_initial_metadata(((HTTP_STATUS_KEY, str(answer.result_code)),))
        return pb.SendRequestByHttpResponse(
            body=HttpBody(content_type=answer.content_type, data=answer.content)
        )

    async def TerminateByHttp(
        self, request: pb.TerminateByHttpRequest, context: Context
    ) -> pb.TerminateByHttpResponse:
        told = _metadata(context)
        asked = _request(told, request.body)
        terminate = TerminateSessionRequest(
            tenant=_tenant(), session_id=asked.session_id, request_id=_request_id(told)
        )
        await self._sessions.TerminateSession(terminate, context)
        return pb.TerminateByHttpResponse(body=_nothing())

    async def QueryByHttp(self, request: pb.QueryByHttpRequest, context: Context) -> pb.QueryByHttpResponse:
        asked = _request(_metadata(context), request.body)
        answer = await self._sessions.GetSession(
            GetSessionRequest(tenant=_tenant(), session_id=asked.session_id), context
        )
        told = MessageToDict(
            answer.session, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return pb.QueryByHttpResponse(body=HttpBody(content_type=http.JSON, data=json.dumps(told).encode()))

    async def HelpByHttp(self, request: pb.HelpByHttpRequest, context: Context) -> pb.HelpByHttpResponse:
        return pb.HelpByHttpResponse(body=HttpBody(content_type="text/plain", data=http.HELP.encode()))

    async def ReceiveByHttp(
        self, request: pb.ReceiveByHttpRequest, context: Context
    ) -> pb.ReceiveByHttpResponse:
        """The key in the path, not a token, says that the sender may: only the session gives its address away."""
        told = _metadata(context)
        handed_on = caller().service == SERVICE
        target = request.path if handed_on else told.get(HTTP_PATH_KEY, "")
        event_name = request.event_name if handed_on else told.get(EVENT_NAME, "")
        asked = http.HttpRequest("POST", target, request.body.content_type, request.body.data)
        if len(asked.body) > http.MAX_BODY:
            raise invalid(("body", f"must have at most {http.MAX_BODY} bytes"))
        if len(asked.segments) != 5:
            raise invalid(("path", "must be /scxml/session/<id>/basichttp/<key>"))
        found = await self._finder.here("", asked.session_id)
        if found is None:
            if addressed(context):
                raise self._finder.missing(asked.session_id)
            handed = pb.ReceiveByHttpRequest(body=request.body, path=target, event_name=event_name)
            return await self._finder.elsewhere(self._peer.ReceiveByHttp, handed, asked.session_id, FORWARD_S)
        shard, session = found
        if not key_matches(session.call, asked.segments[4]):
            raise DomainError(Reason.REASON_UNKNOWN_OBJECT, f"no session {asked.session_id[:128]!r} lives")
        headers = [("content-type", asked.content_type or http.FORM)]
        if event_name:
            headers.append((EVENT_NAME, event_name))
        try:
            event = basichttp.decode("POST", target, headers, asked.body)
        except ValueError as error:
            raise invalid(("body", str(error))) from error
        await self._sessions.put(shard, session, External(event))
        return pb.ReceiveByHttpResponse(body=_nothing())


def _metadata(context: Context) -> dict[str, str]:
    """Text metadata of the call: headers of the HTTP request."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _request(told: dict[str, str], body: HttpBody) -> http.HttpRequest:
    target = told.get(HTTP_PATH_KEY, "")
    if not target.startswith("/"):
        raise DomainError(
            Reason.REASON_UNSUPPORTED,
            "this contract is served over HTTP; gRPC clients use OrchestrationService",
        )
    return http.HttpRequest(told.get(HTTP_METHOD_KEY, ""), target, body.content_type, body.data)


def _tenant() -> str:
    """The tenant of the token. The contract has no field for it, so it is demanded here."""
    tenant = caller().tenant
    if not tenant:
        raise DomainError(Reason.REASON_UNAUTHENTICATED, "the call carries no tenant")
    return tenant


def _request_id(told: dict[str, str]) -> str:
    return told.get(IDEMPOTENCY) or secrets.token_hex(16)


def _data(asked: http.HttpRequest) -> str:
    given = http.parameters(asked)
    return json.dumps(given) if given else ""


def _nothing() -> HttpBody:
    return HttpBody(content_type="text/plain")


def _int64(field: str, value: int) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise invalid((field, "must be a whole number of milliseconds since 1970, UTC"))
    return value
