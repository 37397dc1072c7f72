"""Channels: how a process calls others. One egress channel to the own sidecar, connected on first use.

The observing channel wraps the methods of a real one instead of using grpc.aio's client interceptors: those
start a task for each call (docs/decisions/0021).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import grpc

from mesh import deadline
from mesh.metadata import TRACEPARENT_KEY
from mesh.pipeline import Method
from mesh.telemetry.rpc import SentCalls
from mesh.telemetry.tracing import current_traceparent

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest message sent or taken, bytes."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # This is the time one attempt to connect may take, whatever its name says: a busy machine needs some.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Below 5 s a gRPC server answers GOAWAY too_many_pings; 10 s keeps a NAT open and finds a dead sidecar.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Retries are Envoy's, per contract and with budgets; a second layer would multiply them.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
)
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.so_reuseport", 0),
    # The sidecar puts every call on one connection and pings it each 2 s.
    ("grpc.max_concurrent_streams", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
)


def egress(target: str, calls: SentCalls) -> ObservedChannel:
    """The channel to the own sidecar's egress listener ("unix:/path" or "host:port").

    Connects on first use; a call waits for it within its deadline. Unary calls get the default timeout of
    mesh.deadline and never outlive the request being served; streams have the timeout they are given. Every
    call carries the present traceparent, is counted in `calls` and drawn in the ladder.
    """
    return ObservedChannel(grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS), calls)


def direct(target: str) -> grpc.aio.Channel:
    """A plain channel with the same limits, for tests and tools that talk to a service without a sidecar."""
    return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)


class ObservedChannel(grpc.aio.Channel):
    """A channel whose calls get a deadline and a trace and are observed. Used like any other by the stubs."""

    def __init__(self, channel: grpc.aio.Channel, calls: SentCalls) -> None:
        self._channel = channel
        self._calls = calls

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As grpc.aio.Channel."""
        return self._observed(method, self._channel.unary_unary(method, *args, **kwargs), False, False)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As grpc.aio.Channel."""
        return self._observed(method, self._channel.unary_stream(method, *args, **kwargs), False, True)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As grpc.aio.Channel."""
        return self._observed(method, self._channel.stream_unary(method, *args, **kwargs), True, False)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As grpc.aio.Channel."""
        return self._observed(method, self._channel.stream_stream(method, *args, **kwargs), True, True)

    def _observed(self, path: str, callable_: Any, request_streaming: bool, response_streaming: bool) -> Any:
        return _Observed(Method.of(path, request_streaming, response_streaming), callable_, self._calls)

    async def close(self, grace: float | None = None) -> None:
        """Ends the channel; calls in flight have `grace` seconds."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As grpc.aio.Channel."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As grpc.aio.Channel."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As grpc.aio.Channel."""
        await self._channel.channel_ready()

    async def __aenter__(self) -> ObservedChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Observed:
    """A method of the channel: adds what every call carries, and sees it end."""

    __slots__ = ("_call", "_calls", "_method", "_unary")

    def __init__(self, method: Method, call: Any, calls: SentCalls) -> None:
        self._method = method
        self._call = call
        self._calls = calls
        self._unary = not (method.request_streaming or method.response_streaming)

    def __call__(
        self,
        *request: Any,
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        wait_for_ready: bool | None = True,
        **more: Any,
    ) -> Any:
        call = self._call(
            *request,
            timeout=deadline.timeout_for(timeout) if self._unary else timeout,
            metadata=_traced(metadata),
            wait_for_ready=wait_for_ready,
            **more,
        )
        call.add_done_callback(partial(self._calls.done, self._method, time.perf_counter_ns()))
        return call


def _traced(metadata: Iterable[tuple[str, str | bytes]] | None) -> Sequence[tuple[str, str | bytes]] | None:
    parent = current_traceparent()
    given = tuple(metadata) if metadata is not None else ()
    return (*given, (TRACEPARENT_KEY, parent)) if parent else given
