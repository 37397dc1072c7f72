"""Front End: `python -m services.front_end`."""

from __future__ import annotations

from voice.agent_state.v1.agent_pb2 import RequestOutcome
from voice.front_end.v1.front_end_service_pb2_grpc import add_FrontEndServiceServicer_to_server
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceStub
from voice.tlib.v1.agent_control_service_pb2_grpc import add_AgentControlServiceServicer_to_server
from voice.tlib.v1.call_control_service_pb2_grpc import add_CallControlServiceServicer_to_server
from voice.tlib.v1.event_service_pb2_grpc import add_EventServiceServicer_to_server

from mesh.config_cache import ConfigCache
from mesh.discovery import Directory
from mesh.log import RedisRequestLog
from mesh.rq import Rq
from mesh.service import Service, main
from mesh.settings import load
from services.front_end.agents import Agents
from services.front_end.calls import Calls
from services.front_end.desk import Desk
from services.front_end.outcomes import Outcomes
from services.front_end.rpc import AgentControlRpc, CallControlRpc, EventRpc, FrontEndRpc
from services.front_end.settings import FrontEndSettings


async def build(service: Service) -> None:
    """Settings, parts, contracts."""
    settings = load(FrontEndSettings, "front_end")
    config = ConfigCache(service, registrations=False)
    nodes = Directory(service.etcd, service.settings.region, "sip_cluster")
    log = RedisRequestLog(service.redis, service.metrics)
    rq = Rq(service)
    outcomes = Outcomes()
    reply_queue = f"outcomes:{service.incarnation}"
    calls = Calls(nodes, SipNodeServiceStub(service.channel))
    agents = Agents(log, outcomes, config, reply_queue)
    desk = Desk(calls, agents, config, service.metrics, limit=settings.open_requests)
    events = EventRpc(desk, rq, settings.subscriptions)

    async def read_outcomes() -> None:
        async for entries in rq.read_queue(reply_queue):
            for entry in entries:
                outcomes.settle(RequestOutcome.FromString(entry.payload))
            rq.acknowledge(reply_queue, *[entry.id for entry in entries])

    service.add(add_CallControlServiceServicer_to_server, CallControlRpc(desk))
    service.add(add_AgentControlServiceServicer_to_server, AgentControlRpc(desk))
    service.add(add_EventServiceServicer_to_server, events)
    status = FrontEndRpc(lambda: desk.open, lambda: events.subscriptions)
    service.add(add_FrontEndServiceServicer_to_server, status)
    service.metrics.queue("open_requests", lambda: desk.open, "Requests that have no answer yet")
    service.metrics.queue("subscriptions", lambda: events.subscriptions)
    for start in (log.start, rq.start, nodes.start):
        service.on_start(start)
    for stop in (rq.stop, log.stop, nodes.stop):
        service.on_stop(stop)
    service.background("outcomes", read_outcomes)


if __name__ == "__main__":
    main(build, name="front_end")
