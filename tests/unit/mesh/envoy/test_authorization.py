"""The table of who may call what, against the contracts themselves: every RPC's comment ends with it."""

from __future__ import annotations

import re

import pytest

from mesh.envoy.authorization import (
    ANYBODY,
    CLIENTS,
    CONFIG_WRITERS,
    EDGE,
    EXTERNAL,
    OPERATORS,
    SERVICES,
    TABLE,
    WATCHMAN,
    callers,
    identities,
)
from mesh.envoy.contracts import Method, load

METHODS = [method for contract in load() for method in contract.methods]
PHRASES = {
    "every service": SERVICES,
    "anybody through the edge": {ANYBODY},
    "clients of the tenant": {CLIENTS},
    "clients of the tenant through the edge": {CLIENTS},
    "clients of the tenant with scope config.write": {CONFIG_WRITERS},
    "operators": {OPERATORS},
    "operators through the edge": {OPERATORS},
    **{service: {service} for service in SERVICES},
}


def said(method: Method) -> frozenset[str]:
    """Callers that the comment names."""
    comment = " ".join(method.comment.split())
    found = re.search(r"May be called by: (.*?)\.$", comment)
    assert found, f"{method.path}: the comment must end with 'May be called by: …'"
    phrases = re.sub(r" \([^)]*\)", "", found[1]).split(", ")
    unknown = [phrase for phrase in phrases if phrase not in PHRASES]
    assert not unknown, f"{method.path}: who is {unknown}?"
    return frozenset().union(*(PHRASES[phrase] for phrase in phrases))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_the_table_says_what_the_comment_says(method: Method) -> None:
    assert callers(method.contract, method.name) == said(method)


def test_the_table_names_nothing_that_does_not_exist() -> None:
    assert {(name, method) for name, methods in TABLE.items() for method in methods} == {
        (method.contract, method.name) for method in METHODS
    }


def test_what_is_not_in_the_table_nobody_may() -> None:
    assert callers("voice.config.v1.ConfigService", "Unknown") == frozenset()
    assert callers("voice.unknown.v1.Unknown", "GetObject") == frozenset()


def test_outside_callers_come_by_the_edge_and_the_watchman_stands_for_operators() -> None:
    assert identities(frozenset({CLIENTS, "tenant"})) == {EDGE, "tenant"}
    assert identities(frozenset({OPERATORS})) == {EDGE, WATCHMAN}
    assert identities(frozenset({"registrar"})) == {"registrar"}
    assert identities(frozenset()) == frozenset()
    assert not EXTERNAL & SERVICES
