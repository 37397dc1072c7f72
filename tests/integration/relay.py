"""A TCP relay in front of a server: cuts connections, holds up what passes, delays it, or leads to another server, on demand."""

from __future__ import annotations

import asyncio
import contextlib

from tests.integration.servers import free_port, loopback


class Relay:
    """Forwards to `target` ("host:port") from an address of its own."""

    def __init__(self, target: str) -> None:
        self.host, self.port = loopback(), 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.delay_s = 0.0
        """What passes in either direction is so much later, seconds."""

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    async def start(self) -> None:
        self.port = self.port or free_port(self.host)
        self._server = await asyncio.start_server(self._serve, self.host, self.port)

    async def cut(self) -> None:
        """Ends every connection and refuses new ones until `start()`."""
        if self._server is not None:
            self._server.close()
            while self._links:  # also one that was accepted a moment ago
                for link in list(self._links):
                    link.cancel()
                await asyncio.gather(*self._links, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def lead_to(self, target: str) -> None:
        """Another server from now on; connections to the old one end. As a managed address that moves."""
        await self.cut()
        self._target = target
        self.thaw()
        await self.start()

    def freeze(self) -> None:
        """Connections stay, nothing passes (what is sent waits) until `thaw()`."""
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        ends = [writer]
        try:
            host, _, port = self._target.rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            ends.append(far_writer)
            await self._link(reader, writer, far_reader, far_writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._links.discard(task)
            for end in ends:
                end.close()

    async def _link(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        copies = [
            asyncio.create_task(self._copy(reader, far_writer)),
            asyncio.create_task(self._copy(far_reader, writer)),
        ]
        try:
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for copy in copies:
                copy.cancel()
            await asyncio.gather(*copies, return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
