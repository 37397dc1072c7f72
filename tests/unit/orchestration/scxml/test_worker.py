"""The worker's operations, and its loop over a real process."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest

from services.orchestration.scxml import Event, worker
from services.orchestration.scxml.effects import event_to_json, result_from_json
from tests.unit.orchestration.scxml.documents import compiled

DOCUMENT = compiled(
    '<state id="s"><transition event="e" target="t"><log expr="_event.data"/></transition>'
    '<transition event="ask"><log expr="_genesys.queue.rvqdata(1)"/></transition>'
    '<transition event="loop"><script>while (1);</script></transition></state><final id="t"/>'
)


def loaded() -> worker.Worker:
    made = worker.Worker()
    assert made.handle({"id": 1, "op": "load", "key": "d", "compiled": DOCUMENT.to_json()}) == {
        "id": 1,
        "ok": {},
    }
    return made


def start(made: worker.Worker, name: str = "a", **more: Any) -> dict[str, Any]:
    return made.handle({"id": 2, "op": "start", "session": name, "key": "d", "now": 1.0, "seed": 1, **more})


def step(made: worker.Worker, event: Event, name: str = "a", **more: Any) -> dict[str, Any]:
    request = {"id": 3, "op": "step", "session": name, "event": event_to_json(event), "now": 2.0, **more}
    return made.handle(request)


def test_a_session_from_start_to_end() -> None:
    made = loaded()
    assert start(made)["ok"]["configuration"] == ["s"]
    assert made.handle({"op": "stats"})["ok"]["sessions"] == 1
    result = result_from_json(step(made, Event("e", "hello"))["ok"])
    assert result.finished
    assert [type(effect).__name__ for effect in result.effects] == ["Log", "Done"]
    assert made.handle({"op": "stats"})["ok"] == {"sessions": 0, "documents": 1, "memory": 0}


def test_snapshots_with_the_step_and_restoring_elsewhere() -> None:
    made, other = loaded(), loaded()
    kept = start(made, keep=True)["ok"]
    assert kept["lost"] == []
    state = {"key": "d", "snapshot": kept["snapshot"]}
    assert step(other, Event("e"), restore=state)["ok"] == step(made, Event("e"))["ok"]
    third = loaded()
    ended = third.handle({"op": "terminate", "session": "a", "now": 3.0, "restore": state})
    assert ended["ok"]["finished"]


def test_a_query_is_answered_over_the_wire() -> None:
    made = loaded()
    start(made)
    asked = step(made, Event("ask"), keep=True)["ok"]
    assert asked["query"]["function"] == "rvqdata"
    assert "snapshot" not in asked
    answer = made.handle({"op": "answer", "session": "a", "query": 0, "value": 5, "now": 3.0, "keep": True})[
        "ok"
    ]
    assert answer["effects"][0]["text"] == "5"
    assert "snapshot" in answer


def test_terminate_and_drop() -> None:
    made = loaded()
    start(made)
    start(made, "b")
    assert made.handle({"op": "terminate", "session": "a", "now": 5.0})["ok"]["finished"]
    assert made.handle({"op": "drop", "session": "b"})["ok"] == {}
    assert made.handle({"op": "drop", "session": "b"})["ok"] == {}
    assert made.handle({"op": "unload", "key": "d"})["ok"] == {}
    assert made.handle({"op": "stats"})["ok"] == {"sessions": 0, "documents": 0, "memory": 0}


def test_one_session_out_of_hand_leaves_the_others() -> None:
    made = loaded()
    start(made, limits={"cpu_seconds": 0.05})
    start(made, "b")
    assert step(made, Event("loop"))["ok"]["failure"]["reason"] == "cpu"
    assert step(made, Event("e"), "b")["ok"]["configuration"] == ["t"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"op": "fly"}, "request"),
        ({}, "request"),
        ({"op": "start", "session": "a"}, "session"),
        ({"op": "start", "session": "b", "key": "other", "now": 1, "seed": 1}, "session"),
        (
            {"op": "start", "session": "b", "key": "d", "now": 1, "seed": 1, "limits": {"microsteps": 0}},
            "request",
        ),
        ({"op": "start", "session": "b", "key": "d", "now": 1, "seed": 1, "limits": {"speed": 0}}, "request"),
        ({"op": "step", "session": "zz", "event": {"name": "e"}, "now": 1}, "session"),
        ({"op": "step", "session": "a", "event": {"nome": "e"}, "now": 1}, "request"),
        ({"op": "step", "session": "a", "now": 1}, "request"),
        ({"op": "answer", "session": "a", "query": 0, "value": 1, "now": 1}, "session"),
        (
            {"op": "terminate", "session": "c", "now": 1, "restore": {"key": "d", "snapshot": "{}"}},
            "snapshot",
        ),
        (
            {"op": "terminate", "session": "c", "now": 1, "restore": {"key": "d", "snapshot": "no"}},
            "snapshot",
        ),
        ({"op": "terminate", "session": "a", "now": 1, "restore": {"key": "d", "snapshot": "{}"}}, "session"),
        ({"op": "restore", "session": "c", "key": "d", "snapshot": "{}"}, "request"),
        ({"op": "load", "key": "x", "compiled": "{}"}, "request"),
    ],
)
def test_what_is_asked_wrongly_is_answered_so(request_: dict[str, Any], error: str) -> None:
    made = loaded()
    start(made)
    answer = made.handle({"id": 9, **request_})
    assert (answer["id"], answer.get("error")) == (9, error), answer
    assert step(made, Event("e"))["ok"]["finished"]


def test_messages_are_framed() -> None:
    stream = io.BytesIO()
    worker.write_message(stream, {"a": "ü"})
    worker.write_message(stream, [1])
    stream.seek(0)
    assert [worker.read_message(stream) for _ in range(3)] == [{"a": "ü"}, [1], None]
    with pytest.raises(ValueError):
        worker.read_message(io.BytesIO(b"\xff\xff\xff\xff"))
    assert worker.read_message(io.BytesIO(b"\x00\x00\x00\x09{}")) is None


def test_the_loop_over_a_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "services.orchestration.scxml.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers = []
        for request in (
            {"id": 1, "op": "load", "key": "d", "compiled": DOCUMENT.to_json()},
            {"id": 2, "op": "start", "session": "a", "key": "d", "now": 1.0, "seed": 1},
            {"id": 3, "op": "step", "session": "a", "event": {"name": "e", "data": "x"}, "now": 2.0},
        ):
            worker.write_message(process.stdin, request)
            answers.append(worker.read_message(process.stdout))
        process.stdin.close()
        assert process.wait(10) == 0
    assert [answer["id"] for answer in answers] == [1, 2, 3]
    assert answers[2]["ok"]["configuration"] == ["t"]
