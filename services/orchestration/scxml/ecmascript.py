"""Is this text an expression, a location, a script? Asked of the engine itself, without running it."""

from __future__ import annotations

import functools
import json
import re
import threading

import quickjs

IDENTIFIER = re.compile(r"^[A-Za-z_$][\w$]*$")
SYSTEM_VARIABLES = frozenset(("_event", "_sessionid", "_name", "_ioprocessors", "_x", "_data", "_genesys"))
RESERVED_PREFIX = "$scxml"
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        "await break case catch class const continue debugger default delete do else enum export "
        "extends false finally for function if implements import in instanceof interface let new "
        "null package private protected public return static super switch this throw true try "
        "typeof var void while with yield",
    )
)
_COMPILES = """(function (text) {
  try { new Function(text); return ""; } catch (error) { return error.message || "syntax error"; }
})"""


class Checker:
    """Syntax checks in a context of their own; nothing of a document is ever executed in it."""

    def __init__(self) -> None:
        self._context = quickjs.Context()
        self._context.set_memory_limit(64 * 1024 * 1024)
        self._compiles = self._context.eval(_COMPILES)
        self._one = threading.Lock()

    def body(self, text: str) -> str:
        """ "" when the text can be a function body, else what is wrong with it."""
        try:
            # The engine lets go of the interpreter's lock: two documents compiled in two threads would meet in it.
            with self._one:
                return str(self._compiles(text))
        except (quickjs.JSException, quickjs.StackOverflow) as error:
            return str(error).splitlines()[0]

    def expression(self, text: str) -> str:
        """ "" for one expression. Two frames, so that text cannot close the one it stands in."""
        return self.body(f"return (\n{text}\n);") or self.body(f"return [\n{text}\n];")

    def location(self, text: str) -> str:
        """ "" for an expression that can be assigned to."""
        if problem := self.body(f'"use strict"; ({text}\n = 0);'):
            return problem
        return self.body(f'"use strict"; for ({text}\n in {{}}) ;')

    def script(self, text: str) -> str:
        return self.body(text) or self.body(f"if (1) {{\n{text}\n}}")

    def lexical(self, text: str) -> dict[str, str]:
        """Names a script declares with let, const or class at its top level, each with its keyword.

        `var name` beside such a declaration is a syntax error, beside anything else it is not.
        """
        found = re.findall(r"\b(let|const|class)\s+([A-Za-z_$][\w$]*)", text)
        listed = re.findall(r"\b(let|const)\s+([^;{}=]+=[^;]*|[^;]+);", text)
        names = {name: word for word, name in found}
        for word, rest in listed:
            for name in re.findall(r"(?:^|,)\s*([A-Za-z_$][\w$]*)", rest):
                names.setdefault(name, word)
        return {name: word for name, word in names.items() if self.body(f"var {name};\n{text}")}


@functools.lru_cache(maxsize=1)
def checker() -> Checker:
    """One checker a process: a context costs more than the questions asked of it."""
    return Checker()


def clean(text: str) -> str:
    """An expression without the semicolon that authors like to put at its end."""
    return text.strip().rstrip(";").rstrip()


def is_name(text: str) -> bool:
    """A legal variable name."""
    return bool(IDENTIFIER.match(text)) and text not in _RESERVED


def literal(value: object) -> str:
    """A JSON value as ECMAScript source."""
    return json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
