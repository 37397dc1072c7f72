"""What is run, with which arguments: one function a kind of process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.envoy.bootstrap import bootstrap
from mesh.envoy.contracts import DESCRIPTOR_SET
from mesh.envoy.node import Edge, Ingress, Sidecar
from mesh.identity.files import write_private
from mesh.local import binaries, etcd_group, redis_group
from mesh.local.environment import service_environment
from mesh.local.layout import METRICS_PORT, Instance, Layout
from mesh.local.process import Command
from mesh.local.settings import REPOSITORY

BYTECODE = REPOSITORY / "build" / "pycache"
"""Compiled modules: seventeen processes that each compile the same imports would take a minute to start."""


@dataclass(frozen=True)
class Commands:
    """Commands of one mesh."""

    layout: Layout
    run_dir: Path
    region: str
    log_level: str
    extra: Mapping[str, str]
    """Further variables for every service."""

    @property
    def control_plane(self) -> str:
        """Path of the control plane's socket."""
        return str(self.layout.sockets / "xds")

    @property
    def reflection(self) -> str:
        """Path of the reflection server's socket."""
        return str(self.layout.sockets / "reflection")

    def identity(self, name: str) -> Path:
        """Folder with the certificate of a service, or of the edge."""
        return self.run_dir / "identity" / name

    @property
    def tokens(self) -> Path:
        """Folder with the keys that sign tokens, and jwks.json."""
        return self.run_dir / "identity" / "tokens"

    def etcd(self) -> list[Command]:
        """One etcd, or the members of a cluster."""
        return etcd_group.commands(self.layout, self.run_dir, base_environment())

    def redis(self) -> list[Command]:
        """The primary, its replica and the Sentinels that put the one in the other's place."""
        return redis_group.commands(self.layout, self.run_dir, base_environment())

    def xds(self) -> Command:
        """The control plane with the reflection server."""
        environment = {
            **base_environment(),
            "VOICEMESH_REGION": self.region,
            "VOICEMESH_BIND_IP": self.layout.infrastructure(4),
            "VOICEMESH_METRICS_PORT": str(METRICS_PORT),
            "VOICEMESH_ETCD": self.layout.etcd,
            "VOICEMESH_LOG_LEVEL": self.log_level,
            "VOICEMESH_XDS_LISTEN": self.control_plane,
            "VOICEMESH_XDS_REFLECTION": self.reflection,
        }
        return Command("xds", [binaries.python(), "-m", "mesh.xds"], environment, REPOSITORY)

    def sidecar(self, instance: Instance) -> Command:
        """The Envoy beside an instance."""
        ingresses = tuple(Ingress(node.node, node.address, node.listen) for node in instance.nodes)
        identity = str(self.identity(instance.service))
        node = Sidecar(instance.service, instance.name, identity, instance.egress, ingresses)
        return self.envoy(instance.sidecar, node, instance.admin)

    def edge_node(self) -> Edge:
        """What the edge tells of itself."""
        return Edge(
            instance="edge-0",
            identity=str(self.identity("edge")),
            address=self.layout.edge,
            jwks=str(self.tokens / "jwks.json"),
            descriptors=str(DESCRIPTOR_SET),
            reflection=self.reflection,
        )

    def edge(self, node: Edge | None = None) -> Command:
        """The Envoy that clients outside talk to."""
        return self.envoy("edge", node or self.edge_node(), self.layout.edge_admin)

    def envoy(self, name: str, node: Sidecar | Edge, admin: str) -> Command:
        """An Envoy with its bootstrap file."""
        file = self.run_dir / "envoy" / f"{name}.json"
        write_private(file, bootstrap(node, control_plane=self.control_plane, admin=admin))
        argv = [
            binaries.envoy(),
            "-c",
            str(file),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ]
        return Command(name, argv, base_environment())

    def service(self, instance: Instance) -> Command:
        """A service process, or the controller of a pod."""
        environment = {
            **base_environment(),
            **service_environment(
                self.layout, instance, region=self.region, run_dir=str(self.run_dir), log_level=self.log_level
            ),
            **self.extra,
        }
        return Command(
            instance.name, [binaries.python(), "-m", f"services.{instance.service}"], environment, REPOSITORY
        )


def base_environment() -> dict[str, str]:
    """What every child gets: ours, without what would change how Python or a voicemesh process runs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VOICEMESH_", "PYTHON", "GRPC_"))
    }
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPYCACHEPREFIX": str(BYTECODE),
        # Two arenas instead of sixteen: threads of gRPC otherwise spread small allocations over all of them.
        "MALLOC_ARENA_MAX": "2",
        # Workers are started by exec: no handlers around fork.
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        # Its remarks about lost connections are no JSON; what matters of them arrives as a status.
        "GRPC_VERBOSITY": "ERROR",
    }
