"""Agents through the edge: sessions, states, conflicts, after-call work, reservation."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import grpc.aio
import pytest
from voice.config.v1.config_service_pb2 import GetLoginRequest
from voice.config.v1.config_service_pb2_grpc import DeviceServiceStub
from voice.error.v1.reason_pb2 import Reason
from voice.tlib.v1.agent_control_service_pb2_grpc import AgentControlServiceStub
from voice.tlib.v1.enums_pb2 import AgentWorkMode
from voice.tlib.v1.request_pb2 import ReserveAgentRequest
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.errors import details
from tests.e2e.platform import Desk, Platform, events_of, password


@pytest.mark.feature("AS-03", "AS-04", "AS-05", "CF-03", "CF-09", "DP-05", "FE-04")
async def test_an_agent_logs_in_changes_state_and_logs_out(platform: Platform) -> None:
    async with platform.edge() as channel, events_of(platform, channel, agents=["A1011"]) as events:
        desk = Desk(platform, channel, "t1", "1011")
        devices, metadata = DeviceServiceStub(channel), platform.bearer("t1")
        await desk.login()
        login = (
            await devices.GetLogin(GetLoginRequest(tenant="t1", dn="1011"), metadata=metadata, timeout=5)
        ).login
        assert (login.agent_id, login.dn, login.place) == ("A1011", "1011", "Place_1011")
        await desk.ready()
        reasons = KvList(pairs=[KvPair(key="ReasonCode", string_value="lunch")])
        await desk.not_ready(reasons=reasons, work_mode=AgentWorkMode.AGENT_WORK_MODE_AUX_WORK)
        reasons = KvList(pairs=[KvPair(key="ReasonCode", string_value="meeting")])
        event = await desk.not_ready(reasons=reasons, work_mode=AgentWorkMode.AGENT_WORK_MODE_AUX_WORK)
        assert event.reasons.pairs[0].string_value == "meeting"
        await desk.logout()
        await events.first("AGENT_LOGOUT")
        names = events.names()
        assert names == [
            "AGENT_LOGIN", "AGENT_NOT_READY", "AGENT_READY", "AGENT_NOT_READY", "AGENT_NOT_READY", "AGENT_LOGOUT",
        ]  # fmt: skip
        assert [e.seq for e in events.seen] == list(range(events.seen[0].seq, events.seen[0].seq + 6))
        assert {e.stream_key for e in events.seen} == {"t1:A1011"}
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await devices.GetLogin(GetLoginRequest(tenant="t1", dn="1011"), metadata=metadata, timeout=5)
        assert details(gone.value).reason == Reason.REASON_AGENT_NOT_LOGGED_IN


@pytest.mark.feature("AS-13")
async def test_login_conflicts_have_their_numbers(platform: Platform) -> None:
    async with platform.edge() as channel:
        desk = Desk(platform, channel, "t1", "1012")
        await desk.login()
        rows = [
            ({"dn": "1013"}, 1704),
            ({"agent_id": "A1013"}, 1706),
            ({"agent_id": "A9999", "dn": "1014"}, 1703),
            ({"agent_id": "A1020", "dn": "1014", "password": "wrong"}, 1705),
        ]
        for fields, number in rows:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await desk.login(**fields)
            assert details(refused.value).tlib_error == number, fields
        await desk.logout()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await desk.ready()
        assert details(refused.value).tlib_error == 1707


@pytest.mark.feature("AS-06", "CS-05")
async def test_a_call_makes_the_agent_busy_then_after_call_work_then_ready(platform: Platform) -> None:
    phone, caller = platform.phone("1010", host=14), platform.caller(host=14)
    await platform.register(phone)
    async with platform.edge() as channel, events_of(platform, channel, dns=["1010"]) as events:
        desk = Desk(platform, channel, "t1", "1010")
        await desk.login()
        await desk.ready()
        leg = caller.call("8000")
        await leg.until(leg.established, 10)
        await events.first("ESTABLISHED", agent_id="A1010")
        await caller.hang_up(leg)
        work = await events.first(
            "AGENT_NOT_READY", agent_work_mode=AgentWorkMode.AGENT_WORK_MODE_AFTER_CALL_WORK
        )
        await events.until(lambda seen: sum("READY" in n and "NOT" not in n for n in events.names()) == 2, 15)
        ready = [e for e in events.seen if e.event.agent_id == "A1010"][-1]
        assert 4.5 <= (ready.time_us - work.time_us) / 1e6 <= 7
        await desk.logout()
    await phone.register(password("1010", "t1"), expires=0)
    phone.close()
    caller.close()


@pytest.mark.feature("AS-09", "FE-05")
async def test_fifty_clients_race_for_one_agent(platform: Platform) -> None:
    async with platform.edge() as channel:
        desk = Desk(platform, channel, "t1", "1015")
        await desk.login()
        await desk.ready()
        stub = AgentControlServiceStub(channel)

        async def reserve(number: int) -> tuple[int, str]:
            request = ReserveAgentRequest(
                tenant="t1",
                request_id=uuid.uuid4().hex,
                agent_id="A1015",
                dn="1015",
                priority=number % 7,
                duration_ms=3000,
            )
            metadata = platform.bearer("t1", subject=f"client:{number}")
            try:
                answer = await stub.ReserveAgent(request, timeout=10, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                assert details(error).tlib_error == 1700
                return number % 7, ""
            return number % 7, str(answer.event.extensions)

        outcomes = await asyncio.gather(*(reserve(number) for number in range(50)))
        # Which priority wins depends on what arrives within the window; that is shown where time is an argument.
        assert len([token for _, token in outcomes if token]) == 1
        await desk.logout()


@pytest.mark.feature("AS-08", "RG-04")
async def test_an_unregistered_phone_is_told_to_the_agents_clients(platform: Platform) -> None:
    phone = platform.phone("1016", host=16)
    await platform.register(phone)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        desk = Desk(platform, channel, "t1", "1016")
        await desk.login()
        await desk.ready()
        await phone.register(password("1016", "t1"), expires=0)
        await events.first("DN_OUT_OF_SERVICE", this_dn="1016")
        await platform.register(phone)
        await events.first("DN_BACK_IN_SERVICE", this_dn="1016")
        await desk.logout()
    await phone.register(password("1016", "t1"), expires=0)
    phone.close()
