"""VOICEMESH_REDIS: an address, or Sentinels."""

from __future__ import annotations

import pytest

from mesh.redis_url import SentinelUrl, parse_sentinels, problem
from mesh.settings import MeshSettings, SettingsError


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (
            "redis+sentinel://10.0.0.1:26379,sentinel-1.redis:26379/voicemesh",
            SentinelUrl((("10.0.0.1", 26379), ("sentinel-1.redis", 26379)), "voicemesh"),
        ),
        (
            "rediss+sentinel://voice:p%40ss@s:1/main/3?sentinel_password=other",
            SentinelUrl((("s", 1),), "main", 3, "voice", "p@ss", "other", tls=True),
        ),
    ],
)
def test_sentinels_are_read(url: str, wanted: SentinelUrl) -> None:
    assert parse_sentinels(url) == wanted
    assert problem(url) == ""


@pytest.mark.parametrize("url", ["", "redis://h:6379/0", "rediss://h/1", "unix:///run/redis.sock"])
def test_one_address_is_left_to_the_library(url: str) -> None:
    assert problem(url) == ""


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("127.0.0.1:6379", "must be redis://"),
        ("redis+sentinel://a:1,b/name", "host:port"),
        ("redis+sentinel://a:70000/name", "host:port"),
        ("redis+sentinel:///name", "host:port"),
        ("redis+sentinel://a:1", "name of the primary"),
        ("redis+sentinel://a:1/name/16", "database must be 0 to 15"),
        ("redis+sentinel://a:1/name?password=x", "unknown option password"),
        ("redis+sentinel://" + ",".join(["a:1"] * 16) + "/name", "at most 15"),
    ],
)
def test_a_wrong_url_is_named_with_its_rule(url: str, rule: str) -> None:
    assert rule in problem(url)
    with pytest.raises(SettingsError, match="VOICEMESH_REDIS: "):
        MeshSettings.from_env("tenant", {"VOICEMESH_REDIS": url})
