"""The W3C implementation report tests: which there are, and how each is run and judged."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.orchestration.scxml import CompileError, Event, Interpreter, Log, StepResult, compile_document
from services.orchestration.scxml.local import LocalHost, Session
from tests.conformance.scxml import manual
from tests.conformance.scxml.http_peer import HttpPeer

ROOT = Path(__file__).parents[3].parent / "shared" / "suites" / "scxml-w3c"
VIRTUAL_LIMIT_MS = 120_000.0
PROFILES = ("core", "null", "ecma", "http")


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    section: str
    mandatory: bool
    manual: bool
    profile: str
    files: tuple[str, ...]
    text: str

    @property
    def group(self) -> str:
        kind = "mandatory" if self.mandatory else "optional"
        return f"{kind} {self.profile}{', manual' if self.manual else ''}"


@dataclass(slots=True)
class Recorder:
    """Everything that was observed while a document ran."""

    logs: list[tuple[str, str, str]] = field(default_factory=list)
    """(session id, label, text)."""
    steps: list[tuple[str, Event | None, StepResult]] = field(default_factory=list)

    def stepped(self, session: Session, event: Event | None, result: StepResult) -> None:
        self.steps.append((session.id, event, result))
        self.logs += [(session.id, e.label, e.text) for e in result.effects if isinstance(e, Log)]


@dataclass(frozen=True, slots=True)
class Outcome:
    case: Case
    passed: bool
    detail: str
    seconds: float


def present() -> bool:
    return (ROOT / "irp.tsv").exists()


def cases() -> list[Case]:
    """All tests of the profiles that voicemesh has; the XPath data model is not one of them."""
    with (ROOT / "irp.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        Case(
            row["id"],
            row["section"],
            row["conformance"] == "mandatory",
            row["manual"] == "true",
            row["profile"],
            tuple(name for name in row["uscxml_ecma"].split(",") if name != "-"),
            row["text"],
        )
        for row in rows
        if row["profile"] in PROFILES
    ]


def resolve(address: str) -> bytes:
    """Files of the suite are named relative to their folder (`file:test446.txt`)."""
    name = address.rpartition(":")[2].rpartition("/")[2]
    return (ROOT / "ecma" / name).read_bytes()


class HandOverHost(LocalHost):
    """Gives every session a new context, restored from its snapshot, after each step: what a fail-over
    does, at every possible place."""

    def _run(self, session: Session, event: Event | None, result: StepResult) -> None:
        super()._run(session, event, result)
        if not session.ended:
            before = session.interpreter
            kept = before.snapshot()
            session.interpreter = Interpreter.restore(before.compiled, kept)
            if before.lost or session.interpreter.lost:
                raise AssertionError(f"lost in the snapshot: {before.lost + session.interpreter.lost}")
            before.close()


def run(case: Case, make_host: type[LocalHost] = LocalHost) -> Outcome:
    """Run all documents of a case."""
    begun = time.perf_counter()
    check: Callable[[Recorder, Session], str] | None = manual.CHECKS.get(case.id) if case.manual else None
    if case.id in manual.WITHOUT_DOCUMENT:
        detail = manual.WITHOUT_DOCUMENT[case.id]()
    else:
        found = (_run_document(name, case.id, check, make_host) for name in case.files)
        detail = "; ".join(text for text in found if text)
    return Outcome(case, not detail, detail, time.perf_counter() - begun)


def _run_document(
    name: str, case: str, check: Callable[[Recorder, Session], str] | None, make_host: type[LocalHost]
) -> str:
    """ "" when the document did what it must, else what it did instead."""
    path = ROOT / name
    try:
        compiled = compile_document(path.read_bytes(), url=f"file:///suite/{path.name}", resolve=resolve)
    except CompileError as error:
        return "" if manual.rejection(case, error) else f"{path.name}: rejected: {error}"
    recorder = Recorder()
    with HttpPeer() as peer:
        host = make_host(
            resolve=resolve, observer=recorder, http=peer.deliver, io_processors=peer.io_processors
        )
        peer.attach(host)
        session = host.start(compiled)
        host.run_virtual(session, limit_ms=VIRTUAL_LIMIT_MS)
    if check is not None:
        return check(recorder, session)
    if session.configuration == ["pass"]:
        return ""
    return f"{path.name}: ended in {session.configuration}, {session.failure or 'no failure'}"
