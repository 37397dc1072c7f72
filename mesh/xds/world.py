"""What each Envoy may be told now: its own listeners, clusters and routes, and everybody's endpoints, as
packed resources with versions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from mesh.envoy.contracts import Contract
from mesh.envoy.edge import edge_clusters, edge_listeners, edge_routes
from mesh.envoy.endpoints import assignments
from mesh.envoy.messages import any_of
from mesh.envoy.node import Edge, Sidecar
from mesh.envoy.sidecar import sidecar_clusters, sidecar_listeners, sidecar_routes
from mesh.xds.registry import Registry
from mesh.xds.stream import CDS, EDS, LDS, RDS


@dataclass(frozen=True)
class Resource:
    """A resource as it is sent."""

    version: str
    """Hash of its bytes: the same after a restart of the control plane."""
    packed: Any


Resources = Mapping[str, Resource]


def pack(message: Message) -> Resource:
    """Packs a message."""
    packed = any_of(message)
    return Resource(hashlib.blake2b(packed.value, digest_size=8).hexdigest(), packed)


class World:
    """The resources. `update` after each change of membership; an Envoy's own part is built once."""

    def __init__(self, contracts: Sequence[Contract], services: Iterable[str]) -> None:
        self.contracts = tuple(contracts)
        self.services = tuple(sorted(services))
        self.endpoints: dict[str, Resource] = {}
        self._own: dict[Sidecar | Edge, dict[str, Resources]] = {}

    def update(self, registry: Registry, service: str) -> bool:
        """Takes over the nodes of a service; whether anything is different."""
        changed = False
        for assignment in assignments(service, registry.services[service].endpoints()):
            resource = pack(assignment)
            before = self.endpoints.get(assignment.cluster_name)
            if before is None or before.version != resource.version:
                self.endpoints[assignment.cluster_name] = resource
                changed = True
        return changed

    def resources(self, node: Sidecar | Edge) -> Mapping[str, Resources]:
        """All that this Envoy may be told, by type."""
        own = self._own.get(node)
        if own is None:
            own = self._own[node] = self._build(node)
        return {**own, EDS: self.endpoints}

    def forget(self, node: Sidecar | Edge) -> None:
        """An Envoy has gone."""
        self._own.pop(node, None)

    def _build(self, node: Sidecar | Edge) -> dict[str, Resources]:
        if isinstance(node, Edge):
            return {
                CDS: _named(edge_clusters(node, self.services)),
                LDS: _named(edge_listeners(node, self.contracts)),
                RDS: _named(edge_routes(self.contracts, self.services, node.origins)),
            }
        return {
            CDS: _named(sidecar_clusters(node, self.services)),
            LDS: _named(sidecar_listeners(node, self.contracts)),
            RDS: _named(sidecar_routes(self.contracts, self.services)),
        }


def _named(messages: Iterable[Message]) -> Resources:
    return {str(getattr(message, "name")): pack(message) for message in messages}  # noqa: B009


def versions(resources: Mapping[str, Resources]) -> dict[str, dict[str, str]]:
    """The versions alone, as the stream machine wants them."""
    return {kind: {name: item.version for name, item in some.items()} for kind, some in resources.items()}
