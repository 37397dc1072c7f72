"""What the control plane counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class XdsMetrics:
    """Metrics voicemesh_xds_…; kinds are Envoy's type names (Cluster, Listener, …)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.streams = Gauge("voicemesh_xds_streams", "Envoys connected now", registry=registry)
        self.answers = Counter("voicemesh_xds_answers_total", "Answers sent", ["kind"], registry=registry)
        self.accepted = Counter(
            "voicemesh_xds_accepted_total", "Answers acknowledged", ["kind"], registry=registry
        )
        self.refused = Counter(
            "voicemesh_xds_refused_total", "Answers refused (NACK)", ["kind"], registry=registry
        )
        self.ignored = Counter("voicemesh_xds_ignored_total", "Requests ignored", ["kind"], registry=registry)
        self.endpoints = Gauge(
            "voicemesh_xds_endpoints", "Nodes published", ["service", "work"], registry=registry
        )
        self.watch_alive = Gauge(
            "voicemesh_xds_etcd_alive",
            "Whether etcd answers on the watch of a service",
            ["service"],
            registry=registry,
        )
