"""The folder a mesh works in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from mesh.local.layout import SENTINELS, SERVICE_NUMBERS

MARKER = ".voicemesh-run"
"""File by which a folder is known to be ours to empty."""
DISPOSABLE = (
    "etcd",
    "redis",
    "redis-replica",
    *(f"redis-sentinel-{number}" for number in range(SENTINELS)),
    "identity",
    "s",
    *SERVICE_NUMBERS,
)
"""What is removed at the end: stores, keys, sockets, and what services keep in folders of their name."""
KEPT = ("logs", "envoy")
"""What stays for whoever wants to know what happened, until the next start."""
LONGEST_SOCKET_NAME = len("/orchestration-199.egress")
LONGEST_SOCKET_PATH = 107


class ForeignFolder(RuntimeError):
    """The folder holds something that is not ours."""


def prepare(folder: Path) -> Path:
    """Empties the folder and gives that of the Unix sockets: inside when the path is short enough. Raises
    ForeignFolder."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARKER).exists() and any(folder.iterdir()):
        raise ForeignFolder(f"{folder} is not empty and no run folder of ours: name another with --run-dir")
    (folder / MARKER).touch()
    for name in (*DISPOSABLE, *KEPT):
        shutil.rmtree(folder / name, ignore_errors=True)
    sockets = folder / "s"
    if len(str(sockets)) + LONGEST_SOCKET_NAME > LONGEST_SOCKET_PATH:
        return Path(tempfile.mkdtemp(prefix="voicemesh-"))
    sockets.mkdir(mode=0o700)
    return sockets


def clear(folder: Path, sockets: Path) -> None:
    """Removes all but logs and configuration."""
    shutil.rmtree(sockets, ignore_errors=True)
    for name in DISPOSABLE:
        shutil.rmtree(folder / name, ignore_errors=True)
