"""Settings of a local mesh, from arguments and environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.local.layout import DEFAULT_COUNTS
from mesh.local.settings import LocalSettings, SettingsError, from_command_line


def test_defaults_are_the_whole_platform() -> None:
    command = from_command_line([], {})
    assert command.settings.all_counts() == dict(DEFAULT_COUNTS)
    assert (command.settings.net, command.once, command.demo) == (10, False, True)
    assert command.settings.etcd_members == 1


def test_arguments_win_over_the_environment() -> None:
    environment = {
        "VOICEMESH_LOCAL_SIP_CLUSTER": "3",
        "VOICEMESH_LOCAL_TENANT": "2",
        "VOICEMESH_LOCAL_NET": "20",
        "VOICEMESH_LOCAL_ETCD_MEMBERS": "3",
        "ONCE": "1",
    }
    command = from_command_line(
        ["--count", "sip-cluster=4", "--without", "front-end", "--net", "free"], environment
    )
    counts = command.settings.all_counts()
    assert (counts["sip_cluster"], counts["tenant"]) == (4, 2)
    assert "front_end" not in counts
    assert command.settings.net is None
    assert command.settings.etcd_members == 3
    assert from_command_line(["--etcd-members", "5"], environment).settings.etcd_members == 5
    assert command.once


@pytest.mark.parametrize(("value", "once"), [("", False), ("0", False), ("1", True)])
def test_once_is_a_flag(value: str, once: bool) -> None:
    assert from_command_line([], {"ONCE": value}).once is once


@pytest.mark.parametrize(
    ("arguments", "environment", "problem"),
    [
        (["--count", "tenant"], {}, "write SERVICE=NUMBER"),
        (["--count", "tenants=1"], {}, "no service is called 'tenants'"),
        (["--net", "5"], {}, "net: 5 is not in 10-250"),
        (["--net", "x"], {}, "a number or 'free'"),
        ([], {"VOICEMESH_LOCAL_TENANT": "two"}, "VOICEMESH_LOCAL_TENANT=two: not a number"),
        ([], {"VOICEMESH_LOCAL_ENGINES": "two"}, "VOICEMESH_LOCAL_ENGINES=two.*not a number"),
        (["--engines", "11"], {}, "engines: 11 is not in 1-10"),
        (["--etcd-members", "2"], {}, "etcd_members: 2 is not one of 1, 3, 5"),
        ([], {"VOICEMESH_LOCAL_ETCD_MEMBERS": "x"}, "VOICEMESH_LOCAL_ETCD_MEMBERS=x.*not a number"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], environment: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        from_command_line(arguments, environment)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        LocalSettings(
            counts={"nobody": 1, "tenant": 999}, engines=0, net=1, start_timeout=0, run_dir=Path("x")
        )
    assert len(caught.value.problems) == 5
