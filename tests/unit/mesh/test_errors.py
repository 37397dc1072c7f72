"""Failures before they reach the wire, and failures as they are read from it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from voice.error.v1 import detail_pb2
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import TABLE, DomainError, details, from_rpc_error, invalid, reason_of


def rpc_error(
    code: grpc.StatusCode, trailing: Any = (), initial: Any = (), text: str = ""
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(*initial), grpc.aio.Metadata(*trailing), text)


def on_the_wire(error: DomainError) -> grpc.aio.AioRpcError:
    status = error.to_status("ab" * 16)
    trailing = [("grpc-status-details-bin", status.SerializeToString())]
    return rpc_error(error.row.grpc, trailing, text=status.message)


def test_the_row_of_a_reason_is_at_hand() -> None:
    error = DomainError(Reason.REASON_DN_BUSY, "1001 is busy")
    assert (error.row.sip, error.row.tlib) == (486, 231)
    assert error.row is TABLE[Reason.REASON_DN_BUSY]
    assert reason_of(error) == Reason.REASON_DN_BUSY


def test_a_detail_that_the_reason_s_message_lacks_is_a_bug_of_ours() -> None:
    with pytest.raises(TypeError, match="REASON_NOT_OWNER has no detail node"):
        DomainError(Reason.REASON_NOT_OWNER, "moved", node="x")


def test_details_without_a_message_of_their_own_are_text() -> None:
    status = DomainError(Reason.REASON_UNKNOWN_DN, "no DN", dn="1001", switch=7).to_status()
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert dict(info.metadata) == {"dn": "1001", "switch": "7"}


def test_long_texts_are_cut() -> None:
    status = DomainError(Reason.REASON_UNKNOWN_DN, "x" * 5000, dn="y" * 5000).to_status()
    assert len(status.message) == 1024
    assert status.ByteSize() < 4000


def test_invalid_names_every_field() -> None:
    error = invalid(("tenant", "is required"), ("name", "must have 1 to 64 characters"))
    assert error.message == "tenant is required; name must have 1 to 64 characters"
    assert len(error.violations) == 2


@pytest.mark.parametrize(
    "error",
    [
        DomainError(Reason.REASON_UNKNOWN_CALL, "no call", conn_id="1f"),
        DomainError(Reason.REASON_REVISION_CONFLICT, "changed", expected=3, actual=5),
        DomainError(Reason.REASON_AGENT_RESERVED, "reserved"),
        invalid(("tenant", "is required")),
        DomainError(Reason.REASON_TIMEOUT, "INVITE was sent").after_effect(),
    ],
)
def test_what_is_passed_on_is_what_was_said(error: DomainError) -> None:
    passed = from_rpc_error(on_the_wire(error), "config")
    assert (passed.reason, passed.message, passed.violations) == (
        error.reason,
        error.message,
        error.violations,
    )
    assert passed.retryable == error.retryable
    assert passed.to_status().SerializeToString(deterministic=True) == error.to_status().SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.REASON_DEPENDENCY_UNAVAILABLE),
        (grpc.StatusCode.CANCELLED, Reason.REASON_DEPENDENCY_UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.REASON_TIMEOUT),
        (grpc.StatusCode.PERMISSION_DENIED, Reason.REASON_INTERNAL),
        (grpc.StatusCode.UNKNOWN, Reason.REASON_INTERNAL),
    ],
)
def test_a_status_without_a_reason_gets_one(code: grpc.StatusCode, reason: Reason.ValueType) -> None:
    error = rpc_error(code)
    assert reason_of(error) is None
    assert from_rpc_error(error, "config").reason == reason


def test_a_stream_reset_by_a_sidecar_is_a_dependency_that_went_away() -> None:
    reset = rpc_error(grpc.StatusCode.INTERNAL, text="Received RST_STREAM with error code 2")
    assert from_rpc_error(reset, "redis_queue").reason == Reason.REASON_DEPENDENCY_UNAVAILABLE
    other = rpc_error(grpc.StatusCode.INTERNAL, text="bug")
    assert from_rpc_error(other, "redis_queue").reason == Reason.REASON_INTERNAL


@pytest.mark.parametrize("where", ["trailing", "initial"])
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("node-gone", Reason.REASON_NOT_OWNER),
        ("UF", Reason.REASON_DEPENDENCY_UNAVAILABLE),
        ("UC", Reason.REASON_DEPENDENCY_UNAVAILABLE),
    ],
)
def test_a_sidecar_s_own_answer_has_a_reason(where: str, said: str, reason: Reason.ValueType) -> None:
    pairs = [("x-voicemesh-reason", said)]
    trailing, initial = (pairs, ()) if where == "trailing" else ((), pairs)
    error = rpc_error(grpc.StatusCode.UNAVAILABLE, trailing, initial)
    assert reason_of(error) == reason
    assert details(error).retryable


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"", b"\x08\x05"])
def test_broken_or_empty_details_are_no_reason(raw: bytes) -> None:
    said = details(rpc_error(grpc.StatusCode.NOT_FOUND, [("grpc-status-details-bin", raw)], text="gone"))
    assert (said.status, said.reason, said.message) == (grpc.StatusCode.NOT_FOUND, None, "gone")


def test_a_reason_from_a_later_release_is_unknown_but_its_status_counts() -> None:
    status = DomainError(Reason.REASON_UNKNOWN_DN, "x").to_status()
    del status.details[:]
    status.details.add().Pack(detail_pb2.Failure(reason=999, retryable=True))  # type: ignore[arg-type]
    error = rpc_error(grpc.StatusCode.UNAVAILABLE, [("grpc-status-details-bin", status.SerializeToString())])
    assert reason_of(error) is None
    assert details(error).retryable


def test_other_exceptions_have_no_reason() -> None:
    assert reason_of(ValueError("x")) is None
