"""Metrics of a SIP node (README lists them)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from mesh.telemetry import Metrics

DIAL_PLAN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Numbers:
    """Counters that are written as things happen, and gauges that are read at a scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.created = metrics.counter("calls_created_total", "Call threads begun")
        self.overloaded = metrics.counter("overload_rejected_total", "New calls refused with 503")
        self.failed_effects = metrics.counter("failed_effects_total", "Messages that could not be sent")
        self.requests = metrics.counter("requests_total", "T-Library requests", ["type", "outcome"])
        self.dial_plan = metrics.histogram(
            "dial_plan_seconds", "Time until the dial plan answered", buckets=DIAL_PLAN_BUCKETS
        )
        self.dial_plan_failed = metrics.counter(
            "dial_plan_failed_total", "Questions the dial plan did not answer"
        )
        self.restored = metrics.counter("restored_calls_total", "Calls taken over from another node")
        self.unrestorable = metrics.counter(
            "unrestorable_calls_total", "Calls taken over of which something could not be gone on with"
        )
        self.behind = metrics.counter(
            "calls_behind_total", "Calls taken over whose snapshot was older than their last event"
        )
        self.handed_over = metrics.counter("handed_over_calls_total", "Live calls given to another node")
        self.lost_slots = metrics.counter(
            "lost_calls_total", "Calls let go because their slot had gone to another node"
        )
        self._notable = {
            "abandoned": metrics.counter("abandoned_calls_total", "Calls whose caller left before an answer"),
            "default_routing": metrics.counter("default_routing_total", "Calls routed to a default DN"),
            "overflow": metrics.counter("overflow_total", "Calls sent to an overflow destination"),
        }

    def notable(self, what: str) -> None:
        """Counts something that a call thread reported."""
        self._notable[what].inc()

    def dial_plan_answered(self, seconds: float, ok: bool) -> None:
        """A question to the dial plan has ended."""
        self.dial_plan.observe(seconds)
        if not ok:
            self.dial_plan_failed.inc()

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A value asked for at each scrape."""
        self._metrics.gauge(name, text).set_function(value)

    def info(self, name: str, text: str, values: dict[str, str]) -> None:
        """Facts that do not change while the process lives, as labels of a gauge that is 1."""
        self._metrics.gauge(name, text, tuple(values)).labels(*values.values()).set(1)

    def counters(self, name: str, text: str, label: str, values: Callable[[], Mapping[str, float]]) -> None:
        """Counters kept elsewhere, by the value of one label."""
        full = f"voicemesh_{self._metrics.service}_{name}"
        self._metrics.registry.register(_Kept(full, text, label, values))


class _Kept(Collector):
    def __init__(self, name: str, text: str, label: str, values: Callable[[], Mapping[str, float]]) -> None:
        self._name, self._text, self._label, self._values = name, text, label, values

    def collect(self) -> list[CounterMetricFamily]:
        """Reads them."""
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for key, value in self._values().items():
            family.add_metric([key], value)
        return [family]

    def describe(self) -> list[CounterMetricFamily]:
        """Their name, without reading them."""
        return [CounterMetricFamily(self._name, self._text, labels=[self._label])]
