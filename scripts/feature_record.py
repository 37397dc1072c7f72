"""What the tests have proven: which test shows which feature, and how it ended when it ran last.

Kept in build/features.json by the test run (tests/conftest.py), read by `make features`. A record per test,
so a run of the chaos suite adds to what `make test` recorded and a repeated test replaces its own record
only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path("build/features.json")
"""Where the record is, below the root of the repository."""
CATALOGUE = Path("docs/features.txt")
"""Every feature, a line "id<TAB>function", below the root of the repository."""
PROVING_FOLDERS = ("integration", "e2e", "chaos", "conformance")
"""Folders of tests/ whose tests run against the real thing."""

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class TestRecord:
    """How a test that shows features ended."""

    __test__ = False

    features: tuple[str, ...]
    outcome: Outcome


def catalogue(path: Path) -> dict[str, str]:
    """Feature id -> function, in the order of the file. ValueError for a line that is not
    "id<TAB>function"."""
    known: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        feature, tab, function = line.partition("\t")
        if not tab or not feature or not function or feature in known:
            raise ValueError(f"{path.name} line {number}: must be a new id, a tab and the function")
        known[feature] = function
    return known


def marker_problem(test: str, features: Collection[object], known: Collection[str]) -> str | None:
    """Why a feature marker is wrong, or None. `test` is a test id such as
    "tests/e2e/test_call.py::test_busy"."""
    parts = test.split("::")[0].split("/")
    if len(parts) < 3 or parts[0] != "tests" or parts[1] not in PROVING_FOLDERS:
        allowed = ", ".join(PROVING_FOLDERS)
        return f"{test}: only tests under tests/ in {allowed} prove a feature"
    if not features:
        return f"{test}: the feature marker names no id"
    unknown = [str(feature) for feature in features if feature not in known]
    return f"{test}: no such feature: {', '.join(unknown)}" if unknown else None


def load(path: Path) -> dict[str, TestRecord]:
    """The records kept; empty when no test has run yet."""
    if not path.exists():
        return {}
    tests = json.loads(path.read_text(encoding="utf-8"))["tests"]
    return {test: TestRecord(tuple(r["features"]), r["outcome"]) for test, r in tests.items()}


def save(records: Mapping[str, TestRecord], path: Path) -> None:
    """Replaces the file in one step, so that two runs at once leave one whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    tests = {test: asdict(records[test]) for test in sorted(records)}
    draft.write_text(json.dumps({"tests": tests}, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def merged(
    kept: Mapping[str, TestRecord],
    ran: Mapping[str, TestRecord],
    whole_files: Iterable[str],
    root: Path,
) -> dict[str, TestRecord]:
    """The kept records with those of this run in their place. Dropped: tests whose file is gone, and tests
    that are no longer in a file that ran as a whole."""
    replaced = set(whole_files)
    still = {
        test: record
        for test, record in kept.items()
        if test.split("::")[0] not in replaced and (root / test.split("::")[0]).exists()
    }
    return {**still, **ran}


def proofs(records: Mapping[str, TestRecord]) -> dict[str, dict[Outcome, list[str]]]:
    """Feature id -> tests by outcome. A feature is proven when some test passed and none failed."""
    found: dict[str, dict[Outcome, list[str]]] = {}
    for test, record in sorted(records.items()):
        for feature in record.features:
            found.setdefault(feature, {"passed": [], "failed": [], "skipped": []})[record.outcome].append(
                test
            )
    return found
