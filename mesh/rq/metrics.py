"""What a process counts as a client of Redis Queue."""

from __future__ import annotations

from mesh.telemetry import Metrics


class ClientMetrics:
    """Named voicemesh_<service>_rq_<what>."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.append = metrics.histogram(
            "rq_append_seconds", "From append to acknowledgement, of the first event of each batch"
        )
        self.refused = metrics.counter("rq_refused_total", "Events refused for good", ["reason"])
        self.resent = metrics.counter("rq_resent_total", "Events sent again")
        self.recalled = metrics.counter(
            "rq_recalled_total", "What was acknowledged and is sent again: the store has changed", ["what"]
        )
        self.gaps = metrics.counter(
            "rq_gaps_total", "Streams whose end was missing, by whether we had it", ["had"]
        )
        self.failures = metrics.counter("rq_node_failures_total", "Calls to a node that ended in failure")
        self.repeats = metrics.counter(
            "rq_repeats_total", "Events of slots that came again and were not given again"
        )
        self.expired = metrics.counter("rq_cursor_expired_total", "Slots whose cursor was too old")
