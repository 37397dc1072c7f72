"""`voicemesh-scxml`: check, run and draw applications on the author's own machine.

The compiler and the runtime are the ones of production; the host is `LocalHost`.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit
from urllib.request import urlopen

from services.orchestration.scxml.compiled import Compiled
from services.orchestration.scxml.compiler import compile_document, read_document
from services.orchestration.scxml.draw import draw
from services.orchestration.scxml.effects import Done, Event, Json, Log, Query, StepResult, effect_to_json
from services.orchestration.scxml.local import LocalHost, Session, delay_ms
from services.orchestration.scxml.problems import CompileError, Problem

FETCH_TIMEOUT_S = 10.0
QUEUED_LINES = 10_000
OK, REFUSED, UNFINISHED, FAILED = 0, 1, 2, 3
"""Exit codes: fine; the document has errors; the session still waits; the platform ended the session."""


def fetch(address: str) -> bytes:
    """Bytes at a file:, http: or https: address. Raises OSError or ValueError."""
    if urlsplit(address).scheme not in ("file", "http", "https"):
        raise ValueError("only file, http and https addresses are loaded")
    with urlopen(address, timeout=FETCH_TIMEOUT_S) as answer:
        body: bytes = answer.read()
        return body


class Printer:
    """Writes what happens as JSON lines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def line(self, kind: str, **members: Json) -> None:
        self._out.write(json.dumps({"kind": kind, **members}) + "\n")
        self._out.flush()

    def stepped(self, session: Session, event: Event | None, result: StepResult) -> None:
        """One step: its effects in order, then the configuration it ended in."""
        for effect in result.effects:
            if isinstance(effect, Log):
                self.line("log", session=session.id, label=effect.label, text=effect.text)
            elif not isinstance(effect, Done):
                body = effect_to_json(effect)
                self.line("effect", session=session.id, effect=body.pop("kind"), **{"with": _slim(body)})
        self.line(
            "configuration",
            session=session.id,
            event=event.name if event else None,
            states=result.configuration,
            transitions=[
                {"from": t.source, "to": list(t.targets), "at": f"{t.line}:{t.column}"} for t in result.trace
            ],
        )
        if result.failure is not None:
            self.line("failure", session=session.id, **asdict(result.failure))


def _slim(body: dict[str, Json]) -> dict[str, Json]:
    """Without members that say nothing."""
    return {name: value for name, value in body.items() if value not in (None, "", [], (), {}, False)}


# -- check --------------------------------------------------------------------------------------------


def load(name: str, base: str | None) -> Compiled:
    """Compile a file; relative addresses start from `base` or the file itself."""
    path = Path(name)
    return compile_document(path.read_bytes(), url=base or path.resolve().as_uri(), resolve=fetch)


def report(name: str, kind: str, problems: tuple[Problem, ...] | list[Problem], out: TextIO) -> None:
    for item in problems:
        out.write(f"{item.file or name}:{item.line}:{item.column}: {kind}: {item.message} [{item.rule}]\n")


def check(arguments: argparse.Namespace) -> int:
    """Print every error and warning with its position."""
    worst = OK
    for name in arguments.file:
        try:
            compiled = load(name, arguments.base)
        except CompileError as error:
            report(name, "error", error.problems, sys.stdout)
            worst = REFUSED
            continue
        report(name, "warning", compiled.warnings, sys.stdout)
        if arguments.javascript:
            sys.stdout.write(compiled.javascript)
        states, size = len(compiled.states) - 1, len(compiled.javascript)
        sys.stdout.write(f"{name}: {states} states, {size} characters of JavaScript\n")
    return worst


# -- run ----------------------------------------------------------------------------------------------


class Lines:
    """Lines of a stream, read by a thread so that timers go on while nobody types."""

    def __init__(self, stream: TextIO) -> None:
        self._queue: queue.Queue[str | None] = queue.Queue(QUEUED_LINES)
        self.ended = False
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            self._queue.put(line)
        self._queue.put(None)

    def next(self, timeout: float | None) -> str | None:
        """The next line; None when none came in time or there are no more (`ended`)."""
        if self.ended:
            if timeout is not None:
                time.sleep(timeout)
            return None
        try:
            line = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        self.ended = line is None
        return line


def parse_event(line: str) -> tuple[Event, float]:
    """`{"name", "data", "delay"}` as an event and its delay in ms. Raises ValueError for anything else."""
    body = json.loads(line)
    if not isinstance(body, dict) or not isinstance(body.get("name"), str) or not body["name"]:
        raise ValueError('an event is an object with a "name"')
    if unknown := body.keys() - {"name", "data", "delay"}:
        raise ValueError(f"unknown members {sorted(unknown)}")
    event = Event(body["name"], body.get("data"), has_data="data" in body)
    return event, delay_ms(body.get("delay", 0))


