"""etcd of one machine: alone it is quick, members keep what they have said."""

from __future__ import annotations

from pathlib import Path

from mesh.etcd import endpoints_of
from mesh.local.etcd_group import RESTART_S, commands
from mesh.local.layout import Layout
from mesh.local.process import Command


def flags(command: Command) -> dict[str, str]:
    """Its arguments by name."""
    pairs = (argument.removeprefix("--").partition("=") for argument in command.argv[1:])
    return {name: value for name, _, value in pairs}


def test_one_etcd_is_called_so_comes_back_at_once_and_waits_for_no_disk(tmp_path: Path) -> None:
    [alone] = commands(Layout(10, Path("/run/s")), tmp_path, {"A": "b"})
    given = flags(alone)
    assert (alone.name, alone.restart_s, alone.environment) == ("etcd", 0.0, {"A": "b"})
    assert given["listen-client-urls"] == given["advertise-client-urls"] == "http://127.10.0.1:2379"
    assert given["initial-cluster"] == "etcd=http://127.10.0.1:2380"
    assert given["data-dir"] == str(tmp_path / "etcd")
    assert "unsafe-no-fsync" in given


def test_members_know_each_other_and_have_addresses_and_data_of_their_own(tmp_path: Path) -> None:
    layout = Layout(10, Path("/run/s"), etcd_size=3)
    found = commands(layout, tmp_path, {})
    assert [command.name for command in found] == ["etcd-0", "etcd-1", "etcd-2"]
    given = [flags(command) for command in found]
    assert len({of["initial-cluster"] for of in given}) == 1
    peers = dict(peer.split("=") for peer in given[0]["initial-cluster"].split(","))
    for command, of in zip(found, given, strict=True):
        assert of["name"] == command.name
        assert of["listen-peer-urls"] == of["initial-advertise-peer-urls"] == peers[command.name]
    assert [of["listen-client-urls"].removeprefix("http://") for of in given] == endpoints_of(layout.etcd)
    assert len({of["data-dir"] for of in given}) == 3
    assert all(Path(of["data-dir"]).parent == tmp_path / "etcd" for of in given), "removed with the mesh"


def test_members_write_through_and_stay_away_until_the_others_have_noticed(tmp_path: Path) -> None:
    for command in commands(Layout(10, Path("/run/s"), etcd_size=3), tmp_path, {}):
        assert "unsafe-no-fsync" not in flags(command)
        assert flags(command)["experimental-initial-corrupt-check"] == "true"
        assert command.restart_s == RESTART_S
