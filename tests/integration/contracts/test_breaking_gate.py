"""The gate that keeps released contracts: changes to a scratch copy, judged by buf."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOLS = Path(sys.executable).parent
ENVIRONMENT = {"PATH": f"{TOOLS}:/usr/bin:/bin", "HOME": str(Path.home())}
ERRORS = "proto/voice/error/v1/detail.proto"
NODES = "proto/voice/mesh/v1/node_service.proto"


def buf(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [str(TOOLS / "buf"), *args]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A copy of the contracts and their released image."""
    subprocess.run([ROOT / "scripts" / "proto_deps.sh"], check=True, timeout=60)
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copytree(ROOT / "build" / "proto_deps", tmp_path / "build" / "proto_deps")
    image(tmp_path, "proto/release.binpb")
    return tmp_path


def image(folder: Path, name: str) -> None:
    """Builds the image as the gate and the release do."""
    subprocess.run([ROOT / "scripts" / "image.sh", name], cwd=folder, env=ENVIRONMENT, check=True, timeout=60)


def breaking(folder: Path) -> subprocess.CompletedProcess[str]:
    """What the gate runs (scripts/contracts.sh)."""
    image(folder, "now.binpb")
    return buf(folder, "breaking", "now.binpb", "--against", "proto/release.binpb", "--exclude-imports")


def edit(folder: Path, name: str, pattern: str, replacement: str) -> None:
    text = (folder / name).read_text()
    changed, count = re.subn(pattern, replacement, text, count=1, flags=re.S)
    assert count == 1, f"{pattern} is not in {name}"
    (folder / name).write_text(changed)


@pytest.mark.feature("XC-13")
def test_the_contracts_as_they_are_pass(scratch: Path) -> None:
    lint = buf(scratch, "lint")
    assert lint.returncode == 0, lint.stdout
    judged = breaking(scratch)
    assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.feature("XC-13")
@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "said"),
    [
        (ERRORS, r"string owner = 3;", "string keeper = 3;", 'changed name from "owner" to "keeper"'),
        (ERRORS, r"string owner = 3;", "string owner = 4;", 'field "3" with name "owner"'),
        (ERRORS, r"int64 actual = 2;", "string actual = 2;", 'type from "int64" to "string"'),
        (ERRORS, r"int64 actual = 2;", "repeated int64 actual = 2;", "cardinality"),
        (
            ERRORS,
            r"  // The object's present revision.\n  int64 actual = 2;\n",
            "",
            'field "2" with name "actual"',
        ),
        (NODES, r"  rpc GetNode.*?;\n", "", 'RPC "GetNode"'),
        (NODES, r"returns \(GetNodeResponse\)", "returns (stream GetNodeResponse)", "server streaming"),
        ("proto/voice/error/v1/reason.proto", r"REASON_TIMEOUT = 18", "REASON_LATE = 18", "REASON_LATE"),
    ],
)
def test_a_change_that_breaks_clients_is_refused(
    scratch: Path, file: str, pattern: str, replacement: str, said: str
) -> None:
    edit(scratch, file, pattern, replacement)
    judged = breaking(scratch)
    assert judged.returncode == 100, judged.stderr
    assert said in judged.stdout


@pytest.mark.feature("XC-13")
def test_a_new_field_is_no_break(scratch: Path) -> None:
    edit(scratch, ERRORS, r"string owner = 3;", "string owner = 3;\n  // Zone.\n  string zone = 4;")
    judged = breaking(scratch)
    assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.feature("XC-13")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda text: text.replace("  // Incarnation of the present owner; empty when unknown.\n", ""),
            "comment",
        ),
        (lambda text: text.replace("string owner = 3", "string ownerNode = 3"), "lower_snake_case"),
    ],
)
def test_a_contract_that_is_not_tidy_fails_lint(
    scratch: Path, change: Callable[[str], str], said: str
) -> None:
    path = scratch / ERRORS
    path.write_text(change(path.read_text()))
    lint = buf(scratch, "lint")
    assert lint.returncode != 0
    assert said in lint.stdout
