"""Registrar nodes beside the shared Config node, with real etcd (ownership) and Redis (reports)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.integration.config.conftest import (
    Client,
    client,
    config_node,
    config_region,
    connect,
    start_config,
    tenant,
)
from tests.integration.dial_plan.conftest import dial_plan_node, start_dial_plan
from tests.integration.nodes import NodeProcess
from tests.integration.servers import EtcdServer, RedisServer

__all__ = [
    "Client",
    "client",
    "config_node",
    "config_region",
    "connect",
    "dial_plan_node",
    "start_config",
    "start_dial_plan",
    "tenant",
]


@pytest.fixture
def start_registrar(
    config_node: NodeProcess, etcd_server: EtcdServer, redis_server: RedisServer
) -> Iterator[Callable[..., NodeProcess]]:
    """Starts Registrar nodes of one region of the test's own (its slots and reports are nobody else's)."""
    region = f"reg-{secrets.token_hex(4)}"
    nodes: list[NodeProcess] = []

    def start(**variables: str) -> NodeProcess:
        settings = {
            "ETCD": etcd_server.endpoint,
            "REDIS": redis_server.url,
            "REGION": region,
            "EGRESS": config_node.target,
            "REGISTRAR_MIN_EXPIRES_S": "1",
            "REGISTRAR_JITTER_PERCENT": "0",
            **variables,
        }
        node = NodeProcess("registrar", len(nodes), **settings)
        nodes.append(node)
        return node.start()

    yield start
    for node in nodes:
        node.kill()
