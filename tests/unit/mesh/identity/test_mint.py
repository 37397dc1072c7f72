"""The command that mints a token."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mesh.identity import tokens
from mesh.identity.__main__ import main


def test_it_prints_a_token_that_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tokens.load_or_create_key(tmp_path)
    arguments = ["--keys", str(tmp_path), "--tenant", "t1", "--scope", "operator", "--subject", "anna"]
    assert main(arguments) == 0
    claims = tokens.verify(capsys.readouterr().out.strip(), tokens.jwks(key), now=time.time())
    assert (claims.subject, claims.tenant, claims.scopes) == ("anna", "t1", frozenset({"operator"}))


def test_it_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--keys", str(tmp_path), "--tenant", "t1"]) == 1
    assert "no tokens.key" in capsys.readouterr().err
    tokens.load_or_create_key(tmp_path)
    assert main(["--keys", str(tmp_path), "--tenant", "T 1"]) == 1
    assert "tenant: must match" in capsys.readouterr().err
