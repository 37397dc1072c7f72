"""What a document compiles to: plain data that is stored, sent to workers and asked what the document listens for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from services.orchestration.scxml.problems import Problem

COMPILER_VERSION = "2"
"""Raised whenever generated code, runtime or snapshots change incompatibly."""


@dataclass(frozen=True, slots=True)
class CompiledTransition:
    """What a trace says about a transition."""

    source: str
    event: str
    targets: tuple[str, ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class CompiledScript:
    text: str
    at: int
    """Number of its position in the machine's table."""
    problem: str = ""
    """Why it cannot run (a syntax error); it raises error.execution then."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """One version of a document, ready to run. Plain data: it survives `to_json` and `from_json`."""

    name: str
    url: str
    source_hash: str
    """SHA-256 over the document and every part that was loaded with it."""
    compiler_version: str
    javascript: str
    code: str
    """The same, line by line, without indentation and comments: what sessions load and keep."""
    source_map: str
    scripts: tuple[CompiledScript, ...]
    states: tuple[str, ...]
    """State ids by index."""
    transitions: tuple[CompiledTransition, ...]
    positions: tuple[tuple[Any, ...], ...]
    """[line, column, element, file?] by number."""
    parts: dict[str, str]
    """Address -> SHA-256 of everything loaded with the document."""
    warnings: tuple[Problem, ...]
    asks: bool
    """Whether a step may stop with a query: the document mentions `_genesys` or addresses other sessions."""
    listens: tuple[str, ...] | None = None
    """Event descriptors of its transitions; None: any event may change something, whether a transition names it or not."""

    def hears(self, event: str) -> bool:
        """Whether an external event could do anything. One that no transition names selects none; what else it could do is
        to reach an invoked session, or make a condition without event come true (appendix D, mainEventLoop). Events of
        interactions keep `_genesys.ixn.interactions` up to date."""
        if self.listens is None or event.startswith("interaction."):
            return True
        return any(item in ("*", event) or event.startswith(f"{item}.") for item in self.listens)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Compiled:
        body = json.loads(text)
        body["scripts"] = tuple(CompiledScript(**item) for item in body["scripts"])
        body["states"] = tuple(body["states"])
        body["transitions"] = tuple(
            CompiledTransition(**{**item, "targets": tuple(item["targets"])}) for item in body["transitions"]
        )
        body["positions"] = tuple(tuple(item) for item in body["positions"])
        listens = body.get("listens")  # documents that were compiled before there was such a thing have none
        body["listens"] = None if listens is None else tuple(listens)
        body["warnings"] = tuple(Problem(**item) for item in body["warnings"])
        return cls(**body)
