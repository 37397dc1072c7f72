"""Bounds of calls: everything in the table exists, everything that exists is bounded."""

from __future__ import annotations

from mesh.envoy.authorization import SERVICES
from mesh.envoy.contracts import load
from mesh.envoy.policy import CALLS, CLUSTERS, NEVER_LEFT, READ_AGAIN, call_policy, retry_on, timeout_s

CONTRACTS = {contract.name: contract for contract in load()}


def test_every_contract_has_a_row_and_every_row_a_contract() -> None:
    assert set(CALLS) == set(CONTRACTS)
    assert set(CLUSTERS) <= SERVICES


def test_idempotent_methods_exist_and_are_unary() -> None:
    for name, policy in CALLS.items():
        unary = {method.name for method in CONTRACTS[name].methods if method.unary}
        assert policy.idempotent <= unary, name


def test_a_method_that_acts_is_only_tried_again_when_nobody_has_seen_it() -> None:
    contract = CONTRACTS["voice.sip_cluster.v1.SipNodeService"]
    conditions = {method.name: retry_on(contract, method) for method in contract.methods}
    assert conditions == {"Execute": NEVER_LEFT, "GetCall": READ_AGAIN}


def test_streams_have_no_timeout_and_no_retry_and_unary_calls_have_a_bound() -> None:
    for contract in CONTRACTS.values():
        for method in contract.methods:
            timeout = timeout_s(contract, method)
            if method.unary:
                assert 0 < timeout == call_policy(contract).timeout_s <= 180
            else:
                assert (timeout, retry_on(contract, method)) == (0, "")


def test_an_import_takes_as_long_as_it_takes() -> None:
    """It is a stream of parts: no route bounds it, whatever its contract grants unary calls."""
    contract = CONTRACTS["voice.config.v1.ConfigService"]
    [imports] = [method for method in contract.methods if method.name == "ImportObjects"]
    assert timeout_s(contract, imports) == 0
