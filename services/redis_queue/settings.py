"""Settings of Redis Queue, from VOICEMESH_REDIS_QUEUE_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RedisQueueSettings:
    """How much is kept, and for how long."""

    stream_events: int = 4096
    """Events kept of one stream, 64 … 1,000,000; about a tenth more may be there."""
    slot_events: int = 20_000
    """Events kept of one slot, 64 … 10,000,000; a cursor before the oldest is told to be expired."""
    slot_age_s: int = 3600
    """Seconds an event stays in its slot's stream at least one of which is always kept, 10 … 2,592,000."""
    stream_idle_s: int = 604_800
    """Seconds without an event after which a call's stream is removed that nobody closed, 60 … 31,536,000."""
    stream_retention_s: int = 3600
    """Seconds a closed stream is kept, 1 … 2,592,000."""
    queue_entries: int = 10_000
    """Entries of one queue at most, 16 … 1,000,000; beyond that Enqueue is refused."""
    queue_memory_s: int = 3600
    """Seconds an acknowledged id is remembered, so that a repeat is not put in again, 1 … 2,592,000."""
    queue_idle_s: int = 604_800
    """Seconds without use after which a queue is removed, 60 … 31,536,000."""
    ring_events: int = 1024
    """Newest events of a followed slot held in memory for its readers, 16 … 1,000,000."""
    redis_timeout_ms: int = 1000
    """Milliseconds Redis has to answer before a batch is told to be unavailable, 10 … 60,000."""
    sweep_s: float = 30.0
    """Seconds between removals of what is too old, 0.1 … 3600."""

    def validate(self) -> list[str]:
        """Every rule broken."""
        bounds: dict[str, tuple[float, float]] = {
            "stream_events": (64, 1_000_000),
            "slot_events": (64, 10_000_000),
            "slot_age_s": (10, 2_592_000),
            "stream_idle_s": (60, 31_536_000),
            "stream_retention_s": (1, 2_592_000),
            "queue_entries": (16, 1_000_000),
            "queue_memory_s": (1, 2_592_000),
            "queue_idle_s": (60, 31_536_000),
            "ring_events": (16, 1_000_000),
            "redis_timeout_ms": (10, 60_000),
            "sweep_s": (0.1, 3600),
        }
        return [
            f"VOICEMESH_REDIS_QUEUE_{name.upper()}: must be {low} to {high}"
            for name, (low, high) in bounds.items()
            if not low <= getattr(self, name) <= high
        ]
