"""Orchestration: `python -m services.orchestration`."""

from __future__ import annotations

from voice.orchestration.v1.orchestration_service_pb2_grpc import add_OrchestrationServiceServicer_to_server

from mesh.config_cache import ConfigCache
from mesh.service import Service, main
from mesh.settings import load
from services.orchestration.app import App
from services.orchestration.rpc import OrchestrationRpc
from services.orchestration.settings import OrchestrationSettings


async def build(service: Service) -> None:
    """Settings, cache, slots, contract."""
    settings = load(OrchestrationSettings, "orchestration")
    app = App(service, ConfigCache(service, registrations=False), settings)
    service.add(add_OrchestrationServiceServicer_to_server, OrchestrationRpc(app))


if __name__ == "__main__":
    main(build, name="orchestration")
