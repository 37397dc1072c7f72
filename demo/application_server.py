"""A small application server: the documents of a folder over HTTP, with ETags, and a log of what was asked for."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

APPLICATIONS = Path(__file__).parent / "applications"


class ApplicationServer:
    """Serves until `close`. `requests` has (path with query, status) of every request answered."""

    def __init__(self, host: str, port: int = 8080, folder: Path = APPLICATIONS) -> None:
        self.requests: list[tuple[str, int]] = []
        self.broken: set[str] = set()
        """Names answered with 500."""
        self._server = ThreadingHTTPServer((host, port), _handler(self, folder))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="applications", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(server: ApplicationServer, folder: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = urlsplit(self.path).path.lstrip("/")
            file = folder / name
            known = "/" not in name and file.is_file()
            body = file.read_bytes() if known else b""
            etag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
            same = known and self.headers.get("If-None-Match") == etag
            status = 500 if name in server.broken else 304 if same else 200 if known else 404
            server.requests.append((self.path, status))
            self.send_response(status)
            if status in (200, 304):
                self.send_header("ETag", etag)
            content = body if status == 200 else b""
            self.send_header("Content-Type", "application/scxml+xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: `requests` is the log."""

    return Handler
