"""Every W3C test is a test here, by its number."""

from __future__ import annotations

import pytest

from tests.conformance.scxml import suite

pytestmark = pytest.mark.skipif(
    not suite.present(), reason="suite absent: no shared/suites/scxml-w3c beside the checkout"
)
CASES = suite.cases() if suite.present() else []


@pytest.mark.feature("OR-22")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id}-{case.profile}")
def test_w3c(case: suite.Case) -> None:
    outcome = suite.run(case)
    assert outcome.passed, f"{case.text}\n{outcome.detail}"


@pytest.mark.feature("OR-22")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id}-{case.profile}")
def test_w3c_with_a_hand_over_after_every_step(case: suite.Case) -> None:
    outcome = suite.run(case, suite.HandOverHost)
    assert outcome.passed, f"{case.text}\n{outcome.detail}"


def test_the_suite_is_complete() -> None:
    groups: dict[str, int] = {}
    for case in CASES:
        groups[case.group] = groups.get(case.group, 0) + 1
    assert groups == {
        "mandatory core": 158,
        "mandatory null": 1,
        "mandatory core, manual": 8,
        "optional core": 2,
        "optional ecma": 20,
        "optional http": 11,
        "optional http, manual": 1,
    }
