"""Everything one sidecar is told: listeners, clusters, routes."""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm

from mesh.envoy import clusters, rbac, routes, tls
from mesh.envoy.contracts import Contract
from mesh.envoy.filters import PEER_HEADER, connection_manager, node_from_header, router, set_header
from mesh.envoy.messages import any_of, pipe, socket
from mesh.envoy.node import Ingress, Sidecar

HTTP_CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"


def sidecar_listeners(sidecar: Sidecar, contracts: Sequence[Contract]) -> list[listener_pb2.Listener]:
    """The way out, and a way in for each node."""
    return [_egress(sidecar), *(_ingress(sidecar, ingress, contracts) for ingress in sidecar.ingresses)]


def sidecar_clusters(sidecar: Sidecar, services: Sequence[str]) -> list[cluster_pb2.Cluster]:
    """Every service of the mesh, and the nodes' own sockets."""
    found = [clusters.unix_socket(clusters.local(i.node), i.socket) for i in sidecar.ingresses]
    for service in services:
        found += clusters.towards(service, sidecar.identity)
    return found


def sidecar_routes(
    contracts: Sequence[Contract], services: Sequence[str]
) -> list[route_pb2.RouteConfiguration]:
    """The table that egress listeners ask for."""
    return [routes.egress(contracts, services)]


def listener(
    name: str, manager: hcm.HttpConnectionManager, chain: listener_components_pb2.FilterChain
) -> listener_pb2.Listener:
    """A listener without an address: one chain that ends in the connection manager."""
    chain.filters.add(name=HTTP_CONNECTION_MANAGER, typed_config=any_of(manager))
    return listener_pb2.Listener(name=name, filter_chains=[chain])


def _egress(sidecar: Sidecar) -> listener_pb2.Listener:
    manager = connection_manager("egress", [node_from_header(), router()], routes=routes.EGRESS)
    found = listener("egress", manager, listener_components_pb2.FilterChain())
    found.address.CopyFrom(pipe(sidecar.egress))
    return found


def _ingress(sidecar: Sidecar, ingress: Ingress, contracts: Sequence[Contract]) -> listener_pb2.Listener:
    name = f"ingress.{ingress.node}"
    table = routes.everything_to(clusters.local(ingress.node), name)
    table.request_headers_to_add.append(set_header(PEER_HEADER, "%DOWNSTREAM_PEER_URI_SAN%"))
    manager = connection_manager(
        "ingress", [rbac.ingress(contracts, sidecar.service), router()], routes=table
    )
    manager.forward_client_cert_details = hcm.HttpConnectionManager.SANITIZE
    chain = listener_components_pb2.FilterChain(transport_socket=tls.ingress(sidecar.identity))
    found = listener(name, manager, chain)
    found.address.CopyFrom(socket(ingress.address))
    return found
