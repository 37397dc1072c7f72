"""The agent request log over real Redis."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio
from voice.agent_state.v1.agent_pb2 import AgentInput, DeviceNotification

from mesh.identifiers import agent_slot
from mesh.log import LogFull, RedisLogReader, RedisRequestLog

SLOT = agent_slot("t1", "agent:A1")


def entry(ident: str) -> AgentInput:
    return AgentInput(input_id=ident, device=DeviceNotification(dn="1001"))


async def take(reader: RedisLogReader, count: int) -> list[str]:
    ids: list[str] = []
    async with asyncio.timeout(10):
        while len(ids) < count:
            batch = await anext(reader)
            ids += [found.input_id for found in batch.inputs]
    return ids


async def test_entries_come_in_the_order_they_were_appended(redis_client: redis.asyncio.Redis) -> None:
    log = RedisRequestLog(redis_client)
    reader = log.reader()
    reader.add(SLOT, "0")
    waits = [log.append("t1", "agent:A1", entry(f"e{n}")) for n in range(300)]
    await asyncio.gather(*waits)
    assert await take(reader, 300) == [f"e{n}" for n in range(300)]
    for n in range(5):  # one by one, while the reader waits
        waiting = asyncio.create_task(take(reader, 1))
        await asyncio.sleep(0.01)
        await log.append("t1", "agent:A1", entry(f"late{n}"))
        assert await waiting == [f"late{n}"]
    await log.stop()


async def test_a_slot_is_added_removed_and_resumed_while_reading(redis_client: redis.asyncio.Redis) -> None:
    log = RedisRequestLog(redis_client)
    subjects = {agent_slot("t1", f"agent:B{n}"): f"agent:B{n}" for n in range(300)}
    reader = log.reader()
    waiting = asyncio.create_task(take(reader, len(subjects)))
    await asyncio.sleep(0)
    for slot, subject in subjects.items():
        reader.add(slot, "0")
        log.append("t1", subject, entry(subject))
    assert sorted(await waiting) == sorted(subjects.values())
    slot, subject = next(iter(subjects.items()))
    first = await log.append("t1", subject, entry("again"))
    await take(reader, 1)
    reader.remove(slot)
    await log.append("t1", subject, entry("while away"))
    other = list(subjects)[1]
    await log.append("t1", subjects[other], entry("other"))
    assert await take(reader, 1) == ["other"]
    reader.add(slot, first)
    assert await take(reader, 1) == ["while away"]
    await log.stop()


async def test_a_full_log_takes_nothing_until_it_is_trimmed(redis_client: redis.asyncio.Redis) -> None:
    log = RedisRequestLog(redis_client, limit=10)
    positions = [await log.append("t1", "agent:A1", entry(f"e{n}")) for n in range(10)]
    with pytest.raises(LogFull):
        await log.append("t1", "agent:A1", entry("e10"))
    await log.trim(SLOT, positions[4])
    await log.append("t1", "agent:A1", entry("e10"))
    reader = log.reader()
    reader.add(SLOT, "0")
    assert await take(reader, 7) == [f"e{n}" for n in range(4, 11)]
    await log.stop()


async def test_wrong_entries_are_refused_before_they_are_sent(redis_client: redis.asyncio.Redis) -> None:
    log = RedisRequestLog(redis_client)
    with pytest.raises(ValueError, match="input_id"):
        log.append("t1", "agent:A1", AgentInput())
    with pytest.raises(ValueError, match="for t2"):
        log.append("t2", "agent:A1", AgentInput(input_id="x", tenant="t1", subject="agent:A1"))
    assert await redis_client.dbsize() == 0
    await log.stop()
