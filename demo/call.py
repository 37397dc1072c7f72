"""The demo call of `make run`: a caller dials in over a trunk, an application asks for a skill, an agent answers."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from voice.tlib.v1.agent_control_service_pb2_grpc import AgentControlServiceStub
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_service_pb2 import SubscribeRequest, SubscribeResponse
from voice.tlib.v1.event_service_pb2_grpc import EventServiceStub
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.tlib.v1.request_pb2 import AgentLoginRequest, AgentReadyRequest

from demo import ladder
from demo.application_server import ApplicationServer
from demo.phone import CallFailed, Leg, Phone
from mesh.local import LocalMesh

TENANT, DN, AGENT, ROUTE_POINT = "t1", "1001", "A1001", "8000"
TALK_S = 1.0
STEP_S = 15.0
"""Longest wait for one step of the call, seconds."""


async def run(mesh: LocalMesh) -> int:
    """Makes the call and prints its ladder. 0 when it was completed, 1 when not. The application server stays up."""
    network = mesh.edge.split(".")[1]
    try:
        ApplicationServer(f"127.{network}.240.1")
    except OSError as error:
        print(f"voicemesh: the application server could not start: {error}")
        return 1
    try:
        print(
            "the call: +1 415 555 0123 dials 8000 over the trunk of tenant t1; agent A1001 waits on phone 1001"
        )
        await _call(mesh, network)
    except (CallFailed, TimeoutError, grpc.aio.AioRpcError) as error:
        print(f"voicemesh: the call failed: {type(error).__name__}: {error}")
        print(f"  the services' logs are in {mesh.run_dir / 'logs'}")
        return 1
    print(_hints(mesh, network))
    return 0


async def _call(mesh: LocalMesh, network: str) -> None:
    host, _, port = mesh.sip_proxies[0].rpartition(":")
    proxy = (host, int(port))
    agent = Phone(DN, f"127.{network}.200.1", f"{TENANT}.example", proxy)
    caller = Phone("+14155550123", f"127.{network}.201.1", host, proxy)
    try:
        async with _edge(mesh) as channel:
            await _sign_in(mesh, channel, agent)
            async with _events(channel, mesh) as events:
                await _talk(mesh, agent, caller, events)
    finally:
        agent.close()
        caller.close()


async def _sign_in(mesh: LocalMesh, channel: grpc.aio.Channel, phone: Phone) -> None:
    """Registers the phone, logs the agent in and makes it ready, through the edge like any client."""
    answer = await phone.register(f"phone-{DN}-{TENANT}")
    if answer.status != 200:
        raise CallFailed(answer.status, f"{answer.reason} to REGISTER")
    control = AgentControlServiceStub(channel)
    login = AgentLoginRequest(tenant=TENANT, request_id=uuid.uuid4().hex, dn=DN, agent_id=AGENT)
    ready = AgentReadyRequest(tenant=TENANT, request_id=uuid.uuid4().hex, dn=DN, agent_id=AGENT)
    await control.AgentLogin(login, timeout=STEP_S, metadata=_bearer(mesh))
    await control.AgentReady(ready, timeout=STEP_S, metadata=_bearer(mesh))


async def _talk(mesh: LocalMesh, agent: Phone, caller: Phone, events: list[EventEnvelope]) -> None:
    rung: list[Leg] = []
    agent.on_call(rung.append)
    since_us = time.time_ns() // 1000
    leg = caller.call(ROUTE_POINT, from_=f"sip:{caller.name}@{caller.host}")
    await leg.until(leg.established, STEP_S)
    await asyncio.sleep(TALK_S)
    status = await caller.hang_up(leg)
    if status != 200 or not rung:
        raise CallFailed(status, "to BYE" if rung else "and no phone rang")
    await rung[0].until(rung[0].ended, STEP_S)
    thread = await _deleted(events)
    await asyncio.sleep(0.3)  # the last records reach the logs
    trace = thread.traceparent.split("-")[1] if "-" in thread.traceparent else ""
    steps = [
        *ladder.from_events(events, call_thread_id=thread.call_thread_id, trace=trace),
        *ladder.from_phone(caller, [leg.call_id]),
        *ladder.from_phone(agent, [rung[0].call_id]),
        *ladder.from_logs(
            mesh.run_dir / "logs", call_thread_id=thread.call_thread_id, trace=trace, since_us=since_us
        ),
    ]
    print(f"\nladder of call {thread.call_thread_id}\n")
    print(ladder.draw(steps))
    print("\nthe call was routed to the agent, answered, and released\n")


async def _deleted(events: list[EventEnvelope]) -> EventEnvelope:
    """Waits for EventCallDeleted: every service has seen the call when the last event is out."""
    async with asyncio.timeout(STEP_S):
        while True:
            for envelope in events:
                if envelope.event.event_type == MessageType.MESSAGE_TYPE_EVENT_CALL_DELETED:
                    return envelope
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _edge(mesh: LocalMesh) -> AsyncIterator[grpc.aio.Channel]:
    credentials = grpc.ssl_channel_credentials(mesh.ca_file.read_bytes())
    async with grpc.aio.secure_channel(mesh.edge, credentials) as channel:
        yield channel


def _bearer(mesh: LocalMesh) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {mesh.token(TENANT)}"),)


@asynccontextmanager
async def _events(channel: grpc.aio.Channel, mesh: LocalMesh) -> AsyncIterator[list[EventEnvelope]]:
    """The tenant's events as they come; entered when the subscription stands."""
    seen: list[EventEnvelope] = []
    stream: Any = EventServiceStub(channel).Subscribe(SubscribeRequest(tenant=TENANT), metadata=_bearer(mesh))
    await asyncio.wait_for(stream.read(), STEP_S)

    async def read() -> None:
        while isinstance(response := await stream.read(), SubscribeResponse):
            seen.extend(response.events)

    task = asyncio.ensure_future(read())
    try:
        yield seen
    finally:
        stream.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _hints(mesh: LocalMesh, network: str) -> str:
    host, _, port = mesh.sip_proxies[0].rpartition(":")
    return "\n".join(
        [
            "try it yourself:",
            f"  a softphone: user 1002, domain t1.example, password phone-1002-t1, outbound proxy {host}:{port} (UDP)",
            f"  a call in:   sipp -sf tests/sipp/uac.xml -s 8000 -i 127.{network}.201.2 -m 1 {host}:{port}",
            "",
        ]
    )
