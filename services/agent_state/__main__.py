"""python -m services.agent_state"""

from __future__ import annotations

import secrets

from voice.agent_state.v1.agent_state_service_pb2_grpc import add_AgentStateServiceServicer_to_server

from mesh.config_cache import ConfigCache
from mesh.gate import Gate
from mesh.identifiers import AGENT_SLOTS
from mesh.log import RedisRequestLog
from mesh.ownership import Slots
from mesh.rq import Rq
from mesh.service import Service, main
from mesh.settings import load
from mesh.store import FencedStore
from services.agent_state.app import AgentStateApp
from services.agent_state.apply import Applier
from services.agent_state.configured import FromConfig
from services.agent_state.events import Address
from services.agent_state.logins import Logins
from services.agent_state.perform import Performer
from services.agent_state.rpc import AgentStateRpc
from services.agent_state.settings import AgentStateSettings
from services.agent_state.store import Store


async def build(service: Service) -> None:
    """Settings, parts, wiring."""
    settings = load(AgentStateSettings, "agent_state")
    fenced = FencedStore(service.redis, "agent_state", "agent")
    rq = Rq(service)
    log = RedisRequestLog(service.redis, service.metrics)
    configured = FromConfig(ConfigCache(service))
    logins = Logins(service.channel, settings.config_timeout_ms / 1000)
    performer = Performer(rq, log, logins, service.incarnation, service.metrics)
    address = Address(service.settings.region, service.incarnation)
    applier = Applier(settings.rules, configured, address, lambda: secrets.token_urlsafe(16))
    gate = Gate(service.membership.lease, fenced)
    app = AgentStateApp(Store(fenced), log, applier, performer, logins, gate, service.metrics)
    slots = Slots(service, "agent", AGENT_SLOTS, acquire=app.acquire, release=app.release)
    service.add(add_AgentStateServiceServicer_to_server, AgentStateRpc(app, configured))
    fenced.on_primary_change(app.rewrite)
    service.owned_slots("agent", lambda: slots.owned)
    for start in (fenced.start, rq.start, log.start, slots.start):
        service.on_start(start)
    service.background("inputs", app.run)
    service.background("timers", app.timers.run)
    service.background("trim", app.trim)
    for stop in (slots.stop, performer.stop, rq.stop, log.stop, fenced.stop):
        service.on_stop(stop)


if __name__ == "__main__":
    main(build, name="agent_state")
