"""One session: a JavaScript context, the runtime and a compiled document; steps in, effects out.

No I/O, no clock, no randomness of its own: the host passes the time to each step and performs the
effects. A step that asks the host something is thrown away and replayed from the state before it.
"""

from __future__ import annotations

import functools
import json

from services.orchestration.scxml.compiled import COMPILER_VERSION, Compiled
from services.orchestration.scxml.effects import Event, Failure, Json, Limits, StepResult
from services.orchestration.scxml.engine import Engine, Stopped, broken
from services.orchestration.scxml.extensions import function_table
from services.orchestration.scxml.results import Results, event_text

_FUNCTIONS = function_table()


class SessionError(Exception):
    """The host used a session wrongly (a step after its end, an answer nobody asked for)."""


class SnapshotError(Exception):
    """A snapshot that does not belong to this document or this version of the compiler."""


class Interpreter:
    """A session, made at `now_ms`, from which its age counts. `params` replace the values of its top-level
    data (6.4, namelist and `<param>`); `x` is what the document sees as `_x`."""

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
            "created": now_ms,
        }
        self._engine: Engine | None = None
        self._results = Results(compiled)
        self._before: bytes | None = None
        """The state before the step in progress; None when that is "not started"."""
        self._kept: bytes | None = None
        """The snapshot of the present state, when one was taken."""
        self._replay: tuple[str, Event | None, float, list[Json]] | None = None
        self._lost: list[str] = []

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

    def answer(self, query_id: int, value: Json = None, *, error: str | None = None) -> StepResult:
        """Answer the query that stopped the step; with `error` the function throws that message. The step
        is replayed at the time at which it began, so that it asks the same again."""
        if self._replay is None:
            raise SessionError("no query is open")
        operation, event, now_ms, answers = self._replay
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
            except Stopped as stop:
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
        try:
            kept = json.loads(snapshot.partition(b"\n")[0])
            version, setup = (kept["source_hash"], kept["compiler"]), kept["setup"]
        except (ValueError, KeyError, TypeError) as error:
            raise SnapshotError(f"not a snapshot: {error!r}") from None
        if version != (compiled.source_hash, COMPILER_VERSION):
            raise SnapshotError("the snapshot is of another version of the document or the compiler")
        session = cls(
            compiled,
            limits=limits,
            session_id=setup["id"],
            io_processors=setup["ioprocessors"] if io_processors is None else io_processors,
            now_ms=setup["created"],
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
        return 0 if self._engine is None else self._engine.memory()

    def close(self) -> None:
        """Free the JavaScript context."""
        self._engine = None
        self.finished = True

    # -- steps --------------------------------------------------------------------------------------

    def _advance(self, operation: str, event: Event | None, now_ms: float) -> StepResult:
        if not self._started or self.finished:
            raise SessionError("the session is not running")
        if self._replay is not None:
            raise SessionError("a step is waiting for an answer")
        if now_ms - self._setup["created"] > self.limits.age_seconds * 1000.0:
            message = f"the session is older than {self.limits.age_seconds:.0f} seconds"
            return self._stop(Stopped(Failure("age", message)))
        if self.compiled.asks:
            try:
                self._before = self._kept = self._kept or self._take()
            except Stopped as stop:
                return self._stop(stop)
        return self._run(operation, event, now_ms, [])

    def _run(self, operation: str, event: Event | None, now_ms: float, answers: list[Json]) -> StepResult:
        self._replay = None
        # The engine takes whole numbers for 32 bits.
        now_ms = float(now_ms)
        try:
            if operation == "start":
                answer = self._start(now_ms, answers)
            else:
                engine = self._running()
                if answers:
                    engine.ask("given", json.dumps(answers))
                answer = engine.ask(operation, event_text(event), now_ms)
        except Stopped as stop:
            if stop.query is not None:
                self._replay = (operation, event, now_ms, answers)
                return StepResult(query=stop.query)
            return self._stop(stop)
        self._kept = None
        try:
            result = self._results.read(answer, event)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            return self._stop(Stopped(broken(str(error))))
        self.finished = result.finished
        return result

    def _running(self) -> Engine:
        if self._engine is None:
            raise SessionError("the session is not running")
        return self._engine

    def _stop(self, stop: Stopped) -> StepResult:
        self.close()
        return StepResult(finished=True, failure=stop.failure)

    def _start(self, now_ms: float, answers: list[Json]) -> Json:
        engine = self._boot(now_ms)
        engine.ask("given", json.dumps(answers))
        engine.ask("bind", "null", now_ms)
        for script in self.compiled.scripts:
            if message := script.problem or engine.script(script.text):
                engine.ask("scriptError", json.dumps({"message": message, "at": script.at}))
        return engine.ask("start")

    def _boot(self, now_ms: float) -> Engine:
        engine = self._engine = Engine(self.limits)
        factory = engine.factory(self.compiled.code)
        limits = {
            "internal_events": self.limits.internal_events,
            "effects": self.limits.effects,
            "microsteps": self.limits.microsteps,
            "queries": self.limits.queries,
        }
        functions = _FUNCTIONS if self.compiled.asks else {}
        asks = self.compiled.asks
        math = any(
            "Math" in text
            for text in (self.compiled.code, *(script.text for script in self.compiled.scripts))
        )
        setup = {**self._setup, "limits": limits, "functions": functions, "asks": asks, "math": math}
        for part, needed in (
            ("xml", "$scxml.xml(" in self.compiled.code),
            ("send", "$scxml.send(" in self.compiled.code),
            ("genesys", asks),
            ("math", math),
        ):
            if needed:
                engine.know(part)
        engine.ask("boot", json.dumps(setup), now_ms, factory)
        return engine

    # -- snapshots ----------------------------------------------------------------------------------

    def _take(self) -> bytes:
        engine = self._running()
        text = engine.call("snapshot")
        if text == "special":
            engine.know("special")
            text = engine.call("snapshot")
        if text is None or not text.startswith("{"):
            raise Stopped(broken("no snapshot"))
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
            engine = self._boot(0)
            if '"$":"xml"' in state:
                engine.know("xml")
            engine.know("restore")
            engine.ask("restoreEarly", state)
            for script in self.compiled.scripts:
                if not script.problem:
                    # For its declarations; what else it does is thrown away.
                    engine.script(script.text)
            missing = engine.ask("restoreLate", state)
        except Stopped as stop:
            raise SnapshotError(f"the session could not be restored: {stop.failure}") from None
        self._lost = [f"{path}: its declaration is gone" for path in missing]
