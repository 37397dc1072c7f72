"""One platform for all end-to-end tests, three nodes of SIP Cluster and Orchestration among it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from demo.phone import Phone
from tests.e2e.platform import Platform, password


@pytest.fixture(scope="session")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Started once. SIPp 3.6 knows only MD5."""
    counts = {"sip_cluster": 3, "orchestration": 3, "tenant": 2}
    environment = {"VOICEMESH_SIP_PROXY_DIGEST_ALGORITHMS": "MD5"}
    async with Platform(tmp_path_factory.mktemp("mesh"), counts, environment) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def phones(platform: Platform) -> AsyncIterator[tuple[Phone, Phone]]:
    """Extensions 1901 and 1902 of t1."""
    made = platform.phone("1901", host=61), platform.phone("1902", host=62)
    for phone in made:
        await platform.register(phone)
    yield made
    for phone in made:
        await phone.register(password(phone.name, "t1"), expires=0)
        phone.close()
