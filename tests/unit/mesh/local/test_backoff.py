"""Waiting before a process is started again."""

from __future__ import annotations

from mesh.local.backoff import FIRST, HEALTHY, LONGEST, Backoff


def test_it_doubles_while_a_process_keeps_ending_and_is_bounded() -> None:
    backoff = Backoff()
    delays = [backoff.after_end(ran_for=0.1) for _ in range(10)]
    assert delays[:4] == [FIRST, FIRST * 2, FIRST * 4, FIRST * 8]
    assert delays[-1] == LONGEST


def test_a_process_that_ran_well_is_back_soon() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after_end(ran_for=0.1)
    assert backoff.after_end(ran_for=HEALTHY) == FIRST
