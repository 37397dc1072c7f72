"""Script parsed once and evaluated in many contexts: QuickJS's own bytecode, which the wheel exports but does not wrap.

Parsing the runtime costs five times what evaluating it does, and every session would keep its source. The bytecode is
made in this process from our own text and never stored or sent: the engine trusts it. The pointers of a context are
read from its Python object, whose layout belongs to one version of the wheel; with any other, `evaluate` parses text.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
from dataclasses import dataclass
from typing import Any

import quickjs

KNOWN_WHEEL = "0.17.0.2"
"""The version of quickjs-ng whose objects have runtime and context after the head."""
_TAG_EXCEPTION = 6
_EVAL_COMPILE_ONLY = 1 << 5
_WRITE_BYTECODE = 1 << 0
_WRITE_STRIP_DEBUG = 1 << 5
"""Neither source nor lines: what an error says of its place comes from the document's positions."""
_READ_BYTECODE = 1 << 0
_PLACE = "$scxmlLoaded"


_Words = ctypes.POINTER(ctypes.c_size_t)


class _Value(ctypes.Structure):
    """JSValue of a 64-bit build: a union and a tag."""

    _fields_ = (("union", ctypes.c_uint64), ("tag", ctypes.c_int64))


@dataclass(frozen=True, slots=True)
class Script:
    """An expression, ready for any context of this process."""

    text: str
    code: bytes = b""
    """Empty when only the text can be used."""


def prepare(text: str, *, keep_source: bool) -> Script:
    """Parses an expression. Without their source, functions in it have no `toString` worth reading."""
    library = _library()
    if library is None:
        return Script(text)
    context = quickjs.Context()
    pointer = _pointer(context)
    body = text.encode()
    value = library.JS_Eval(pointer, body, len(body), b"<scxml>", _EVAL_COMPILE_ONLY)
    if value.tag == _TAG_EXCEPTION:
        return Script(text)  # evaluating the text says what is wrong
    size = ctypes.c_size_t()
    flags = _WRITE_BYTECODE | (0 if keep_source else _WRITE_STRIP_DEBUG)
    written = library.JS_WriteObject(pointer, ctypes.byref(size), value, flags)
    code = ctypes.string_at(written, size.value) if written else b""
    library.js_free(pointer, written)
    library.JS_FreeValue(pointer, value)
    return Script(text, code)


def evaluate(context: quickjs.Context, script: Script) -> Any:
    """The value of the script's expression in a context. Raises what evaluating its text raises."""
    library = _library()
    if library is not None and script.code and _place(library, _pointer(context), script.code):
        loaded = context.get(_PLACE)
        context.eval(f"delete globalThis.{_PLACE}; 0")
        return loaded
    return context.eval(script.text)


def _place(library: ctypes.PyDLL, pointer: int, code: bytes) -> bool:
    """Evaluates bytecode and leaves its value in a global; False when the context has no room for it."""
    value = library.JS_ReadObject(pointer, code, len(code), _READ_BYTECODE)
    if value.tag != _TAG_EXCEPTION:
        value = library.JS_EvalFunction(pointer, value)
    if value.tag == _TAG_EXCEPTION:
        library.JS_FreeValue(pointer, library.JS_GetException(pointer))
        return False
    everything = library.JS_GetGlobalObject(pointer)
    placed: int = library.JS_SetPropertyStr(pointer, everything, _PLACE.encode(), value)
    library.JS_FreeValue(pointer, everything)
    return placed == 1


def _pointer(context: quickjs.Context) -> int:
    """JSContext* of a context: the second word after the object's head (count, type)."""
    return int(ctypes.cast(id(context), _Words)[3])


@functools.lru_cache(maxsize=1)
def _library() -> ctypes.PyDLL | None:
    """The wheel's extension with the functions used here; None when it is not the version known."""
    if importlib.metadata.version("quickjs-ng") != KNOWN_WHEEL:
        return None
    library = ctypes.PyDLL(quickjs._quickjs.__file__)
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    signatures: dict[str, tuple[Any, ...]] = {
        "JS_Eval": (_Value, pointer, text, size, text, ctypes.c_int),
        "JS_WriteObject": (pointer, pointer, ctypes.POINTER(size), _Value, ctypes.c_int),
        "JS_ReadObject": (_Value, pointer, text, size, ctypes.c_int),
        "JS_EvalFunction": (_Value, pointer, _Value),
        "JS_GetGlobalObject": (_Value, pointer),
        "JS_GetException": (_Value, pointer),
        "JS_GetRuntime": (pointer, pointer),
        "JS_SetPropertyStr": (ctypes.c_int, pointer, _Value, text, _Value),
        "JS_FreeValue": (None, pointer, _Value),
        "js_free": (None, pointer, pointer),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    probe = quickjs.Context()
    runtime = ctypes.cast(id(probe), _Words)[2]
    return library if library.JS_GetRuntime(_pointer(probe)) == runtime else None
