"""SCXML 1.0 with the ECMAScript data model: documents compiled to JavaScript, sessions stepped by a host.

`compile_document` checks a document and compiles it, once per version. `Interpreter` runs one session of
it: each step takes an event and the time, and returns effects for the host to perform.
"""

from services.orchestration.scxml.compiled import COMPILER_VERSION, Compiled
from services.orchestration.scxml.compiler import compile_document
from services.orchestration.scxml.effects import (
    HTTP_PROCESSOR,
    SCXML_INVOKE,
    SCXML_PROCESSOR,
    Action,
    ActionChild,
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
    effect_from_json,
    effect_to_json,
)
from services.orchestration.scxml.interpreter import Interpreter, SessionError, SnapshotError
from services.orchestration.scxml.loading import Resolve
from services.orchestration.scxml.problems import CompileError, Problem

__all__ = [
    "COMPILER_VERSION",
    "HTTP_PROCESSOR",
    "SCXML_INVOKE",
    "SCXML_PROCESSOR",
    "Action",
    "ActionChild",
    "CancelInvoke",
    "CancelSend",
    "CompileError",
    "Compiled",
    "Done",
    "Effect",
    "Event",
    "Failure",
    "Forward",
    "Interpreter",
    "Invoke",
    "Json",
    "Limits",
    "Log",
    "Problem",
    "Query",
    "Resolve",
    "Send",
    "SessionError",
    "SnapshotError",
    "StepResult",
    "Taken",
    "compile_document",
    "effect_from_json",
    "effect_to_json",
]
