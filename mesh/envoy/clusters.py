"""Clusters (CDS): two for each service over the same endpoints, and the Unix sockets of what is on this
machine."""

from __future__ import annotations

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from envoy.extensions.load_balancing_policies.subset.v3 import subset_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from mesh.envoy import tls
from mesh.envoy.messages import any_of, duration, extension, number, over_ads, pipe
from mesh.envoy.policy import (
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_TIMEOUT_S,
    MAX_STREAMS,
    ClusterPolicy,
    cluster_policy,
)

NODE_KEY = "node"
"""Key of endpoint metadata (namespace envoy.lb) that holds the incarnation."""
REFLECTION = "reflection"
"""Cluster of the reflection server, at the edge."""
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def balanced(service: str) -> str:
    """Name of the cluster over a service's SERVING nodes, by turns."""
    return service


def addressed(service: str) -> str:
    """Name of the cluster that reaches exactly the node a header names, or nobody."""
    return f"{service}.node"


def local(node: str) -> str:
    """Name of the cluster of a node's own Unix socket, at its sidecar."""
    return f"local.{node}"


def towards(service: str, identity: str) -> list[cluster_pb2.Cluster]:
    """Both clusters of a service, as seen by the holder of `identity`."""
    policy = cluster_policy(service)
    by_turns = _remote(balanced(service), service, identity, policy)
    by_turns.load_balancing_policy.CopyFrom(_round_robin())
    # With no SERVING node left the call fails; it does not go to one that drains.
    by_turns.common_lb_config.healthy_panic_threshold.CopyFrom(percent_pb2.Percent(value=0))
    by_turns.outlier_detection.CopyFrom(_outliers(policy))
    exact = _remote(addressed(service), service, identity, policy)
    exact.load_balancing_policy.CopyFrom(_subset())
    return [by_turns, exact]


def unix_socket(name: str, path: str) -> cluster_pb2.Cluster:
    """A gRPC server on a Unix socket of this machine."""
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=pipe(path))
    )
    return cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=duration(1.0),
        load_assignment=endpoint_pb2.ClusterLoadAssignment(
            cluster_name=name,
            endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[endpoint])],
        ),
        circuit_breakers=_breakers(ClusterPolicy(max_requests=65536, max_pending=4096)),
        typed_extension_protocol_options={_HTTP: _http2()},
    )


def _remote(name: str, service: str, identity: str, policy: ClusterPolicy) -> cluster_pb2.Cluster:
    return cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.EDS,
        connect_timeout=duration(policy.connect_timeout_s),
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=over_ads()),
        transport_socket=tls.upstream(identity, service),
        circuit_breakers=_breakers(policy),
        typed_extension_protocol_options={_HTTP: _http2()},
    )


def _http2() -> Any:
    """Pings on every connection, also to the service's own socket: a frozen peer is noticed by nothing else.
    The gRPC servers of the mesh
    allow them (mesh/channels.py); by default gRPC answers pings without calls by GOAWAY too_many_pings."""
    options = protocol_pb2.Http2ProtocolOptions(max_concurrent_streams=number(MAX_STREAMS))
    options.connection_keepalive.interval.CopyFrom(duration(KEEPALIVE_INTERVAL_S))
    options.connection_keepalive.timeout.CopyFrom(duration(KEEPALIVE_TIMEOUT_S))
    explicit = http_protocol_options_pb2.HttpProtocolOptions.ExplicitHttpConfig(
        http2_protocol_options=options
    )
    return any_of(http_protocol_options_pb2.HttpProtocolOptions(explicit_http_config=explicit))


def _round_robin() -> cluster_pb2.LoadBalancingPolicy:
    return _policy("envoy.load_balancing_policies.round_robin", round_robin_pb2.RoundRobin())


def _subset() -> cluster_pb2.LoadBalancingPolicy:
    subset = subset_pb2.Subset(
        fallback_policy=subset_pb2.Subset.NO_FALLBACK,
        subset_selectors=[subset_pb2.Subset.LbSubsetSelector(keys=[NODE_KEY], single_host_per_subset=True)],
        subset_lb_policy=_round_robin(),
    )
    return _policy("envoy.load_balancing_policies.subset", subset)


def _policy(name: str, config: Message) -> cluster_pb2.LoadBalancingPolicy:
    policy = cluster_pb2.LoadBalancingPolicy.Policy(typed_extension_config=extension(name, config))
    return cluster_pb2.LoadBalancingPolicy(policies=[policy])


def _breakers(policy: ClusterPolicy) -> circuit_breaker_pb2.CircuitBreakers:
    budget = circuit_breaker_pb2.CircuitBreakers.Thresholds.RetryBudget(
        budget_percent=percent_pb2.Percent(value=policy.retry_budget_percent),
        min_retry_concurrency=number(policy.retry_budget_floor),
    )
    return circuit_breaker_pb2.CircuitBreakers(
        thresholds=[
            circuit_breaker_pb2.CircuitBreakers.Thresholds(
                max_requests=number(policy.max_requests),
                max_pending_requests=number(policy.max_pending),
                retry_budget=budget,
            )
        ]
    )


def _outliers(policy: ClusterPolicy) -> outlier_detection_pb2.OutlierDetection:
    return outlier_detection_pb2.OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=number(policy.eject_after_local_failures),
        enforcing_consecutive_local_origin_failure=number(100),
        enforcing_consecutive_5xx=number(0),
        enforcing_consecutive_gateway_failure=number(0),
        enforcing_success_rate=number(0),
        enforcing_local_origin_success_rate=number(0),
        interval=duration(1.0),
        base_ejection_time=duration(policy.ejection_s),
        max_ejection_percent=number(policy.max_ejected_percent),
    )
