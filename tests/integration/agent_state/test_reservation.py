"""Reservation over real processes: exactly one grant, whoever races, whoever dies."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import grpc
import pytest
import redis.asyncio
from voice.agent_state.v1 import agent_state_service_pb2 as pb
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import details
from mesh.identifiers import agent_slot
from tests.integration.agent_state.region import Region, region_of
from tests.integration.redis_queue.processes import eventually
from tests.integration.servers import EtcdServer, RedisServer

SLOT = agent_slot("t1", "agent:A1001")


WINDOW_MS = 1000


@pytest.fixture
async def at(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> AsyncIterator[Region]:
    # A window in which fifty requests arrive on a busy machine too; the length of the usual one is not the point here.
    window = {"AGENT_STATE_REQUEST_COLLECTION_TIME_MS": str(WINDOW_MS)}
    async with region_of(etcd_server, redis_server, redis_client, region, nodes=2, **window) as made:
        await made.ready_agent("A1001", "1001")
        yield made


async def reserve(
    at: Region, client: str, *, priority: int = 0, duration_ms: int = 0, only_if_ready: bool = True
) -> pb.ReserveAgentResponse | Reason.ValueType:
    """A reservation as a router asks for it: the response, or the reason of the refusal."""
    request = pb.ReserveAgentRequest(
        tenant="t1",
        agent_id="A1001",
        request_id=f"reserve-{client}",
        client=client,
        priority=priority,
        duration_ms=duration_ms,
        only_if_ready=only_if_ready,
    )
    try:
        answer: pb.ReserveAgentResponse = await at.owners.call(at.stub.ReserveAgent, request, SLOT, 20.0)
    except grpc.aio.AioRpcError as error:
        reason = details(error).reason
        assert reason is not None, error
        return reason
    return answer


@pytest.mark.feature("AS-09")
async def test_fifty_clients_race_and_exactly_one_wins(at: Region) -> None:
    for turn in range(3):
        order = list(range(50))
        random.Random(turn).shuffle(order)
        began = time.monotonic()
        results = await asyncio.gather(
            *(reserve(at, f"{turn}-{n}", priority=n, duration_ms=60_000) for n in order)
        )
        took = time.monotonic() - began
        grants = [r for r in results if isinstance(r, pb.ReserveAgentResponse)]
        assert len(grants) == 1
        assert grants[0].reservation.client == f"{turn}-49"  # the highest priority, whenever it came
        assert {r for r in results if not isinstance(r, pb.ReserveAgentResponse)} == {
            Reason.REASON_AGENT_RESERVED
        }
        assert WINDOW_MS / 1000 <= took < WINDOW_MS / 1000 + 4.0
        assert (await at.agent("A1001")).reservation.token == grants[0].reservation.token
        late = await reserve(at, f"{turn}-late", priority=1000)
        assert late == Reason.REASON_AGENT_RESERVED
        token = grants[0].reservation.token
        cancel = pb.CancelReservationRequest(tenant="t1", agent_id="A1001", token=token)
        await at.owners.call(at.stub.CancelReservation, cancel, SLOT, 5.0)
        assert not (await at.agent("A1001")).HasField("reservation")


async def test_the_same_request_again_gets_the_same_token(at: Region) -> None:
    first, twin = await asyncio.gather(reserve(at, "a"), reserve(at, "a"))
    again = await reserve(at, "a")
    for answer in (first, twin, again):
        assert isinstance(answer, pb.ReserveAgentResponse)
        assert answer.reservation == first.reservation  # type: ignore[union-attr]


async def test_a_reservation_ends_by_itself(at: Region) -> None:
    short = await reserve(at, "short", duration_ms=300)
    assert isinstance(short, pb.ReserveAgentResponse)
    assert await reserve(at, "early") == Reason.REASON_AGENT_RESERVED

    async def free() -> bool:
        return isinstance(await reserve(at, f"next-{time.monotonic_ns()}"), pb.ReserveAgentResponse)

    assert await eventually(free)


async def test_only_if_ready_is_refused_for_an_agent_who_is_not(at: Region) -> None:
    await at.ask("agent:A1001", "agent_not_ready", agent_id="A1001", dn="1001")
    assert await reserve(at, "x") == Reason.REASON_WRONG_STATE
    assert isinstance(await reserve(at, "y", only_if_ready=False), pb.ReserveAgentResponse)


@pytest.mark.feature("AS-14")
async def test_logout_ends_the_reservation(at: Region) -> None:
    assert isinstance(await reserve(at, "a", duration_ms=60_000), pb.ReserveAgentResponse)
    await at.ask("agent:A1001", "agent_logout", agent_id="A1001", dn="1001")
    assert await reserve(at, "b") == Reason.REASON_AGENT_NOT_LOGGED_IN
    await at.ready_agent("A1001", "1001")
    assert isinstance(await reserve(at, "c"), pb.ReserveAgentResponse)


async def test_a_reservation_through_the_log_tells_the_token_to_its_requester_alone(at: Region) -> None:
    fields = {"agent_id": "A1001", "dn": "1001", "duration_ms": 5000}
    won, lost = await asyncio.gather(
        at.ask("agent:A1001", "reserve_agent", priority=5, client="one", **fields),
        at.ask("agent:A1001", "reserve_agent", priority=1, client="two", **fields),
    )
    assert lost.reason == Reason.REASON_AGENT_RESERVED
    assert not won.reason
    token = {p.key: p.string_value for p in won.event.extensions.pairs}["ReservationToken"]
    assert token == (await at.agent("A1001")).reservation.token
    assert token not in str(at.events)


async def test_a_grant_outlives_its_node(at: Region) -> None:
    granted = await reserve(at, "a", duration_ms=60_000)
    assert isinstance(granted, pb.ReserveAgentResponse)
    owner = (await at.agent("A1001")) and at.owners._directory.owner(SLOT)
    assert owner is not None
    await at.nodes.kill(owner.node)
    assert await reserve(at, "b") == Reason.REASON_AGENT_RESERVED
    again = await reserve(at, "a", duration_ms=60_000)
    assert isinstance(again, pb.ReserveAgentResponse)
    assert again.reservation == granted.reservation


@pytest.mark.feature("AS-09")
async def test_many_clients_race_across_the_death_of_the_owner_and_exactly_one_wins(at: Region) -> None:
    """Half of them ask by RPC, half through the log as Front End does; the owner is killed in the middle of the window."""
    owner = at.owners._directory.owner(SLOT)
    assert owner is not None
    fields = {"agent_id": "A1001", "dn": "1001", "duration_ms": 60_000}
    by_call = [reserve(at, f"c{n}", priority=n, duration_ms=60_000) for n in range(25)]
    by_log = [
        at.ask("agent:A1001", "reserve_agent", client=f"l{n}", request_id=f"log-{n}", priority=n, **fields)
        for n in range(25)
    ]
    race = asyncio.gather(*by_call), asyncio.gather(*by_log)
    await asyncio.wait(race, timeout=WINDOW_MS / 2000)
    await at.nodes.kill(owner.node)
    called, logged = await race[0], await race[1]
    tokens = [r.reservation.token for r in called if isinstance(r, pb.ReserveAgentResponse)]
    tokens += [
        next(p.string_value for p in outcome.event.extensions.pairs if p.key == "ReservationToken")
        for outcome in logged
        if not outcome.reason
    ]
    assert len(tokens) == 1
    losers = {r for r in called if not isinstance(r, pb.ReserveAgentResponse)}
    losers |= {outcome.reason for outcome in logged if outcome.reason}
    assert losers == {Reason.REASON_AGENT_RESERVED}
    assert (await at.agent("A1001")).reservation.token == tokens[0]
