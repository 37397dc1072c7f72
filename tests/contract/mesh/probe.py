"""A service whose handlers do what a test says, over the real server, its pipeline and a Unix socket."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from voice.config.v1 import config_service_pb2 as config
from voice.config.v1 import config_service_pb2_grpc as config_grpc
from voice.redis_queue.v1 import queue_service_pb2 as queue
from voice.redis_queue.v1 import queue_service_pb2_grpc as queue_grpc

from mesh import channels
from mesh.service import Service
from mesh.settings import MeshSettings

Act = Callable[[Any], Awaitable[None]]
PEER = (("x-voicemesh-peer", "spiffe://voicemesh.local/ns/voice/sa/front_end"),)
"""Metadata of a call from another service."""


if TYPE_CHECKING:
    # The stubs demand every method of a contract; a probe has one of each shape.
    class Contracts: ...
else:

    class Contracts(config_grpc.ConfigServiceServicer, queue_grpc.QueueServiceServicer):
        pass


class Probe(Contracts):
    """One method of each shape; each awaits `act(context)` after it has read its first request."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.seen: list[Any] = []

    async def GetObject(
        self, request: config.GetObjectRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> config.GetObjectResponse:
        self.seen.append(request)
        await self.act(context)
        return config.GetObjectResponse()

    async def ExportObjects(
        self, request: config.ExportObjectsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[config.ExportObjectsResponse]:
        self.seen.append(request)
        yield config.ExportObjectsResponse()
        await self.act(context)
        yield config.ExportObjectsResponse()

    async def ImportObjects(
        self,
        request_iterator: AsyncIterator[config.ImportObjectsRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> config.ImportObjectsResponse:
        async for request in request_iterator:
            self.seen.append(request)
            await self.act(context)
        return config.ImportObjectsResponse(created=len(self.seen))

    async def Publish(
        self,
        request_iterator: AsyncIterator[queue.PublishRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[queue.PublishResponse]:
        async for request in request_iterator:
            self.seen.append(request)
            await self.act(context)
            yield queue.PublishResponse()


class ReadingProbe(Probe):
    """The same in the other style of grpc.aio: the handler reads and writes on its context."""

    async def ExportObjects(  # type: ignore[override]
        self, request: config.ExportObjectsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        self.seen.append(request)
        await context.write(config.ExportObjectsResponse())
        await self.act(context)
        await context.write(config.ExportObjectsResponse())

    async def ImportObjects(
        self,
        request_iterator: AsyncIterator[config.ImportObjectsRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> config.ImportObjectsResponse:
        while (request := await context.read()) is not grpc.aio.EOF:
            self.seen.append(request)
            await self.act(context)
        return config.ImportObjectsResponse(created=len(self.seen))


class Calls:
    """The probe's four methods from a client's side: each runs one call to its end and returns its
    responses."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.config = config_grpc.ConfigServiceStub(channel)
        self.queue = queue_grpc.QueueServiceStub(channel)

    async def unary_unary(self, tenant: str = "t1", **how: Any) -> list[Any]:
        """GetObject."""
        return [await self.config.GetObject(config.GetObjectRequest(tenant=tenant), **how)]

    async def unary_stream(self, tenant: str = "t1", **how: Any) -> list[Any]:
        """ExportObjects."""
        return await _all(self.config.ExportObjects(config.ExportObjectsRequest(tenant=tenant), **how))

    async def stream_unary(self, tenant: str = "t1", **how: Any) -> list[Any]:
        """ImportObjects."""
        requests = iter([config.ImportObjectsRequest(tenant=tenant)])
        return [await self.config.ImportObjects(requests, **how)]

    async def stream_stream(self, tenant: str = "t1", **how: Any) -> list[Any]:
        """Publish."""
        return await _all(self.queue.Publish(iter([queue.PublishRequest()]), **how))


async def _all(call: Any) -> list[Any]:
    """A reader that is cancelled between two awaits of grpc.aio leaves its call open until it is collected: so it is ended here."""
    try:
        return [response async for response in call]
    finally:
        call.cancel()


SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def settings(folder: Path, **more: Any) -> MeshSettings:
    """Settings of a probe that listens in `folder` and calls itself."""
    listen = str(folder / f"{secrets.token_hex(4)}.sock")
    given: dict[str, Any] = {
        "service": "probe",
        "node": "probe-0",
        "listen": listen,
        "egress": f"unix:{listen}",
    }
    return MeshSettings(**(given | more))


@contextlib.asynccontextmanager
async def serving(probe: Probe, *, drain: bool = True, **more: Any) -> AsyncIterator[Service]:
    """A started service that serves the probe."""
    with tempfile.TemporaryDirectory(prefix="vm-") as folder:
        service = Service(settings(Path(folder), **more))
        contracts: Any = probe
        service.add(config_grpc.add_ConfigServiceServicer_to_server, contracts)
        service.add(queue_grpc.add_QueueServiceServicer_to_server, contracts)
        await service.start()
        try:
            yield service
        finally:
            if drain:
                await service.drain()


@contextlib.asynccontextmanager
async def calling(service: Service) -> AsyncIterator[Calls]:
    """A client on a plain channel to the service's socket, as its sidecar is."""
    async with channels.direct(f"unix:{service.settings.listen}") as channel:
        yield Calls(channel)


async def nothing(_: Any) -> None:
    """An act that does nothing."""
