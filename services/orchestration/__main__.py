"""Orchestration: `python -m services.orchestration`."""

from __future__ import annotations

import logging

from voice.orchestration.v1.orchestration_service_pb2_grpc import add_OrchestrationServiceServicer_to_server
from voice.orchestration.v1.session_http_service_pb2_grpc import add_SessionHttpServiceServicer_to_server

from mesh.config_cache import ConfigCache
from mesh.discovery import Directory
from mesh.service import Service, main
from mesh.settings import load
from services.orchestration.app import App
from services.orchestration.finding import SERVICE, Finder
from services.orchestration.http_rpc import SessionHttpRpc
from services.orchestration.rpc import OrchestrationRpc
from services.orchestration.settings import OrchestrationSettings


async def build(service: Service) -> None:
    """Settings, cache, slots, contracts."""
    settings = load(OrchestrationSettings, "orchestration")
    # It logs the address of every request, with whatever an application has put into it.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = App(service, ConfigCache(service, registrations=False), settings)
    nodes = Directory(service.etcd, service.settings.region, SERVICE)
    service.on_start(nodes.start)
    service.on_stop(nodes.stop)
    finder = Finder(app.shards, nodes, service.incarnation)
    sessions = OrchestrationRpc(app, finder, service.channel)
    service.add(add_OrchestrationServiceServicer_to_server, sessions)
    service.add(add_SessionHttpServiceServicer_to_server, SessionHttpRpc(sessions, finder, service.channel))


if __name__ == "__main__":
    main(build, name="orchestration")
