"""A safeguard that is taken out is noticed, within a thousand schedules: the simulation can fail."""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import search
from tests.simulation.mutations import HINTS, MUTATIONS
from tests.simulation.run import run

WITHIN = 1000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("safeguard", HINTS)
def test_a_safeguard_taken_out_is_noticed(safeguard: str) -> None:
    """The seed that broke first when this was written is tried first; the services change, so it may hold now, and then the
    whole thousand is searched."""
    without = frozenset({safeguard})
    hint = HINTS[safeguard]
    found = search(hint, 1, without) or search(0, WITHIN, without)
    assert found is not None, f"without it nothing breaks: {MUTATIONS[safeguard]}"
    assert not run(found.seed).violations, "the seed breaks with the safeguard, too"


def test_hints_name_safeguards() -> None:
    assert set(HINTS) <= set(MUTATIONS)
    assert len(HINTS) >= 5
