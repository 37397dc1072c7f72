"""One platform for all end-to-end tests: three SIP nodes, two of what the design has in twos."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.platform import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Started once; SIPp 3.6 knows only MD5."""
    made = Platform(
        tmp_path_factory.mktemp("mesh"), {"sip_cluster": 3}, {"VOICEMESH_SIP_PROXY_DIGEST_ALGORITHMS": "MD5"}
    )
    try:
        made.start()
        yield made
    finally:
        made.stop()
