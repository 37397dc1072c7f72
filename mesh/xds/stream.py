"""One Envoy's aggregated stream as a pure machine (xDS protocol, state of the world).

Envoy subscribes to names (or to all, for listeners and clusters), we answer with a nonce, it acknowledges or
refuses by naming the nonce. An
acknowledgement is not answered; a request with an old nonce is ignored; a current nonce with other names is
answered. Listeners and clusters are
sent whole; of endpoints and routes only what is new to this Envoy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_PREFIX = "type.googleapis.com/"
CDS = f"{_PREFIX}envoy.config.cluster.v3.Cluster"
EDS = f"{_PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS = f"{_PREFIX}envoy.config.listener.v3.Listener"
RDS = f"{_PREFIX}envoy.config.route.v3.RouteConfiguration"
ORDER = (CDS, EDS, LDS, RDS)
"""Make before break: what is pointed at is sent before what points at it."""
WHOLE = frozenset({CDS, LDS})
"""Types whose answer replaces everything Envoy had of the type."""


@dataclass(frozen=True)
class Request:
    """What Envoy said."""

    type_url: str
    names: tuple[str, ...]
    nonce: str
    """Of the answer it reacts to; in the first of a type empty, or of an earlier stream."""
    error: str = ""
    """Why it refused that answer; empty when it did not."""


@dataclass(frozen=True)
class Send:
    """Answer with these resources."""

    type_url: str
    nonce: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Accepted:
    """Envoy took the answer."""

    type_url: str
    nonce: str


@dataclass(frozen=True)
class Refused:
    """Envoy keeps what it had."""

    type_url: str
    nonce: str
    error: str


@dataclass(frozen=True)
class Ignored:
    """A request that came too late, or of a type we do not serve."""

    type_url: str
    reason: str


Effect = Send | Accepted | Refused | Ignored
Versions = Mapping[str, Mapping[str, str]]
"""Type -> resource name -> version: what this Envoy may be told now."""


@dataclass
class _Subscription:
    names: frozenset[str] = frozenset()
    nonce: str = ""
    started: bool = False
    sent: dict[str, str] = field(default_factory=dict)


class AdsStream:
    """State of one stream."""

    def __init__(self) -> None:
        self._types = {type_url: _Subscription() for type_url in ORDER}
        self._answers = 0

    def request(self, request: Request, versions: Versions) -> list[Effect]:
        """Envoy said something."""
        subscription = self._types.get(request.type_url)
        if subscription is None:
            return [Ignored(request.type_url, "not served")]
        # Before our first answer a nonce can only be one of an earlier stream: Envoy sends it after
        # reconnecting.
        if subscription.nonce and request.nonce not in {"", subscription.nonce}:
            return [Ignored(request.type_url, "an old nonce")]
        effects: list[Effect] = []
        if request.nonce and subscription.nonce:
            effects.append(
                Refused(request.type_url, request.nonce, request.error)
                if request.error
                else Accepted(request.type_url, request.nonce)
            )
        first, subscription.started = not subscription.started, True
        subscription.names = frozenset(request.names)
        if request.type_url not in WHOLE:
            subscription.sent = {
                name: v for name, v in subscription.sent.items() if name in subscription.names
            }
        return effects + self._answer(request.type_url, versions, always=first)

    def changed(self, versions: Versions) -> list[Effect]:
        """The world changed: what this Envoy is told, in an order that never points at nothing."""
        effects: list[Effect] = []
        for type_url in ORDER:
            if self._types[type_url].started:
                effects += self._answer(type_url, versions, always=False)
        return effects

    def _answer(self, type_url: str, versions: Versions, *, always: bool) -> list[Effect]:
        subscription = self._types[type_url]
        now = versions.get(type_url, {})
        if type_url in WHOLE and not subscription.names:
            wanted = dict(now)
        else:
            wanted = {name: version for name, version in now.items() if name in subscription.names}
        if type_url in WHOLE:
            if wanted == subscription.sent and not always:
                return []
            names: Sequence[str] = sorted(wanted)
            subscription.sent = wanted
        else:
            names = sorted(name for name, version in wanted.items() if subscription.sent.get(name) != version)
            if not names:
                return []
            subscription.sent.update({name: wanted[name] for name in names})
        self._answers += 1
        subscription.nonce = str(self._answers)
        return [Send(type_url, subscription.nonce, tuple(names))]
