"""The file an Envoy is started with: who it is and where the control plane is. All else comes over ADS."""

from __future__ import annotations

import json

from mesh.envoy.node import Edge, Sidecar, metadata, node_id, split_address

CONTROL_PLANE = "control_plane"
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def bootstrap(node: Sidecar | Edge, *, control_plane: str, admin: str) -> str:
    """JSON text. `control_plane` is the path of its Unix socket, `admin` host:port of the admin interface."""
    host, port = split_address(admin)
    return json.dumps(
        {
            "node": {
                "id": node_id(node),
                "cluster": node_id(node).partition("/")[0],
                "metadata": metadata(node),
            },
            "admin": {"address": {"socket_address": {"address": host, "port_value": port}}},
            "dynamic_resources": _dynamic(),
            "static_resources": {"clusters": [_control_plane(control_plane)]},
            "overload_manager": {
                "resource_monitors": [
                    {
                        "name": "envoy.resource_monitors.global_downstream_max_connections",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.resource_monitors."
                            "downstream_connections.v3.DownstreamConnectionsConfig",
                            "max_active_downstream_connections": 20000,
                        },
                    }
                ]
            },
        },
        indent=1,
    )


def _dynamic() -> dict[str, object]:
    over_ads = {"ads": {}, "resource_api_version": "V3"}
    backoff = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
    return {
        "ads_config": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": CONTROL_PLANE, "retry_policy": backoff}}],
        },
        "lds_config": over_ads,
        "cds_config": over_ads,
    }


def _control_plane(path: str) -> dict[str, object]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": path}}}}
    return {
        "name": CONTROL_PLANE,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": CONTROL_PLANE, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            _HTTP: {
                "@type": f"type.googleapis.com/{_HTTP}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
