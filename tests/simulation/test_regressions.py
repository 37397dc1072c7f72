"""Seeds that once broke an invariant, with what was wrong."""

from __future__ import annotations

import pytest

from tests.simulation.run import run

SEEDS = {
    1330: "a request timed out while an agent was asked: the tenant's clock rang without end (services/tenant/machine.py)",
    4079: "the same, in an outage of another kind",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_that_once_failed_holds(seed: int) -> None:
    result = run(seed)
    assert not result.violations, f"{SEEDS[seed]}: {result.violations[0]}"
