"""Everything the edge Envoy is told: one TLS listener for gRPC, gRPC-Web and REST/JSON, tokens, scopes,
limits, reflection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from envoy.type.matcher.v3 import regex_pb2, string_pb2

from mesh.envoy import clusters, rate_limit, rbac, routes, tls, transcoding
from mesh.envoy.authorization import ANYBODY, EXTERNAL, HEALTH, REFLECTION, callers
from mesh.envoy.contracts import Contract, Method
from mesh.envoy.filters import connection_manager, http_filter, router
from mesh.envoy.messages import any_of, socket
from mesh.envoy.node import Edge
from mesh.envoy.policy import MAX_CLIENT_STREAMS, retry_on, timeout_s
from mesh.envoy.sidecar import listener
from mesh.identity.tokens import AUDIENCE, ISSUER

TENANT_HEADER = "x-voicemesh-tenant"
SUBJECT_HEADER = "x-voicemesh-subject"
SCOPE_HEADER = "x-voicemesh-scope"
CLAIM_HEADERS = {"tenant": TENANT_HEADER, "sub": SUBJECT_HEADER, "scope": SCOPE_HEADER}
"""Claims of the verified token that services see, and the headers that carry them."""
RESERVED_PREFIXES = ("x-voicemesh-", "x-envoy-")
"""Headers no client may send: who speaks, for which tenant, and to which host are the mesh's own words."""
_PROVIDER = "voicemesh"


def edge_listeners(edge: Edge, contracts: Sequence[Contract]) -> list[listener_pb2.Listener]:
    """The one listener."""
    manager = connection_manager(
        "edge", _filters(edge, contracts), routes=routes.EDGE, streams=MAX_CLIENT_STREAMS
    )
    manager.use_remote_address.value = True
    manager.normalize_path.value = True
    manager.merge_slashes = True
    manager.forward_client_cert_details = hcm.HttpConnectionManager.SANITIZE
    chain = listener_components_pb2.FilterChain(transport_socket=tls.edge(edge.identity))
    found = listener("edge", manager, chain)
    found.address.CopyFrom(socket(edge.address))
    return [found]


def edge_clusters(edge: Edge, services: Sequence[str]) -> list[cluster_pb2.Cluster]:
    """Every service of the mesh, and the reflection server."""
    found = [clusters.unix_socket(clusters.REFLECTION, edge.reflection)]
    for service in services:
        found += clusters.towards(service, edge.identity)
    return found


def edge_routes(
    contracts: Sequence[Contract], services: Sequence[str], origins: Sequence[str]
) -> list[route_pb2.RouteConfiguration]:
    """Methods that anybody outside may call, reflection, and health and NodeService of a service named by
    header."""
    found = [routes.prefix_route(prefix, clusters.REFLECTION) for prefix in REFLECTION]
    for contract in contracts:
        if not contract.server:
            for service in services:
                found += [
                    r for r in routes.contract_routes(contract, service, by_header=True) if _by_turns(r)
                ]
            continue
        for method in contract.methods:
            if callers(contract.name, method.name) & EXTERNAL:
                bounds = timeout_s(contract, method), retry_on(contract, method)
                found.append(routes.method_route(method, contract.server, *bounds))
    for service in services:
        found += [r for r in routes.infrastructure_routes(HEALTH, service) if _by_turns(r)]
    table = routes.table(routes.EDGE, found)
    table.virtual_hosts[0].typed_per_filter_config["envoy.filters.http.cors"].CopyFrom(any_of(_cors(origins)))
    return [table]


def _by_turns(route: route_components_pb2.Route) -> bool:
    return all(header.name != routes.NODE_HEADER for header in route.match.headers)


def _filters(edge: Edge, contracts: Sequence[Contract]) -> list[hcm.HttpFilter]:
    """Order matters: strip what the client has no right to say, check the token, find the RPC, check the
    scope, count, go."""
    return [
        http_filter("envoy.filters.http.cors", cors_pb2.Cors()),
        http_filter("envoy.filters.http.grpc_web", grpc_web_pb2.GrpcWeb()),
        _strip(),
        transcoding.chosen_status(),
        _tokens(edge, contracts),
        *transcoding.transcoders(edge.descriptors, contracts),
        rbac.edge(contracts),
        rate_limit.per_tenant(TENANT_HEADER, edge.tenant_rate, edge.tenant_burst),
        router(),
    ]


def _strip() -> hcm.HttpFilter:
    mutations = [
        mutation_rules_pb2.HeaderMutation(
            remove_on_match=mutation_rules_pb2.HeaderMutation.RemoveOnMatch(
                key_matcher=string_pb2.StringMatcher(prefix=prefix, ignore_case=True)
            )
        )
        for prefix in RESERVED_PREFIXES
    ]
    config = header_mutation_pb2.HeaderMutation(
        mutations=header_mutation_pb2.Mutations(request_mutations=mutations)
    )
    return http_filter("envoy.filters.http.header_mutation", config)


def _tokens(edge: Edge, contracts: Sequence[Contract]) -> hcm.HttpFilter:
    provider = jwt_pb2.JwtProvider(
        issuer=ISSUER,
        audiences=[AUDIENCE],
        require_expiration=True,
        forward=True,
        payload_in_metadata=rbac.CLAIMS,
        claim_to_headers=[
            jwt_pb2.JwtClaimToHeader(header_name=header, claim_name=claim)
            for claim, header in CLAIM_HEADERS.items()
        ],
        local_jwks=base_pb2.DataSource(
            filename=edge.jwks, watched_directory=base_pb2.WatchedDirectory(path=edge.jwks.rpartition("/")[0])
        ),
        clock_skew_seconds=5,
    )
    needed = jwt_pb2.JwtRequirement(provider_name=_PROVIDER)
    rules = [jwt_pb2.RequirementRule(match=match) for match in _open_to_all(contracts)]
    rules.append(jwt_pb2.RequirementRule(match=route_components_pb2.RouteMatch(prefix="/"), requires=needed))
    config = jwt_pb2.JwtAuthentication(
        providers={_PROVIDER: provider}, rules=rules, bypass_cors_preflight=True
    )
    return http_filter(rbac.JWT_FILTER, config)


def _open_to_all(contracts: Sequence[Contract]) -> Iterator[route_components_pb2.RouteMatch]:
    """Paths that need no token: reflection and the methods the table opens to anybody, as gRPC and as REST."""
    for prefix in REFLECTION:
        yield route_components_pb2.RouteMatch(prefix=prefix)
    for method in _methods(contracts, ANYBODY):
        yield route_components_pb2.RouteMatch(path=method.path)
        for template in method.http:
            regex = regex_pb2.RegexMatcher(regex=transcoding.template_regex(template))
            yield route_components_pb2.RouteMatch(safe_regex=regex)


def _methods(contracts: Sequence[Contract], caller: str) -> Iterator[Method]:
    for contract in contracts:
        for method in contract.methods:
            if caller in callers(contract.name, method.name):
                yield method


def _cors(origins: Sequence[str]) -> cors_pb2.CorsPolicy:
    matchers = [string_pb2.StringMatcher(exact=origin) for origin in origins]
    if not matchers:
        matchers = [string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex="https?://.*"))]
    return cors_pb2.CorsPolicy(
        allow_origin_string_match=matchers,
        allow_methods="GET, POST, PUT, PATCH, DELETE, OPTIONS",
        allow_headers="authorization, content-type, grpc-timeout, traceparent, voicemesh-service, x-grpc-web, x-user-agent",
        expose_headers="grpc-status, grpc-message, grpc-status-details-bin",
        max_age="600",
    )
