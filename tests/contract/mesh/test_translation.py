"""How exceptions of handlers reach the client: statuses, details, nothing that should stay inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import redis.exceptions
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from voice.config.v1 import config_service_pb2 as config
from voice.error.v1 import detail_pb2
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import TABLE, DomainError, details, from_rpc_error, invalid, reason_of
from mesh.etcd import EtcdUnavailable
from mesh.slots import NotOwner
from tests.captured_logs import CapturedLogs, captured_logs
from tests.contract.mesh.probe import PEER, SHAPES, Calls, Probe, ReadingProbe, calling, nothing, serving


class Raise:
    """An act that raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def __call__(self, _: Any) -> None:
        raise self.error


async def failing(shape: str, error: BaseException, kind: type[Probe] = Probe) -> grpc.aio.AioRpcError:
    """The error a client gets when a handler of this shape raises `error`."""
    async with serving(kind(Raise(error))) as service, calling(service) as calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(calls, shape)(metadata=PEER, timeout=20)
    return caught.value


@pytest.fixture
def log() -> Iterator[CapturedLogs]:
    """What is logged meanwhile."""
    with captured_logs() as captured:
        yield captured


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [Probe, ReadingProbe])
async def test_every_shape_translates_a_domain_error(shape: str, kind: type[Probe]) -> None:
    error = await failing(
        shape, DomainError(Reason.REASON_UNKNOWN_CALL, "no such call", conn_id="00ff"), kind
    )
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "no such call"
    assert reason_of(error) == Reason.REASON_UNKNOWN_CALL
    said = details(error)
    assert (said.tlib_error, said.retryable, said.metadata) == (56, False, {"conn_id": "00ff"})
    assert len(said.trace_id) == 32


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_hides_an_unexpected_error(shape: str, log: CapturedLogs) -> None:
    error = await failing(shape, KeyError("the password is hunter2"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in str(error.details())
    assert "hunter2" not in repr(error.trailing_metadata())
    said = details(error)
    assert said.reason == Reason.REASON_INTERNAL
    assert said.trace_id
    assert said.trace_id in said.message
    (line,) = log.lines("unexpected error")
    assert line["trace_id"] == said.trace_id
    assert "KeyError" in line["exception"]


async def test_unexpected_errors_are_counted() -> None:
    async with serving(Probe(Raise(ValueError("bug")))) as service, calling(service) as calls:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await calls.unary_unary(metadata=PEER)
        count = service.metrics.registry.get_sample_value(
            "voicemesh_probe_rpc_unexpected_errors_total", {"method": "ConfigService.GetObject"}
        )
    assert count == 3


@pytest.mark.parametrize("reason", [r for r in TABLE if r != Reason.REASON_INTERNAL], ids=Reason.Name)
async def test_every_reason_arrives_as_the_table_says(reason: Reason.ValueType) -> None:
    error = await failing("unary_unary", DomainError(reason, "text"))
    row = TABLE[reason]
    assert error.code() is row.grpc
    parts = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details
    info, failure = ErrorInfo(), detail_pb2.Failure()
    assert parts[0].Unpack(info)
    assert parts[1].Unpack(failure)
    assert (info.domain, info.reason) == ("voicemesh", Reason.Name(reason))
    assert (failure.reason, failure.tlib_error, failure.retryable) == (reason, row.tlib, row.retryable)


async def test_violations_travel_as_bad_request() -> None:
    error = await failing(
        "unary_unary", invalid(("tenant", "is required"), ("name", "must have 1 to 64 characters"))
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(error).violations == (("tenant", "is required"), ("name", "must have 1 to 64 characters"))
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert any(part.Is(BadRequest.DESCRIPTOR) for part in status.details)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            DomainError(
                Reason.REASON_NOT_OWNER, "moved", family="sip", slot="17", owner="sip_cluster-1.0a0b0c0d"
            ),
            detail_pb2.NotOwner(family="sip", slot="17", owner="sip_cluster-1.0a0b0c0d"),
        ),
        (
            DomainError(Reason.REASON_REVISION_CONFLICT, "changed", expected=4, actual=7),
            detail_pb2.RevisionConflict(expected=4, actual=7),
        ),
        (
            DomainError(Reason.REASON_DEPENDENCY_UNAVAILABLE, "away", dependency="redis"),
            detail_pb2.DependencyUnavailable(dependency="redis"),
        ),
        (
            DomainError(Reason.REASON_AGENT_RESERVED, "reserved", reserved_until_us=1_700_000_000_000_000),
            detail_pb2.AgentReserved(reserved_until_us=1_700_000_000_000_000),
        ),
    ],
)
async def test_a_reason_with_a_detail_message_sends_it(error: DomainError, message: Any) -> None:
    assert details(await failing("unary_unary", error)).detail == message


@pytest.mark.parametrize(
    ("error", "reason", "status"),
    [
        (NotOwner("sip", 17), Reason.REASON_NOT_OWNER, grpc.StatusCode.UNAVAILABLE),
        (EtcdUnavailable("no endpoint"), Reason.REASON_DEPENDENCY_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (
            redis.exceptions.ConnectionError("refused"),
            Reason.REASON_DEPENDENCY_UNAVAILABLE,
            grpc.StatusCode.UNAVAILABLE,
        ),
        (TimeoutError(), Reason.REASON_TIMEOUT, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_the_mesh_s_own_exceptions_have_reasons(
    error: Exception, reason: Reason.ValueType, status: grpc.StatusCode
) -> None:
    caught = await failing("unary_unary", error)
    assert (caught.code(), reason_of(caught)) == (status, reason)


async def test_a_failure_after_an_effect_is_not_retryable() -> None:
    failure = DomainError(Reason.REASON_TIMEOUT, "no answer after INVITE").after_effect()
    assert details(await failing("unary_unary", failure)).retryable is False
    assert details(await failing("unary_unary", DomainError(Reason.REASON_TIMEOUT, "x"))).retryable is True


async def test_the_failure_of_a_service_called_is_passed_on_with_its_details() -> None:
    deep = await failing(
        "unary_unary", DomainError(Reason.REASON_REVISION_CONFLICT, "changed", expected=1, actual=2)
    )
    passed = await failing("unary_unary", deep)
    assert details(passed).reason == Reason.REASON_REVISION_CONFLICT
    assert details(passed).detail == detail_pb2.RevisionConflict(expected=1, actual=2)
    assert details(passed).message == "changed"


async def test_a_service_that_cannot_be_reached_is_a_dependency_unavailable(tmp_path: Any) -> None:
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody.sock") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Calls(channel).unary_unary(timeout=20)
    assert reason_of(caught.value) is None
    error = from_rpc_error(caught.value, "config")
    assert error.reason == Reason.REASON_DEPENDENCY_UNAVAILABLE
    assert error.detail == {"dependency": "config"}


async def test_a_method_that_the_servicer_lacks_is_unimplemented() -> None:
    async with serving(Probe(nothing)) as service, calling(service) as calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.config.ListObjects(config.ListObjectsRequest(tenant="t1"), timeout=20, metadata=PEER)
        with pytest.raises(grpc.aio.AioRpcError) as caught_stream:
            await calls.config.Watch(config.WatchRequest(), timeout=20, metadata=PEER).read()
    for error in (caught.value, caught_stream.value):
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert reason_of(error) == Reason.REASON_UNSUPPORTED
