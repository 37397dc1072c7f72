"""T-Library requests of the contract as inputs of the model: checked, every broken rule named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from voice.error.v1.reason_pb2 import Reason
from voice.tlib.v1 import request_pb2 as pb
from voice.tlib.v1.enums_pb2 import RouteType

from mesh.errors import DomainError
from mesh.validation import Checks
from services.sip_cluster import inputs, kv

MAX_REQUEST_ID = 64
MAX_DN = 64
MAX_DESTINATION = 255
MAX_RING_S = 600


def translate(request: pb.Request, tenant: str, rotation: Callable[[], int]) -> inputs.RequestInput:
    """The input of a request. Raises DomainError INVALID_ATTRIBUTE, UNSUPPORTED or FOREIGN_TENANT."""
    name = request.WhichOneof("body")
    if name is None:
        raise DomainError(Reason.REASON_INVALID_ATTRIBUTE, "request.body: is required")
    make = _MAKERS.get(name)
    if make is None:
        raise DomainError(Reason.REASON_UNSUPPORTED, f"{name} is not supported by the SIP node")
    body = getattr(request, name)
    if body.tenant != tenant:
        raise DomainError(Reason.REASON_FOREIGN_TENANT, "the request names another tenant")
    checks = Checks()
    _common(checks, body, name)
    asked = make(checks, request, body, _head(request, body), rotation)
    checks.done()
    return asked


def _common(checks: Checks, body: Any, name: str) -> None:
    checks.request_id("request_id", body.request_id)
    checks.length("request_id", body.request_id, 1, MAX_REQUEST_ID)
    checks.length("dn", body.dn, 1, MAX_DN)
    checks.kv_list("reasons", body.reasons)
    checks.kv_list("extensions", body.extensions)
    if name != "make_call" and name != "distribute_event":
        checks.required("conn_id", body.conn_id)


def _head(request: pb.Request, body: Any) -> inputs.Request:
    contents = body.SerializeToString(deterministic=True)
    return inputs.Request(
        body.request_id,
        request.client,
        body.reference_id,
        hashlib.blake2b(contents, digest_size=16).digest(),
        body.dn,
        getattr(body, "conn_id", 0),
        kv.from_proto(body.reasons),
        kv.from_proto(body.extensions),
    )


Maker = Callable[[Checks, pb.Request, Any, inputs.Request, Callable[[], int]], inputs.RequestInput]


def _make_call(
    checks: Checks, _: pb.Request, body: pb.MakeCallRequest, head: inputs.Request, __: Callable[[], int]
) -> inputs.RequestInput:
    checks.length("destination", body.destination, 1, MAX_DESTINATION)
    checks.kv_list("user_data", body.user_data)
    return inputs.MakeCall(head, body.tenant, body.destination, kv.from_proto(body.user_data))


def _route_call(
    checks: Checks,
    _: pb.Request,
    body: pb.RouteCallRequest,
    head: inputs.Request,
    rotation: Callable[[], int],
) -> inputs.RequestInput:
    checks.length("destination", body.destination, 0, MAX_DESTINATION)
    checks.length("agent_id", body.agent_id, 0, MAX_DN)
    checks.between("no_answer_timeout", body.no_answer_timeout, 0, MAX_RING_S, "s")
    checks.that("route_type", body.route_type in RouteType.values(), "must be a RouteType")
    checks.kv_list("user_data", body.user_data)
    return inputs.RouteCall(
        head,
        body.destination,
        int(body.route_type),
        body.agent_id,
        body.reservation_token,
        body.no_answer_timeout,
        kv.from_proto(body.user_data),
        rotation(),
    )


def _user_data(kind: type[inputs.AttachUserData] | type[inputs.UpdateUserData]) -> Maker:
    def make(
        checks: Checks, request: pb.Request, body: Any, head: inputs.Request, _: Callable[[], int]
    ) -> inputs.RequestInput:
        checks.kv_list("user_data", body.user_data)
        checks.that("user_data", len(body.user_data.pairs), "must have at least one pair")
        return kind(head, kv.from_proto(body.user_data), request.SerializeToString())

    return make


def _delete_pair(
    checks: Checks,
    request: pb.Request,
    body: pb.DeletePairRequest,
    head: inputs.Request,
    _: Callable[[], int],
) -> inputs.RequestInput:
    checks.length("key", body.key, 1, 255)
    return inputs.DeletePair(head, body.key, request.SerializeToString())


def _distribute(
    checks: Checks,
    _: pb.Request,
    body: pb.DistributeEventRequest,
    head: inputs.Request,
    __: Callable[[], int],
) -> inputs.RequestInput:
    checks.required("event.conn_id", body.event.conn_id)
    checks.kv_list("event.extensions", body.event.extensions)
    checks.kv_list("event.user_data", body.event.user_data)
    checks.that("event", body.event.ByteSize() <= 65536, "must have at most 65536 bytes")
    head.conn_id = body.event.conn_id
    return inputs.DistributeEvent(head, int(body.event.event_type), body.event.SerializeToString())


def _simple(kind: Callable[[inputs.Request], inputs.RequestInput]) -> Maker:
    return lambda _checks, _request, _body, head, _rotation: kind(head)


_MAKERS: dict[str, Maker] = {
    "make_call": _make_call,
    "answer_call": _simple(inputs.AnswerCall),
    "release_call": _simple(inputs.ReleaseCall),
    "clear_call": _simple(inputs.ClearCall),
    "route_call": _route_call,
    "attach_user_data": _user_data(inputs.AttachUserData),
    "update_user_data": _user_data(inputs.UpdateUserData),
    "delete_user_data": lambda _checks, request, _body, head, _rotation: inputs.DeleteUserData(
        head, request.SerializeToString()
    ),
    "delete_pair": _delete_pair,
    "distribute_event": _distribute,
}

TYPES = tuple(_MAKERS)
"""Requests that are carried out, by their field in voice.tlib.v1.Request."""
