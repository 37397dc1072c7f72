"""Requests a second at the edge: a bucket for each tenant, one for all who come without a token."""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from envoy.type.v3 import percent_pb2, token_bucket_pb2

from mesh.envoy.filters import http_filter
from mesh.envoy.messages import duration, number
from mesh.envoy.policy import ANONYMOUS_BURST, ANONYMOUS_RATE_PER_S

TENANT = "tenant"
"""Key of the descriptor that names the tenant; a bucket is made for each value seen."""
MAX_TENANTS = 4096
"""Buckets kept, least recently used first out."""


def per_tenant(tenant_header: str, rate: int, burst: int) -> hcm.HttpFilter:
    """Answers RESOURCE_EXHAUSTED over the limit. Stands after the token check: the header is the verified
    tenant."""
    action = route_components_pb2.RateLimit.Action(
        request_headers=route_components_pb2.RateLimit.Action.RequestHeaders(
            header_name=tenant_header, descriptor_key=TENANT
        )
    )
    each_tenant = ratelimit_pb2.LocalRateLimitDescriptor(
        entries=[ratelimit_pb2.RateLimitDescriptor.Entry(key=TENANT)],
        token_bucket=_bucket(rate, burst),
    )
    always = base_pb2.RuntimeFractionalPercent(default_value=percent_pb2.FractionalPercent(numerator=100))
    config = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix="edge",
        token_bucket=_bucket(ANONYMOUS_RATE_PER_S, ANONYMOUS_BURST),
        filter_enabled=always,
        filter_enforced=always,
        descriptors=[each_tenant],
        rate_limits=[route_components_pb2.RateLimit(actions=[action])],
        rate_limited_as_resource_exhausted=True,
        max_dynamic_descriptors=number(MAX_TENANTS),
    )
    config.always_consume_default_token_bucket.value = False
    return http_filter("envoy.filters.http.local_ratelimit", config)


def _bucket(rate: int, burst: int) -> token_bucket_pb2.TokenBucket:
    """Refilled ten times a second where that is exact, so that a limit does not come in waves."""
    parts = 10 if rate % 10 == 0 else 1
    return token_bucket_pb2.TokenBucket(
        max_tokens=burst, tokens_per_fill=number(rate // parts), fill_interval=duration(1 / parts)
    )
