"""Which trunks a SIP request may have come over, by the address it was received from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from mesh.config_objects import Dn

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def split_address(address: str) -> tuple[str, str]:
    """(host, port) of "host", "host:port", "[v6]:port" or a bare v6 address; port "" when there is none."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host.lower(), rest.removeprefix(":")
    if address.count(":") > 1:
        return address.lower(), ""
    host, _, port = address.partition(":")
    return host.lower(), port


class TrunkSources:
    """Trunks of all tenants by source. The most specific match wins: host:port, then host, then the longest
    network; several trunks may share a source (two tenants behind one SBC) and are all given."""

    def __init__(self, trunks: Iterable[Dn]) -> None:
        """Only enabled trunks are of use. A source that is a DNS name matches nothing but itself."""
        self._exact: dict[tuple[str, str], list[Dn]] = {}
        self._hosts: dict[str, list[Dn]] = {}
        self._networks: list[tuple[Network, Dn]] = []
        for dn in trunks:
            if dn.trunk is not None and dn.enabled:
                for source in dn.trunk.sources:
                    self._add(source, dn)
                # A peer sends from its contact's host by any port unless sources say otherwise.
                if dn.trunk.sources == (dn.trunk.contact,):
                    self._hosts.setdefault(split_address(dn.trunk.contact)[0], []).append(dn)
        self._networks.sort(key=lambda pair: -pair[0].prefixlen)

    def _add(self, source: str, dn: Dn) -> None:
        if "/" in source:
            self._networks.append((ipaddress.ip_network(source, strict=False), dn))
            return
        host, port = split_address(source)
        if port:
            self._exact.setdefault((host, port), []).append(dn)
        else:
            self._hosts.setdefault(host, []).append(dn)

    def match(self, address: str) -> list[Dn]:
        """Trunks that `address` ("host:port") belongs to, all at the most specific level that has any."""
        host, port = split_address(address)
        found = self._exact.get((host, port)) or self._hosts.get(host)
        if found:
            return found
        if not self._networks:
            return []
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return []
        matching = [(net, dn) for net, dn in self._networks if net.version == ip.version and ip in net]
        return [dn for net, dn in matching if net.prefixlen == matching[0][0].prefixlen]
