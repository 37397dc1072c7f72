"""Health by dependency: down after two failures in a row, up at once, told once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mesh import health as module
from mesh.health import Health
from mesh.telemetry.metrics import Metrics


class Plan:
    """A check that answers as planned."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)

    async def __call__(self) -> bool:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def make(**checks: Callable[[], Awaitable[bool]]) -> tuple[Health, list[bool], Metrics]:
    told: list[bool] = []
    metrics = Metrics("probe")

    async def changed(healthy: bool) -> None:
        told.append(healthy)

    health = Health(metrics, changed)
    for name, check in checks.items():
        health.depends(name, check)
    return health, told, metrics


async def test_without_dependencies_a_node_is_healthy() -> None:
    health, told, _ = make()
    await health.check_all()
    assert told == [True]


async def test_one_failure_is_no_outage_two_are() -> None:
    health, told, metrics = make(redis=Plan(True, False, True, False, False, True))

    def gauge() -> float | None:
        return metrics.registry.get_sample_value("voicemesh_probe_dependency_up", {"dependency": "redis"})

    seen = []
    for _ in range(6):
        await health.check_all()
        seen.append(gauge())
    assert seen == [1, 1, 1, 1, 0, 1]
    assert told == [True, False, True]


async def test_a_dependency_never_seen_up_is_down_from_the_start() -> None:
    health, told, _ = make(etcd=Plan(ConnectionError("refused")), redis=Plan(True))
    await health.check_all()
    assert told == [False]
    assert {d.name: d.problem for d in health.dependencies} == {
        "etcd": "ConnectionError: refused",
        "redis": "",
    }


async def test_a_check_that_hangs_counts_as_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_TIMEOUT_S", 0.01)

    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    health, told, _ = make(redis=hang)
    await health.check_all()
    assert told == [False]
    assert health.dependencies[0].problem == "no answer within 0.01 s"


async def test_a_check_that_says_no_is_down() -> None:
    health, _, _ = make(config=Plan(False))
    await health.check_all()
    assert health.dependencies[0].problem == "the check says no"
    assert not health.healthy


async def test_what_all_nodes_share_is_needed_to_begin_and_not_to_go_on() -> None:
    told: list[bool] = []
    metrics = Metrics("probe")

    async def changed(healthy: bool) -> None:
        told.append(healthy)

    health = Health(metrics, changed)
    health.depends("etcd", Plan(False, True, False, False, True), shared=True)
    seen = []
    for _ in range(5):
        await health.check_all()
        seen.append((health.healthy, health.dependencies[0].up))
    assert seen == [(False, False), (True, True), (True, True), (True, False), (True, True)]
    assert told == [False, True]
    assert metrics.registry.get_sample_value("voicemesh_probe_dependency_up", {"dependency": "etcd"}) == 1
