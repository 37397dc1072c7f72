"""Endpoints (EDS) of a service's nodes: what its two clusters reach."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from google.protobuf.struct_pb2 import Struct

from mesh.envoy.clusters import NODE_KEY, addressed, balanced
from mesh.envoy.messages import number, socket

METADATA_NAMESPACE = "envoy.lb"
HEAVIEST = 1000
"""Largest weight given to an endpoint; capacities are scaled down to it so that the sum of weights stays
small."""


@dataclass(frozen=True, order=True)
class Endpoint:
    """A node as load balancing sees it."""

    incarnation: str
    address: str
    """host:port of its sidecar's ingress."""
    takes_work: bool
    """SERVING with a capacity above zero. Others stay reachable by their incarnation."""
    capacity: int
    """Its share of new work is in proportion."""


def assignments(service: str, endpoints: Iterable[Endpoint]) -> list[endpoint_pb2.ClusterLoadAssignment]:
    """Both clusters' endpoints, in a fixed order."""
    nodes = sorted(endpoints)
    largest = max((node.capacity for node in nodes), default=0)
    by_turns = [
        _endpoint(node, healthy=node.takes_work, weight=_weight(node.capacity, largest)) for node in nodes
    ]
    exact = [_endpoint(node, healthy=True, weight=1) for node in nodes]
    return [_assignment(balanced(service), by_turns), _assignment(addressed(service), exact)]


def _weight(capacity: int, largest: int) -> int:
    if largest <= HEAVIEST:
        return max(1, capacity)
    return max(1, capacity * HEAVIEST // largest)


def _assignment(
    name: str, endpoints: list[endpoint_components_pb2.LbEndpoint]
) -> endpoint_pb2.ClusterLoadAssignment:
    localities = [endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=endpoints)] if endpoints else []
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=localities)


def _endpoint(node: Endpoint, *, healthy: bool, weight: int) -> endpoint_components_pb2.LbEndpoint:
    fields = Struct()
    fields.fields[NODE_KEY].string_value = node.incarnation
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=socket(node.address)),
        health_status=health_check_pb2.HEALTHY if healthy else health_check_pb2.DRAINING,
        load_balancing_weight=number(weight),
        metadata=base_pb2.Metadata(filter_metadata={METADATA_NAMESPACE: fields}),
    )
