"""The aggregated discovery service on grpc.aio: the stream machines with a socket and a world around them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from mesh.envoy.node import Edge, NodeError, Sidecar, node_id, parse
from mesh.xds.metrics import XdsMetrics
from mesh.xds.stream import Accepted, AdsStream, Effect, Ignored, Refused, Request, Send
from mesh.xds.world import Resources, World, versions

MAX_NAMES = 10_000
"""Resource names in a request; more is refused."""
Log = Callable[..., None]
_Context = grpc.aio.ServicerContext[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]


class Changes:
    """Wakes every stream when the world is different. Waiting streams see all changes up to the wake-up at
    once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.complete = asyncio.Event()
        """Set when every service's membership is known for the first time: nothing is answered before."""

    def tell(self) -> None:
        """Something changed."""
        self._event.set()
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        """The event that the next change sets."""
        return self._event


class DiscoveryService(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]  # published untyped
    """State of the world only; Envoy asks for what its bootstrap says."""

    def __init__(self, world: World, changes: Changes, metrics: XdsMetrics, info: Log, warn: Log) -> None:
        self._world = world
        self._changes = changes
        self._metrics = metrics
        self._info = info
        self._warn = warn

    async def StreamAggregatedResources(self, request_iterator: object, context: _Context) -> None:
        """Serves one Envoy until it goes."""
        await self._changes.complete.wait()
        first = await context.read()
        if not isinstance(first, discovery_pb2.DiscoveryRequest):
            return
        try:
            node = parse(first.node.id, first.node.metadata)
        except NodeError as error:
            self._warn("envoy refused", node=first.node.id, problem=str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self._info("envoy connected", node=node_id(node))
        self._metrics.streams.inc()
        try:
            await self._serve(node, first, context)
        finally:
            self._metrics.streams.dec()
            self._world.forget(node)
            self._info("envoy gone", node=node_id(node))

    async def _serve(
        self, node: Sidecar | Edge, first: discovery_pb2.DiscoveryRequest, context: _Context
    ) -> None:
        stream = AdsStream()
        changed = self._changes.next()
        await self._perform(
            node, stream.request(_request(first), versions(self._world.resources(node))), context
        )
        reading = asyncio.ensure_future(context.read())
        waiting = asyncio.ensure_future(changed.wait())
        try:
            while True:
                await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    changed = self._changes.next()
                    waiting = asyncio.ensure_future(changed.wait())
                    effects = stream.changed(versions(self._world.resources(node)))
                    await self._perform(node, effects, context)
                if reading.done():
                    message = reading.result()
                    if not isinstance(message, discovery_pb2.DiscoveryRequest):
                        return
                    reading = asyncio.ensure_future(context.read())
                    effects = stream.request(_request(message), versions(self._world.resources(node)))
                    await self._perform(node, effects, context)
        finally:
            reading.cancel()
            waiting.cancel()

    async def _perform(self, node: Sidecar | Edge, effects: list[Effect], context: _Context) -> None:
        for effect in effects:
            kind = effect.type_url.rpartition(".")[2]
            match effect:
                case Send():
                    resources = self._world.resources(node)[effect.type_url]
                    await context.write(_response(effect, resources))
                    self._metrics.answers.labels(kind).inc()
                case Accepted():
                    self._metrics.accepted.labels(kind).inc()
                case Refused():
                    self._metrics.refused.labels(kind).inc()
                    self._warn(
                        "envoy refused its configuration", node=node_id(node), type=kind, error=effect.error
                    )
                case Ignored():
                    self._metrics.ignored.labels(kind).inc()


def _request(message: discovery_pb2.DiscoveryRequest) -> Request:
    error = message.error_detail.message if message.HasField("error_detail") else ""
    return Request(message.type_url, tuple(message.resource_names[:MAX_NAMES]), message.response_nonce, error)


def _response(send: Send, resources: Resources) -> discovery_pb2.DiscoveryResponse:
    chosen = [resources[name] for name in send.names]
    return discovery_pb2.DiscoveryResponse(
        type_url=send.type_url,
        nonce=send.nonce,
        version_info=send.nonce + "/" + (chosen[0].version if len(chosen) == 1 else str(len(chosen))),
        resources=[resource.packed for resource in chosen],
    )
