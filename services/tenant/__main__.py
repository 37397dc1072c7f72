"""The Tenant service: `python -m services.tenant`."""

from __future__ import annotations

import time
from pathlib import Path

from voice.config.v1.config_service_pb2_grpc import DeviceServiceStub
from voice.tenant.v1.tenant_service_pb2_grpc import add_TenantServiceServicer_to_server

from mesh.config_cache import ConfigCache
from mesh.identity import tokens
from mesh.rates import Rates
from mesh.service import Service, main
from mesh.settings import load
from services.tenant.app import App
from services.tenant.rpc import TenantRpc
from services.tenant.settings import TenantSettings


async def build(service: Service) -> None:
    """Settings, cache, desks, contract."""
    settings = load(TenantSettings, "tenant")
    config = ConfigCache(service, registrations=False)
    app = App(service, config)
    rates = Rates()
    rpc = TenantRpc(
        app.desks.get,
        config,
        DeviceServiceStub(service.channel),
        tokens.load_or_create_key(Path(settings.token_dir)),
        settings.token_lifetime_s,
        lambda tenant: rates.take(tenant, settings.sign_in_rate, time.monotonic()),
    )
    service.add(add_TenantServiceServicer_to_server, rpc)


if __name__ == "__main__":
    main(build, name="tenant")
