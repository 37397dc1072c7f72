"""Agents and call threads outlive the Redis primary: their owners go on with its replica, and nobody is started again."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest
import redis.asyncio
from voice.agent_state.v1.agent_pb2 import Agent, AgentPhase
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh import redis_primary
from mesh.identifiers import agent_slot
from mesh.log import log_key
from mesh.rq import THREAD
from tests.integration.agent_state.region import Region, region_of
from tests.integration.call_state.story import Story
from tests.integration.call_state.test_call_state import SETTINGS, complete
from tests.integration.redis_group import redis_group
from tests.integration.redis_queue.processes import eventually
from tests.integration.servers import EtcdServer

AGENTS = {"A1001": "1001", "A1002": "1002"}


def _now(number: int) -> Story:
    """A call of this moment; one of the past would be forgotten at once."""
    return Story(number, start_us=time.time_ns() // 1000)


def _publish(view: Region, events: list[EventEnvelope]) -> None:
    for event in events:
        view.rq.publisher(THREAD).append(event)


async def _has_call(view: Region, agent: str, story: Story) -> None:
    async def there() -> bool:
        return list((await view.agent(agent)).calls) == [story.conn_id()]

    await eventually(there, 30)


async def _free(view: Region, agent: str) -> None:
    async def there() -> bool:
        return not (await view.agent(agent)).calls

    await eventually(there, 30)


@pytest.mark.feature("XC-06", "RQ-07")
async def test_agents_and_calls_go_on_over_the_death_of_the_primary(
    etcd_server: EtcdServer, region: str
) -> None:
    with redis_group() as group:
        client = redis_primary.client(group.url, max_connections=8, timeout=2.0, socket_timeout=5.0)
        async with region_of(etcd_server, group, client, region) as view:  # type: ignore[arg-type]
            await view.nodes.start("call_state", 0, **SETTINGS)
            for agent, dn in AGENTS.items():
                await view.ready_agent(agent, dn)
            first, second = _now(1).routed("A1001", "1001"), _now(2).routed("A1002", "1002")
            _publish(view, first.envelopes)
            await _has_call(view, "A1001", first)
            running = {name: node.process for name, node in view.nodes.nodes.items()}
            await asyncio.to_thread(group.primary.kill)
            # One call begins and the other ends while there is no Redis at all.
            _publish(view, second.envelopes)
            told = len(first.envelopes)
            _publish(view, first.hung_up("A1001", "1001").envelopes[told:])
            await _has_call(view, "A1002", second)
            await _free(view, "A1001")
            for story in (first, second):
                await complete(view.nodes, "call_state-0", story)
            outcome = await view.ask("agent:A1001", "agent_not_ready", agent_id="A1001", dn="1001")
            assert not outcome.reason, outcome.message
            assert {name: node.process for name, node in view.nodes.nodes.items()} == running
            assert all(process is not None and process.poll() is None for process in running.values())
            before = {agent: _lasting(await view.agent(agent)) for agent in AGENTS}
            threads = [await complete(view.nodes, "call_state-0", story) for story in (first, second)]
            assert AgentPhase.Name(before["A1001"].phase) == "AGENT_PHASE_NOT_READY"

            async def written() -> bool:
                return all([await _is_written(client, agent) for agent in AGENTS])

            # All of it is in the new primary: heirs find it there.
            await eventually(written, 10)
            for name in ("agent_state-0", "call_state-0"):
                await view.nodes.kill(name)
            await asyncio.gather(
                view.nodes.start("agent_state", 0), view.nodes.start("call_state", 0, **SETTINGS)
            )
            assert {agent: _lasting(await view.agent(agent)) for agent in AGENTS} == before
            again = [await complete(view.nodes, "call_state-0", story) for story in (first, second)]
            assert [found.thread for found in again] == [found.thread for found in threads]
            told = len(second.envelopes)
            _publish(view, second.hung_up("A1002", "1002").envelopes[told:])
            await _free(view, "A1002")
        await client.aclose()


async def _is_written(client: redis.asyncio.Redis, agent: str) -> bool:
    """Whether the owner has written what the agent's log told it; what is not written an heir takes from the log again, later."""
    slot = agent_slot("t1", f"agent:{agent}")
    newest: Any = await client.xrevrange(log_key(slot), count=1)
    stored: Any = await cast(Any, client.hget(f"{{agent_state:{slot}}}:offsets", "log"))
    return bool(newest[0][0] == stored)


def _lasting(agent: Agent) -> Agent:
    """Without what says how often something was told."""
    agent.ClearField("last_seq")
    return agent
