"""One platform for all end-to-end tests, three nodes of SIP Cluster and Orchestration among it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.platform import Platform


@pytest.fixture(scope="session")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Started once. SIPp 3.6 knows only MD5."""
    counts = {"sip_cluster": 3, "orchestration": 3, "tenant": 2}
    environment = {"VOICEMESH_SIP_PROXY_DIGEST_ALGORITHMS": "MD5"}
    async with Platform(tmp_path_factory.mktemp("mesh"), counts, environment) as made:
        yield made
