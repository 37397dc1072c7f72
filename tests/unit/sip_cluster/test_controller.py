"""Settings of pod, node and controller; when engines are started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.settings import SettingsError
from services.sip_cluster.controller import for_engine, plan
from services.sip_cluster.restart import FIRST_S, LONGEST_S, SILENT_S, STEADY_S, Restart, Watchfulness
from services.sip_cluster.settings import SipAddress, SipSettings, read

ENV = {
    "VOICEMESH_NODE": "sip_cluster-0{engine}",
    "VOICEMESH_LISTEN": "/tmp/sip-{engine}.sock",
    "VOICEMESH_ADDRESS": "127.0.0.1:700{engine}",
    "VOICEMESH_SIP_ADDRESS": "127.0.0.1:506{engine}",
    "VOICEMESH_METRICS_PORT": "910{engine}",
    "VOICEMESH_BIND_IP": "127.0.0.1",
}


def test_engines_get_their_own_names_and_ports() -> None:
    made = plan({**ENV, "VOICEMESH_ENGINES": "3"})
    assert [engine["VOICEMESH_NODE"] for engine in made.engines] == [f"sip_cluster-0{n}" for n in range(3)]
    assert for_engine(ENV, 2)["VOICEMESH_SIP_ADDRESS"] == "127.0.0.1:5062"
    assert for_engine(ENV, 2)["VOICEMESH_BIND_IP"] == "127.0.0.1"


def test_engines_that_would_share_a_socket_are_refused() -> None:
    with pytest.raises(SettingsError) as error:
        plan(
            {
                **ENV,
                "VOICEMESH_ENGINES": "2",
                "VOICEMESH_LISTEN": "/tmp/one.sock",
                "VOICEMESH_NODE": "sip_cluster-0",
            }
        )
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "VOICEMESH_NODE",
        "VOICEMESH_LISTEN",
    ]


@pytest.mark.parametrize("count", ["0", "65", "two"])
def test_number_of_engines(count: str) -> None:
    with pytest.raises(SettingsError, match="VOICEMESH_ENGINES"):
        plan({**ENV, "VOICEMESH_ENGINES": count})


def test_pauses_double_and_begin_again_after_a_steady_run() -> None:
    restart = Restart()
    assert [restart.after(1) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_S, LONGEST_S]
    assert restart.after(STEADY_S) == FIRST_S


def test_silence_ends_an_engine_at_last() -> None:
    watch = Watchfulness(100.0)
    watch.answered(101.0, True)
    assert watch.ready
    assert not watch.silent(101.0 + SILENT_S - 0.1)
    assert not watch.ready
    assert watch.silent(101.0 + SILENT_S)


def test_configuration_file_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("max_ring_s = 90\ndirect = true\n")
    made = read({"VOICEMESH_SIP_CLUSTER_FILE": str(file), "VOICEMESH_SIP_CLUSTER_MAX_RING_S": "45"})
    assert (made.settings.max_ring_s, made.settings.direct) == (45, True)
    again = read({"VOICEMESH_SIP_CLUSTER_FILE": str(file)})
    assert again.sha256 == made.sha256 and again.settings.max_ring_s == 90


@pytest.mark.parametrize("text", ["max_ringing = 5", "max_ring_s = 1", "= 3"])
def test_wrong_configuration_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(SettingsError):
        read({"VOICEMESH_SIP_CLUSTER_FILE": str(file)})


def test_committed_configuration_is_the_default_one() -> None:
    assert read({}).settings == SipSettings()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("10.0.0.1:5070", "10.0.0.1", 5070), ("[::1]:5060", "::1", 5060), ("", "127.0.0.9", 5060)],
)
def test_sip_address(text: str, host: str, port: int) -> None:
    env = {"VOICEMESH_SIP_ADDRESS": text} if text else {}
    assert SipAddress.of(env, "127.0.0.9") == SipAddress(host, port)


def test_sip_address_without_port_is_refused() -> None:
    with pytest.raises(SettingsError):
        SipAddress.of({"VOICEMESH_SIP_ADDRESS": "10.0.0.1"}, "127.0.0.1")
