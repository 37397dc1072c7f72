"""Names of methods, and the order in which stages are entered and left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import pytest

from mesh.pipeline import Call, Inspector, Method, Pipeline, Stage


@pytest.mark.parametrize(
    ("path", "name", "domain", "full_name"),
    [
        (
            "/voice.config.v1.ConfigService/GetObject",
            "ConfigService.GetObject",
            "config",
            "voice.config.v1.ConfigService.GetObject",
        ),
        ("/grpc.health.v1.Health/Check", "Health.Check", "grpc.health.v1", "grpc.health.v1.Health.Check"),
        ("/voice.x.v2beta.Y/Z", "Y.Z", "x", "voice.x.v2beta.Y.Z"),
        ("/Bare/Call", "Bare.Call", "", "Bare.Call"),
    ],
)
def test_a_path_is_a_method(path: str, name: str, domain: str, full_name: str) -> None:
    method = Method.of(path)
    assert (method.name, method.domain, method.full_name) == (name, domain, full_name)


class Noting(Stage):
    """Notes when it is entered, left, and sees a request."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    @asynccontextmanager
    async def _around(self) -> AsyncIterator[None]:
        self._notes.append(f"{self._name} in")
        try:
            yield
        finally:
            self._notes.append(f"{self._name} out")

    def around(self, call: Call) -> AbstractAsyncContextManager[Any] | None:
        return self._around()

    def inspector(self, method: Method) -> Inspector | None:
        return lambda call, message: self._notes.append(f"{self._name} sees {message}")


class Details:
    method = "/voice.x.v1.X/Get"
    invocation_metadata = ()


class Context:
    """As much of a context as the pipeline itself needs."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-a", "1"),)


async def wrapped(pipeline: Pipeline, handler: Any) -> Any:
    async def continuation(_: Any) -> Any:
        return handler

    details: Any = Details()
    return await pipeline.intercept_service(continuation, details)


async def test_stages_are_entered_in_order_and_left_in_reverse() -> None:
    notes: list[str] = []

    async def serve(request: str, _: Any) -> str:
        notes.append(f"handler {request}")
        return request.upper()

    pipeline = Pipeline([Noting("outer", notes), Stage(), Noting("inner", notes)])
    handler = await wrapped(pipeline, grpc.unary_unary_rpc_method_handler(serve))
    assert await handler.unary_unary("hello", Context()) == "HELLO"
    assert notes == [
        "outer in",
        "inner in",
        "outer sees hello",
        "inner sees hello",
        "handler hello",
        "inner out",
        "outer out",
    ]


async def test_a_method_is_wrapped_once_and_again_when_its_handler_changes() -> None:
    async def serve(request: str, _: Any) -> str:
        return request

    pipeline = Pipeline([])
    handler: Any = grpc.unary_unary_rpc_method_handler(serve)
    first = await wrapped(pipeline, handler)
    assert await wrapped(pipeline, handler) is first
    assert await wrapped(pipeline, grpc.unary_unary_rpc_method_handler(serve)) is not first
    assert await wrapped(pipeline, None) is None


async def test_serializers_stay_with_their_handler() -> None:
    async def serve(request: str, _: Any) -> str:
        return request

    handler = grpc.unary_unary_rpc_method_handler(serve, bytes.decode, str.encode)
    made = await wrapped(Pipeline([]), handler)
    assert made.request_deserializer(b"x") == "x"
    assert made.response_serializer("x") == b"x"


async def test_streams_are_known_while_they_are_open() -> None:
    async def serve(_: Any, __: Any) -> AsyncIterator[int]:
        yield 1
        yield 2

    pipeline = Pipeline([])
    handler = await wrapped(pipeline, grpc.unary_stream_rpc_method_handler(serve))
    stream = handler.unary_stream("x", Context())
    assert await anext(stream) == 1
    assert pipeline.open_streams == 1
    assert [item async for item in stream] == [2]
    assert pipeline.open_streams == 0
