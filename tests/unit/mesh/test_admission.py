"""Calls for another incarnation, and calls that were sent while the process slept, are refused."""

from __future__ import annotations

from typing import Any

import pytest
from voice.error.v1.reason_pb2 import Reason

from mesh.admission import DOOR_S, Admission, Sleep
from mesh.errors import DomainError
from mesh.pipeline import Call, Method
from mesh.telemetry.metrics import Metrics

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 100 * SECOND

    def __call__(self) -> int:
        return self.now

    def after(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


class Context:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


def made() -> tuple[Admission, Sleep, Clock, Metrics]:
    clock, metrics = Clock(), Metrics("probe")
    sleep = Sleep(metrics, lease_s=2.0, clock=clock)
    return Admission(metrics, "probe-0.00000001", sleep), sleep, clock, metrics


def call(*metadata: tuple[str, str]) -> Call:
    context: Any = Context(*metadata)
    return Call(Method.of("/voice.x.v1.X/Get"), context)


def refused(admission: Admission, one: Call) -> DomainError:
    with pytest.raises(DomainError) as caught:
        admission.around(one)
    assert caught.value.reason == Reason.REASON_NOT_OWNER
    assert caught.value.retryable
    return caught.value


def count(metrics: Metrics, why: str) -> float | None:
    return metrics.registry.get_sample_value("voicemesh_probe_misdirected_calls_total", {"why": why})


def test_a_call_for_nobody_or_for_us_is_served() -> None:
    admission, _, _, metrics = made()
    admission.around(call())
    admission.around(call(("x-voicemesh-node", "probe-0.00000001")))
    assert count(metrics, "other_node") == 0


def test_a_call_for_another_incarnation_is_refused_and_named() -> None:
    admission, _, _, metrics = made()
    error = refused(admission, call(("x-voicemesh-node", "probe-0.00000000")))
    assert "probe-0.00000001, not probe-0.00000000" in error.message
    assert count(metrics, "other_node") == 1


def test_nothing_is_refused_before_the_first_beat_nor_when_beats_are_late_within_the_lease() -> None:
    admission, sleep, clock, _ = made()
    clock.after(60)
    admission.around(call())
    for pause in (0.2, 1.9, 0.2, 2.0):
        sleep.beat()
        clock.after(pause)
        admission.around(call())


@pytest.mark.parametrize("beat_first", [True, False])
def test_what_waited_at_the_door_of_a_process_that_slept_is_refused(beat_first: bool) -> None:
    admission, sleep, clock, metrics = made()
    sleep.beat()
    clock.after(10)
    if beat_first:
        sleep.beat()
    refused(admission, call())
    sleep.beat()
    clock.after(DOOR_S - 0.01)
    sleep.beat()
    refused(admission, call())
    clock.after(0.02)
    admission.around(call())
    assert count(metrics, "slept") == 2
    assert metrics.registry.get_sample_value("voicemesh_probe_sleeps_total") == 1
