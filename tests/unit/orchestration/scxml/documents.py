"""Documents and small drivers that several tests use."""

from __future__ import annotations

from services.orchestration.scxml import (
    Compiled,
    Event,
    Interpreter,
    Limits,
    Log,
    StepResult,
    compile_document,
)

HEAD = '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript"'


def scxml(body: str, attributes: str = "") -> str:
    """A document around states; body begins on line 1, after the root's start tag."""
    return f"{HEAD} {attributes}>{body}</scxml>"


def compiled(body: str, attributes: str = "") -> Compiled:
    return compile_document(scxml(body, attributes))


def session(document: Compiled, *, limits: Limits | None = None, seed: int = 7) -> Interpreter:
    return Interpreter(document, session_id="s1", io_processors={}, now_ms=1000.0, seed=seed, limits=limits)


def started(body: str, attributes: str = "") -> tuple[Interpreter, StepResult]:
    made = session(compiled(body, attributes))
    return made, made.start(1000.0)


def logs(result: StepResult) -> list[str]:
    """What a step logged, as `label=text` or text."""
    found = [effect for effect in result.effects if isinstance(effect, Log)]
    return [f"{log.label}={log.text}" if log.label else log.text for log in found]


def names(*events: str) -> list[Event]:
    return [Event(name) for name in events]
