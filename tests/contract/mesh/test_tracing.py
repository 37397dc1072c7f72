"""A trace follows a call from service to service; calls are counted, timed and drawn."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from voice.config.v1 import config_service_pb2 as config
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.error.v1.reason_pb2 import Reason

from mesh import telemetry
from mesh.errors import DomainError
from mesh.service import Service
from mesh.telemetry import steps, tracing
from mesh.telemetry.recording import Recorder
from tests.captured_logs import captured_logs
from tests.contract.mesh.probe import PEER, SHAPES, Probe, calling, nothing, serving

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REQUEST = config.GetObjectRequest(tenant="t1")


class Note:
    """Notes the traceparent that a handler sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, _: Any) -> None:
        self.seen.append(telemetry.current_traceparent())


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_handler_works_in_its_caller_s_trace(shape: str) -> None:
    note = Note()
    async with serving(Probe(note)) as service, calling(service) as calls:
        await getattr(calls, shape)(metadata=(*PEER, ("traceparent", PARENT)), timeout=20)
    (seen,) = set(note.seen)
    assert seen.split("-")[1] == TRACE
    assert seen.split("-")[2] != PARENT.split("-")[2]


@pytest.mark.parametrize("parent", ["", "garbage", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", PARENT.upper()])
async def test_a_malformed_parent_starts_a_new_trace(parent: str) -> None:
    note = Note()
    async with serving(Probe(note)) as service, calling(service) as calls:
        await calls.unary_unary(metadata=(*PEER, ("traceparent", parent)), timeout=20)
    assert len(note.seen[0]) == len(PARENT)
    assert TRACE not in note.seen[0]


async def test_calls_do_not_share_a_trace() -> None:
    note = Note()
    async with serving(Probe(note)) as service, calling(service) as calls:
        for _ in range(3):
            await calls.unary_unary(metadata=PEER, timeout=20)
    assert len({seen.split("-")[1] for seen in note.seen}) == 3


class Asks(Probe):
    """Asks another service before it answers."""

    def __init__(self, note: Note, other: Service) -> None:
        super().__init__(note)
        self.other = other

    async def GetObject(
        self, request: config.GetObjectRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> config.GetObjectResponse:
        await self.act(context)
        answer: config.GetObjectResponse = await ConfigServiceStub(self.other.channel).GetObject(
            request, metadata=PEER
        )
        return answer


async def test_a_trace_goes_through_services() -> None:
    near, far = Note(), Note()
    async with (
        serving(Probe(far)) as behind,
        serving(Asks(near, behind)) as service,
        calling(service) as calls,
    ):
        await calls.unary_unary(metadata=(*PEER, ("traceparent", PARENT)), timeout=20)
    spans = [note.seen[0].split("-") for note in (near, far)]
    assert [span[1] for span in spans] == [TRACE, TRACE]
    assert spans[0][2] != spans[1][2]


async def test_what_is_done_for_an_event_belongs_to_its_trace() -> None:
    note = Note()
    async with serving(Probe(note)) as service:
        stub = ConfigServiceStub(service.channel)
        with telemetry.continued(PARENT):
            assert telemetry.trace_id() == TRACE
            await stub.GetObject(REQUEST, metadata=PEER)
        assert telemetry.trace_id() == ""
    assert note.seen[0].split("-")[1] == TRACE


async def test_spans_are_recorded_when_there_is_an_exporter() -> None:
    exporter = InMemorySpanExporter()
    recorder = Recorder(exporter, service="probe", node="probe-0")
    tracing.record_with(recorder)
    try:
        async with serving(Probe(nothing)) as service, calling(service) as calls:
            await calls.unary_unary(metadata=(*PEER, ("traceparent", PARENT)), timeout=20)

        async def fail(_: Any) -> None:
            raise ValueError("bug")

        async with serving(Probe(fail)) as service, calling(service) as calls:
            with pytest.raises(grpc.aio.AioRpcError):
                await calls.unary_unary(metadata=(*PEER, ("traceparent", PARENT)), timeout=20)
    finally:
        tracing.record_with(None)
        recorder.close()
    good, bad = exporter.get_finished_spans()
    assert good.name == "ConfigService.GetObject"
    assert good.kind is SpanKind.SERVER
    assert f"{good.context.trace_id:032x}" == TRACE
    assert good.parent is not None
    assert f"{good.parent.span_id:016x}" == PARENT.split("-")[2]
    assert good.resource.attributes["service.name"] == "probe"
    assert good.status.status_code is StatusCode.UNSET
    assert bad.status.status_code is StatusCode.ERROR


async def _counts(service: Service, name: str, total: int) -> dict[tuple[str, str, str], float]:
    """The counter's values by labels, once they add up to `total`: a call is counted just after its client
    knows."""
    async with asyncio.timeout(20):
        while True:
            metrics = service.metrics.registry.collect()
            samples = [sample for metric in metrics for sample in metric.samples if sample.name == name]
            if sum(sample.value for sample in samples) == total:
                return {(s.labels["method"], s.labels["code"], s.labels["sli"]): s.value for s in samples}
            await asyncio.sleep(0.01)


async def test_calls_are_counted_by_method_code_and_sli_on_both_sides() -> None:
    outcomes = iter(
        [None, DomainError(Reason.REASON_NO_ANSWER, "x"), DomainError(Reason.REASON_UNKNOWN_DN, "x")]
    )

    async def act(_: Any) -> None:
        error = next(outcomes)
        if error:
            raise error

    async with serving(Probe(act)) as service:
        stub = ConfigServiceStub(service.channel)
        await stub.GetObject(REQUEST, metadata=PEER)
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.GetObject(REQUEST, metadata=PEER)
        handled = await _counts(service, "voicemesh_probe_rpc_handled_total", 3)
        sent = await _counts(service, "voicemesh_probe_rpc_sent_total", 3)
        timed = service.metrics.registry.get_sample_value(
            "voicemesh_probe_rpc_handling_seconds_count", {"method": "ConfigService.GetObject"}
        )
        active = service.metrics.registry.get_sample_value("voicemesh_probe_rpc_active")
    method = "ConfigService.GetObject"
    assert handled == {
        (method, "OK", "success"): 1,
        (method, "DEADLINE_EXCEEDED", "upstream_error"): 1,
        (method, "NOT_FOUND", "client_error"): 1,
    }
    assert sent == {
        (method, "OK", "success"): 1,
        (method, "DEADLINE_EXCEEDED", "indeterminate"): 1,
        (method, "NOT_FOUND", "client_error"): 1,
    }
    assert timed == 3
    assert active == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_is_counted_where_it_is_made(shape: str) -> None:
    async with serving(Probe(nothing)) as service:
        from tests.contract.mesh.probe import Calls

        await getattr(Calls(service.channel), shape)(metadata=PEER)
        sent = await _counts(service, "voicemesh_probe_rpc_sent_total", 1)
    assert [(code, value) for (_, code, _), value in sent.items()] == [("OK", 1)]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_that_its_client_gives_up_is_counted_as_cancelled(shape: str) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def act(_: Any) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(Probe(act)) as service, calling(service) as calls:
        call = asyncio.create_task(getattr(calls, shape)(metadata=PEER))
        await asyncio.wait_for(entered.wait(), 20)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await asyncio.wait_for(cancelled.wait(), 20)
        handled = await _counts(service, "voicemesh_probe_rpc_handled_total", 1)
    assert [(code, sli) for _, code, sli in handled] == [("CANCELLED", "indeterminate")]


@pytest.fixture
def drawn() -> Iterator[io.StringIO]:
    """The ladder records written meanwhile."""
    stream = io.StringIO()
    steps.configure(enabled=True, node="probe-0", stream=stream)
    yield stream
    steps.configure(enabled=False, node="")


async def written(drawn: io.StringIO) -> list[dict[str, Any]]:
    """The records, once there is one."""
    async with asyncio.timeout(20):
        while True:
            if drawn.getvalue():
                return [json.loads(line) for line in drawn.getvalue().splitlines()]
            await asyncio.sleep(0.01)


async def test_calls_of_a_known_call_are_drawn(drawn: io.StringIO) -> None:
    async with serving(Probe(nothing)) as service:
        stub = ConfigServiceStub(service.channel)
        await stub.GetObject(REQUEST, metadata=PEER)
        assert drawn.getvalue() == ""
        with telemetry.bound(call_thread_id="01-thread"), telemetry.continued(PARENT):
            await stub.GetObject(REQUEST, metadata=PEER)
    (record,) = await written(drawn)
    assert record["kind"] == "rpc"
    assert record["call_thread_id"] == "01-thread"
    assert record["trace"] == TRACE
    assert (record["from"], record["to"], record["node"]) == ("probe-0", "config", "probe-0")
    assert record["text"].startswith("ConfigService.GetObject (")
    assert record["ts_us"] > 1_700_000_000_000_000


async def test_a_call_from_outside_is_drawn_by_who_serves_it(drawn: io.StringIO) -> None:
    edge = (("x-voicemesh-peer", "spiffe://voicemesh.local/ns/voice/sa/edge"), ("x-voicemesh-tenant", "t1"))
    async with serving(Probe(nothing)) as service, calling(service) as calls:
        await calls.unary_unary(metadata=edge, timeout=20)
    (record,) = await written(drawn)
    assert (record["from"], record["to"]) == ("client", "probe-0")


async def test_a_line_logged_by_a_handler_names_its_trace_and_tenant() -> None:
    async def act(_: Any) -> None:
        telemetry.logger("store").info("object read", dbid=7)

    edge = (("x-voicemesh-tenant", "t1"), ("traceparent", PARENT))
    with captured_logs() as log:
        async with serving(Probe(act)) as service, calling(service) as calls:
            await calls.unary_unary(metadata=edge, timeout=20)
            await calls.unary_unary(metadata=PEER, timeout=20)
    first, second = log.lines("object read")
    assert (first["tenant"], first["trace_id"], first["dbid"]) == ("t1", TRACE, 7)
    assert "tenant" not in second
    assert second["trace_id"] != TRACE
