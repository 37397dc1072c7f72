"""A web server for applications under test: documents, answers that are late or bad, and a log of what was asked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    at: float
    """time.time()."""
    method: str
    path: str
    """With query."""
    headers: dict[str, str]
    body: bytes


class Web:
    """/docs/<name> is a document; /late?s=1 answers after a second; /status?code=404 with that status; /flaky?key=k&n=2
    fails twice for a key; anything else is 200 with the body it got."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}
        self.asked: list[Asked] = []
        self._fails: Counter[str] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def put(self, name: str, text: str) -> str:
        """Serves a document; gives its address."""
        self.documents[name] = text
        return f"{self.base}/docs/{name}"

    def requests(self, path: str) -> list[Asked]:
        """What was asked under a path."""
        return [one for one in self.asked if urlsplit(one.path).path == path]

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        """Status and body of the answer."""
        parts = urlsplit(asked.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.path.startswith("/docs/"):
            text = self.documents.get(parts.path.removeprefix("/docs/"))
            return (404, b"") if text is None else (200, text.encode())
        if parts.path == "/late":
            time.sleep(
                float(query["s"])
            )  # the point of this address: the client's own limit is what is tested
            return 200, b'{"late": true}'
        if parts.path == "/status":
            return int(query["code"]), b"as told"
        if parts.path == "/flaky":
            self._fails[query["key"]] += 1
            return (503, b"") if self._fails[query["key"]] <= int(query["n"]) else (200, b'{"fine": true}')
        return 200, asked.body


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(time.time(), self.command, self.path, dict(self.headers.items()), body)
            web.asked.append(asked)
            status, content = web.answer(asked)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: `asked` is the log."""

    return Handler
