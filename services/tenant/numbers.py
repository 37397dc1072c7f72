"""What the desks of a node count."""

from __future__ import annotations

from mesh.telemetry.metrics import Metrics


class Numbers:
    """voicemesh_tenant_…"""

    def __init__(self, metrics: Metrics) -> None:
        self.reservations = metrics.counter(
            "reservations_total",
            "Asks for agents, by outcome: granted, or the reason of the refusal",
            ["outcome"],
        )
        self.answers = metrics.counter(
            "answers_total",
            "Routing requests answered: found, not found, refused by the answer queue",
            ["result"],
        )
