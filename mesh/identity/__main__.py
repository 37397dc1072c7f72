"""`python -m mesh.identity`: mints a token for the edge of a local mesh, for people and scripts.

python -m mesh.identity --tenant t1 --scope client --scope config.write
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mesh.identity import tokens


def main(argv: Sequence[str]) -> int:
    """Prints a token. Exit codes: 0 printed, 1 refused or no key."""
    parser = argparse.ArgumentParser(prog="python -m mesh.identity", description="mints a token for the edge")
    parser.add_argument(
        "--keys", type=Path, default=Path("run/identity/tokens"), help="folder with tokens.key"
    )
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--subject", default="demo", help="who the token is for")
    parser.add_argument("--scope", action="append", help=f"one or more of {', '.join(sorted(tokens.SCOPES))}")
    parser.add_argument("--lifetime", type=int, default=3600, help="seconds")
    arguments = parser.parse_args(list(argv))
    if not (arguments.keys / "tokens.key").exists():
        sys.stderr.write(
            f"no tokens.key in {arguments.keys}: is the mesh running, and is --keys its folder?\n"
        )
        return 1
    try:
        token = tokens.issue(
            tokens.load_or_create_key(arguments.keys),
            subject=arguments.subject,
            tenant=arguments.tenant,
            scopes=arguments.scope or [tokens.CLIENT],
            now=time.time(),
            lifetime_s=arguments.lifetime,
        )
    except tokens.TokenError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{token}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
