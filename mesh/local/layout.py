"""Where everything of a local mesh listens: one loopback address an instance, as a pod has its IP.

The network of a mesh is 127.<net>.0.0/16. Third octet: 0 is infrastructure, a service has its own number.
Fourth octet: instance + 1.
Two meshes run beside each other when their <net> differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SERVICE_NUMBERS: Mapping[str, int] = {
    "config": 1,
    "registrar": 2,
    "dial_plan": 3,
    "sip_proxy": 4,
    "sip_cluster": 5,
    "redis_queue": 6,
    "call_state": 7,
    "agent_state": 8,
    "tenant": 9,
    "orchestration": 10,
    "front_end": 11,
    "voicemail": 12,
    "media": 13,
}
"""Third octet of a service's addresses; never reused."""

DEFAULT_COUNTS: Mapping[str, int] = {
    "config": 1,
    "registrar": 1,
    "dial_plan": 1,
    "sip_proxy": 2,
    "sip_cluster": 2,
    "redis_queue": 2,
    "call_state": 1,
    "agent_state": 1,
    "tenant": 1,
    "orchestration": 2,
    "front_end": 1,
}
"""Instances of each service when nobody says otherwise."""

POD_SERVICES = frozenset({"sip_cluster"})
"""Services whose instance is a pod: a controller that spawns n engines, each a node with a gRPC socket of its
own."""

FREE_NUMBER = 200
"""Third octets from here on are nobody's: phones, trunks and test programs take 127.<net>.200.x and above."""

INGRESS_PORT = 7000
"""TCP port of an instance's sidecar ingress; engine n of a pod has 7000 + n. Range 7000-7009."""
METRICS_PORT = 9100
"""TCP port of /metrics; engine n of a pod has 9100 + n."""
ADMIN_PORT = 9901
"""TCP port of a sidecar's admin interface."""
SIP_PORT = 5060
"""UDP port of a proxy; engine n of a SIP pod has 5060 + n. Range 5060-5069."""
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380
ETCD_SIZES = (1, 3, 5)
"""Members etcd may have: an even number bears no more deaths than the odd one below it."""
REDIS_PORT = 6379
SENTINEL_PORT = 26379
SENTINELS = 3
"""Two of them must agree that the primary is gone."""
REDIS_NAME = "voicemesh"
"""What the Sentinels call the primary."""
EDGE_PORT = 8443
MAX_ENGINES = 10
"""Engines of a pod: the templates have one digit for them."""
MAX_INSTANCES = 200
"""Instances of a service: the fourth octet."""


@dataclass(frozen=True)
class Node:
    """One gRPC socket behind a sidecar: an instance, or one engine of a pod."""

    node: str
    """Node id: "config-0"; engine 1 of pod 0 is "sip_cluster-01"."""
    address: str
    """host:port of the sidecar's ingress, announced in etcd."""
    listen: str
    """Path of the Unix socket the node serves gRPC on."""


