"""SIP Proxy: `python -m services.sip_proxy`."""

from __future__ import annotations

from voice.sip_proxy.v1.proxy_service_pb2_grpc import add_ProxyServiceServicer_to_server

from mesh.config_cache import ConfigCache
from mesh.service import Service, main
from mesh.settings import SettingsError, load
from services.sip_proxy.app import App
from services.sip_proxy.rpc import ProxyRpc
from services.sip_proxy.settings import SipProxySettings, sip_address


async def build(service: Service) -> None:
    """Settings, cache, proxy, contract."""
    settings = load(SipProxySettings, "sip_proxy")
    try:
        address = sip_address()
    except ValueError as error:
        raise SettingsError([str(error)]) from error
    app = App(service, ConfigCache(service, registrations=False), settings, address)
    service.add(add_ProxyServiceServicer_to_server, ProxyRpc(app))


if __name__ == "__main__":
    main(build, name="sip_proxy")
