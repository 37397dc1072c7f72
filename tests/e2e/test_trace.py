"""One trace joins what a call caused everywhere."""

from __future__ import annotations

import pytest
from voice.orchestration.v1.orchestration_service_pb2 import ListSessionsRequest
from voice.orchestration.v1.orchestration_service_pb2_grpc import OrchestrationServiceStub
from voice.sip_cluster.v1.sip_node_service_pb2 import GetCallRequest
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceStub

from mesh.discovery import to_node
from mesh.identifiers import call_of_session
from tests.e2e.platform import Desk, Platform, events_of, password


@pytest.mark.feature("XC-08")
async def test_one_trace_joins_sip_call_id_conn_id_session_and_agent_events(platform: Platform) -> None:
    agent, caller = platform.phone("1004", host=84), platform.caller(host=84)
    await platform.register(agent)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        metadata = platform.bearer("t1")
        desk = Desk(platform, channel, "t1", "1004")
        await desk.login()
        leg = caller.call("8000")
        asked = await events.first("ROUTE_REQUEST", this_dn="8000")
        trace = asked.traceparent.split("-")[1]
        assert int(trace, 16)
        conn_id = asked.event.conn_id
        await events.first("ATTACHED_DATA_CHANGED", conn_id=conn_id)
        get = GetCallRequest(tenant="t1", conn_id=conn_id)
        call = await SipNodeServiceStub(channel).GetCall(get, timeout=5, metadata=metadata)
        assert leg.call_id in {party.sip_call_id for party in call.parties}
        sessions = []
        for instance in platform.mesh.instances("orchestration"):
            for node in instance.nodes:
                incarnation = await _incarnation(platform, node.node)
                listed = await OrchestrationServiceStub(channel).ListSessions(
                    ListSessionsRequest(tenant="t1"), timeout=5, metadata=(*metadata, *to_node(incarnation))
                )
                sessions += [s for s in listed.sessions if s.conn_id == conn_id]
        assert {call_of_session(s.session_id)[0] for s in sessions} <= {asked.event.call_uuid}
        await desk.ready()
        await leg.until(leg.established, 10)
        await caller.hang_up(leg)
        await events.first("CALL_DELETED", conn_id=conn_id)
        thread = [e for e in events.seen if e.stream_key == asked.call_thread_id]
        assert {e.traceparent.split("-")[1] for e in thread} == {trace}
        work = await events.first("AGENT_NOT_READY", agent_id="A1004", agent_work_mode=3)
        assert work.traceparent.split("-")[1] == trace
        await desk.logout()
    await agent.register(password("1004", "t1"), expires=0)
    agent.close()
    caller.close()


async def _incarnation(platform: Platform, node: str) -> str:
    """Present incarnation of a node, from its health page."""
    import httpx

    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{platform.mesh.metrics[node]}/healthz")
        return str(answer.json()["node"])
