"""A Dial Plan node beside the shared Config node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from voice.dial_plan.v1.dial_plan_service_pb2_grpc import DialPlanServiceStub

from tests.integration.config.conftest import (
    Client,
    client,
    config_node,
    config_region,
    connect,
    start_config,
    tenant,
)
from tests.integration.nodes import NodeProcess

if TYPE_CHECKING:
    from voice.dial_plan.v1.dial_plan_service_pb2_grpc import DialPlanServiceAsyncStub

__all__ = ["Client", "client", "config_node", "config_region", "connect", "start_config", "tenant"]


@pytest.fixture(scope="package")
def start_dial_plan() -> Iterator[Callable[..., NodeProcess]]:
    """Starts Dial Plan nodes that follow a Config node."""
    nodes: list[NodeProcess] = []

    def start(config: NodeProcess, **variables: str) -> NodeProcess:
        node = NodeProcess("dial_plan", len(nodes), EGRESS=config.target, **variables)
        nodes.append(node)
        return node.start()

    try:
        yield start
    finally:
        for node in nodes:
            node.kill()


@pytest.fixture(scope="package")
def dial_plan_node(config_node: NodeProcess, start_dial_plan: Callable[..., NodeProcess]) -> NodeProcess:
    """A Dial Plan node for all tests that need no other; do not pause or stop it."""
    return start_dial_plan(config_node)


@pytest.fixture
async def dial_plan(dial_plan_node: NodeProcess) -> AsyncIterator[DialPlanServiceAsyncStub]:
    """A client of the shared node."""
    async with grpc.aio.insecure_channel(dial_plan_node.target) as channel:
        yield DialPlanServiceStub(channel)
