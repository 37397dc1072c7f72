"""The long form: `make chaos`. CHAOS_MINUTES, CHAOS_SEED, CHAOS_RATE, CHAOS_PLANS; see README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import members, network
from tests.chaos.facts import Claim
from tests.chaos.load import Shape
from tests.chaos.report import Report
from tests.chaos.scenario import ENVIRONMENT, run
from tests.chaos.schedule import MEMBERS, PLANS, WITH_MEMBERS, draw
from tests.chaos.settings import ChaosSettings
from tests.e2e.platform import Platform

COUNTS = {
    "sip_cluster": 3, "redis_queue": 2, "orchestration": 2, "tenant": 2, "agent_state": 2, "call_state": 2, "sip_proxy": 2,
    "front_end": 2, "registrar": 2, "dial_plan": 2, "config": 2,
}  # fmt: skip
COMPLETE = 0.999
MARKS = {
    "kills": pytest.mark.feature("SC-04"),
    "thousand": pytest.mark.feature("XC-11"),
    "freezes": pytest.mark.feature("XC-04"),
    "etcd": pytest.mark.feature("XC-05"),
    "members": pytest.mark.feature("XC-05"),
    "redis": pytest.mark.feature("XC-06"),
}
IN_TIME_S = {"sip_cluster": 3.0, "sip_proxy": 4.0}
"""New calls go on within so many seconds of a node's death; of any other's within a second. SIPp knows one proxy only: its calls
wait for the retransmission (0.5, 1.5, 3.5 s) that finds it started again, where a trunk would take the next one."""
OTHER_S = 1.0
A_SECOND = 1000 / 60
"""Calls of the plan `thousand`: a thousand a minute."""
CATCHES_UP_S = 30.0
"""Longest wait for a member of etcd to hold what the others hold, seconds."""


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
    shape = _shape(plan, settings.rate, schedule.seconds)
    size = len(MEMBERS) if plan in WITH_MEMBERS else 1
    async with Platform(tmp_path / "mesh", COUNTS, ENVIRONMENT, etcd_members=size) as platform:
        report = await run(platform, schedule, shape, tmp_path, print)
        restarted = {name for name, process in platform.mesh.processes.items() if process.restarts}
        held = await members.digests(platform.mesh, CATCHES_UP_S) if plan == "members" else {}
    kept = report.save()
    print("\n".join(report.lines()))
    assert report.violations == [], f"seed {settings.seed}; everything is in {kept}"
    assert report.complete_share >= COMPLETE
    if plan == "rolling":
        assert report.client_failures == 0, "a client saw a failed RPC"
    if plan in ("kills", "members"):
        assert _slow(report) == []
    if plan == "members":  # a quorum stood all the time
        assert restarted == set(MEMBERS), "what else needed a restart"
        assert _moved(report) == [], "slots changed hands"
        assert len(set(held.values())) == 1, f"members hold different things: {held}"


def _shape(plan: str, rate: float, seconds: float) -> Shape:
    if (
        plan == "thousand"
    ):  # so many are possible on a small machine when few of them go through an application
        return Shape(
            routed_rate=A_SECOND * 0.1, direct_rate=A_SECOND * 0.9, seconds=seconds, hold_ms=(2000, 6000)
        )
    return Shape(routed_rate=rate * 0.8, direct_rate=rate * 0.2, seconds=seconds)


def _moved(report: Report) -> list[Claim]:
    """Claims that changed since the first fault."""
    first = min(struck.at for struck in report.facts.struck)
    return [claim for claim in report.facts.claims if claim.at > first]


def _slow(report: Report) -> list[str]:
    """Deaths after which new calls did not go on in time."""
    return [
        f"{r.process}: {r.recovered_s:.2f} s"
        for r in report.recoveries()
        if r.recovered_s > IN_TIME_S.get(r.process.partition(".")[0].rpartition("-")[0], OTHER_S)
    ]
