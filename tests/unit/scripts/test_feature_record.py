"""The record of what tests have proven: pure parts, and the plugin on a small project of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.feature_record import (
    CATALOGUE,
    RECORD,
    ROOT,
    TestRecord,
    catalogue,
    load,
    marker_problem,
    merged,
    proofs,
    save,
)
from scripts.features import report

KNOWN = {"SC-01": "signalling", "SC-02": "tenants", "SC-03": "dial plan", "SC-04": "scale"}


def test_the_catalogue_names_every_feature_once() -> None:
    known = catalogue(ROOT / CATALOGUE)
    assert len(known) == 246
    assert known["SC-12"] == "basic inbound call to agent, answer, bye"


@pytest.mark.parametrize("line", ["SC-01 no tab", "SC-01\t", "\tfunction", "SC-01\ta\nSC-01\tb"])
def test_a_bad_catalogue_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "features.txt"
    path.write_text(line)
    with pytest.raises(ValueError, match=r"features.txt line [12]"):
        catalogue(path)


@pytest.mark.parametrize("folder", ["integration", "e2e", "chaos", "conformance"])
def test_markers_are_welcome_where_the_real_thing_runs(folder: str) -> None:
    assert marker_problem(f"tests/{folder}/test_a.py::test_b", ["SC-01"], KNOWN) is None


@pytest.mark.parametrize(
    ("test", "features", "word"),
    [
        ("tests/unit/test_a.py::test_b", ["SC-01"], "only tests under"),
        ("tests/contract/test_a.py::test_b", ["SC-01"], "only tests under"),
        ("tests/test_a.py::test_b", ["SC-01"], "only tests under"),
        ("tests/e2e/test_a.py::test_b", [], "names no id"),
        ("tests/e2e/test_a.py::test_b", ["SC-99"], "no such feature: SC-99"),
    ],
)
def test_a_wrong_marker_is_explained(test: str, features: list[object], word: str) -> None:
    problem = marker_problem(test, features, KNOWN)
    assert problem is not None
    assert word in problem


def test_a_run_replaces_its_own_records_only(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.py").touch()
    kept = {
        "a.py::x": TestRecord(("SC-01",), "passed"),
        "b.py::gone": TestRecord(("SC-02",), "passed"),
        "b.py::x": TestRecord(("SC-02",), "passed"),
        "c.py::x": TestRecord(("SC-03",), "passed"),
        "deleted.py::x": TestRecord(("SC-04",), "passed"),
    }
    ran = {"b.py::x": TestRecord(("SC-02",), "failed")}
    assert merged(kept, ran, ["b.py"], tmp_path) == {
        "a.py::x": kept["a.py::x"],
        "b.py::x": ran["b.py::x"],
        "c.py::x": kept["c.py::x"],
    }
    assert "b.py::gone" in merged(kept, ran, [], tmp_path)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    records = {"a.py::x": TestRecord(("SC-01", "SC-02"), "skipped")}
    save(records, tmp_path / "build" / "features.json")
    assert load(tmp_path / "build" / "features.json") == records
    assert load(tmp_path / "absent.json") == {}


def test_the_report_tells_proven_failed_skipped_and_not_shown() -> None:
    records = {
        "e2e::good": TestRecord(("SC-01", "SC-02"), "passed"),
        "e2e::bad": TestRecord(("SC-02",), "failed"),
        "e2e::absent": TestRecord(("SC-03",), "skipped"),
    }
    lines, good = report(KNOWN, proofs(records))
    text = "\n".join(lines)
    assert not good
    assert "proven: 1 of 4\n  SC-01  signalling\n      e2e::good" in text
    assert "failed: 1\n  SC-02  tenants\n      e2e::bad" in text
    assert "skipped, so unproven: 1\n  SC-03  dial plan\n      e2e::absent" in text
    assert "not shown yet: 1\n  SC-04  scale" in text


E2E = """
import pytest

@pytest.mark.feature("SC-01")
def test_good():
    assert True

@pytest.mark.feature("SC-02", "SC-03")
def test_bad():
    assert False

@pytest.mark.feature("SC-03")
def test_skips():
    pytest.skip("no phone")

@pytest.mark.feature("SC-04")
def test_breaks_afterwards(tidy):
    assert True

@pytest.fixture
def tidy():
    yield
    raise RuntimeError("left something behind")

def test_unmarked():
    assert True
"""


def _project(folder: Path, tests: dict[str, str]) -> None:
    (folder / "docs").mkdir()
    (folder / CATALOGUE).write_text("".join(f"{key}\t{value}\n" for key, value in KNOWN.items()))
    (folder / "tests").mkdir()
    (folder / "tests" / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    marker = "feature(*ids): as in the repository"
    (folder / "pyproject.toml").write_text(f'[tool.pytest.ini_options]\nmarkers = ["{marker}"]\n')
    for name, text in tests.items():
        path = folder / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _pytest(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", f"--rootdir={folder}", *args]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
def test_a_run_records_what_ran_and_how_it_ended(tmp_path: Path, processes: tuple[str, ...]) -> None:
    _project(tmp_path, {"e2e/test_calls.py": E2E})
    result = _pytest(tmp_path, "tests", *processes)
    assert result.returncode == 1, result.stdout + result.stderr
    tests = json.loads((tmp_path / RECORD).read_text())["tests"]
    assert {name.split("::")[1]: (r["outcome"], r["features"]) for name, r in tests.items()} == {
        "test_good": ("passed", ["SC-01"]),
        "test_bad": ("failed", ["SC-02", "SC-03"]),
        "test_skips": ("skipped", ["SC-03"]),
        "test_breaks_afterwards": ("failed", ["SC-04"]),
    }


def test_a_partial_run_keeps_the_other_tests_of_the_file(tmp_path: Path) -> None:
    _project(tmp_path, {"e2e/test_calls.py": E2E})
    _pytest(tmp_path, "tests")
    result = _pytest(tmp_path, "tests/e2e/test_calls.py::test_good")
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(load(tmp_path / RECORD)) == 4


def test_a_repeat_of_what_failed_keeps_the_other_tests_of_the_file(tmp_path: Path) -> None:
    _project(tmp_path, {"e2e/test_calls.py": E2E})
    _pytest(tmp_path, "tests")
    _pytest(tmp_path, "--last-failed")
    tests = load(tmp_path / RECORD)
    assert {name.split("::")[1]: record.outcome for name, record in tests.items()} == {
        "test_good": "passed",
        "test_bad": "failed",
        "test_skips": "skipped",
        "test_breaks_afterwards": "failed",
    }


def test_a_marker_in_a_unit_test_stops_the_run(tmp_path: Path) -> None:
    _project(tmp_path, {"unit/test_calls.py": E2E})
    result = _pytest(tmp_path, "tests")
    assert result.returncode == 4
    assert "only tests under tests/ in integration, e2e, chaos, conformance prove a feature" in result.stderr
