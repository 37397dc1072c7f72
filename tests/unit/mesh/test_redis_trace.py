"""The trace sees a late write that had an effect: a check that cannot fail is none."""

from __future__ import annotations

from tests.integration.mesh.redis_trace import RedisTrace


def told(trace: RedisTrace, epoch: int, *commands: str) -> None:
    trace.take(
        f'+1.5 [0 127.0.0.1:5] "EVALSHA" "abc" "2" "{{agent_state:7}}:fence" "{{agent_state:7}}:agents" "{epoch}" "w1" "1" "x\\"y"'
    )
    trace.take('+1.5 [0 lua] "HMGET" "{agent_state:7}:fence" "epoch" "w1"')
    for command in commands:
        trace.take(f'+1.5 [0 lua] "{command}" "{{agent_state:7}}:agents"')


def test_a_late_write_is_seen_and_one_with_an_effect_is_a_violation() -> None:
    trace = RedisTrace("", 0)
    told(trace, 10, "HSET")
    told(trace, 12, "HSET")
    told(trace, 10)
    trace.take('+1.6 [0 127.0.0.1:5] "GET" "k"')
    trace.take('+1.6 [0 lua] "SET" "of another script"')
    assert [write.epoch for write in trace.late()] == [10]
    assert trace.violations() == []
    told(trace, 11, "HSET")
    [violation] = trace.violations()
    assert (violation.service, violation.slot, violation.epoch, violation.changed) == (
        "agent_state",
        "7",
        11,
        ["hset"],
    )
