"""Sessions in a process of their own: `python -m services.orchestration.scxml.worker`.

A native call inside the JavaScript engine can run for seconds past every limit, so the process that
holds contexts must be one that a watchdog may kill. Messages are JSON with a length of four bytes (big
endian) before them; one answer a request, in order: `{"id", "ok": …}` or `{"id", "error", "message"}`.

| op | members | ok |
|---|---|---|
| `load` | key, compiled (`Compiled.to_json`) | {} |
| `unload` | key | {} |
| `start` | session, key, io_processors, now, seed, params, x, limits | result |
| `step` | session, event, now, restore | result |
| `answer` | session, query, value or error | result |
| `terminate` | session, now, restore | result |
| `snapshot` | session | snapshot, lost |
| `drop` | session | {} |
| `stats` | | sessions, documents, memory (bytes in JavaScript runtimes) |

`restore` (key, snapshot, io_processors, limits): the session is not here and goes on from its snapshot.

`"keep": true` in start, step, answer and terminate adds the snapshot after the step to its answer.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from services.orchestration.scxml.compiled import Compiled
from services.orchestration.scxml.effects import Event, Json, Limits, StepResult, result_to_json
from services.orchestration.scxml.engine import parse, trim, warm
from services.orchestration.scxml.interpreter import Interpreter, SessionError, SnapshotError

TRIM_AFTER = 50
"""Contexts that have ended before free memory is given back to the system: 0.4 MB each."""
SPARE_CONTEXTS = 4
"""Contexts with the runtime loaded, ready for the next sessions; 0.2 MB each."""
MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes; a longer one means that the two sides have lost each other."""


def read_message(stream: IO[bytes]) -> Json:
    """The next message, None at the end of the stream. Raises ValueError for one that is too long."""
    head = _exactly(stream, 4)
    if head is None:
        return None
    size = int.from_bytes(head, "big")
    if size > MAX_MESSAGE:
        raise ValueError(f"a message of {size} bytes; at most {MAX_MESSAGE} are accepted")
    body = _exactly(stream, size)
    return None if body is None else json.loads(body)


def _exactly(stream: IO[bytes], size: int) -> bytes | None:
    """So many bytes, None when the stream ends before; raw streams give fewer at a time."""
    parts = []
    while size > 0:
        part = stream.read(size)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_message(stream: IO[bytes], message: Json) -> None:
    """Send one message and flush."""
    body = json.dumps(message, separators=(",", ":")).encode()
    stream.write(len(body).to_bytes(4, "big") + body)
    stream.flush()


