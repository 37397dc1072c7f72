"""One platform for all end-to-end tests, three nodes of SIP Cluster and Orchestration among it. One event loop for all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.platform import Platform

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """grpc.aio allows one event loop in a process: the platform's is the tests'."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Started once. SIPp 3.6 knows only MD5."""
    counts = {"sip_cluster": 3, "orchestration": 3, "tenant": 2}
    environment = {"VOICEMESH_SIP_PROXY_DIGEST_ALGORITHMS": "MD5"}
    async with Platform(tmp_path_factory.mktemp("mesh"), counts, environment) as made:
        yield made
