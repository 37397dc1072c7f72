"""Feature bookkeeping of every test run, and options all suites share.

A test marked @pytest.mark.feature("SC-12", …) in a folder that runs the real thing proves those features
when it ran and passed; build/features.json keeps that for `make features`.
"""

from __future__ import annotations

from typing import Any

import pytest

from scripts.feature_record import (
    CATALOGUE,
    RECORD,
    TestRecord,
    catalogue,
    load,
    marker_problem,
    merged,
    save,
)

_FEATURES = "features"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-long", action="store_true", help="run the long forms of the failure tests")


@pytest.fixture(scope="session")
def chaos_long(request: pytest.FixtureRequest) -> bool:
    """Whether the long forms of the failure tests were asked for."""
    return bool(request.config.getoption("--chaos-long"))


class FeatureBook:
    """Collects what this run proves. With several processes the first one keeps the book."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._ran: dict[str, TestRecord] = {}
        self._files: set[str] = set()
        option = config.option
        repeated = getattr(option, "lf", False)
        chosen = repeated or option.keyword or option.markexpr or any("::" in arg for arg in config.args)
        self._partial = bool(chosen)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        known = catalogue(self._config.rootpath / CATALOGUE)
        problems = []
        for item in items:
            self._files.add(item.nodeid.split("::")[0])
            for marker in item.iter_markers("feature"):
                problem = marker_problem(item.nodeid, marker.args, known)
                if problem:
                    problems.append(problem)
            features = [str(feature) for marker in item.iter_markers("feature") for feature in marker.args]
            if features:
                item.user_properties.append((_FEATURES, features))
        if problems:
            raise pytest.UsageError("\n".join(sorted(set(problems))))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        features: Any = dict(report.user_properties).get(_FEATURES)
        if not features:
            return
        self._files.add(report.nodeid.split("::")[0])
        before = self._ran.get(report.nodeid)
        worse = before is not None and before.outcome != "passed"
        outcome = "skipped" if hasattr(report, "wasxfail") and not report.failed else report.outcome
        if before is None or (not worse and outcome != "passed") or outcome == "failed":
            self._ran[report.nodeid] = TestRecord(tuple(dict.fromkeys(features)), outcome)

    def pytest_sessionfinish(self) -> None:
        if hasattr(self._config, "workerinput") or self._config.option.collectonly:
            return
        root = self._config.rootpath
        kept = merged(load(root / RECORD), self._ran, () if self._partial else self._files, root)
        save(kept, root / RECORD)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FeatureBook(config), "voicemesh-features")
