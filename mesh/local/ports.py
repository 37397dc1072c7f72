"""Whether what is to be listened on is free, and who has it when it is not."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mesh.local.layout import ETCD_PEER_PORT, ETCD_PORT, Layout
from mesh.local.settings import NETS


class PortTaken(RuntimeError):
    """Another program has an address we need; says which and who."""


class NetTaken(RuntimeError):
    """Another mesh has the network."""


@dataclass(frozen=True)
class Need:
    """An address to listen on."""

    address: str
    """host:port"""
    purpose: str
    udp: bool = False


def needs(layout: Layout) -> list[Need]:
    """Every address a mesh listens on."""
    found = [
        *(Need(f"{ip}:{ETCD_PORT}", f"{name} clients") for name, ip in layout.etcd_members.items()),
        *(Need(f"{ip}:{ETCD_PEER_PORT}", f"{name} peers") for name, ip in layout.etcd_members.items()),
        Need(layout.redis, "Redis"),
        Need(layout.redis_replica, "Redis replica"),
        *(Need(sentinel, "Redis Sentinel") for sentinel in layout.sentinels),
        Need(layout.xds_metrics, "metrics of the control plane"),
        Need(layout.edge, "edge"),
        Need(layout.edge_admin, "admin interface of the edge"),
    ]
    for instance in layout.instances():
        found.append(Need(instance.admin, f"admin interface of {instance.sidecar}"))
        found += [Need(node.address, f"sidecar of {node.node}") for node in instance.nodes]
        found += [Need(address, f"metrics of {instance.name}") for address in instance.metrics]
        found += [Need(address, f"SIP of {instance.name}", udp=True) for address in instance.sip]
    return found


def check(wanted: Iterable[Need]) -> None:
    """Raises PortTaken naming every address that is taken, and by whom."""
    taken = [
        f"{need.address} ({need.purpose}) is taken by {holder(need.address, udp=need.udp)}"
        for need in wanted
        if not _free(need)
    ]
    if taken:
        raise PortTaken("; ".join(taken))


def _free(need: Need) -> bool:
    host, _, port = need.address.rpartition(":")
    kind = socket.SOCK_DGRAM if need.udp else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if not need.udp:  # connections that linger in TIME_WAIT do not matter
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
            if not need.udp:
                probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise PortTaken(f"{need.address} ({need.purpose}): {error.strerror}") from error
    return True


def holder(address: str, *, udp: bool = False) -> str:
    """The program that listens on an address, as far as /proc tells us."""
    host, _, port = address.rpartition(":")
    inodes = _inodes(host, int(port), "udp" if udp else "tcp")
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and wanted & set(_open_files(process)):
            name = (process / "comm").read_text().strip()
            return f"{name} (process {process.name})"
    return "a program of another user"


def _open_files(process: Path) -> Iterator[str]:
    """What the descriptors of a process point at; nothing for another user's process or one that has ended."""
    with contextlib.suppress(OSError):
        for entry in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed since it was listed
                yield os.readlink(entry)


def _inodes(host: str, port: int, table: str) -> set[str]:
    """Sockets on that address, or on all addresses, with that port."""
    listening = "0A" if table == "tcp" else "07"
    exact = socket.inet_aton(host)[::-1].hex().upper()
    found = set()
    for name, hosts in ((table, {exact, "00000000"}), (f"{table}6", {"0" * 32})):
        file = Path("/proc/net") / name
        if not file.exists():
            continue
        for line in file.read_text().splitlines()[1:]:
            fields = line.split()
            where, _, number = fields[1].partition(":")
            if where in hosts and int(number, 16) == port and fields[3] == listening:
                found.add(fields[9])
    return found


class NetLock:
    """Holds a network for one mesh: a socket in the abstract name space, gone when its holder is gone."""

    def __init__(self, net: int, held: socket.socket) -> None:
        self.net = net
        self._held = held

    def release(self) -> None:
        """Gives the network back."""
        self._held.close()


def take_net(net: int | None) -> NetLock:
    """Takes the network, or the first that is free; the default network last, so that it stays free for who asks
    for it. Raises NetTaken."""
    candidates = [*NETS[1:], NETS[0]] if net is None else [net]
    for candidate in candidates:
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            held.bind(_name(candidate))
        except OSError as error:
            held.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        held.listen(1)
        return NetLock(candidate, held)
    if net is None:
        raise NetTaken("no network of 127.10.0.0/16 to 127.250.0.0/16 is free: too many meshes run here")
    raise NetTaken(
        f"another mesh{_owner(net)} runs on 127.{net}.0.0/16: "
        "stop it, or start this one with --net free (VOICEMESH_LOCAL_NET)"
    )


def _name(net: int) -> str:
    return f"\0voicemesh-net-{net}"


def _owner(net: int) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(0.2)
            probe.connect(_name(net))
            process = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), "little")
        except OSError:
            return ""
    return f" (process {process})"
