"""An application server: documents by path, answers that wait, what was asked for."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.integration.servers import loopback


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class ApplicationServer:
    """What it serves may change at any time."""

    host: str = field(default_factory=loopback)
    port: int = 0
    documents: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    """Path -> status instead of the document."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Requests below /slow are answered when it is set."""
    asked: list[Asked] = field(default_factory=list)
    cut: int = 0
    """Requests whose sender was gone before the answer."""

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"

    def times(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked.path.partition("?")[0] == path for asked in self.asked)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode().rstrip("\r\n").split("\r\n")
                method, path, _ = request.split(" ", 2)
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.asked.append(Asked(method, path, headers, body.decode()))
                if path.startswith("/slow"):
                    gone = asyncio.create_task(reader.read(1))
                    held = asyncio.create_task(self.held.wait())
                    await asyncio.wait((gone, held), return_when=asyncio.FIRST_COMPLETED)
                    gone.cancel()
                    held.cancel()
                    await asyncio.gather(gone, held, return_exceptions=True)
                    if not self.held.is_set():
                        self.cut += 1
                        break
                writer.write(self._answer(path.partition("?")[0], headers))
                await writer.drain()
        writer.close()

    def _answer(self, path: str, headers: dict[str, str]) -> bytes:
        status, body = self.statuses.get(path, 0), self.documents.get(path, "")
        etag = f'"{hashlib.sha256(body.encode()).hexdigest()[:16]}"'
        if not status:
            status = 200 if body or path.startswith("/slow") else 404
            if status == 200 and headers.get("if-none-match") == etag:
                status, body = 304, ""
        content = body.encode()
        return (
            f"HTTP/1.1 {status} -\r\nETag: {etag}\r\nContent-Type: text/plain\r\nContent-Length: {len(content)}\r\n\r\n"
        ).encode() + content


@contextlib.asynccontextmanager
async def application_server() -> AsyncIterator[ApplicationServer]:
    """One that listens."""
    made = ApplicationServer()
    server = await asyncio.start_server(made.serve, made.host, 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
