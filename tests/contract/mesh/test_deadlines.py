"""Deadlines over the wire: capped when missing, given when forgotten, handed on to calls made on behalf of
a call."""

from __future__ import annotations

import asyncio
import tempfile
import time
from typing import Any

import grpc
import pytest
from voice.config.v1 import config_service_pb2 as config
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.error.v1.reason_pb2 import Reason

from mesh import deadline
from mesh.deadline import DEFAULT_UNARY_S, MISSING_CAP_S, Deadlines
from mesh.errors import reason_of
from mesh.service import Service
from tests.contract.mesh.probe import PEER, SHAPES, Probe, calling, nothing, serving

ROUNDING_S = 0.1
"""grpc rounds a timeout up when it writes it into a header."""


class Remember:
    """Notes the time left of each call, as the context and as mesh.deadline see it."""

    def __init__(self) -> None:
        self.context: list[float | None] = []
        self.mesh: list[float | None] = []

    async def __call__(self, context: Any) -> None:
        self.context.append(context.time_remaining())
        self.mesh.append(deadline.remaining())


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_caller_s_deadline_is_known_to_the_handler(shape: str) -> None:
    seen = Remember()
    async with serving(Probe(seen)) as service, calling(service) as calls:
        await getattr(calls, shape)(timeout=3, metadata=PEER)
    assert seen.mesh[0] is not None
    assert 2 < seen.mesh[0] <= 3 + ROUNDING_S


async def test_a_missing_deadline_is_capped_for_unary_calls_only() -> None:
    seen = Remember()
    async with serving(Probe(seen)) as service, calling(service) as calls:
        await calls.unary_unary(metadata=PEER)
        await calls.unary_stream(metadata=PEER)
    assert seen.mesh[0] is not None
    assert MISSING_CAP_S - 1 < seen.mesh[0] <= MISSING_CAP_S
    assert seen.mesh[1] is None


async def test_a_call_that_reaches_the_cap_ends_with_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forever(_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("mesh.service.Deadlines", lambda: Deadlines(cap=0.05))
    async with serving(Probe(forever)) as service, calling(service) as calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.unary_unary(metadata=PEER)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason_of(caught.value) == Reason.REASON_TIMEOUT


async def test_the_handler_is_cancelled_when_the_deadline_passes() -> None:
    cancelled = asyncio.Event()

    async def wait(_: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(Probe(wait)) as service, calling(service) as calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.unary_unary(timeout=0.1, metadata=PEER)
        async with asyncio.timeout(20):
            await cancelled.wait()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_unary_call_on_the_egress_channel_gets_two_seconds() -> None:
    seen = Remember()
    async with serving(Probe(seen)) as service:
        stub = ConfigServiceStub(service.channel)
        await stub.GetObject(config.GetObjectRequest(tenant="t1"), metadata=PEER)
        await stub.GetObject(config.GetObjectRequest(tenant="t1"), timeout=7, metadata=PEER)
    assert seen.context[0] is not None
    assert seen.context[1] is not None
    assert 1 < seen.context[0] <= DEFAULT_UNARY_S + ROUNDING_S
    assert 6 < seen.context[1] <= 7 + ROUNDING_S


class Relay(Probe):
    """Its GetObject with tenant t1 asks itself for t2, giving that call a minute."""

    def __init__(self, seen: Remember) -> None:
        super().__init__(seen)
        self.service: Service | None = None

    async def GetObject(
        self, request: config.GetObjectRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> config.GetObjectResponse:
        await self.act(context)
        if request.tenant == "t1" and self.service is not None:
            stub = ConfigServiceStub(self.service.channel)
            await stub.GetObject(config.GetObjectRequest(tenant="t2"), timeout=60, metadata=PEER)
        return config.GetObjectResponse()


async def test_a_call_on_behalf_of_a_call_has_what_is_left() -> None:
    seen = Remember()
    relay = Relay(seen)
    async with serving(relay) as service, calling(service) as calls:
        relay.service = service
        await calls.unary_unary(timeout=1.5, metadata=PEER)
    outer, inner = seen.context
    assert outer is not None
    assert inner is not None
    assert 0 < inner <= 1.5 + ROUNDING_S


async def test_the_channel_finds_a_sidecar_that_was_restarted() -> None:
    with tempfile.TemporaryDirectory(prefix="vm-") as folder:
        egress = f"{folder}/egress.sock"
        async with serving(Probe(nothing), egress=f"unix:{egress}") as service:
            stub = ConfigServiceStub(service.channel)
            for _ in range(3):
                async with serving(Probe(nothing), listen=egress):
                    await stub.GetObject(config.GetObjectRequest(tenant="t1"), timeout=10, metadata=PEER)


async def test_a_call_waits_for_a_sidecar_that_is_not_there_yet() -> None:
    seen = Probe(nothing)
    async with (
        serving(seen) as target,
        serving(Probe(nothing), egress=f"unix:{target.settings.listen}") as service,
    ):
        stub = ConfigServiceStub(service.channel)
        await stub.GetObject(config.GetObjectRequest(tenant="t1"), metadata=PEER)
    async with serving(Probe(nothing), egress=f"unix:{target.settings.listen}") as service:
        started = time.monotonic()
        stub = ConfigServiceStub(service.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetObject(config.GetObjectRequest(tenant="t1"), timeout=0.3, metadata=PEER)
        took = time.monotonic() - started
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.25 < took < 2
