"""Where requests of this node are sent: through a proxy, chosen by the call so that one call keeps to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voicecore.sip import Uri

from mesh.stable_hash import fnv1a64, mix64

Address = tuple[str, int]


class NoNextHop(Exception):
    """No proxy is known, and the destination is no literal address to send to directly."""


class NextHop:
    """The proxies of the region, from the directory."""

    def __init__(self, nodes: Callable[[], Sequence[NodeRecord]], *, direct: bool) -> None:
        """`direct`: without proxies, requests go to the contact itself."""
        self._nodes = nodes
        self._direct = direct
        self._proxies: list[tuple[int, Address]] = []
        self._known: frozenset[Address] = frozenset()

    def refresh(self) -> None:
        """The directory has changed."""
        records = [record for record in self._nodes() if record.sip_address]
        serving = [r for r in records if r.state == NodeState.NODE_STATE_SERVING] or records
        self._proxies = [(fnv1a64(r.node), address_of(r.sip_address)) for r in serving]
        self._known = frozenset(address_of(record.sip_address) for record in records)

    @property
    def proxies(self) -> int:
        """Proxies that may be chosen."""
        return len(self._proxies)

    def is_proxy(self, address: Address) -> bool:
        """Whether this is the address of a live proxy."""
        return address in self._known

    def choose(self, key: str) -> Address | None:
        """The proxy for a Call-ID: the same one as long as it lives. None when there is none."""
        if not self._proxies:
            return None
        if len(self._proxies) == 1:
            return self._proxies[0][1]
        hashed = fnv1a64(key)
        return max(self._proxies, key=lambda proxy: mix64(hashed ^ proxy[0]))[1]

    def for_call(self, key: str, uri: str, path: Sequence[str], *, trunk: bool) -> tuple[Address, list[str]]:
        """Where to send a new INVITE for `uri`, and its Route values. Raises NoNextHop."""
        if path:
            first = _literal(Uri.parse(path[0].strip("<> ")))
            if first is not None:
                return first, [route if route.startswith("<") else f"<{route}>" for route in path]
        proxy = self.choose(key)
        if proxy is not None:
            kind = "trunk" if trunk else "phone"
            return proxy, [f"<sip:{host_port(proxy)};lr;vd={kind}>"]
        return self._directly(uri), []

    def for_dialog(self, key: str, hop: Uri) -> Address:
        """Where to send a request of a dialog whose next hop is `hop`: there while that is a live proxy, else to
        another proxy, which forwards by the route set. Raises NoNextHop."""
        literal = _literal(hop)
        if literal is not None and literal in self._known:
            return literal
        proxy = self.choose(key)
        if proxy is not None:
            return proxy
        if literal is not None:
            return literal
        raise NoNextHop(f"{hop} is no literal address")

    def _directly(self, uri: str) -> Address:
        literal = _literal(Uri.parse(uri)) if self._direct else None
        if literal is None:
            raise NoNextHop("no proxy is known")
        return literal


def _literal(uri: Uri) -> Address | None:
    """host and port of a URI when the host is an address; a name is not looked up here."""
    host = uri.host.strip("[]")
    if ":" in host or (host.count(".") == 3 and host.replace(".", "").isdecimal()):
        return host, uri.port or 5060
    return None


def address_of(text: str) -> Address:
    """(host, port) of "host:port" or "[host]:port"."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def host_port(address: Address) -> str:
    """ "host:port", IPv6 in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
