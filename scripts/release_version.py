"""The version of the release: one number in two files, which only rises; and the rule that the frozen
contracts change with it and with nothing else.

Usage: python -m scripts.release_version x.y.z      sets it
       python -m scripts.release_version            checks the two files, and the last commit that froze
       contracts
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "proto/release.binpb"
PLACES = (
    ("pyproject.toml", re.compile(r'^(version = ")(\d+\.\d+\.\d+)(")$', re.M)),
    ("mesh/settings.py", re.compile(r'^(VERSION = ")(\d+\.\d+\.\d+)(")$', re.M)),
)

Version = tuple[int, ...]


def parse(text: str) -> Version:
    """ "1.2.3" as (1, 2, 3)."""
    return tuple(int(part) for part in text.split("."))


def read(root: Path = ROOT) -> str:
    """The version all places agree on. ValueError when one has none or they differ."""
    found = {}
    for name, pattern in PLACES:
        match = pattern.search((root / name).read_text(encoding="utf-8"))
        if match is None:
            raise ValueError(f"{name} has no version")
        found[name] = match[2]
    if len(set(found.values())) != 1:
        raise ValueError(f"the version differs: {found}")
    return next(iter(found.values()))


def write(version: str, root: Path = ROOT) -> None:
    """Sets the version everywhere. ValueError when it does not rise."""
    before = read(root)
    if parse(version) <= parse(before):
        raise ValueError(f"{version} is not above the present version {before}")
    for name, pattern in PLACES:
        path = root / name
        path.write_text(
            pattern.sub(rf"\g<1>{version}\g<3>", path.read_text(encoding="utf-8")), encoding="utf-8"
        )


def frozen_without_release(root: Path = ROOT) -> str | None:
    """What is wrong with the last commit that changed the frozen contracts: it has to bump the version as
    well."""
    commit = _git(root, "log", "-1", "--format=%H", "--", IMAGE)
    if not commit:
        return None
    files = _git(root, "show", "--name-only", "--format=", commit).split()
    missing = [name for name, _ in PLACES if name not in files]
    return (
        f"{IMAGE} was changed in {commit[:12]} without a new version in {', '.join(missing)}"
        if missing
        else None
    )


def _git(root: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Sets or checks; 1 with the reason when something is wrong."""
    try:
        if arguments:
            write(arguments[0])
            return 0
        read()
        problem = frozen_without_release()
    except ValueError as error:
        problem = str(error)
    if problem:
        sys.stderr.write(f"release: {problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
