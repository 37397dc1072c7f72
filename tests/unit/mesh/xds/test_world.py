"""What each Envoy may be told: complete, stable, and nothing more than needed."""

from __future__ import annotations

from envoy.config.route.v3 import route_pb2

from mesh.envoy.authorization import SERVICES
from mesh.envoy.contracts import load
from mesh.envoy.endpoints import Endpoint
from mesh.envoy.node import Edge, Ingress, Sidecar
from mesh.xds.registry import Put, Registry
from mesh.xds.stream import CDS, EDS, LDS, RDS
from mesh.xds.world import World, versions

SIDECAR = Sidecar(
    "config", "config-0", "/id/config", "/s/egress", (Ingress("config-0", "127.10.1.1:7000", "/s/config"),)
)
EDGE = Edge("edge-0", "/id/edge", "127.10.0.5:8443", "/id/jwks.json", "/gen/voicemesh.binpb", "/s/reflection")


def registry(*endpoints: Endpoint) -> Registry:
    found = Registry.of(SERVICES)
    found.services["config"].snapshot([Put(one.incarnation, one) for one in endpoints], now=0.0)
    return found


def test_a_sidecar_has_a_way_out_a_way_in_and_two_clusters_a_service() -> None:
    resources = World(load(), SERVICES).resources(SIDECAR)
    assert set(resources[LDS]) == {"egress", "ingress.config-0"}
    assert set(resources[RDS]) == {"egress"}
    assert set(resources[CDS]) == {"local.config-0"} | SERVICES | {f"{name}.node" for name in SERVICES}


def test_the_edge_has_one_listener_and_no_way_to_an_exact_node() -> None:
    resources = World(load(), SERVICES).resources(EDGE)
    assert set(resources[LDS]) == {"edge"}
    assert set(resources[RDS]) == {"edge"}
    table = route_pb2.RouteConfiguration.FromString(resources[RDS]["edge"].packed.value)
    targets = {route.route.cluster for route in table.virtual_hosts[0].routes}
    assert "front_end" in targets
    assert not {target for target in targets if target.endswith(".node")}


def test_a_change_of_load_is_no_change_for_envoy() -> None:
    world = World(load(), SERVICES)
    endpoint = Endpoint("config-0.1", "127.10.1.1:7000", True, 10)
    assert world.update(registry(endpoint), "config")
    assert not world.update(registry(endpoint), "config")
    draining = Endpoint("config-0.1", "127.10.1.1:7000", False, 10)
    before = versions({EDS: world.endpoints})[EDS]
    assert world.update(registry(draining), "config")
    after = versions({EDS: world.endpoints})[EDS]
    assert before["config"] != after["config"]
    assert before["config.node"] == after["config.node"]


def test_equal_worlds_have_equal_versions() -> None:
    """A control plane that is started again tells Envoy nothing new."""
    first, second = World(load(), SERVICES), World(load(), SERVICES)
    assert versions(first.resources(SIDECAR)) == versions(second.resources(SIDECAR))
    assert versions(first.resources(EDGE)) == versions(second.resources(EDGE))
