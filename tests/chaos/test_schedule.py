"""A schedule is the same again for its seed, and does what its plan says."""

from __future__ import annotations

import itertools

import pytest

from mesh.lease import TTL_S
from mesh.local.etcd_group import RESTART_S
from mesh.local.layout import SERVICE_NUMBERS
from tests.chaos.schedule import LEADER, MEMBERS, PLANS, SERVICES, STATEFUL, draw
from tests.chaos.settings import MINUTES, ChaosSettings

COUNTS = dict.fromkeys(SERVICES, 2)


@pytest.mark.parametrize("plan", PLANS)
def test_a_seed_gives_the_same_schedule_again_and_another_seed_another(plan: str) -> None:
    drawn = draw(plan, 7, 20, COUNTS)
    assert drawn == draw(plan, 7, 20, COUNTS)
    assert drawn.faults
    assert [fault.at for fault in drawn.faults] == sorted(fault.at for fault in drawn.faults)
    assert all(0 <= fault.at < drawn.seconds for fault in drawn.faults)
    assert len({draw(plan, seed, 20, COUNTS).faults for seed in range(20)}) > 1


def test_the_kills_of_twenty_minutes_reach_every_kind_of_process() -> None:
    assert set(SERVICES) <= set(SERVICE_NUMBERS)
    for seed in range(20):
        faults = draw("kills", seed, 20, COUNTS).faults
        killed = {
            fault.process.partition(".")[0].rpartition("-")[0]
            for fault in faults
            if ".envoy" not in fault.process
        }
        assert set(SERVICES) <= killed
        assert len(faults) == 20
        assert any(fault.process.endswith(".envoy") for fault in faults)


def test_a_rolling_restart_reaches_every_instance_once() -> None:
    processes = [fault.process for fault in draw("rolling", 3, 20, COUNTS).faults]
    assert sorted(processes) == sorted(f"{service}-{n}" for service in SERVICES for n in range(2))


def test_members_of_etcd_end_one_at_a_time_each_in_both_ways_and_the_leader_too() -> None:
    for seed in range(20):
        faults = draw("members", seed, MINUTES["members"], COUNTS).faults
        struck = [(fault.kind, fault.process) for fault in faults]
        assert sorted(struck[:-1]) == sorted((kind, name) for kind in ("kill", "drain") for name in MEMBERS)
        assert struck[-1] == ("kill", LEADER)
        pauses = [after.at - before.at for before, after in itertools.pairwise(faults)]
        assert min(pauses) > 4 * RESTART_S, "the last one is back"


def test_a_frozen_leader_goes_on_long_before_the_next_one_is_frozen() -> None:
    for seed in range(20):
        faults = draw("frozen_leader", seed, MINUTES["frozen_leader"], COUNTS).faults
        assert len(faults) >= 3
        assert {(fault.kind, fault.process) for fault in faults} == {("freeze", LEADER)}
        assert all(fault.seconds >= 2 * TTL_S for fault in faults), "every lease would have ended"
        assert all(after.at - before.at - before.seconds > 10 for before, after in itertools.pairwise(faults))


def test_the_short_plan_kills_one_of_each_owner_and_a_sip_node() -> None:
    killed = {fault.process.rpartition("-")[0] for fault in draw("short", 1, 0.5, COUNTS).faults}
    assert killed == {"orchestration", "tenant", "agent_state", "redis_queue", "sip_cluster"}


def test_a_clock_is_off_by_what_the_design_allows() -> None:
    faults = [fault for fault in draw("clocks", 5, 20, COUNTS).faults if fault.kind == "skew"]
    assert {fault.process.rpartition("-")[0] for fault in faults} == set(STATEFUL)
    assert all(0.3 <= abs(fault.amount) <= 0.5 for fault in faults)


def test_each_plan_has_a_length_in_which_every_kind_of_process_has_its_turn() -> None:
    assert set(MINUTES) == set(PLANS)
    for plan in ("kills", "freezes"):
        faults = draw(plan, 11, MINUTES[plan], COUNTS).faults
        assert set(SERVICES) <= {fault.process.partition(".")[0].rpartition("-")[0] for fault in faults}
    assert ChaosSettings.from_env({}).minutes_of("kills") == 20
    assert ChaosSettings.from_env({"CHAOS_MINUTES": "3"}).minutes_of("kills") == 3


def test_settings_name_everything_that_is_wrong() -> None:
    assert ChaosSettings.from_env({"CHAOS_SEED": "5", "CHAOS_PLANS": "all"}).plans == tuple(PLANS)
    with pytest.raises(ValueError, match=r"CHAOS_MINUTES=x.*CHAOS_RATE=-1.*'nonsense'"):
        ChaosSettings.from_env({"CHAOS_MINUTES": "x", "CHAOS_RATE": "-1", "CHAOS_PLANS": "nonsense"})
