"""Requests a second of a tenant: a token bucket, pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """Holds a second's worth of requests, refilled evenly."""

    rate: float
    tokens: float
    at: float

    def take(self, now: float) -> bool:
        """Takes one; False when there is none. `now` is seconds of a clock that does not go back."""
        self.tokens = min(max(self.rate, 1.0), self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


@dataclass(slots=True)
class Rates:
    """A bucket for each tenant; a rate of 0 lets everything through."""

    _buckets: dict[str, Bucket] = field(default_factory=dict)

    def take(self, tenant: str, rate: float, now: float) -> bool:
        """Whether the tenant may make one more request now."""
        if rate <= 0:
            return True
        bucket = self._buckets.get(tenant)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[tenant] = Bucket(rate, max(rate, 1.0), now)
        return bucket.take(now)
