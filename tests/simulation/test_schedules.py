"""Seeds of all kinds hold every invariant; the same seed gives the same run."""

from __future__ import annotations

import time

import pytest

from tests.simulation.run import Run, run
from tests.simulation.schedule import Fault, draw

SECONDS = 10.0
"""How long the short form runs; `python -m tests.simulation --schedules 100000` is the long one."""
AT_LEAST = 60
"""Schedules that even a busy machine has to get through."""


@pytest.mark.timeout(240)
def test_no_schedule_breaks_an_invariant() -> None:
    began = time.monotonic()
    seed = takeovers = 0
    while seed < AT_LEAST or time.monotonic() - began < SECONDS:
        result = run(seed)
        assert not result.violations, f"{result.violations[0]}\n{draw(seed).describe()}"
        takeovers += result.revived
        seed += 1
    assert takeovers, "no call was taken over: the schedules test nothing"


def test_a_seed_is_a_schedule() -> None:
    for seed in (3, 359, 705):
        first, second = run(seed, tracing=True), run(seed, tracing=True)
        assert first.lines == second.lines
        assert first.happened == second.happened


def test_every_kind_of_fault_is_drawn() -> None:
    drawn = {planned.fault for seed in range(400) for planned in draw(seed).faults}
    assert drawn == set(Fault)
    assert {planned.service for seed in range(400) for planned in draw(seed).faults} >= {
        "sip_cluster",
        "tenant",
    }


def test_callers_talk_to_agents() -> None:
    """A schedule without faults and impatience does what a contact centre is for."""
    schedule = draw(1)
    schedule.faults.clear()
    run_of_it = Run(schedule)
    result = run_of_it.go()
    assert not result.violations
    outcomes = [caller.outcome for caller in run_of_it.platform.wire.callers.values()]
    assert outcomes.count("talked") >= 1
    assert set(outcomes) <= {"talked", "cancelled"}