class Worker:
    """The sessions of one process. `handle` never raises for what a request or a session does."""

    def __init__(self) -> None:
        self._documents: dict[str, Compiled] = {}
        self._sessions: dict[str, Interpreter] = {}
        self._ended = 0
        self._operations: dict[str, Callable[[dict[str, Any]], Json]] = {
            "load": self._load,
            "unload": self._unload,
            "start": self._start,
            "step": self._step,
            "answer": self._answer,
            "terminate": self._terminate,
            "snapshot": self._snapshot,
            "drop": self._drop,
            "stats": self._stats,
        }

    def handle(self, request: dict[str, Any]) -> dict[str, Json]:
        """Carry out one request."""
        number = request.get("id")
        operation = self._operations.get(str(request.get("op")))
        if operation is None:
            return {"id": number, "error": "request", "message": f"unknown op {request.get('op')!r}"}
        try:
            return {"id": number, "ok": operation(request)}
        except SessionError as error:
            return {"id": number, "error": "session", "message": str(error)}
        except SnapshotError as error:
            return {"id": number, "error": "snapshot", "message": str(error)}
        except (KeyError, TypeError, ValueError) as error:
            message = f"{type(error).__name__}: {error}"
            return {"id": number, "error": "request", "message": message}

    # -- documents ----------------------------------------------------------------------------------

    def _load(self, request: dict[str, Any]) -> Json:
        compiled = self._documents[request["key"]] = Compiled.from_json(request["compiled"])
        parse(compiled.code)
        return {}

    def _unload(self, request: dict[str, Any]) -> Json:
        self._documents.pop(request["key"], None)
        return {}

    def _document(self, request: dict[str, Any]) -> Compiled:
        try:
            return self._documents[request["key"]]
        except KeyError:
            raise SessionError(f"no document {request['key']!r} is loaded") from None

    # -- sessions -----------------------------------------------------------------------------------

    def _session(self, request: dict[str, Any]) -> Interpreter:
        try:
            return self._sessions[request["session"]]
        except KeyError:
            raise SessionError(f"no session {request['session']!r} here") from None

    def _continued(self, request: dict[str, Any]) -> Interpreter:
        """The session, as it is or from a state to restore: one request instead of two."""
        if (state := request.get("restore")) is not None:
            self._restore(request["session"], state)
        return self._session(request)

    def _start(self, request: dict[str, Any]) -> Json:
        name = request["session"]
        if name in self._sessions:
            raise SessionError(f"session {name!r} is here already")
        session = Interpreter(
            self._document(request),
            limits=_limits(request),
            session_id=name,
            io_processors=request.get("io_processors") or {},
            now_ms=request["now"],
            seed=request["seed"],
            params=request.get("params"),
            x=request.get("x"),
        )
        self._sessions[name] = session
        return self._done(request, session, session.start(request["now"]))

    def _step(self, request: dict[str, Any]) -> Json:
        session = self._continued(request)
        return self._done(request, session, session.step(Event(**request["event"]), request["now"]))

    def _answer(self, request: dict[str, Any]) -> Json:
        session = self._session(request)
        result = session.answer(request["query"], request.get("value"), error=request.get("error"))
        return self._done(request, session, result)

    def _terminate(self, request: dict[str, Any]) -> Json:
        session = self._continued(request)
        return self._done(request, session, session.terminate(request["now"]))

    def _done(self, request: dict[str, Any], session: Interpreter, result: StepResult) -> Json:
        answer = result_to_json(result)
        if result.finished:
            self._drop(request)
        elif request.get("keep") and result.query is None:
            answer["snapshot"] = session.snapshot().decode()
            answer["lost"] = session.lost
        return answer

    def _snapshot(self, request: dict[str, Any]) -> Json:
        session = self._session(request)
        return {"snapshot": session.snapshot().decode(), "lost": session.lost}

    def _restore(self, name: str, state: dict[str, Any]) -> None:
        if name in self._sessions:
            raise SessionError(f"session {name!r} is here already")
        session = Interpreter.restore(
            self._document(state),
            state["snapshot"].encode(),
            limits=_limits(state),
            io_processors=state.get("io_processors"),
        )
        self._sessions[name] = session

    def _drop(self, request: dict[str, Any]) -> Json:
        session = self._sessions.pop(request["session"], None)
        if session is not None:
            session.close()
            self._ended += 1
        return {}

    def trim(self) -> bool:
        """Gives memory of ended contexts back to the system, now and then; whether it did."""
        if self._ended < TRIM_AFTER:
            return False
        self._ended = 0
        return trim()

    def _stats(self, _request: dict[str, Any]) -> Json:
        return {
            "sessions": len(self._sessions),
            "documents": len(self._documents),
            "memory": sum(session.memory() for session in self._sessions.values()),
        }


def _limits(request: dict[str, Any]) -> Limits:
    limits = Limits(**(request.get("limits") or {}))
    if problems := limits.validate():
        raise ValueError("; ".join(problems))
    return limits


def main() -> int:
    """Serve requests from standard input until it ends."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    # Answers own file descriptor 1; whatever else in this process prints goes to standard error.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    worker = Worker()
    # Unbuffered, so that select sees whether a request waits.
    requests = os.fdopen(0, "rb", buffering=0, closefd=False)
    while (request := read_message(requests)) is not None:
        write_message(answers, worker.handle(request))
        # Half of what the start of a session costs is done while nobody waits.
        while not select.select([requests], [], [], 0)[0] and (warm(SPARE_CONTEXTS) or worker.trim()):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
