"""The small HTTP server of a node: GET /metrics for Prometheus, GET /healthz for whoever restarts us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

MAX_REQUEST_BYTES = 8192
"""Longest request head taken, bytes."""
REQUEST_TIMEOUT_S = 5.0
"""Time a client has to send its request, seconds."""

_TEXT = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class MetricsServer:
    """Serves /metrics and /healthz. `health` gives whether the node is healthy and what to say about it."""

    def __init__(
        self, registry: CollectorRegistry, health: Callable[[], tuple[bool, dict[str, Any]]]
    ) -> None:
        self._registry = registry
        self._health = health
        self._server: asyncio.Server | None = None
        self.port = 0
        """The port taken."""

    async def start(self, host: str, port: int) -> None:
        """Listens; port 0 takes a free one. OSError when the address is taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_REQUEST_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away or never asked
        except asyncio.LimitOverrunError:
            writer.write(_response(400, "text/plain", b"request too long\n"))
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3:
            return _response(400, "text/plain", b"bad request\n")
        method, path = parts[0], parts[1].split(b"?", 1)[0]
        if method not in (b"GET", b"HEAD"):
            return _response(405, "text/plain", b"only GET\n")
        if path == b"/metrics":
            return _response(200, CONTENT_TYPE_LATEST, generate_latest(self._registry))
        if path == b"/healthz":
            good, said = self._health()
            return _response(200 if good else 503, "application/json", json.dumps(said).encode() + b"\n")
        return _response(404, "text/plain", b"only /metrics and /healthz\n")


def _response(status: int, kind: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_TEXT[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
