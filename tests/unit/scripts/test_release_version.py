"""One version, which rises; frozen contracts change with it and with nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.release_version import IMAGE, frozen_without_release, read, write


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "proto").mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "0.9.0"\nother = "version = 1"\n'
    )
    (tmp_path / "mesh" / "settings.py").write_text('"""x"""\nVERSION = "0.9.0"\n"""Doc."""\n')
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *args: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *args], cwd=folder, check=True, capture_output=True, timeout=30)


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")


def test_this_repository_has_one_version() -> None:
    assert read().count(".") == 2


def test_a_version_is_written_everywhere_and_rises(repository: Path) -> None:
    write("0.10.0", repository)
    assert read(repository) == "0.10.0"
    assert 'other = "version = 1"' in (repository / "pyproject.toml").read_text()
    for lower in ("0.10.0", "0.9.9"):
        with pytest.raises(ValueError, match="not above"):
            write(lower, repository)


def test_places_that_differ_are_told(repository: Path) -> None:
    (repository / "mesh" / "settings.py").write_text('VERSION = "1.0.0"\n')
    with pytest.raises(ValueError, match="differs"):
        read(repository)
    (repository / "mesh" / "settings.py").write_text("")
    with pytest.raises(ValueError, match=r"mesh/settings.py has no version"):
        read(repository)


def test_contracts_are_frozen_by_a_release_only(repository: Path) -> None:
    assert frozen_without_release(repository) is None
    (repository / IMAGE).write_bytes(b"image")
    commit(repository)
    problem = frozen_without_release(repository)
    assert problem is not None
    assert "without a new version in pyproject.toml, mesh/settings.py" in problem
    write("0.10.0", repository)
    (repository / IMAGE).write_bytes(b"image 2")
    commit(repository)
    assert frozen_without_release(repository) is None