@dataclass(frozen=True)
class Instance:
    """A service instance: one process (or pod) with one sidecar."""

    service: str
    index: int
    """From 0."""
    ip: str
    egress: str
    """Path of the Unix socket of the sidecar's egress."""
    nodes: tuple[Node, ...]
    """One; for a pod one an engine."""

    @property
    def name(self) -> str:
        """Process name: "sip_cluster-0"."""
        return f"{self.service}-{self.index}"

    @property
    def sidecar(self) -> str:
        """Process name of its sidecar: "sip_cluster-0.envoy"."""
        return f"{self.name}.envoy"

    @property
    def pod(self) -> bool:
        """Whether a controller spawns the nodes."""
        return self.service in POD_SERVICES

    @property
    def admin(self) -> str:
        """host:port of the sidecar's admin interface."""
        return f"{self.ip}:{ADMIN_PORT}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """host:port of /metrics of each node."""
        return tuple(f"{self.ip}:{METRICS_PORT + engine}" for engine in range(len(self.nodes)))

    @property
    def sip(self) -> tuple[str, ...]:
        """host:port of SIP over UDP of each node; empty for services without SIP."""
        if self.service not in {"sip_proxy", "sip_cluster"}:
            return ()
        return tuple(f"{self.ip}:{SIP_PORT + engine}" for engine in range(len(self.nodes)))


@dataclass(frozen=True)
class Layout:
    """All addresses of one local mesh."""

    net: int
    """Second octet, 10-250."""
    sockets: Path
    """Folder of the Unix sockets; short, since a socket path has 107 bytes at most."""
    counts: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_COUNTS))
    """Instances a service."""
    engines: int = 1
    """Engines a SIP pod."""
    etcd_size: int = 1
    """Members of etcd."""

    def ip(self, service: str, index: int) -> str:
        """Address of an instance."""
        return f"127.{self.net}.{SERVICE_NUMBERS[service]}.{index + 1}"

    def infrastructure(self, number: int) -> str:
        """Address of an infrastructure process."""
        return f"127.{self.net}.0.{number}"

    def free_ip(self, group: int, number: int) -> str:
        """An address for a phone, trunk or test program: group 0-50, number 1-254."""
        return f"127.{self.net}.{FREE_NUMBER + group}.{number}"

    @property
    def etcd_members(self) -> dict[str, str]:
        """Process name -> address of each member: "etcd" alone; in a cluster "etcd-0", "etcd-1" …"""
        if self.etcd_size == 1:
            return {"etcd": self.infrastructure(1)}
        return {f"etcd-{n}": self.infrastructure(11 + n) for n in range(self.etcd_size)}

    @property
    def etcd(self) -> str:
        """VOICEMESH_ETCD: host:port for clients, of every member, by commas."""
        return ",".join(f"{ip}:{ETCD_PORT}" for ip in self.etcd_members.values())

    @property
    def redis(self) -> str:
        """host:port of the Redis that begins as the primary."""
        return f"{self.infrastructure(2)}:{REDIS_PORT}"

    @property
    def redis_replica(self) -> str:
        """host:port of the Redis that begins as its replica."""
        return f"{self.infrastructure(3)}:{REDIS_PORT}"

    @property
    def sentinels(self) -> tuple[str, ...]:
        """host:port of each Sentinel."""
        return tuple(f"{self.infrastructure(21 + n)}:{SENTINEL_PORT}" for n in range(SENTINELS))

    @property
    def redis_url(self) -> str:
        """VOICEMESH_REDIS: the Sentinels, who know the primary."""
        return f"redis+sentinel://{','.join(self.sentinels)}/{REDIS_NAME}"

    @property
    def edge(self) -> str:
        """host:port of the edge's TLS listener."""
        return f"{self.infrastructure(5)}:{EDGE_PORT}"

    @property
    def edge_admin(self) -> str:
        """host:port of the edge's admin interface."""
        return f"{self.infrastructure(5)}:{ADMIN_PORT}"

    @property
    def xds_metrics(self) -> str:
        """host:port of the control plane's /metrics."""
        return f"{self.infrastructure(4)}:{METRICS_PORT}"

    def instance(self, service: str, index: int) -> Instance:
        """The instance of that number."""
        ip, name = self.ip(service, index), f"{service}-{index}"
        pod = service in POD_SERVICES
        nodes = tuple(
            Node(
                node=f"{name}{engine}" if pod else name,
                address=f"{ip}:{INGRESS_PORT + engine}",
                listen=str(self.sockets / (f"{name}{engine}.sock" if pod else f"{name}.sock")),
            )
            for engine in range(self.engines if pod else 1)
        )
        return Instance(service, index, ip, str(self.sockets / f"{name}.egress"), nodes)

    def instances(self, service: str | None = None) -> list[Instance]:
        """All instances, or those of one service, in order."""
        wanted = [service] if service else list(self.counts)
        return [self.instance(name, index) for name in wanted for index in range(self.counts.get(name, 0))]
