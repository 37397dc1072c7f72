"""Starts a Dial Plan node: `python -m services.dial_plan`."""

from voice.dial_plan.v1.dial_plan_service_pb2_grpc import add_DialPlanServiceServicer_to_server

from mesh.config_cache import ConfigCache, journal_path
from mesh.service import Service, main
from mesh.settings import load
from services.dial_plan.rpc import DialPlanRpc
from services.dial_plan.settings import DialPlanSettings


async def build(service: Service) -> None:
    """Settings to parts."""
    settings, mesh = load(DialPlanSettings, "dial_plan"), service.settings
    journal = journal_path(mesh.run_dir, mesh.node) if settings.journal else None
    cache = ConfigCache(service, journal=journal)
    service.add(add_DialPlanServiceServicer_to_server, DialPlanRpc(cache, service.metrics))


if __name__ == "__main__":
    main(build, name="dial_plan")