class Run:
    """One session driven by standard input and the clock."""

    def __init__(self, arguments: argparse.Namespace, compiled: Compiled, lines: Lines) -> None:
        self.printer = Printer(sys.stdout)
        self.lines = lines
        self.virtual = arguments.virtual
        self.deadline = arguments.timeout
        self.answers = dict(item.split("=", 1) for item in arguments.answer)
        self.begun = time.monotonic()
        self.host = LocalHost(resolve=fetch, observer=self.printer, ask=self._ask)
        self.session = self.host.start(compiled, params=json.loads(arguments.params))

    def _ask(self, _session: Session, query: Query) -> Json:
        name = f"{query.namespace}.{query.function}"
        if name not in self.answers:
            raise LookupError(f"no answer for {name}; give one with --answer {name}=JSON")
        return json.loads(self.answers[name])

    def elapsed(self) -> float:
        return time.monotonic() - self.begun

    def take(self, line: str) -> None:
        """Put one line of input into the session's queue."""
        if not line.strip():
            return
        try:
            event, delay = parse_event(line)
        except ValueError as error:
            self.printer.line("error", message=f"input: {error}")
            return
        self.host.post(self.session, event, delay_ms=delay)

    def until_end(self) -> int:
        """Run until the session ends, nothing can happen any more, or the time is over."""
        while not self.session.ended:
            if self.lines.ended and self.host.next_due() is None:
                return self._unfinished("nothing is left that could happen")
            if self.deadline is not None and self._now() >= self.deadline:
                return self._unfinished("the time is over")
            if self.virtual:
                self._virtual_turn()
            else:
                self._turn()
        return self._finished()

    def _now(self) -> float:
        return self.host.now / 1000.0 if self.virtual else self.elapsed()

    def _turn(self) -> None:
        wait = None if self.deadline is None else self.deadline - self.elapsed()
        due = self.host.next_due()
        if due is not None:
            until = due / 1000.0 - self.elapsed()
            wait = until if wait is None else min(wait, until)
        line = self.lines.next(None if wait is None else max(wait, 0.0))
        # Time moves before the event is queued: its delay counts from now.
        self.host.advance(self.elapsed() * 1000.0)
        if line is not None and not self.session.ended:
            self.take(line)
            self.host.advance(self.host.now)

    def _virtual_turn(self) -> None:
        """All input is read first; then time jumps from one due event to the next."""
        while not self.lines.ended:
            line = self.lines.next(None)
            if line is not None:
                self.take(line)
        due = self.host.next_due()
        if due is not None:
            limit = float("inf") if self.deadline is None else self.deadline * 1000.0
            self.host.advance(min(due, limit))

    def _finished(self) -> int:
        done = self.session.done or Done()
        self.printer.line("final", states=self.session.configuration, data=done.data)
        return OK if self.session.failure is None else FAILED

    def _unfinished(self, reason: str) -> int:
        self.printer.line("unfinished", states=self.session.configuration, reason=reason)
        return UNFINISHED


def run(arguments: argparse.Namespace) -> int:
    """Run a session of the document."""
    try:
        compiled = load(arguments.file, arguments.base)
    except CompileError as error:
        report(arguments.file, "error", error.problems, sys.stderr)
        return REFUSED
    report(arguments.file, "warning", compiled.warnings, sys.stderr)
    return Run(arguments, compiled, Lines(sys.stdin)).until_end()


# -- draw ---------------------------------------------------------------------------------------------


def draw_file(arguments: argparse.Namespace) -> int:
    """Write the statechart as SVG."""
    path = Path(arguments.file)
    try:
        document = read_document(
            path.read_bytes(), url=arguments.base or path.resolve().as_uri(), resolve=fetch
        )
    except CompileError as error:
        report(arguments.file, "error", error.problems, sys.stderr)
        return REFUSED
    svg = draw(document)
    if arguments.output:
        Path(arguments.output).write_text(svg, "utf-8")
    else:
        sys.stdout.write(svg)
    return OK


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="voicemesh-scxml", description="Check, run and draw applications.")
    commands = made.add_subparsers(required=True)
    base = "address that relative addresses start from (default: the file)"

    one = commands.add_parser("check", help="errors and warnings with their positions")
    one.add_argument("file", nargs="+")
    one.add_argument("--base", metavar="URL", help=base)
    one.add_argument("--javascript", action="store_true", help="print what the document compiles to")
    one.set_defaults(do=check)

    two = commands.add_parser("run", help="run a session: events as JSON lines in, JSON lines out")
    two.add_argument("file")
    two.add_argument("--base", metavar="URL", help=base)
    two.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds")
    two.add_argument("--virtual", action="store_true", help="read all input first, then let timers jump")
    two.add_argument("--params", default="{}", metavar="JSON", help="values for the top-level data")
    two.add_argument("--answer", action="append", default=[], metavar="MODULE.FUNCTION=JSON",
                     help="what a _genesys function returns")  # fmt: skip
    two.set_defaults(do=run)

    three = commands.add_parser("draw", help="the statechart as SVG")
    three.add_argument("file")
    three.add_argument("--base", metavar="URL", help=base)
    three.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    three.set_defaults(do=draw_file)
    return made


def main(argv: list[str] | None = None) -> int:
    """Entry point of `voicemesh-scxml`."""
    if argv is None:
        # Sessions in production live in UTC.
        os.environ["TZ"] = "UTC"
        time.tzset()
    arguments: Any = parser().parse_args(argv)
    try:
        code: int = arguments.do(arguments)
    except OSError as error:
        sys.stderr.write(f"voicemesh-scxml: {error}\n")
        return REFUSED
    return code


if __name__ == "__main__":
    sys.exit(main())
