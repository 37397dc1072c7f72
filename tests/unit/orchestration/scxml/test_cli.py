"""voicemesh-scxml, the way an author calls it."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from services.orchestration.scxml import cli
from tests.unit.orchestration.scxml.documents import scxml

APP = scxml(
    '\n<datamodel><data id="who"/></datamodel>\n<state id="wait">\n'
    '<transition event="hello" target="talk"><assign location="who" expr="_event.data"/></transition></state>\n'
    '<state id="talk"><onentry><log label="to" expr="who"/><send event="tick" delay="1s"/></onentry>\n'
    '<transition event="tick" target="end"/></state>\n<final id="end"><donedata><content expr="who"/></donedata></final>'
)


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.scxml"
    path.write_text(APP)
    return str(path)


def call(
    arguments: list[str], lines: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[Any]]:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    code = cli.main(arguments)
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_check_says_what_is_wrong_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.scxml"
    path.write_text(scxml('\n<state id="s">\n  <transition event="e" target="nowhere"/></state>'))
    assert cli.main(["check", str(path)]) == cli.REFUSED
    assert capsys.readouterr().out.startswith(f"{path}:3:3: error: target 'nowhere' is no state")


def test_check_of_a_good_document(app: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", app, "--javascript"]) == cli.OK
    out = capsys.readouterr().out
    assert "$scxml.log" in out
    assert out.splitlines()[-1].startswith(f"{app}: 3 states")


def test_check_of_a_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "no/such/file"]) == cli.REFUSED
    assert "no/such/file" in capsys.readouterr().err


def test_run_in_virtual_time(
    app: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = '{"name": "hello", "data": {"n": 1}, "delay": "5s"}\n'
    code, out = call(["run", app, "--virtual"], lines, monkeypatch, capsys)
    assert code == cli.OK
    assert [line["kind"] for line in out] == [
        "configuration",
        "log",
        "effect",
        "configuration",
        "configuration",
        "final",
    ]
    assert out[1] == {"kind": "log", "session": "local-1", "label": "to", "text": '{"n":1}'}
    assert out[3]["states"] == ["talk"]
    assert out[3]["transitions"] == [{"from": "wait", "to": ["talk"], "at": "4:1"}]
    assert out[-1] == {"kind": "final", "states": ["end"], "data": {"n": 1}}


def test_run_in_real_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.scxml"
    path.write_text(APP.replace("1s", "20ms"))
    code, out = call(["run", str(path), "--timeout", "10"], '\n{"name": "hello"}\n', monkeypatch, capsys)
    assert (code, out[-1]["states"]) == (cli.OK, ["end"])


def test_run_that_cannot_go_on(
    app: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = call(["run", app], "", monkeypatch, capsys)
    assert (code, out[-1]["kind"], out[-1]["states"]) == (cli.UNFINISHED, "unfinished", ["wait"])


def test_run_that_takes_too_long(
    app: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = call(["run", app, "--timeout", "0.05"], '{"name": "hello"}\n', monkeypatch, capsys)
    assert (code, out[-1]["reason"]) == (cli.UNFINISHED, "the time is over")
    code, out = call(
        ["run", app, "--timeout", "0.5", "--virtual"], '{"name": "hello"}\n', monkeypatch, capsys
    )
    assert (code, out[-1]["reason"]) == (cli.UNFINISHED, "the time is over")


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[]", "{}", '{"name": ""}', '{"name": "e", "delay": "soon"}', '{"name": "e", "x": 1}'],
)
def test_input_that_is_no_event(
    line: str, app: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = call(["run", app, "--virtual"], f"{line}\n", monkeypatch, capsys)
    assert [item["kind"] for item in out] == ["configuration", "error", "unfinished"]


def test_answers_and_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.scxml"
    path.write_text(
        scxml('<datamodel><data id="p" expr="1"/></datamodel><final id="f"><onentry>'
              '<log expr="p + _genesys.queue.rvqdata(1).x"/></onentry></final>')
    )  # fmt: skip
    arguments = ["run", str(path), "--params", '{"p": 40}', "--answer", 'queue.rvqdata={"x": 2}']
    code, out = call(arguments, "", monkeypatch, capsys)
    assert (code, out[0]["text"]) == (cli.OK, "42")


def test_a_session_the_platform_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.scxml"
    path.write_text(scxml('<state id="a"><transition target="a"/></state>'))
    code, out = call(["run", str(path)], "", monkeypatch, capsys)
    assert code == cli.FAILED
    assert [line["reason"] for line in out if line["kind"] == "failure"] == ["microsteps"]


def test_files_only_come_from_addresses_that_are_meant() -> None:
    with pytest.raises(ValueError, match="only file, http and https"):
        cli.fetch("ftp://host/file")


def test_draw(app: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["draw", app]) == cli.OK
    svg = ET.fromstring(capsys.readouterr().out)
    texts = ["".join(item.itertext()) for item in svg.iter("{http://www.w3.org/2000/svg}text")]
    for name in ("wait", "talk", "end", "hello / who = …", "tick", "entry / log, send tick"):
        assert name in texts
    target = tmp_path / "app.svg"
    assert cli.main(["draw", app, "-o", str(target)]) == cli.OK
    assert ET.parse(target).getroot().tag.endswith("svg")


def test_draw_places_children_inside_their_parent() -> None:
    from services.orchestration.scxml.compiler import read_document
    from services.orchestration.scxml.draw import _box

    document = read_document(
        scxml('<parallel id="p">' + "".join(f'<state id="r{n}"><state id="r{n}a"/><state id="r{n}b"/></state>' for n in range(4))
              + '<history id="h" type="deep"><transition target="r0a"/></history></parallel><final id="z"/>')
    )  # fmt: skip
    root = _box(document.root)
    root.move(0, 0)
    for box in root.walk():
        for child in box.children:
            assert box.x <= child.x and child.x + child.width <= box.x + box.width
            assert box.y <= child.y and child.y + child.height <= box.y + box.height
