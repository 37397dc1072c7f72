"""Who is in the mesh, as far as the control plane knows. Pure: what was watched goes in, endpoints come out.

A deletion that etcd tells is believed at once: a lease ended or a node left. But the last node of a service that
takes work, and a node that is merely missing in a snapshot, stay for GRACE_S: after an outage of etcd every lease
has ended, and each owner puts its record again as soon as it has a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mesh.envoy.endpoints import Endpoint

GRACE_S = 10.0
"""Seconds a node missing in a snapshot is kept: lease TTL and a slow re-grant, several times over."""


@dataclass(frozen=True)
class Put:
    """A node's record, as read."""

    incarnation: str
    endpoint: Endpoint


@dataclass(frozen=True)
class Deleted:
    """A node's record is gone."""

    incarnation: str


@dataclass
class ServiceMembers:
    """Nodes of one service."""

    known: bool = False
    """Whether a snapshot has come: before it, nothing may be published."""
    present: dict[str, Endpoint] = field(default_factory=dict)
    missing: dict[str, tuple[Endpoint, float]] = field(default_factory=dict)
    """Nodes whose record is gone and that are kept for a while, with the time at which they are given up."""

    def snapshot(self, nodes: Iterable[Put], now: float) -> None:
        """The whole of what etcd has."""
        found = {node.incarnation: node.endpoint for node in nodes}
        for incarnation, endpoint in self.present.items():
            if incarnation not in found:
                self.missing[incarnation] = (endpoint, now + GRACE_S)
        self.present = found
        self._settle()
        self.known = True

    def change(self, change: Put | Deleted, now: float) -> None:
        """One change after the snapshot."""
        if isinstance(change, Put):
            self.present[change.incarnation] = change.endpoint
        else:
            gone = self.present.pop(change.incarnation, None)
            self.missing.pop(change.incarnation, None)
            if gone is not None and gone.takes_work and not any(e.takes_work for e in self.endpoints()):
                self.missing[change.incarnation] = (gone, now + GRACE_S)
        self._settle()

    def expire(self, now: float) -> None:
        """Gives up what has been missing too long."""
        self.missing = {name: entry for name, entry in self.missing.items() if entry[1] > now}

    def next_expiry(self) -> float | None:
        """When `expire` has something to do."""
        return min((until for _, until in self.missing.values()), default=None)

    def endpoints(self) -> list[Endpoint]:
        """All that is published, in order."""
        return sorted([*self.present.values(), *(endpoint for endpoint, _ in self.missing.values())])

    def _settle(self) -> None:
        """A new incarnation at an address ends the wait for the old one there: nobody else can listen on it."""
        addresses = {endpoint.address for endpoint in self.present.values()}
        self.missing = {
            name: entry
            for name, entry in self.missing.items()
            if name not in self.present and entry[0].address not in addresses
        }


@dataclass
class Registry:
    """Nodes of every service."""

    services: Mapping[str, ServiceMembers]

    @classmethod
    def of(cls, services: Iterable[str]) -> Registry:
        """An empty registry for those services."""
        return cls({service: ServiceMembers() for service in services})

    @property
    def complete(self) -> bool:
        """Whether every service's snapshot has come; before that nothing may be published."""
        return all(members.known for members in self.services.values())
