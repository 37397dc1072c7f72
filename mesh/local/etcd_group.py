"""etcd of one machine: one process, or the members of a cluster that any one of them may leave for a while.

A member keeps its data over its restarts: what it has voted for and acknowledged to the others, it may never deny. So members
write through to the disk, where a single etcd, whose data ends with the mesh, does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mesh.local import binaries
from mesh.local.layout import ETCD_PEER_PORT, ETCD_PORT, Layout
from mesh.local.priority import STORES
from mesh.local.process import Command

RESTART_S = 3.0
"""A member that ended stays away for so long: twice the longest election, whose followers wait 1 to 2 s. Were the leader back
before the others missed it, none of them would take its place here, and what happens in production could not be seen."""


def commands(layout: Layout, run_dir: Path, environment: Mapping[str, str]) -> list[Command]:
    """What is run, one command a member."""
    cluster = ",".join(f"{name}={_peer(ip)}" for name, ip in layout.etcd_members.items())
    alone = len(layout.etcd_members) == 1
    found = []
    for name, ip in layout.etcd_members.items():
        data = run_dir / "etcd" if alone else run_dir / "etcd" / name
        argv = [binaries.etcd(), f"--name={name}", f"--data-dir={data}", *_addresses(ip, cluster)]
        if alone:
            argv.append("--unsafe-no-fsync")
        else:
            # What a member has is compared with what the others have before it serves again.
            argv.append("--experimental-initial-corrupt-check=true")
        argv += [
            "--log-level=warn",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=1h",
            "--snapshot-count=100000",
        ]
        away_s = 0.0 if alone else RESTART_S
        found.append(Command(name, argv, environment, restart_s=away_s, niceness=STORES))
    return found


def _peer(ip: str) -> str:
    return f"http://{ip}:{ETCD_PEER_PORT}"


def _addresses(ip: str, cluster: str) -> list[str]:
    clients = f"http://{ip}:{ETCD_PORT}"
    return [
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={_peer(ip)}",
        f"--initial-advertise-peer-urls={_peer(ip)}",
        f"--initial-cluster={cluster}",
    ]
