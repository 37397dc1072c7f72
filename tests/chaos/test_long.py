"""The long form: `make chaos`. CHAOS_MINUTES, CHAOS_SEED, CHAOS_RATE, CHAOS_PLANS; see README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import network
from tests.chaos.load import Shape
from tests.chaos.report import Report
from tests.chaos.scenario import ENVIRONMENT, run
from tests.chaos.schedule import PLANS, draw
from tests.chaos.settings import ChaosSettings
from tests.e2e.platform import Platform

COUNTS = {
    "sip_cluster": 3, "redis_queue": 2, "orchestration": 2, "tenant": 2, "agent_state": 2, "call_state": 2, "sip_proxy": 2,
    "front_end": 2, "registrar": 2, "dial_plan": 2, "config": 2,
}  # fmt: skip
COMPLETE = 0.999
MARKS = {
    "kills": pytest.mark.feature("SC-04"),
    "freezes": pytest.mark.feature("XC-04"),
    "etcd": pytest.mark.feature("XC-05"),
    "redis": pytest.mark.feature("XC-06"),
}
IN_TIME_S = {"sip_cluster": 3.0, "sip_proxy": 4.0}
"""New calls go on within so many seconds of a node's death; of any other's within a second. SIPp knows one proxy only: its calls
wait for the retransmission (0.5, 1.5, 3.5 s) that finds it started again, where a trunk would take the next one."""
OTHER_S = 1.0


@pytest.fixture(scope="module")
def settings() -> ChaosSettings:
    """From the environment."""
    return ChaosSettings.from_env()


@pytest.mark.timeout(0)
@pytest.mark.slow
@pytest.mark.parametrize("plan", [pytest.param(plan, marks=MARKS.get(plan, ())) for plan in PLANS])
async def test_nothing_that_dies_takes_a_call_with_it(
    plan: str, chaos_long: bool, settings: ChaosSettings, tmp_path: Path
) -> None:
    if not chaos_long:
        pytest.skip("long form: make chaos")
    if plan not in settings.plans:
        pytest.skip(f"not among CHAOS_PLANS: {', '.join(settings.plans)}")
    if plan in ("cuts", "mixed") and (why := network.why_not()):
        pytest.skip(why)
    schedule = draw(plan, settings.seed, settings.minutes_of(plan), COUNTS)
    shape = Shape(routed_rate=settings.rate * 0.8, direct_rate=settings.rate * 0.2, seconds=schedule.seconds)
    async with Platform(tmp_path / "mesh", COUNTS, ENVIRONMENT) as platform:
        report = await run(platform, schedule, shape, tmp_path, print)
    kept = report.save()
    print("\n".join(report.lines()))
    assert report.violations == [], f"seed {settings.seed}; everything is in {kept}"
    assert report.complete_share >= COMPLETE
    if plan == "rolling":
        assert report.client_failures == 0, "a client saw a failed RPC"
    if plan == "kills":
        assert _slow(report) == []


def _slow(report: Report) -> list[str]:
    """Deaths after which new calls did not go on in time."""
    return [
        f"{r.process}: {r.recovered_s:.2f} s"
        for r in report.recoveries()
        if r.recovered_s > IN_TIME_S.get(r.process.partition(".")[0].rpartition("-")[0], OTHER_S)
    ]
