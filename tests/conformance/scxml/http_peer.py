"""A small real HTTP server at whose address sessions of a LocalHost can be reached."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from services.orchestration.scxml import HTTP_PROCESSOR, Send, basichttp
from services.orchestration.scxml.local import LocalHost, Session

TIMEOUT_S = 5.0


class HttpPeer:
    """Receives for the sessions of one host and sends for them. The socket opens with the first message."""

    def __init__(self) -> None:
        self._server: ThreadingHTTPServer | None = None
        self._host: LocalHost | None = None
        self._reserved = ""

    def __enter__(self) -> HttpPeer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._reserved = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        if self._host is not None and self._started:
            self._server.shutdown()
        self._server.server_close()

    _started = False

    def attach(self, host: LocalHost) -> None:
        self._host = host

    def io_processors(self, session_id: str) -> dict[str, Any]:
        location = {"location": f"{self._reserved}/{session_id}/basichttp"}
        return {"basichttp": dict(location), HTTP_PROCESSOR: dict(location)}

    def deliver(self, _session: Session, send: Send) -> None:
        """POST a message; OSError when the other side does not take it."""
        body, kind = basichttp.encode(send)
        status = self.post(send.target, body, kind)
        if status // 100 != 2:
            raise OSError(f"{send.target}: HTTP status {status}")

    def post(self, address: str, body: bytes, kind: str) -> int:
        """POST to an address, starting our own server first; the status."""
        if not self._started and self._server is not None:
            self._started = True
            threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", parts.path, body, {"Content-Type": kind})
            return connection.getresponse().status
        except http.client.HTTPException as error:
            raise OSError(f"{address}: {error!r}") from error
        finally:
            connection.close()

    def receive(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> int:
        """Put an arriving message into its session's queue; the status to answer with."""
        assert self._host is not None
        session = self._host.sessions.get(path.split("/")[1])
        if session is None or session.ended:
            return 404
        try:
            event = basichttp.decode(method, path, headers, body)
        except ValueError:
            return 400
        self._host.post(session, event)
        return 200


def _handler(peer: HttpPeer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status = peer.receive("POST", self.path, list(self.headers.items()), body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: the observer sees what matters."""

    return Handler
