"""Figures of a run: who felt a fault for how long, who waited how long."""

from __future__ import annotations

import pytest

from tests.chaos.facts import CallerCall, Facts, Struck
from tests.chaos.report import Report, recovery
from tests.chaos.schedule import Schedule
from tests.chaos.stalls import STALL_S, Stalls


def call(number: int, invited_at: float, ringing_after: float | None, refused: int = 0) -> CallerCall:
    ringing = None if ringing_after is None else invited_at + ringing_after
    answered = None if ringing is None else ringing + 1.0
    return CallerCall(f"c{number}", "t1", "routed", invited_at, ringing, answered, answered, refused)


def test_a_fault_is_felt_until_calls_are_served_as_usual_again() -> None:
    calls = [
        call(1, 99.0, 5.0),  # before the fault
        call(2, 100.2, None, 503),
        call(3, 101.0, 0.1),
        call(4, 102.5, 1.4),
        call(5, 103.0, 0.2),
        call(6, 130.0, 9.0),  # too late to be of this fault
    ]
    felt = recovery(Struck("kill", "sip_cluster-0", 100.0, 100.3), calls)
    assert (felt.felt, felt.of, felt.recovered_s) == (2, 4, 2.5)
    assert recovery(
        Struck("kill", "sip_cluster-0", 100.0, 100.3), calls, until=102.0
    ).recovered_s == pytest.approx(0.2)
    assert recovery(Struck("kill", "xds", 104.0, 104.3), calls).recovered_s == 0


def test_a_report_tells_shares_and_waits() -> None:
    facts = Facts(calls=[call(1, 0.0, 0.5), call(2, 1.0, 2.0), call(3, 2.0, None, 503), call(4, 3.0, 0.5)])
    report = Report(Schedule("short", 1, 10.0, ()), facts, [], 0, [(5.0, 2.5)])
    assert report.complete_share == 0.75
    assert (report.waited(0.5), report.waited(0.99)) == (1.5, 3.0)
    assert any("75.000% complete; refused {503: 1}" in line for line in report.lines())
    assert any("stood still: 2.5 s at 5 s" in line for line in report.lines())


def test_a_machine_that_stands_still_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 10.05, 13.0, 13.05])
    stalls = Stalls()
    monkeypatch.setattr("tests.chaos.stalls.time.monotonic", lambda: next(moments))
    monkeypatch.setattr(stalls, "_over", Ticks(3))
    stalls._watch()
    ((_, length),) = stalls.found
    assert length == pytest.approx(2.95)
    assert length > STALL_S


class Ticks:
    """An event that is set after so many waits."""

    def __init__(self, count: int) -> None:
        self._left = count

    def wait(self, timeout: float) -> bool:
        self._left -= 1
        return self._left < 0
