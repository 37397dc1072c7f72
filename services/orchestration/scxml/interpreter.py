"""One session: a JavaScript context, the runtime and a compiled document; steps in, effects out.

No I/O, no clock, no randomness of its own: the host passes the time to each step and performs the
effects. A step that asks the host something is thrown away and replayed from the state before it.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import quickjs

from services.orchestration.scxml.compiler import COMPILER_VERSION, Compiled
from services.orchestration.scxml.effects import (
    Action,
    CancelInvoke,
    CancelSend,
    Done,
    Effect,
    Event,
    Failure,
    Forward,
    Invoke,
    Json,
    Limits,
    Log,
    Query,
    Send,
    StepResult,
    Taken,
    child_from_json,
)
from services.orchestration.scxml.extensions import function_table
from services.orchestration.scxml.xmltext import interpret, tree_to_text

_HERE = Path(__file__).parent
MAX_DEPTH = 200
"""Of anything a session hands to its host."""


def _javascript(name: str) -> str:
    """A file of the runtime without comment lines and indentation: every session keeps its text."""
    text = (_HERE / name).read_text("utf-8")
    return re.sub(r"^[ \t]+|^\s*//.*\n", "", text, flags=re.MULTILINE)


_RUNTIME = "\n".join(["(function () {", _javascript("values.js"), _javascript("runtime.js"), "})()"])
_XML = _javascript("xml.js")
_RESTORE = _javascript("restore.js")
_FUNCTIONS = function_table()
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(?P<lone>u[dD][89a-fA-F]\w\w)|.)")
"""An escape in JSON text: a pair of surrogates, a lone one, or any other."""


_NOTHING = "\n;void 0"
"""Ends a script, so that its last value need not have a Python form."""


class SessionError(Exception):
    """The host used a session wrongly (a step after its end, an answer nobody asked for)."""


class SnapshotError(Exception):
    """A snapshot that does not belong to this document or this version of the compiler."""


class _Stopped(Exception):
    """The way out of a step that ended early."""

    def __init__(self, failure: Failure | None = None, query: Query | None = None) -> None:
        self.failure = failure
        self.query = query


class Interpreter:
    """A session. `params` replace the values of its top-level data (6.4, namelist and `<param>`)."""

    def __init__(
        self,
        compiled: Compiled,
        *,
        limits: Limits | None = None,
        session_id: str,
        io_processors: dict[str, Json],
        now_ms: float,
        seed: int,
        params: dict[str, Json] | None = None,
        x: Json = None,
    ) -> None:
        self.compiled = compiled
        self.limits = limits or Limits()
        self.session_id = session_id
        self.finished = False
        self._started = False
        self._setup: dict[str, Json] = {
            "id": session_id,
            "ioprocessors": io_processors,
            "seed": seed & 0x7FFFFFFF,
            "params": params,
            "x": {} if x is None else x,
        }
        self._call: Any = None
        self._knows_xml = False
        self._known_taken: dict[tuple[int, str], Taken] = {}
        self._before: bytes | None = None
        """The state before the step in progress; None when that is "not started"."""
        self._kept: bytes | None = None
        """The snapshot of the present state, when one was taken."""
        self._replay: tuple[str, Event | None, list[Json]] | None = None
        self._lost: list[str] = []
        self._created = now_ms

    # -- what the host calls ------------------------------------------------------------------------

    def start(self, now_ms: float) -> StepResult:
        """Bind the data, run the scripts, enter the initial states and run to the first stable
        configuration."""
        if self._started:
            raise SessionError("the session has started already")
        self._started = True
        self._before = None
        return self._run("start", None, now_ms, [])

    def step(self, event: Event, now_ms: float) -> StepResult:
        """Process one event and everything that follows from it inside the session."""
        return self._advance("step", event, now_ms)

    def terminate(self, now_ms: float) -> StepResult:
        """Leave all states (their onexit runs) and end the session, as a cancelled invocation does."""
        return self._advance("terminate", None, now_ms)

    def answer(
        self, query_id: int, value: Json = None, *, now_ms: float, error: str | None = None
    ) -> StepResult:
        """Answer the query that stopped the step. With `error` the function throws that message."""
        if self._replay is None:
            raise SessionError("no query is open")
        operation, event, answers = self._replay
        if query_id != len(answers):
            raise SessionError(f"query {query_id} is not the open one, {len(answers)} is")
        given = {"value": value} if error is None else {"error": error}
        if self._before is not None:
            self._load(self._before)
        return self._run(operation, event, now_ms, [*answers, given])

    def snapshot(self) -> bytes:
        """The state between two steps: two lines of JSON, with tags for what JSON cannot say. Raises
        SnapshotError for a state that exceeds the limits when it is written down."""
        if self._replay is not None:
            raise SessionError("a step is waiting for an answer")
        if not self._started or self.finished:
            raise SessionError("only a session that runs has a state to keep")
        if self._kept is None:
            try:
                self._kept = self._take()
            except _Stopped as stop:
                raise SnapshotError(f"the session's state cannot be kept: {stop.failure}") from None
        return self._kept

    @property
    def lost(self) -> list[str]:
        """What the last snapshot could not keep, by path."""
        return list(self._lost)

    @classmethod
    def restore(
        cls,
        compiled: Compiled,
        snapshot: bytes,
        *,
        limits: Limits | None = None,
        io_processors: dict[str, Json] | None = None,
    ) -> Interpreter:
        """The session as it was. `io_processors` may differ from before: addresses of a new node."""
        kept = json.loads(snapshot.partition(b"\n")[0])
        if kept["source_hash"] != compiled.source_hash or kept["compiler"] != COMPILER_VERSION:
            raise SnapshotError("the snapshot is of another version of the document or the compiler")
        setup = kept["setup"]
        session = cls(
            compiled,
            limits=limits,
            session_id=setup["id"],
            io_processors=setup["ioprocessors"] if io_processors is None else io_processors,
            now_ms=0,
            seed=setup["seed"],
            params=setup["params"],
            x=setup["x"],
        )
        session._started = True
        session._load(snapshot)
        session._kept = snapshot if io_processors is None else None
        return session

    def memory(self) -> int:
        """Bytes the session's JavaScript runtime holds now."""
        return int(self._context.memory()["memory_used_size"])

    def close(self) -> None:
        """Free the JavaScript context."""
        self._call = None
        self._context: Any = None
        self.finished = True

    # -- steps --------------------------------------------------------------------------------------

    def _advance(self, operation: str, event: Event | None, now_ms: float) -> StepResult:
        if not self._started or self.finished:
            raise SessionError("the session is not running")
        if self._replay is not None:
            raise SessionError("a step is waiting for an answer")
        if self.compiled.asks:
            try:
                self._before = self._kept = self._kept or self._take()
            except _Stopped as stop:
                return self._stop(stop, operation, event, [])
        return self._run(operation, event, now_ms, [])

    def _run(self, operation: str, event: Event | None, now_ms: float, answers: list[Json]) -> StepResult:
        self._replay = None
        try:
            if operation == "start":
                answer = self._start(now_ms, answers)
            else:
                if answers:
                    self._ask("given", json.dumps(answers))
                text = "null" if event is None else _event_json(event)
                answer = self._ask(operation, text, now_ms)
        except _Stopped as stop:
            return self._stop(stop, operation, event, answers)
        self._kept = None
        try:
            result = self._result(answer, event)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            return self._stop(_Stopped(_broken(str(error))), operation, event, answers)
        self.finished = result.finished
        return result

    def _stop(self, stop: _Stopped, operation: str, event: Event | None, answers: list[Json]) -> StepResult:
        if stop.query is not None:
            self._replay = (operation, event, answers)
            return StepResult(query=stop.query)
        self.close()
        return StepResult(finished=True, failure=stop.failure)

    def _start(self, now_ms: float, answers: list[Json]) -> Json:
        self._boot(now_ms)
        self._ask("given", json.dumps(answers))
        self._ask("bind", "null", now_ms)
        self._scripts()
        return self._ask("start")

    # -- the JavaScript context ---------------------------------------------------------------------

    def _boot(self, now_ms: float, extension: str = "") -> None:
        context = quickjs.Context()
        context.set_memory_limit(self.limits.memory_bytes)
        context.set_max_stack_size(self.limits.stack_bytes)
        context.set_time_limit(self.limits.cpu_seconds)
        self._context = context
        try:
            self._call = context.eval(_RUNTIME)
            if extension:
                self._call("extend", extension)
            factory = context.eval(self.compiled.code)
        except (quickjs.JSException, quickjs.StackOverflow) as error:
            raise _Stopped(_failure(error)) from None
        limits = {
            "internal_events": self.limits.internal_events,
            "effects": self.limits.effects,
            "microsteps": self.limits.microsteps,
            "queries": self.limits.queries,
        }
        functions = _FUNCTIONS if self.compiled.asks else {}
        setup = {**self._setup, "limits": limits, "functions": functions, "asks": self.compiled.asks}
        self._knows_xml = False
        if "$scxml.xml(" in self.compiled.javascript:
            self._extend_xml()
        self._ask("boot", json.dumps(setup), now_ms, factory)

    def _scripts(self) -> None:
        for script in self.compiled.scripts:
            try:
                if not script.problem:
                    self._context.eval(script.text + _NOTHING)
                    continue
                message = script.problem
            except (quickjs.JSException, quickjs.StackOverflow) as error:
                failure = _failure(error)
                if failure.reason != "script":
                    raise _Stopped(failure) from None
                message = failure.message
            self._ask("scriptError", json.dumps({"message": message, "at": script.at}))

    def _ask(self, operation: str, *arguments: Any) -> Json:
        """Call the runtime. Raises _Stopped for a query or a broken limit."""
        text = self._text_of(operation, *arguments)
        if text is None:
            return None
        if "\\ud" in text:
            text = _whole(text)
        try:
            answer = json.loads(text)
            if len(text) > 2 * MAX_DEPTH and _depth(answer) > MAX_DEPTH:
                raise _Stopped(_broken(f"data nested deeper than {MAX_DEPTH}"))
            if isinstance(answer, list):
                return answer
            if "stop" in answer:
                raise _Stopped(Failure(answer["stop"], str(answer["message"])))
            if "query" in answer:
                number, module, function, given = answer["query"]
                raise _Stopped(query=Query(number, module, function, tuple(given)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _Stopped(_broken(str(error))) from None
        return answer

    def _text_of(self, operation: str, *arguments: Any) -> str | None:
        try:
            if not self._knows_xml and arguments and '"$xml"' in arguments[0]:
                self._extend_xml()
            text = self._call(operation, *arguments)
        except (quickjs.JSException, quickjs.StackOverflow) as error:
            raise _Stopped(_failure(error)) from None
        except (TypeError, ValueError) as error:  # a value that has no Python form
            raise _Stopped(_broken(str(error))) from None
        return text if isinstance(text, str) else None

    def _extend_xml(self) -> None:
        """XML nodes are loaded into a context that meets XML; most sessions never do."""
        self._call("xml", _XML)
        self._knows_xml = True

    # -- snapshots ----------------------------------------------------------------------------------

    def _take(self) -> bytes:
        text = self._text_of("snapshot")
        if text is None or not text.startswith("{"):
            raise _Stopped(_broken("no snapshot"))
        self._lost = [] if text.endswith('"lost":[]}') else json.loads(text)["lost"]
        return self._head + text.encode()

    @functools.cached_property
    def _head(self) -> bytes:
        """The first line of a snapshot: what it belongs to. The second is the state."""
        head = {
            "compiler": COMPILER_VERSION,
            "source_hash": self.compiled.source_hash,
            "setup": self._setup,
        }
        return json.dumps(head, separators=(",", ":")).encode() + b"\n"

    def _load(self, snapshot: bytes) -> None:
        state = snapshot.partition(b"\n")[2].decode()
        try:
            self._boot(0, _RESTORE)
            if '"$":"xml"' in state:
                self._extend_xml()
            self._ask("restoreEarly", state)
            self._scripts_again()
            missing = self._ask("restoreLate", state)
        except _Stopped as stop:
            raise SnapshotError(f"the session could not be restored: {stop.failure}") from None
        self._lost = [f"{path}: its declaration is gone" for path in missing]

    def _scripts_again(self) -> None:
        """Scripts run once more for their declarations; what else they do is thrown away."""
        for script in self.compiled.scripts:
            if script.problem:
                continue
            try:
                self._context.eval(script.text + _NOTHING)
            except (quickjs.JSException, quickjs.StackOverflow) as error:
                failure = _failure(error)
                if failure.reason != "script":
                    raise _Stopped(failure) from None

    # -- results ------------------------------------------------------------------------------------

    def _result(self, answer: Json, event: Event | None) -> StepResult:
        active, effects, trace, finished = answer
        states = self.compiled.states
        name = event.name if event else ""
        return StepResult(
            [self._effect(item, event) for item in effects],
            [states[number] for number in active],
            finished is True,
            trace=[self._taken(number, name) for number in trace],
        )

    def _taken(self, number: int, event: str) -> Taken:
        known = self._known_taken.get((number, event))
        if known is None:
            t = self.compiled.transitions[number]
            known = Taken(t.source, event if t.event else "", t.targets, t.line, t.column)
            if len(self._known_taken) > 256:
                self._known_taken.clear()
            self._known_taken[number, event] = known
        return known

    def _effect(self, item: list[Json], event: Event | None) -> Effect:
        kind = item[0]
        if kind == "Send":
            return self._send(item)
        if kind == "Log":
            return Log(str(item[1]), str(item[2]))
        if kind == "Action":
            return self._action(item)
        if kind == "CancelSend":
            return CancelSend(str(item[1]))
        if kind == "CancelInvoke":
            return CancelInvoke(str(item[1]))
        if kind == "Forward" and event is not None:
            return Forward(str(item[1]), event)
        if kind == "Invoke":
            _, invokeid, type_, src, content, data, autoforward = item
            address = urljoin(self.compiled.url, str(src)) if src else ""
            return Invoke(str(invokeid), str(type_), address, _text(content), data, bool(autoforward))
        if kind == "Done":
            data = interpret(item[1]) if item[3] else item[1]
            return Done(data, bool(item[2]))
        raise ValueError(f"unknown effect {kind!r}")

    def _send(self, item: list[Json]) -> Send:
        _, target, type_, name, body, sendid, delay, hints = item
        data, content = body.get("data"), body.get("content")
        has_data = bool(body["has"]) and content is None
        if isinstance(data, dict) and "$xml" in data:
            content = tree_to_text(data["$xml"])
            data, has_data = None, False
        params = tuple((str(key), value) for key, value in body["params"])
        return Send(target, type_, name, data, has_data, content, params, sendid, float(delay), hints)

    def _action(self, item: list[Json]) -> Action:
        _, module, name, attributes, requestid, children, at = item
        line, column = self.compiled.positions[at][:2]
        parts = tuple(child_from_json(child) for child in children)
        return Action(str(module), str(name), dict(attributes), str(requestid), parts, line, column)


_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _event_json(event: Event) -> str:
    """The event for the runtime."""
    body: dict[str, Json] = {"name": event.name, "type": event.type}
    if event.sendid:
        body["sendid"] = event.sendid
    if event.origin:
        body["origin"] = event.origin
    if event.origintype:
        body["origintype"] = event.origintype
    if event.invokeid:
        body["invokeid"] = event.invokeid
    if event.raw:
        body["raw"] = event.raw
    if event.content is not None:
        body["data"] = interpret(event.content)
    elif event.data is not None or event.has_data:
        body["data"] = event.data
    return _encode(body)


def _broken(message: str) -> Failure:
    """A session can reach its own runtime (`Array.prototype` and the like); what comes out of it is
    checked like any other input."""
    return Failure("script", f"the session broke its own runtime: {message}")


def _depth(value: Json) -> int:
    """How deeply lists and objects are nested. (A text has at least two characters a level.)"""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _failure(error: Exception) -> Failure:
    """Which limit a JavaScript exception stands for."""
    text = str(error)
    message = text.splitlines()[0] if text else type(error).__name__
    if message == "InternalError: interrupted":
        return Failure("cpu", "the step used more CPU time than it may")
    if "out of memory" in message or message in ("null", "InternalError: string too long"):
        return Failure("memory", "the session used more memory than it may")
    if isinstance(error, quickjs.StackOverflow) or "Maximum call stack size exceeded" in message:
        return Failure("stack", "the session's calls are nested too deeply")
    return Failure("script", message)


def _text(content: Json) -> str | None:
    """Content of an invoke as text: XML of a node, a string, anything else as JSON."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, dict) and "$xml" in content:
        return tree_to_text(content["$xml"])
    return json.dumps(content)


def _whole(text: str) -> str:
    """JSON text whose lone halves of surrogate pairs are U+FFFD, so that every string can be UTF-8."""
    return _ESCAPE.sub(lambda match: "\\ufffd" if match.group("lone") else match.group(), text)
