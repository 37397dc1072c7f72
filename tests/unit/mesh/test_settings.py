"""Settings from an environment: defaults, parsing, every problem at once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mesh.settings import MeshSettings, SettingsError, load


def test_defaults_make_a_process_that_can_run_alone() -> None:
    settings = MeshSettings.from_env("config", {})
    assert settings.node == "config-0"
    assert settings.region == "local"
    assert settings.etcd_prefix == "/voicemesh/local"
    assert settings.etcd_config == settings.etcd == ""
    assert settings.require_peer


def test_everything_is_read() -> None:
    env = {
        "VOICEMESH_SERVICE": "ignored: the code says what it is",
        "VOICEMESH_REGION": "eu",
        "VOICEMESH_NODE": "sip_cluster-3",
        "VOICEMESH_BIND_IP": "127.1.0.4",
        "VOICEMESH_ADDRESS": "127.1.0.4:7000",
        "VOICEMESH_LISTEN": "unix:/run/x.sock",
        "VOICEMESH_EGRESS": "unix:/run/e.sock",
        "VOICEMESH_ETCD": "127.0.0.1:2379",
        "VOICEMESH_REDIS": "redis://127.0.0.1:6379",
        "VOICEMESH_METRICS_PORT": "9100",
        "VOICEMESH_LOG_LEVEL": "debug",
        "VOICEMESH_CAPACITY": "2000",
        "VOICEMESH_ZONE": "z2",
        "VOICEMESH_RUN_DIR": "run/sip_cluster-3",
        "VOICEMESH_DRAIN_SECONDS": "2.5",
        "VOICEMESH_LADDER": "1",
    }
    settings = MeshSettings.from_env("sip_cluster", env)
    assert settings.service == "sip_cluster"
    assert settings.listen == "/run/x.sock"
    assert settings.etcd_config == "127.0.0.1:2379"
    assert (settings.metrics_port, settings.capacity, settings.drain_seconds) == (9100, 2000, 2.5)
    assert settings.ladder


def test_the_service_may_come_from_the_environment() -> None:
    assert MeshSettings.from_env(env={"VOICEMESH_SERVICE": "tenant"}).node == "tenant-0"
    with pytest.raises(SettingsError) as caught:
        MeshSettings.from_env(env={})
    assert "VOICEMESH_SERVICE: missing" in caught.value.problems


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("NODE", "Sip 1", "VOICEMESH_NODE: must be <service>-<index>"),
        ("REGION", "EU", "VOICEMESH_REGION: must match [a-z][a-z0-9-]{0,30}"),
        ("METRICS_PORT", "70000", "VOICEMESH_METRICS_PORT: must be 0 to 65535"),
        ("METRICS_PORT", "x", "VOICEMESH_METRICS_PORT: must be a whole number"),
        ("LOG_LEVEL", "loud", "VOICEMESH_LOG_LEVEL: must be one of debug, info, warning, error"),
        ("CAPACITY", "-1", "VOICEMESH_CAPACITY: must be 0 to 1000000"),
        ("DRAIN_SECONDS", "601", "VOICEMESH_DRAIN_SECONDS: must be 0 to 600"),
        ("DRAIN_SECONDS", "nan", "VOICEMESH_DRAIN_SECONDS: must be 0 to 600"),
        ("DRAIN_SECONDS", "soon", "VOICEMESH_DRAIN_SECONDS: must be a number"),
        ("LADDER", "maybe", "VOICEMESH_LADDER: must be 1, 0, true or false"),
        ("LISTEN", "/" + "x" * 107, "VOICEMESH_LISTEN: a socket path has at most 107 bytes"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(name: str, value: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        MeshSettings.from_env("config", {f"VOICEMESH_{name}": value})
    assert caught.value.problems == [problem]


def test_all_problems_are_told_at_once() -> None:
    env = {"VOICEMESH_NODE": "?", "VOICEMESH_CAPACITY": "-1", "VOICEMESH_LOG_LEVEL": ""}
    with pytest.raises(SettingsError) as caught:
        MeshSettings.from_env("config", env)
    assert len(caught.value.problems) == 3


def test_each_start_is_another_incarnation() -> None:
    settings = MeshSettings.from_env("config", {})
    first, second = settings.new_incarnation(), settings.new_incarnation()
    assert first != second
    assert first.startswith("config-0.")
    assert len(first) == len("config-0.") + 8


@dataclass(frozen=True)
class Own:
    """Settings of some service."""

    trunk: str
    workers: int = 2
    window_seconds: float = 0.2
    recording: bool = False
    codecs: tuple[str, ...] = ("PCMU",)

    def validate(self) -> list[str]:
        return [] if self.workers > 0 else ["VOICEMESH_SIP_CLUSTER_WORKERS: must be at least 1"]


def test_a_service_reads_its_own_settings() -> None:
    env = {
        "VOICEMESH_SIP_CLUSTER_TRUNK": "main",
        "VOICEMESH_SIP_CLUSTER_CODECS": "PCMA, PCMU,",
        "VOICEMESH_SIP_CLUSTER_RECORDING": "true",
        "VOICEMESH_SIP_CLUSTER_WINDOW_SECONDS": "0",
    }
    assert load(Own, "sip_cluster", env) == Own("main", 2, 0.0, True, ("PCMA", "PCMU"))


def test_a_service_s_problems_are_told() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Own, "sip_cluster", {"VOICEMESH_SIP_CLUSTER_WORKERS": "x"})
    assert caught.value.problems == [
        "VOICEMESH_SIP_CLUSTER_TRUNK: missing",
        "VOICEMESH_SIP_CLUSTER_WORKERS: must be a whole number",
    ]
    with pytest.raises(SettingsError, match="at least 1"):
        load(Own, "sip_cluster", {"VOICEMESH_SIP_CLUSTER_TRUNK": "m", "VOICEMESH_SIP_CLUSTER_WORKERS": "0"})
