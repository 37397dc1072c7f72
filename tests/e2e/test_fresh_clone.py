"""The first command of the README on a fresh clone: everything is set up, a routed call is completed, nothing is left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.feature("XC-20")
def test_make_run_on_a_fresh_clone_completes_a_routed_call(tmp_path: Path) -> None:
    clone = tmp_path / "voicemesh"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("VIRTUAL_ENV", "VOICEMESH_"))}
    environment |= {"ONCE": "1", "VOICEMESH_LOCAL_NET": "free"}
    run = subprocess.run(
        ["make", "run"], cwd=clone, env=environment, capture_output=True, text=True, timeout=1100, check=False
    )
    text = run.stdout
    assert run.returncode == 0, text[-4000:] + run.stderr[-4000:]
    assert "ladder of call" in text
    assert "the call was routed to the agent, answered, and released" in text
    for step in ("INVITE", "180 Ringing", "BYE"):
        assert step in text
    left = subprocess.run(["pgrep", "-f", str(clone)], capture_output=True, text=True, check=False).stdout
    assert left == ""
