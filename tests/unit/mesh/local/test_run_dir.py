"""The folder a mesh works in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mesh.local import run_dir


def test_a_folder_of_ours_is_emptied_and_a_foreign_one_is_not_touched(tmp_path: Path) -> None:
    ours, foreign = tmp_path / "run", tmp_path / "foreign"
    run_dir.prepare(ours)
    (ours / "logs").mkdir()
    (ours / "logs" / "config-0.log").write_text("old")
    run_dir.prepare(ours)
    assert not (ours / "logs").exists()

    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(run_dir.ForeignFolder, match="--run-dir"):
        run_dir.prepare(foreign)
    assert (foreign / "thesis.txt").read_text() == "mine"


def test_sockets_go_elsewhere_when_the_path_would_be_too_long(tmp_path: Path) -> None:
    assert run_dir.prepare(tmp_path / "r").parent == tmp_path / "r"
    sockets = run_dir.prepare(tmp_path / ("x" * 100))
    try:
        assert len(str(sockets)) + run_dir.LONGEST_SOCKET_NAME <= run_dir.LONGEST_SOCKET_PATH
        assert sockets.is_dir()
    finally:
        shutil.rmtree(sockets)


def test_at_the_end_logs_and_configuration_stay(tmp_path: Path) -> None:
    sockets = run_dir.prepare(tmp_path)
    for name in ("logs", "envoy", "etcd", "redis", "identity", "config"):
        (tmp_path / name).mkdir()
    run_dir.clear(tmp_path, sockets)
    assert {path.name for path in tmp_path.iterdir()} == {run_dir.MARKER, "logs", "envoy"}
