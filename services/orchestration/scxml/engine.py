"""One JavaScript context with the runtime in it: evaluated text, calls, limits, what exceeded them.

A context belongs to one session: the recommendation gives a document one global scope. It costs 0.3 MB and
half a millisecond, of which loading the runtime is half; `warm` does that half ahead of time.
"""

from __future__ import annotations

import ctypes
import functools
import json
import re
from pathlib import Path
from typing import Any

import quickjs

from services.orchestration.scxml.bytecode import Script, evaluate, prepare
from services.orchestration.scxml.effects import Failure, Json, Limits, Query

KEPT_DOCUMENTS = 128
"""Documents whose bytecode a process keeps."""
MAX_DEPTH = 200
"""Of anything a session hands to its host."""
_FOLDER = Path(__file__).parent / "js"
_FILES = (
    "values.js",
    "state.js",
    "content.js",
    "selection.js",
    "microstep.js",
    "step.js",
    "surroundings.js",
    "snapshot.js",
    "entry.js",
)


def _javascript(name: str) -> str:
    """A file of the runtime without comment lines and indentation: every session keeps its text."""
    text = (_FOLDER / name).read_text("utf-8")
    return re.sub(r"^[ \t]+|^\s*//.*\n", "", text, flags=re.MULTILINE)


_RUNTIME = "\n".join(["(function () {", *(_javascript(name) for name in _FILES), "})()"])
_NOTHING = "\n;void 0"
"""Ends a script, so that its last value need not have a Python form."""
_OURS = re.compile(
    r"\(function \(\$scxml\) \{|function \(\$scxml_n\) \{|switch \(\$scxml_n\) \{"
    r"|function \$scxml_set\d+\(\$scxml_v\) \{"
)
"""Functions that the compiler writes for every document (compiler.py)."""
_FUNCTION = re.compile(r"\bfunction\b|\bclass\b|=>|\)\s*\{|\b[gs]et\b")
"""Whatever may be a function of an author, or looks like one."""
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(?P<lone>u[dD][89a-fA-F]\w\w)|.)")
"""An escape in JSON text: a pair of surrogates, a lone one, or any other."""


class Stopped(Exception):
    """The way out of a step that ended early: by a limit, or by a question to the host."""

    def __init__(self, failure: Failure | None = None, query: Query | None = None) -> None:
        self.failure = failure
        self.query = query


_Loaded = tuple[Any, Any]
"""A context and the runtime's one function in it."""
_warm: list[_Loaded] = []


def warm(count: int) -> bool:
    """Load the runtime into one more spare context unless `count` are ready; whether there was one to load."""
    if len(_warm) >= count:
        return False
    _warm.append(_load())
    return True


def trim() -> bool:
    """Free memory goes back to the system where the C library can do that; whether some did."""
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return release is not None and release(0) == 1


def _load() -> _Loaded:
    context = quickjs.Context()
    call = evaluate(context, _runtime())
    call("part", "furnish", 0, evaluate(context, _part("furnish")))
    return context, call


@functools.lru_cache(maxsize=1)
def _runtime() -> Script:
    return prepare(_RUNTIME, keep_source=False)


@functools.cache
def _part(name: str) -> Script:
    return prepare(_javascript(f"{name}.js"), keep_source=False)


@functools.lru_cache(maxsize=KEPT_DOCUMENTS)
def parse(code: str) -> Script:
    """A document's code, parsed. With its source when an author's function may be in it: a function that a session has
    made is kept as text in its snapshots. That text is 14 kB of each session of a document of 50 states."""
    return prepare(code, keep_source=bool(_FUNCTION.search(_OURS.sub("", code))))


class Engine:
    """A session's context. Every method raises Stopped when a limit is exceeded."""

    def __init__(self, limits: Limits) -> None:
        self._context, self._call = _warm.pop() if _warm else _load()
        self._context.set_memory_limit(limits.memory_bytes)
        self._context.set_max_stack_size(limits.stack_bytes)
        self._context.set_time_limit(limits.cpu_seconds)
        self._known: set[str] = set()

    def factory(self, code: str) -> Any:
        """The function a compiled document evaluates to."""
        try:
            return evaluate(self._context, parse(code))
        except (quickjs.JSException, quickjs.StackOverflow) as error:
            raise Stopped(_failure(error)) from None

    def script(self, text: str) -> str:
        """Run a global script; "" or what it threw."""
        try:
            self._context.eval(text + _NOTHING)
        except (quickjs.JSException, quickjs.StackOverflow) as error:
            failure = _failure(error)
            if failure.reason != "script":
                raise Stopped(failure) from None
            return failure.message
        return ""

    def call(self, operation: str, *arguments: Any) -> str | None:
        """The runtime's answer as text."""
        try:
            if "xml" not in self._known and arguments and '"$xml"' in arguments[0]:
                self.know("xml")
            text = self._call(operation, *arguments)
        except (quickjs.JSException, quickjs.StackOverflow) as error:
            raise Stopped(_failure(error)) from None
        except (TypeError, ValueError) as error:  # a value that has no Python form
            raise Stopped(broken(str(error))) from None
        return text if isinstance(text, str) else None

    def ask(self, operation: str, *arguments: Any) -> Json:
        """The runtime's answer as a value. Raises Stopped with the query when it is a question."""
        text = self.call(operation, *arguments)
        if text is None:
            return None
        if "\\ud" in text:
            text = whole(text)
        try:
            answer = json.loads(text)
            if len(text) > 2 * MAX_DEPTH and _depth(answer) > MAX_DEPTH:
                raise Stopped(broken(f"data nested deeper than {MAX_DEPTH}"))
            if isinstance(answer, list):
                return answer
            if "stop" in answer:
                raise Stopped(Failure(answer["stop"], str(answer["message"])))
            if "query" in answer:
                number, module, function, given = answer["query"]
                raise Stopped(query=Query(number, module, function, tuple(given)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Stopped(broken(str(error))) from None
        return answer

    def know(self, part: str) -> None:
        """Load a part of the runtime (js/entry.js) into a context that needs it."""
        if part in self._known:
            return
        self._known.add(part)
        try:
            self._call("part", part, 0, evaluate(self._context, _part(part)))
        except (quickjs.JSException, quickjs.StackOverflow) as error:
            raise Stopped(_failure(error)) from None

    def memory(self) -> int:
        """Bytes that the context holds now."""
        return int(self._context.memory()["memory_used_size"])


def broken(message: str) -> Failure:
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


def whole(text: str) -> str:
    """JSON text whose lone halves of surrogate pairs are U+FFFD, so that every string can be UTF-8."""
    return _ESCAPE.sub(lambda match: "\\ufffd" if match.group("lone") else match.group(), text)
