"""The life of a service: starting, health by dependency, what it says of itself, drain."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from voice.config.v1 import config_service_pb2 as config
from voice.error.v1.reason_pb2 import Reason
from voice.mesh.v1 import node_service_pb2 as node
from voice.mesh.v1.node_service_pb2_grpc import NodeServiceStub

from mesh import channels, supervision
from mesh.channels import MAX_MESSAGE_BYTES
from mesh.errors import reason_of
from mesh.service import Service
from mesh.settings import SettingsError
from tests.captured_logs import captured_logs
from tests.contract.mesh.probe import PEER, SHAPES, Calls, Probe, calling, nothing, serving, settings

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def eventually(what: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """Waits until `what` holds."""
    async with asyncio.timeout(seconds):
        while True:
            if await what():
                return
            await asyncio.sleep(0.01)


async def health(service: Service, name: str = "") -> Any:
    async with channels.direct(f"unix:{service.settings.listen}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
    return answer.status


async def get(service: Service, request: bytes) -> tuple[int, str]:
    """Status and body of an HTTP request to the metrics port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.metrics_port)
    writer.write(request)
    await writer.drain()
    answer = (await asyncio.wait_for(reader.read(), 20)).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


@pytest.mark.parametrize(
    "name",
    ["", "voice.config.v1.ConfigService", "voice.redis_queue.v1.QueueService", "voice.mesh.v1.NodeService"],
)
async def test_each_contract_and_the_server_are_serving(name: str) -> None:
    async with serving(Probe(nothing)) as service:

        async def up() -> bool:
            return bool(await health(service, name) == SERVING)

        await eventually(up)


