"""One mesh for all tests of the HTTP interface: two orchestration nodes behind a real edge."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mesh.local import LocalMesh, LocalSettings
from mesh.local.layout import DEFAULT_COUNTS
from tests.integration.orchestration_http.platform import Region
from tests.integration.orchestration_http.web import Web


@pytest.fixture(scope="package")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Region]:
    """Started once."""
    counts = {**dict.fromkeys(DEFAULT_COUNTS, 0), "config": 1, "redis_queue": 1, "orchestration": 2}
    settings = LocalSettings(counts=counts, run_dir=tmp_path_factory.mktemp("mesh"), net=None)
    web = Web()
    try:
        async with LocalMesh(settings) as mesh:
            made = Region(mesh, web)
            yield made
            await made.client.http.aclose()
    finally:
        web.close()
