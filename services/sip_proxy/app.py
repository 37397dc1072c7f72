"""The proxy at work: keeps the core's tables current, answers REGISTER. In-dialog traffic never reaches this file."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import grpc
from voice.config.v1.registration_pb2 import Registration
from voice.registrar.v1.registrar_service_pb2_grpc import RegistrarServiceStub
from voicecore import sip
from voicecore.sip import digest

from mesh.config_cache import ConfigCache
from mesh.discovery import Directory
from mesh.errors import TABLE, Reason, reason_of
from mesh.service import Service
from mesh.telemetry import ladder
from services.sip_proxy.aliases import Aliases
from services.sip_proxy.forwarding import Forwarding
from services.sip_proxy.register import Ask, Register, contact_headers
from services.sip_proxy.settings import SipProxySettings

if TYPE_CHECKING:
    from voice.registrar.v1.registrar_service_pb2_grpc import RegistrarServiceAsyncStub

REGISTRAR_S = 2.0
"""Longest wait for the Registrar, seconds; the phone sends its REGISTER again meanwhile."""
CONFIG_S = 60.0
"""Longest wait for the first configuration before that is logged and tried again, seconds."""
MAX_REGISTERS = 5000
"""REGISTERs under way; more get 503."""


class _Devices:
    """`register.Directory` over the configuration cache."""

    def __init__(self, config: ConfigCache) -> None:
        self._config = config

    def tenant_of(self, domain: str) -> str:
        tenant = self._config.tenant_of_domain(domain)
        return tenant.tenant if tenant is not None else ""

    def password(self, tenant: str, dn: str) -> str | None:
        found = self._config.dn(tenant, dn)
        if found is None or not found.is_phone or not found.enabled or not found.password:
            return None
        return found.password


class App:
    """One proxy."""

    def __init__(
        self, service: Service, config: ConfigCache, settings: SipProxySettings, address: sip.Address
    ) -> None:
        self._service = service
        self._config = config
        self._address = address
        self._settings = settings
        service.record.sip_address = f"{address[0]}:{address[1]}"
        self.proxy = sip.Proxy(
            sip.ProxyConfig(
                server_name="voicemesh",
                dialog_rate=settings.dialog_rate,
                reselect_after=settings.reselect_after,
            )
        )
        nodes = Directory(service.etcd, service.settings.region, "sip_cluster")
        self.forwarding = Forwarding(self.proxy, nodes, settings.options_interval, service.log)
        self._peers = Directory(service.etcd, service.settings.region, "sip_proxy")
        self._aliases = Aliases()
        nonces = digest.NonceKeeper(os.urandom(32), window=settings.nonce_window)
        self._register = Register(_Devices(config), nonces, settings.digest_algorithms)
        self._registrar: RegistrarServiceAsyncStub = RegistrarServiceStub(service.channel)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = False
        self._measure()
        service.depends("sip_cluster", self._has_nodes)
        service.on_start(self._start)
        service.background("listen", self._listen)
        service.background("options", self.forwarding.probe)
        service.on_stop(self._stop)

    def _measure(self) -> None:
        metrics = self._service.metrics
        self._registers = metrics.counter("registers_total", "REGISTER requests answered", ["status"])
        self._rejected = metrics.counter("register_rejected_total", "REGISTER requests refused", ["why"])
        metrics.queue("registers", lambda: len(self._tasks))
        metrics.gauge("active_sip_nodes", "SIP nodes that take new dialogs").set_function(
            lambda: sum(node.weight > 0 for node in self.forwarding.tables.nodes)
        )
        for name in (
            "new_dialogs",
            "slot_moved_resent",
            "malformed",
            "rate_limited",
            "no_node",
            "no_owner",
            "retransmissions_in",
        ):
            metrics.gauge(f"sip_{name}", "Counter of the SIP core").set_function(
                lambda name=name: self.proxy.counters().get(name, 0)  # type: ignore[misc]
            )
        metrics.gauge("sip_reselected", "Requests sent to another node than the first").set_function(
            self._reselected
        )
        metrics.gauge("silent_sip_nodes", "SIP nodes that do not answer OPTIONS").set_function(
            lambda: len(self.forwarding.silent)
        )

    def _reselected(self) -> int:
        counters = self.proxy.counters()
        return counters.get("reselected", 0) + counters.get("slot_moved_resent", 0)

    async def _has_nodes(self) -> bool:
        if not self.forwarding.tables.nodes:
            raise RuntimeError("no SIP node is known")
        return self._listening

    # -- life --------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        await self.forwarding.nodes.start()
        await self._peers.start()

    async def _listen(self) -> None:
        """Opens the SIP socket when the tables and the configuration are there."""
        host, port = self._address
        await self._config.ready(CONFIG_S)
        self._identify()
        self._config.on_change(lambda change: self._identify())
        self._peers.on_change(self._identify)
        asyncio.get_running_loop().add_reader(self.proxy.fileno(), self._drain)
        self.forwarding.follow()
        self.proxy.bind_udp(host, port)
        self._listening = self.forwarding.asking = True

    async def _stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.proxy.fileno())
        for task in self._tasks:
            task.cancel()
        self.proxy.close()
        await self.forwarding.nodes.stop()
        await self._peers.stop()

    def _identify(self) -> None:
        """Names that are ours, and who is a trunk."""
        host, _ = self._address
        domains = list(self._config.domains())
        aliases = self._aliases.of(
            {host, *_hosts(self._peers)}, _hosts(self.forwarding.nodes), time.monotonic()
        )
        self.proxy.set_identity(self._settings.fqdn, cluster=self._settings.fqdn, aliases=aliases)
        self.proxy.set_domains(domains)
        peers = {
            source
            for tenant in self._config.tenants()
            for dn in self._config.trunks(tenant.tenant)
            if dn.trunk is not None
            for source in (dn.trunk.contact, *dn.trunk.sources)
        }
        self.proxy.set_trunk_peers(sorted(_without_port(peer) for peer in peers if peer))

    # -- REGISTER ----------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        for event in self.proxy.drain():
            if isinstance(event, sip.RequestReceived):
                self._take(event)
            else:
                self.forwarding.told(event)

    def _take(self, event: sip.RequestReceived) -> None:
        decision = self._register.decide(event.request, event.source, time.time())
        if isinstance(decision, Ask):
            if len(self._tasks) >= MAX_REGISTERS:
                self._answer(event, 503, headers=[("Retry-After", "5")])
                return
            task = asyncio.create_task(self._ask(event, decision))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        if decision.counted != "no_credentials":
            self._rejected.labels(decision.counted).inc()
        headers = [("WWW-Authenticate", challenge) for challenge in decision.challenges]
        self._answer(event, decision.status, headers=[*headers, *decision.headers])

    async def _ask(self, event: sip.RequestReceived, ask: Ask) -> None:
        ladder("sip", "REGISTER", from_=f"{ask.request.tenant}/{ask.request.dn}")
        try:
            answer = await self._registrar.Register(ask.request, timeout=REGISTRAR_S)
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error)
            status = TABLE[reason].sip if reason is not None else 503
            why = (
                Reason.Name(reason).removeprefix("REASON_").lower()
                if reason is not None
                else "registrar_away"
            )
            self._rejected.labels(why).inc()
            self._answer(event, status, headers=[("Retry-After", "5")] if status == 503 else [])
            return
        self._answer(event, 200, headers=contact_headers(_bindings(list(answer.registrations), time.time())))

    def _answer(self, event: sip.RequestReceived, status: int, headers: list[tuple[str, str]]) -> None:
        self._registers.labels(str(status)).inc()
        try:
            self.proxy.respond(event.txn, event.request.reply(status, headers=headers))
        except sip.TransactionGone:
            self._service.log.info("REGISTER answered too late", status=status)


def _bindings(registrations: list[Registration], now: float) -> list[tuple[str, int, int]]:
    left = ((r, r.expires_us / 1e6 - now) for r in registrations)
    return [(r.contact, max(1, round(seconds)), r.q) for r, seconds in left if seconds > 0]


def _hosts(directory: Directory) -> set[str]:
    return {node.sip_address.rpartition(":")[0] for node in directory.nodes() if node.sip_address}


def _without_port(peer: str) -> str:
    """ "10.0.0.1:5060" -> "10.0.0.1"; networks and IPv6 literals as they are."""
    host, colon, port = peer.rpartition(":")
    return (
        host.strip("[]") if colon and port.isdigit() and (":" not in host or host.startswith("[")) else peer
    )
