"""What a person is told when the mesh is up: addresses, and lines that work when they are pasted."""

from __future__ import annotations

import os
from pathlib import Path

from mesh.identity import tokens
from mesh.identity.files import write_private
from mesh.local.mesh import LocalMesh


def guide(mesh: LocalMesh) -> str:
    """Where everything is and how to reach it."""
    token_file = mesh.run_dir / "identity" / "token"
    token = mesh.token(
        "t1",
        tokens.CLIENT,
        tokens.OPERATOR,
        tokens.CONFIG_WRITE,
        subject="make-run",
        lifetime_s=tokens.LONGEST_S,
    )
    write_private(token_file, token)
    ca, token_path = _short(mesh.ca_file), _short(token_file)
    grpcurl = f".tools/bin/grpcurl -cacert {ca}"
    bearer = f'-H "authorization: Bearer $(cat {token_path})"'
    config = '-d \'{"tenant": "t1", "type": "OBJECT_TYPE_DN"}\''
    return "\n".join(
        [
            "",
            f"  edge       {mesh.edge} (TLS, authority {ca}): gRPC, gRPC-Web, REST/JSON",
            f"  SIP        {', '.join(mesh.sip_proxies)} (UDP)",
            f"  logs       {_short(mesh.run_dir / 'logs')}/",
            f"  token      {token_path} (tenant t1, scopes client operator config.write, a day)",
            "",
            f"  {grpcurl} {mesh.edge} list",
            f"  {grpcurl} {mesh.edge} describe voice.tlib.v1.CallControlService",
            f"  {grpcurl} {bearer} {config} {mesh.edge} voice.config.v1.ConfigService/ListObjects",
            "",
        ]
    )


def _short(path: Path) -> str:
    """Relative to where we are, when that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
