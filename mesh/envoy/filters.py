"""HTTP filters of sidecars and edge, and the connection manager that holds them."""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from google.protobuf.message import Message

from mesh.envoy.clusters import NODE_KEY
from mesh.envoy.endpoints import METADATA_NAMESPACE
from mesh.envoy.messages import any_of, duration, flag, number, over_ads
from mesh.envoy.policy import MAX_STREAMS
from mesh.envoy.routes import NODE_HEADER

PEER_HEADER = "x-voicemesh-peer"
"""SPIFFE id of the calling service, set by the callee's sidecar from the certificate."""
REASON_HEADER = "x-voicemesh-reason"
"""Why Envoy itself answered: one of the words below, or Envoy's response flags."""
NODE_GONE = "node-gone"
"""The incarnation that a call names is not in the mesh (any more)."""
NOBODY_SERVES = "nobody-serves"
"""No node of the service takes new work."""
MAX_HEADERS_KIB = 64
"""Headers of a request, KiB; more is answered 431."""
MAX_HEADER_COUNT = 100


def http_filter(name: str, config: Message) -> hcm.HttpFilter:
    """A filter of the chain."""
    return hcm.HttpFilter(name=name, typed_config=any_of(config))


def router() -> hcm.HttpFilter:
    """The end of each chain."""
    return http_filter("envoy.filters.http.router", router_pb2.Router())


def node_from_header() -> hcm.HttpFilter:
    """The header that addresses a node becomes the key that the subset load balancer looks at."""
    pair = header_to_metadata_pb2.Config.KeyValuePair(metadata_namespace=METADATA_NAMESPACE, key=NODE_KEY)
    rule = header_to_metadata_pb2.Config.Rule(header=NODE_HEADER, on_header_present=pair)
    return http_filter(
        "envoy.filters.http.header_to_metadata", header_to_metadata_pb2.Config(request_rules=[rule])
    )


def connection_manager(
    stat_prefix: str,
    filters: Iterable[hcm.HttpFilter],
    *,
    routes: str | route_pb2.RouteConfiguration,
    streams: int = MAX_STREAMS,
) -> hcm.HttpConnectionManager:
    """HTTP in, gRPC's way: streams may be idle, headers are bounded, local answers say why. `routes` by name
    come over ADS."""
    manager = hcm.HttpConnectionManager(
        stat_prefix=stat_prefix,
        codec_type=hcm.HttpConnectionManager.AUTO,
        http_filters=list(filters),
        stream_idle_timeout=duration(0),
        max_request_headers_kb=number(MAX_HEADERS_KIB),
        local_reply_config=_local_replies(),
        generate_request_id=flag(False),
        server_name="voicemesh",
    )
    manager.http2_protocol_options.max_concurrent_streams.CopyFrom(number(streams))
    manager.common_http_protocol_options.max_headers_count.CopyFrom(number(MAX_HEADER_COUNT))
    if isinstance(routes, str):
        manager.rds.CopyFrom(hcm.Rds(config_source=over_ads(), route_config_name=routes))
    else:
        manager.route_config.CopyFrom(routes)
    return manager


def set_header(name: str, value: str) -> base_pb2.HeaderValueOption:
    """Replaces a header, whatever the sender put there."""
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _local_replies() -> hcm.LocalReplyConfig:
    """Why Envoy answered itself: the node named is gone, nobody takes new work, or what happened to the
    connection."""
    nobody, named = _flags("UH"), _header_present(NODE_HEADER)
    gone = accesslog_pb2.AccessLogFilter(and_filter=accesslog_pb2.AndFilter(filters=[nobody, named]))
    connection = _flags("UF", "UC", "UO", "UT", "URX")
    return hcm.LocalReplyConfig(
        mappers=[
            _because(gone, NODE_GONE),
            _because(nobody, NOBODY_SERVES),
            _because(connection, "%RESPONSE_FLAGS%"),
        ]
    )


def _flags(*flags: str) -> accesslog_pb2.AccessLogFilter:
    return accesslog_pb2.AccessLogFilter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=flags))


def _header_present(name: str) -> accesslog_pb2.AccessLogFilter:
    present = route_components_pb2.HeaderMatcher(name=name, present_match=True)
    return accesslog_pb2.AccessLogFilter(header_filter=accesslog_pb2.HeaderFilter(header=present))


def _because(condition: accesslog_pb2.AccessLogFilter, reason: str) -> hcm.ResponseMapper:
    return hcm.ResponseMapper(filter=condition, headers_to_add=[set_header(REASON_HEADER, reason)])
