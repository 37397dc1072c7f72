"""What happens around every call served: stages, entered in order, wrapped once around each method.

One interceptor for all stages: a method's handler is wrapped the first time it is called and kept, so a
call pays for the stages and not for the wrapping. All four shapes of a call pass the same way.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import DomainError

Handler = Any  # grpc.RpcMethodHandler: typed by no stub with its streaming attributes
Inspector = Callable[["Call", Message], None]


@dataclass(frozen=True)
class Method:
    """A method of a contract."""

    path: str
    """As on the wire: "/voice.config.v1.ConfigService/GetObject"."""
    name: str
    """Short, for logs and metrics: "ConfigService.GetObject"."""
    domain: str
    """The contract's domain: "config"; the whole package name for contracts that are not ours."""
    request_streaming: bool = False
    response_streaming: bool = False

    @classmethod
    def of(cls, path: str, request_streaming: bool = False, response_streaming: bool = False) -> Method:
        """Parses a path as grpc gives it."""
        service, _, method = path.lstrip("/").rpartition("/")
        package, _, short = service.rpartition(".")
        parts = package.split(".")
        domain = parts[1] if len(parts) == 3 and parts[0] == "voice" else package
        return cls(path, f"{short}.{method}", domain, request_streaming, response_streaming)

    @property
    def full_name(self) -> str:
        """As in a descriptor pool: "voice.config.v1.ConfigService.GetObject"."""
        return self.path.lstrip("/").replace("/", ".")


class Call:
    """One call being served."""

    __slots__ = ("context", "draining", "metadata", "method", "reason", "task")

    def __init__(self, method: Method, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.method = method
        self.context = context
        self.metadata: Mapping[str, Any] = dict(context.invocation_metadata() or ())
        self.reason: Reason.ValueType | None = None
        """Why it failed, once that is known."""
        self.task: asyncio.Task[Any] | None = None
        self.draining = False
        """The node ended this stream to drain."""


class Stage:
    """Something done around each call. Subclasses give `around`, `inspector` or both."""

    def around(self, call: Call) -> AbstractAsyncContextManager[Any] | None:
        """Entered before the handler, left after it, in the same task; None when there is nothing to do."""
        return None

    def inspector(self, method: Method) -> Inspector | None:
        """Looks at each request message of a method before the handler does; None when there is nothing to
        see. It raises DomainError to refuse."""
        return None


class Pipeline(grpc.aio.ServerInterceptor):
    """All stages of a server. The first stage given is the outermost."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}
        self._streams: set[Call] = set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Gives grpc the wrapped handler."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        path: str = handler_call_details.method
        known = self._wrapped.get(path)
        if known is not None and known[0] is handler:
            return known[1]
        wrapped = self._wrap(Method.of(path, handler.request_streaming, handler.response_streaming), handler)
        self._wrapped[path] = (handler, wrapped)
        return wrapped

    @property
    def open_streams(self) -> int:
        """Streaming responses being served."""
        return len(self._streams)

    def end_streams(self) -> None:
        """Ends every streaming response with REASON_DRAINING: its client goes to another node at once."""
        for call in list(self._streams):
            if call.task is not None:
                call.draining = True
                call.task.cancel()

    def _wrap(self, method: Method, handler: Handler) -> Handler:
        inspectors = tuple(look for stage in self._stages if (look := stage.inspector(method)) is not None)
        serve = getattr(handler, _shape(handler))
        if inspect.isasyncgenfunction(serve):
            wrapped: Any = self._generating(method, serve, inspectors)
        elif inspect.iscoroutinefunction(serve):
            wrapped = self._answering(method, serve, inspectors)
        else:
            wrapped = self._answering(method, _not_served(method), inspectors)
        make = getattr(grpc, f"{_shape(handler)}_rpc_method_handler")
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _answering(self, method: Method, serve: Any, inspectors: tuple[Inspector, ...]) -> Any:
        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            call = Call(method, context)
            async with AsyncExitStack() as around:
                await self._enter(call, around)
                return await serve(*_inspected(call, request, context, inspectors))

        return answer

    def _generating(self, method: Method, serve: Any, inspectors: tuple[Inspector, ...]) -> Any:
        async def generate(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            call = Call(method, context)
            async with AsyncExitStack() as around:
                await self._enter(call, around)
                async for response in serve(*_inspected(call, request, context, inspectors)):
                    yield response

        return generate

    async def _enter(self, call: Call, around: AsyncExitStack) -> None:
        for stage in self._stages:
            manager = stage.around(call)
            if manager is not None:
                await around.enter_async_context(manager)
        if call.method.response_streaming:
            call.task = asyncio.current_task()
            self._streams.add(call)
            around.callback(self._streams.discard, call)


def _not_served(method: Method) -> Any:
    """In place of a handler that is not asynchronous: such is the generated base class's for a method that
    the servicer does not have."""

    async def refuse(_: Any, __: Any) -> Any:
        raise DomainError(Reason.REASON_UNSUPPORTED, f"{method.name} is not served here")

    return refuse


def _shape(handler: Handler) -> str:
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    return f"{request}_{response}"


def _inspected(call: Call, request: Any, context: Any, inspectors: tuple[Inspector, ...]) -> tuple[Any, Any]:
    if not inspectors:
        return request, context
    if not call.method.request_streaming:
        for look in inspectors:
            look(call, request)
        return request, context
    return _inspected_stream(call, request, inspectors), _InspectedContext(call, context, inspectors)


async def _inspected_stream(
    call: Call, requests: AsyncIterator[Message], inspectors: tuple[Inspector, ...]
) -> AsyncIterator[Message]:
    async for request in requests:
        for look in inspectors:
            look(call, request)
        yield request


class _InspectedContext:
    """The context of a call whose requests are looked at: `read` as the iterator does."""

    def __init__(self, call: Call, context: Any, inspectors: tuple[Inspector, ...]) -> None:
        self._call = call
        self._context = context
        self._inspectors = inspectors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        request = await self._context.read()
        if request is not grpc.aio.EOF:
            for look in self._inspectors:
                look(self._call, request)
        return request
