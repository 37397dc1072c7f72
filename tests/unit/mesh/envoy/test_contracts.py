"""The contracts as read from the descriptor set."""

from __future__ import annotations

from mesh.envoy.authorization import SERVICES
from mesh.envoy.contracts import load

CONTRACTS = {contract.name: contract for contract in load()}


def test_every_contract_has_a_server_that_exists() -> None:
    assert {contract.server for contract in CONTRACTS.values()} <= SERVICES | {""}
    assert CONTRACTS["voice.mesh.v1.NodeService"].server == ""
    assert CONTRACTS["voice.tlib.v1.EventService"].server == "front_end"
    assert CONTRACTS["voice.config.v1.DeviceService"].server == "config"


def test_methods_know_their_shape_and_their_rest_paths() -> None:
    methods = {method.name: method for method in CONTRACTS["voice.config.v1.ConfigService"].methods}
    assert methods["ImportObjects"].client_streaming
    assert methods["Watch"].server_streaming
    assert methods["GetObject"].unary
    assert "/v1/tenants/{tenant}/objects" in methods["CreateObject"].http
    assert methods["GetObject"].path == "/voice.config.v1.ConfigService/GetObject"
