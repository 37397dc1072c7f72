"""Pieces of Envoy's configuration that decide who reaches whom."""

from __future__ import annotations

import re
from typing import Any

import pytest
from envoy.config.core.v3 import health_check_pb2
from envoy.extensions.filters.http.grpc_json_transcoder.v3 import transcoder_pb2
from google.protobuf import json_format, struct_pb2

from mesh.envoy import bootstrap, clusters, routes
from mesh.envoy.authorization import SERVICES
from mesh.envoy.contracts import load
from mesh.envoy.endpoints import HEAVIEST, Endpoint, assignments
from mesh.envoy.node import Edge, Ingress, NodeError, Sidecar, metadata, node_id, parse, split_address
from mesh.envoy.transcoding import template_regex, transcoders

SIDECAR = Sidecar("config", "config-0", "/id", "/s/out", (Ingress("config-0", "127.10.1.1:7000", "/s/in"),))
EDGE = Edge(
    "edge-0", "/id", "127.10.0.5:8443", "/jwks.json", "/voicemesh.binpb", "/s/reflection", ("https://a",)
)


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict(values, struct_pb2.Struct())


@pytest.mark.parametrize("node", [SIDECAR, EDGE])
def test_what_an_envoy_tells_of_itself_is_read_back(node: Sidecar | Edge) -> None:
    assert parse(node_id(node), struct(metadata(node))) == node


@pytest.mark.parametrize(
    ("node_id_", "values", "problem"),
    [
        ("config", {}, "must be <service>/<instance>"),
        ("nobody/nobody-0", {}, "no service is called 'nobody'"),
        ("config/config-0", {}, "metadata ingresses"),
        ("config/config-0", {**metadata(SIDECAR), "egress": ""}, "metadata egress"),
        (
            "config/config-0",
            {**metadata(SIDECAR), "ingresses": [{"node": "n", "address": "x", "socket": "s"}]},
            "must be host:port",
        ),
        ("edge/edge-0", {**metadata(EDGE), "jwks": 5}, "metadata jwks"),
    ],
)
def test_an_envoy_that_tells_nonsense_is_refused(node_id_: str, values: dict[str, Any], problem: str) -> None:
    with pytest.raises(NodeError, match=re.escape(problem)):
        parse(node_id_, struct(values))


@pytest.mark.parametrize("address", ["", "host", ":1", "host:", "host:0", "host:70000", "host:x"])
def test_an_address_is_host_and_port(address: str) -> None:
    with pytest.raises(NodeError):
        split_address(address)


def test_draining_nodes_get_no_turn_and_stay_addressable() -> None:
    by_turns, exact = assignments(
        "config", [Endpoint("a.1", "127.0.0.1:1", True, 5), Endpoint("b.1", "127.0.0.1:2", False, 5)]
    )
    assert (by_turns.cluster_name, exact.cluster_name) == ("config", "config.node")

    def state(assignment: object) -> dict[str, int]:
        return {
            e.metadata.filter_metadata["envoy.lb"]["node"]: e.health_status
            for e in assignment.endpoints[0].lb_endpoints  # type: ignore[attr-defined]
        }

    assert state(by_turns) == {"a.1": health_check_pb2.HEALTHY, "b.1": health_check_pb2.DRAINING}
    assert state(exact) == {"a.1": health_check_pb2.HEALTHY, "b.1": health_check_pb2.HEALTHY}


def test_weights_follow_capacity_and_stay_small() -> None:
    nodes = [Endpoint(f"{n}.1", f"127.0.0.1:{1 + n % 60_000}", True, n) for n in (0, 10, 500_000, 1_000_000)]
    by_turns, _ = assignments("config", nodes)
    weights = {
        e.metadata.filter_metadata["envoy.lb"]["node"]: e.load_balancing_weight.value
        for e in by_turns.endpoints[0].lb_endpoints
    }
    assert weights == {"0.1": 1, "10.1": 1, "500000.1": HEAVIEST // 2, "1000000.1": HEAVIEST}


def test_no_nodes_is_an_assignment_without_endpoints() -> None:
    assert [list(found.endpoints) for found in assignments("config", [])] == [[], []]


def test_the_exact_cluster_has_no_fallback_and_the_other_no_panic() -> None:
    by_turns, exact = clusters.towards("config", "/id")
    assert by_turns.common_lb_config.HasField("healthy_panic_threshold")
    assert by_turns.common_lb_config.healthy_panic_threshold.value == 0
    policy = exact.load_balancing_policy.policies[0].typed_extension_config
    assert policy.name == "envoy.load_balancing_policies.subset"
    assert not exact.HasField("outlier_detection")


def test_a_named_node_comes_before_turns_in_every_route() -> None:
    table = routes.egress(load(), sorted(SERVICES))
    seen: dict[tuple[str, str], str] = {}
    for route in table.virtual_hosts[0].routes:
        named = [h.name for h in route.match.headers]
        where = (
            route.match.path or route.match.prefix,
            "".join(h.string_match.exact for h in route.match.headers),
        )
        if routes.NODE_HEADER in named:
            assert where not in seen, f"{where}: the exact route comes too late"
            assert route.route.cluster.endswith(".node")
            assert not route.route.HasField("retry_policy")
        seen[where] = route.route.cluster


def test_each_contract_goes_to_the_service_that_has_it() -> None:
    table = routes.egress(load(), sorted(SERVICES))
    targets = {r.match.path: r.route.cluster for r in table.virtual_hosts[0].routes if not r.match.headers}
    assert targets["/voice.tlib.v1.CallControlService/MakeCall"] == "front_end"
    assert targets["/voice.config.v1.DeviceService/GetLogin"] == "config"
    assert "/voice.mesh.v1.NodeService/GetNode" not in targets


def test_a_rest_template_matches_its_paths_only() -> None:
    regex = template_regex("/v1/tenants/{tenant}/targets:explain")
    assert re.fullmatch(regex, "/v1/tenants/t1/targets:explain")
    assert not re.fullmatch(regex, "/v1/tenants/t1/x/targets:explain")
    assert not re.fullmatch(regex, "/v1/tenants/t1/targets:explain/more")
    stars = template_regex("/scxml/session/*/basichttp/*")
    assert re.fullmatch(stars, "/scxml/session/s.1/basichttp/k")
    assert not re.fullmatch(stars, "/scxml/session/s.1/event/k")
    assert not re.fullmatch(stars, "/scxml/session/s.1/x/basichttp/k")


def test_only_contracts_with_raw_bodies_take_unknown_query_parameters() -> None:
    found = {}
    for one in transcoders("/voicemesh.binpb", load()):
        if one.typed_config.Is(transcoder_pb2.GrpcJsonTranscoder.DESCRIPTOR):
            config = transcoder_pb2.GrpcJsonTranscoder()
            one.typed_config.Unpack(config)
            found[config.ignore_unknown_query_parameters] = set(config.services)
    assert found[True] == {"voice.orchestration.v1.SessionHttpService"}
    assert "voice.orchestration.v1.OrchestrationService" in found[False]
    assert not found[True] & found[False]


def test_the_bootstrap_names_the_node_and_the_control_plane() -> None:
    text = bootstrap.bootstrap(SIDECAR, control_plane="/s/xds", admin="127.10.1.1:9901")
    assert '"id": "config/config-0"' in text
    assert '"path": "/s/xds"' in text
