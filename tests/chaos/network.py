"""Cutting one process off: packets of its group id, and packets to its address, are dropped.

Everything of a local mesh is on the loopback interface, so an address tells whom a packet is for but not whom it is
from; the group id of the socket's owner does (iptables, match owner). A process that may be cut off is started under a
group id of its own, its sidecar under the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence

FIRST_GROUP = 20_000
"""Group ids from here on are nobody's; a mesh's are by its network, so that meshes do not meet."""


def group_id(net: int, number: int) -> int:
    """Group id of the number-th process of a mesh that may be cut off; number below 64."""
    return FIRST_GROUP + net * 64 + number


def in_group(argv: Sequence[str], group: int) -> list[str]:
    """The command under that group id. The kernel forgets the signal of a parent's death when it changes, so it is asked
    for again."""
    setpriv = shutil.which("setpriv") or "setpriv"
    return [setpriv, "--regid", str(group), "--clear-groups", "--pdeathsig", "KILL", "--", *argv]


def why_not() -> str:
    """Why this machine cannot cut processes off; empty when it can."""
    if os.geteuid() != 0:
        return "packet filters need root"
    if shutil.which("iptables") is None or shutil.which("setpriv") is None:
        return "iptables or setpriv is not installed"
    try:
        _iptables("-C", *next(_rules(0, group_id(0, 0), [])))
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace")
        # -C of a rule that is not there fails with 1 and says so; anything else is a missing table or match
        return "" if error.returncode == 1 and "Bad rule" in said else said.strip()
    return ""


def cut(net: int, group: int, addresses: Sequence[str]) -> None:
    """Drops what the group sends inside of the mesh, and what is sent to the addresses."""
    for rule in _rules(net, group, addresses):
        _iptables("-I", *rule)


def join(net: int, group: int, addresses: Sequence[str]) -> None:
    """Undoes `cut`; rules that are gone are no error."""
    for rule in _rules(net, group, addresses):
        try:
            _iptables("-D", *rule)
        except subprocess.CalledProcessError as error:
            if error.returncode != 1:
                raise


def _rules(net: int, group: int, addresses: Sequence[str]) -> Iterator[list[str]]:
    yield ["OUTPUT", "-d", f"127.{net}.0.0/16", "-m", "owner", "--gid-owner", str(group), "-j", "DROP"]
    for address in addresses:
        yield ["INPUT", "-d", address, "-j", "DROP"]


def _iptables(action: str, chain: str, *rule: str) -> None:
    subprocess.run(["iptables", "-w", "5", action, chain, *rule], check=True, capture_output=True)