async def test_health_of_an_unknown_contract_is_not_found() -> None:
    async with serving(Probe(nothing)) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(service, "voice.tenant.v1.TenantService")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_follows_the_dependencies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mesh.health.CHECK_EVERY_S", 0.02)
    up = {"redis": False, "config": True}
    service = Service(settings(tmp_path))

    def check(name: str) -> Callable[[], Awaitable[bool]]:
        async def answers() -> bool:
            if not up[name]:
                raise ConnectionError("refused")
            return True

        return answers

    for name in up:
        service.depends(name, check(name))
    await service.start()

    async def now(wanted: Any) -> bool:
        return bool(await health(service) == wanted)

    try:
        await eventually(lambda: now(NOT_SERVING))
        async with channels.direct(f"unix:{service.settings.listen}") as channel:
            answer = await NodeServiceStub(channel).GetNode(node.GetNodeRequest(), timeout=20)
        assert {d.name: (d.up, d.problem) for d in answer.dependencies} == {
            "redis": (False, "ConnectionError: refused"),
            "config": (True, ""),
        }
        status, body = await get(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 503
        assert json.loads(body)["down"] == {"redis": "ConnectionError: refused"}
        up["redis"] = True
        await eventually(lambda: now(SERVING))
        assert (await get(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        up["config"] = False
        await eventually(lambda: now(NOT_SERVING))
    finally:
        await service.drain()


async def test_a_dependency_is_named_once(tmp_path: Path) -> None:
    service = Service(settings(tmp_path))
    service.depends("redis", lambda: asyncio.sleep(0, True))
    with pytest.raises(ValueError, match="'redis'"):
        service.depends("redis", lambda: asyncio.sleep(0, True))


async def test_reflection_lists_every_contract_served_and_describes_it() -> None:
    async with serving(Probe(nothing)) as service:
        target = f"unix:{service.settings.listen}"
        async with channels.direct(target) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(
                    file_containing_symbol="voice.config.v1.ConfigService"
                ),
            ]
            answers = [answer async for answer in stub.ServerReflectionInfo(iter(asked), timeout=20)]
    names = {service.name for service in answers[0].list_services_response.service}
    assert names == {
        "voice.config.v1.ConfigService",
        "voice.redis_queue.v1.QueueService",
        "voice.mesh.v1.NodeService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert len(answers[1].file_descriptor_response.file_descriptor_proto) >= 1


async def test_a_node_tells_of_itself() -> None:
    async with serving(Probe(nothing), zone="z7", capacity=250) as service:
        service.owned_slots("sip", lambda: {17: 42, 3: 40})
        service.owned_slots("tenant", lambda: {"t1": 7})
        async with channels.direct(f"unix:{service.settings.listen}") as channel:
            answer = await NodeServiceStub(channel).GetNode(node.GetNodeRequest(), timeout=20)
    assert answer.node.node == "probe-0"
    assert answer.node.incarnation == service.incarnation
    assert (answer.node.zone, answer.node.capacity) == ("z7", 250)
    assert [(s.family, s.slot, s.epoch) for s in answer.slots] == [
        ("sip", "3", 40),
        ("sip", "17", 42),
        ("tenant", "t1", 7),
    ]
    assert answer.lease_left_ms == 0


async def test_metrics_are_scraped() -> None:
    async with serving(Probe(nothing)) as service, calling(service) as calls:
        service.metrics.queue("outbox", lambda: 3)
        await calls.unary_unary(metadata=PEER)
        status, body = await get(service, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200
    assert (
        'voicemesh_probe_rpc_handled_total{code="OK",method="ConfigService.GetObject",sli="success"} 1.0'
        in body
    )
    assert "voicemesh_probe_outbox_depth 3.0" in body
    assert f'incarnation="{service.incarnation}"' in body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /secret HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", 200),
    ],
)
async def test_bad_http_requests_get_their_answer(request_: bytes, status: int) -> None:
    async with serving(Probe(nothing)) as service:
        assert (await get(service, request_))[0] == status


async def test_a_message_above_the_limit_is_refused() -> None:
    async with (
        serving(Probe(nothing)) as service,
        grpc.aio.insecure_channel(
            f"unix:{service.settings.listen}", options=[("grpc.max_send_message_length", -1)]
        ) as channel,
    ):
        huge = config.GetObjectRequest(tenant="t" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Calls(channel).config.GetObject(huge, timeout=20, metadata=PEER)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_drain_runs_its_hooks_in_order_then_stops() -> None:
    done: list[str] = []

    def hook(name: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            done.append(name)

        return run

    async with serving(Probe(nothing), drain=False) as service:
        service.on_stop(hook("close store"))
        service.on_drain(hook("finish calls"))
        service.on_drain(hook("flush"))
        assert await service.drain()
        assert service.draining.is_set()
        with pytest.raises(grpc.aio.AioRpcError):
            await health(service)
    assert done == ["finish calls", "flush", "close store"]


async def test_a_call_in_flight_is_finished() -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def act(_: Any) -> None:
        entered.set()
        await go.wait()

    async with serving(Probe(act), drain=False) as service, calling(service) as calls:
        call = asyncio.create_task(calls.unary_unary(metadata=PEER, timeout=10))
        await entered.wait()
        drain = asyncio.create_task(service.drain())
        await service.draining.wait()
        go.set()
        assert len(await call) == 1
        assert await drain


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
async def test_an_open_stream_is_ended_with_draining(shape: str) -> None:
    entered = asyncio.Event()

    async def act(_: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with serving(Probe(act), drain=False) as service, calling(service) as calls:
        stream = asyncio.create_task(getattr(calls, shape)(metadata=PEER))
        await entered.wait()
        async with asyncio.timeout(20):
            assert await service.drain()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(caught.value) == Reason.REASON_DRAINING


async def test_a_drain_that_takes_too_long_is_cut_off_and_said() -> None:
    async with serving(Probe(nothing), drain=False, drain_seconds=0.1) as service:
        service.on_drain(asyncio.Event().wait)  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            assert not await service.drain()


async def test_a_hook_that_fails_does_not_keep_the_rest_from_closing() -> None:
    closed = asyncio.Event()

    async def fail() -> None:
        raise ConnectionError("redis is away")

    async def close() -> None:
        closed.set()

    async with serving(Probe(nothing), drain=False) as service:
        service.on_drain(fail)
        service.on_stop(fail)
        service.on_stop(close)
        assert not await service.drain()
    assert closed.is_set()


async def test_background_work_is_tried_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE_S", 0.01)
    runs: list[int] = []
    settled = asyncio.Event()

    async def work() -> None:
        runs.append(1)
        if len(runs) < 4:
            raise ConnectionError("lost")
        settled.set()

    async with serving(Probe(nothing)) as service:
        service.background("reader", work)
        async with asyncio.timeout(20):
            await settled.wait()
        failures = service.metrics.registry.get_sample_value(
            "voicemesh_probe_task_failures_total", {"task": "reader"}
        )
    assert failures == 3
    assert len(runs) == 4


async def test_start_hooks_run_before_background_work_and_before_serving(tmp_path: Path) -> None:
    service = Service(settings(tmp_path))
    order: list[str] = []

    async def background() -> None:
        order.append("background")

    async def hook() -> None:
        order.append(f"hook, serving: {await health(service) == SERVING}")

    service.background("b", background)
    service.on_start(hook)
    await service.start()

    async def both() -> bool:
        return len(order) == 2

    await eventually(both)
    await service.drain()
    assert order == ["hook, serving: False", "background"]


async def test_a_service_that_cannot_start_says_why_and_ends_with_1(tmp_path: Path) -> None:
    async def hook() -> None:
        raise LookupError("no tenants")

    with captured_logs() as log:
        service = Service(settings(tmp_path))
        service.on_start(hook)
        assert await service.run() == 1
    (line,) = log.lines("could not start")
    assert "no tenants" in line["exception"]


@pytest.mark.parametrize("what", ["etcd", "redis", "channel"])
async def test_a_connection_without_its_setting_is_refused_by_name(tmp_path: Path, what: str) -> None:
    service = Service(settings(tmp_path, egress=""))
    with pytest.raises(SettingsError, match=r"VOICEMESH_(ETCD|REDIS|EGRESS): missing"):
        getattr(service, what)


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    given = settings(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(given.listen)
    service = Service(given)
    await service.start()
    assert await health(service) in (SERVING, NOT_SERVING)
    await service.drain()


async def test_a_call_for_another_incarnation_is_refused_by_every_shape_of_method() -> None:
    """A sidecar may still have the endpoint of a process that is gone: its successor does not serve its calls."""
    probe = Probe(nothing)
    async with serving(probe) as service, calling(service) as calls:
        wrong = (*PEER, ("x-voicemesh-node", f"{service.settings.node}.ffffffff"))
        for shape in SHAPES:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await getattr(calls, shape)(metadata=wrong)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(caught.value) == Reason.REASON_NOT_OWNER
        assert probe.seen == []
        right = (*PEER, ("x-voicemesh-node", service.incarnation))
        for shape in SHAPES:
            assert await getattr(calls, shape)(metadata=right)
