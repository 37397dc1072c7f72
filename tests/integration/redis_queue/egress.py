"""What a sidecar does for tests without one: routes a call by its path to the service's nodes, and by the header
x-voicemesh-node to exactly one of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool

from mesh.discovery import NODE_HEADER
from tests.integration.nodes import NodeProcess

_HOP = {"grpc-timeout", "te", "user-agent", "content-type", "grpc-accept-encoding"}


class Egress(grpc.GenericRpcHandler):
    """Routes to processes (`add`) or to a target in the test (`add_target`)."""

    def __init__(self, socket: Path) -> None:
        self.target = f"unix:{socket}"
        self._services: dict[str, dict[str, str]] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._turn = itertools.count()

    def add(self, node: NodeProcess, name: str) -> None:
        """A node (its id) of a service."""
        self._services.setdefault(node.service, {})[name] = node.target

    def add_target(self, service: str, target: str) -> None:
        """A service without nodes."""
        self._services.setdefault(service, {})["-"] = target

    def name_target(self, service: str, name: str, target: str) -> None:
        """A node (its id) in the test itself."""
        self._services.setdefault(service, {})[name] = target

    def remove(self, service: str, name: str) -> None:
        """A node that has ended."""
        self._services[service].pop(name, None)

    def service(self, details: Any) -> Any:
        if _is_unary(details.method):
            return grpc.unary_unary_rpc_method_handler(self._forwarding_one(details.method))
        return grpc.stream_stream_rpc_method_handler(self._forwarding(details.method))

    def _channel(self, path: str, incarnation: str) -> grpc.aio.Channel | None:
        service = path.split("/")[1].split(".")[1]
        nodes = self._services.get(service, {})
        if incarnation:
            target = nodes.get(incarnation.rpartition(".")[0])
        else:
            target = list(nodes.values())[next(self._turn) % len(nodes)] if nodes else None
        if target is None:
            return None
        if target not in self._channels:
            options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 100)]
            self._channels[target] = grpc.aio.insecure_channel(target, options=options)
        return self._channels[target]

    async def _way(self, path: str, context: Any) -> tuple[grpc.aio.Channel, dict[str, Any]]:
        """Where a call goes, and what it takes along. Ends the call when there is no node."""
        metadata = [(k, v) for k, v in context.invocation_metadata() if k not in _HOP]
        channel = self._channel(path, dict(metadata).get(NODE_HEADER, ""))
        if channel is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"no node for {path}")
            raise AssertionError("abort raises")
        left = context.time_remaining()
        return channel, {"metadata": metadata, "timeout": left if left and left < 3600 else None}

    def _forwarding_one(self, path: str) -> Callable[..., Awaitable[bytes]]:
        """Most calls have one request and one answer, and need no stream."""

        async def forward(request: bytes, context: Any) -> bytes:
            channel, along = await self._way(path, context)
            try:
                ask: Any = channel.unary_unary(path)
                answer: bytes = await ask(request, **along)
            except grpc.aio.AioRpcError as error:
                context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
                await context.abort(*_status(error.code(), error.details() or ""))
                raise
            return answer

        return forward

    def _forwarding(self, path: str) -> Callable[..., AsyncIterator[bytes]]:
        async def forward(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            channel, along = await self._way(path, context)
            call: Any = channel.stream_stream(path)(**along)
            pump = asyncio.create_task(_pump(requests, call))
            try:
                while (response := await call.read()) is not grpc.aio.EOF:
                    yield response
                if await call.code() is not grpc.StatusCode.OK:
                    raise _Failed
            except (grpc.aio.AioRpcError, _Failed):
                context.set_trailing_metadata(tuple(await call.trailing_metadata() or ()))
                await context.abort(*_status(await call.code(), await call.details() or ""))
            finally:
                call.cancel()
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)

        return forward

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


def _is_unary(path: str) -> bool:
    """Whether a method, as its contract says, has one request and one answer."""
    try:
        method = descriptor_pool.Default().FindMethodByName(path.strip("/").replace("/", "."))
    except KeyError:
        return False
    return not (method.client_streaming or method.server_streaming)


def _status(code: grpc.StatusCode, details: str) -> tuple[grpc.StatusCode, str]:
    """What the caller is told: grpc calls what was under way to a node that has just died INTERNAL or CANCELLED, a sidecar
    UNAVAILABLE. (A call that its caller has cancelled does not come here.)"""
    died = code is grpc.StatusCode.CANCELLED or details.startswith("Internal error from Core")
    return (grpc.StatusCode.UNAVAILABLE if died else code), details


class _Failed(Exception):
    """The call ended with another status than OK."""


async def _pump(requests: AsyncIterator[bytes], call: Any) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        async for request in requests:
            await call.write(request)
        await call.done_writing()


@contextlib.asynccontextmanager
async def egress() -> AsyncIterator[Egress]:
    """A router that listens."""
    with tempfile.TemporaryDirectory(prefix="vm-egress-") as folder:
        router = Egress(Path(folder) / "s")
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((router,))
        server.add_insecure_port(router.target)
        await server.start()
        try:
            yield router
        finally:
            await server.stop(0)
            await router.close()
