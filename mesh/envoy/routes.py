"""Routes: from a contract's path to the service that has it, or to the one node a header names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.type.matcher.v3 import string_pb2

from mesh.envoy import clusters
from mesh.envoy.authorization import INFRASTRUCTURE_PREFIXES
from mesh.envoy.contracts import Contract, Method
from mesh.envoy.messages import any_of, duration, number
from mesh.envoy.policy import RETRIES, RETRY_BASE_S, RETRY_MAX_S, retry_on, timeout_s

NODE_HEADER = "x-voicemesh-node"
"""Names the incarnation that a call must reach."""
SERVICE_HEADER = "voicemesh-service"
"""Names the service, for contracts that every node serves (NodeService, health). Clients of the edge may set
it."""
EGRESS = "egress"
"""Name of a sidecar's route table towards the mesh."""
EDGE = "edge"
"""Name of the edge's route table."""

_Match = route_components_pb2.RouteMatch
_Header = route_components_pb2.HeaderMatcher


def egress(contracts: Iterable[Contract], services: Sequence[str]) -> route_pb2.RouteConfiguration:
    """A sidecar's table: each contract to its service; contracts of every node by SERVICE_HEADER."""
    routes: list[route_components_pb2.Route] = []
    for contract in contracts:
        if contract.server:
            routes += contract_routes(contract, contract.server)
        else:
            for service in services:
                routes += contract_routes(contract, service, by_header=True)
    for prefix in INFRASTRUCTURE_PREFIXES:
        for service in services:
            routes += infrastructure_routes(prefix, service)
    return table(EGRESS, routes)


def contract_routes(
    contract: Contract, service: str, *, by_header: bool = False
) -> list[route_components_pb2.Route]:
    """Routes of a contract: each method with its bounds, to one node when a header names it, else by turns."""
    found: list[route_components_pb2.Route] = []
    named = [_is(SERVICE_HEADER, service)] if by_header else []
    for method in contract.methods:
        timeout = timeout_s(contract, method)
        exact = _Match(path=method.path, headers=[*named, _present(NODE_HEADER)])
        found.append(_route(exact, clusters.addressed(service), timeout, ""))
        any_node = _Match(path=method.path, headers=named)
        found.append(_route(any_node, clusters.balanced(service), timeout, retry_on(contract, method)))
    return found


def infrastructure_routes(prefix: str, service: str) -> list[route_components_pb2.Route]:
    """Routes of health and reflection of a named service: streams, hence without a timeout."""
    named = _is(SERVICE_HEADER, service)
    return [
        _route(
            _Match(prefix=prefix, headers=[named, _present(NODE_HEADER)]),
            clusters.addressed(service),
            0.0,
            "",
        ),
        _route(_Match(prefix=prefix, headers=[named]), clusters.balanced(service), 0.0, ""),
    ]


def everything_to(cluster: str, name: str) -> route_pb2.RouteConfiguration:
    """A table with one way, without a timeout: the caller's sidecar has bounded the call already."""
    return table(name, [_route(_Match(prefix="/"), cluster, 0.0, "")])


def method_route(method: Method, service: str, timeout: float, retries: str) -> route_components_pb2.Route:
    """One method to a service, by turns."""
    return _route(_Match(path=method.path), clusters.balanced(service), timeout, retries)


def prefix_route(prefix: str, cluster: str) -> route_components_pb2.Route:
    """Everything under a path to a cluster, without a timeout."""
    return _route(_Match(prefix=prefix), cluster, 0.0, "")


def table(name: str, routes: Sequence[route_components_pb2.Route]) -> route_pb2.RouteConfiguration:
    """A route table for any host name."""
    host = route_components_pb2.VirtualHost(name="all", domains=["*"], routes=routes)
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[host])


def _route(
    match: route_components_pb2.RouteMatch, cluster: str, timeout: float, retries: str
) -> route_components_pb2.Route:
    action = route_components_pb2.RouteAction(cluster=cluster, timeout=duration(timeout))
    if retries:
        action.retry_policy.CopyFrom(_retry(retries))
    return route_components_pb2.Route(match=match, route=action)


def _retry(conditions: str) -> route_components_pb2.RetryPolicy:
    policy = route_components_pb2.RetryPolicy(
        retry_on=conditions, num_retries=number(RETRIES), host_selection_retry_max_attempts=3
    )
    policy.retry_back_off.base_interval.CopyFrom(duration(RETRY_BASE_S))
    policy.retry_back_off.max_interval.CopyFrom(duration(RETRY_MAX_S))
    policy.retry_host_predicate.add(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=any_of(previous_hosts_pb2.PreviousHostsPredicate()),
    )
    return policy


def _present(header: str) -> route_components_pb2.HeaderMatcher:
    return _Header(name=header, present_match=True)


def _is(header: str, value: str) -> route_components_pb2.HeaderMatcher:
    return _Header(name=header, string_match=string_pb2.StringMatcher(exact=value))
