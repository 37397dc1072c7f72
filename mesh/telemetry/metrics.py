"""Metrics of one service, named voicemesh_<service>_<name>, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of latency histograms, seconds."""


class Metrics:
    """Makes the metrics of a service. Names end as Prometheus asks: _total, _seconds, _bytes."""

    def __init__(self, service: str, registry: CollectorRegistry | None = None) -> None:
        self.service = service
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=True)
        self._counters: dict[str, Counter] = {}
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A count that only rises. Asked for again, the same one: several parts may count together."""
        if name not in self._counters:
            self._counters[name] = Counter(self._name(name), text, labels, registry=self.registry)
        return self._counters[name]

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A value that goes up and down."""
        return Gauge(self._name(name), text, labels, registry=self.registry)

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS
    ) -> Histogram:
        """A distribution; seconds by default."""
        return Histogram(self._name(name), text, labels, registry=self.registry, buckets=buckets)

    def queue(self, name: str, depth: Callable[[], float], text: str = "Entries waiting") -> Gauge:
        """The depth gauge that every bounded queue has: voicemesh_<service>_<name>_depth, asked at each
        scrape."""
        gauge = self.gauge(f"{name}_depth", text)
        gauge.set_function(depth)
        return gauge

    def _name(self, name: str) -> str:
        return f"voicemesh_{self.service}_{name}"
