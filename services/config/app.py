"""Config's parts, put together; what happens at start."""

from __future__ import annotations

from pathlib import Path

from voice.config.v1.config_service_pb2_grpc import (
    add_ConfigServiceServicer_to_server,
    add_DeviceServiceServicer_to_server,
)

from mesh.errors import DomainError, Reason
from mesh.etcd import Etcd
from mesh.service import Service
from services.config.copy import Copy
from services.config.devices import Devices
from services.config.keys import Keys
from services.config.load import read_folder
from services.config.objects import Objects
from services.config.passwords import Passwords
from services.config.rpc_devices import DeviceRpc
from services.config.rpc_objects import ConfigRpc
from services.config.secrets import Sealer, load_keys
from services.config.settings import ConfigSettings
from services.config.store import Store
from services.config.watching import Watching

START_S = 20.0
"""Time for the first snapshot, seconds."""


class ConfigApp:
    """One Config node. Any number of them serve one etcd; none has state that another lacks."""

    def __init__(self, service: Service, settings: ConfigSettings) -> None:
        mesh = service.settings
        self._service = service
        self._settings = settings
        key_file = settings.secret_key_file or str(Path(mesh.run_dir) / "config" / "secret.key")
        self._sealer = Sealer(load_keys(settings.secret_keys, Path(key_file)))
        keys = Keys(mesh.region)
        # A client of its own: while etcd is away this node still answers from its copy, so it stays healthy.
        self._etcd = Etcd(mesh.etcd_config or mesh.etcd)
        self._store = Store(self._etcd, keys)
        self.copy = Copy(self._etcd, keys, settings.feed_changes)
        passwords = Passwords(self._sealer, settings.scrypt_log_n)
        self._objects = Objects(self.copy, self._store, passwords, settings.import_pause_ms / 1000)
        self._watching = Watching(self.copy, self._store, mesh.node)
        devices = Devices(self.copy, self._store, passwords, mesh.node)
        rpc = ConfigRpc(self._objects, self._watching, passwords, trust_unnamed=not mesh.require_peer)
        service.add(add_ConfigServiceServicer_to_server, rpc)
        service.add(add_DeviceServiceServicer_to_server, DeviceRpc(devices))
        self._register()

    def _register(self) -> None:
        service, metrics = self._service, self._service.metrics
        service.depends("copy", self._loaded)
        service.background("copy", self.copy.follow)
        service.background("announce", self._watching.announce)
        service.background("seed", self._seed)
        service.on_stop(self._etcd.close)
        metrics.gauge("revision", "Revision of the copy").set_function(lambda: self.copy.revision)
        metrics.gauge("etcd_alive", "1 while etcd is heard").set_function(lambda: float(self.copy.alive))
        metrics.gauge("tenants", "Tenants").set_function(lambda: len(self.copy.tenants))
        metrics.gauge("objects", "Objects of all tenants").set_function(
            lambda: sum(tenant.model.size for tenant in self.copy.tenants.values())
        )
        metrics.gauge("registered_dns", "DNs with bindings").set_function(
            lambda: sum(len(tenant.registrations) for tenant in self.copy.tenants.values())
        )
        metrics.gauge("logins", "Agents logged in").set_function(
            lambda: sum(len(tenant.logins) for tenant in self.copy.tenants.values())
        )
        waiting = "Registrations that wait for the transaction under way"
        metrics.queue("registrations_waiting", lambda: self._store.registrations_waiting, waiting)
        metrics.queue("feed", lambda: len(self.copy.feed), "Changes kept for watches")

    async def _loaded(self) -> bool:
        return self.copy.loaded.is_set() and self._seeded

    _seeded = False

    async def _seed(self) -> None:
        """Imports the tenants of the seed folder that do not exist yet, then lets the node serve."""
        await self.copy.loaded.wait()
        await self.check_secret_key()
        if self._settings.seed:
            net = (
                self._service.settings.bind_ip.split(".")[1] if "." in self._service.settings.bind_ip else ""
            )
            for tenant, objects in read_folder(Path(self._settings.seed), {"net": net}).items():
                if self.copy.exists(tenant):
                    continue
                done = await self._objects.import_all(tenant, objects)
                self._service.log.info("tenant_seeded", tenant=tenant, created=done.created)
        self._seeded = True

    async def check_secret_key(self) -> None:
        """Raises INTERNAL when this installation's passwords were sealed with a key that this node has not."""
        first = await self._store.claim_secret_key(self._sealer.primary)
        if first not in self._sealer.key_ids:
            raise DomainError(
                Reason.REASON_INTERNAL,
                f"DN passwords are sealed with key {first}, this node has {', '.join(self._sealer.key_ids)}: "
                "set VOICEMESH_CONFIG_SECRET_KEYS or VOICEMESH_CONFIG_SECRET_KEY_FILE to the same keys everywhere",
            )
