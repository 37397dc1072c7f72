"""Where requests of this node are sent: through a proxy, chosen by the call so that one call keeps to one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voicecore.sip import Uri

from mesh.stable_hash import fnv1a64, mix64

Address = tuple[str, int]
REMEMBERED_S = 60.0
"""How long an address is known as a proxy's after its record has gone, seconds: proxies whose leases ended for a moment (a
busy machine, etcd away) still send us calls, which are not calls *from* the proxy."""
AVOIDED_S = 2.0
"""How long a proxy that is not there is passed over, seconds: by then its lease has ended, or it listens again."""


class NoNextHop(Exception):
    """No proxy is known, and the destination is no literal address to send to directly."""


class NextHop:
    """The proxies of the region, from the directory."""

    def __init__(
        self,
        nodes: Callable[[], Sequence[NodeRecord]],
        *,
        direct: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`direct`: without proxies, requests go to the contact itself. `clock`: monotonic seconds."""
        self._nodes = nodes
        self._direct = direct
        self._clock = clock
        self._left: dict[Address, float] = {}
        self._avoided: dict[Address, float] = {}
        self._proxies: list[tuple[int, Address]] = []
        self._known: frozenset[Address] = frozenset()

    def refresh(self) -> None:
        """The directory has changed."""
        records = [record for record in self._nodes() if record.sip_address]
        serving = [r for r in records if r.state == NodeState.NODE_STATE_SERVING] or records
        if serving:  # when all have gone at once, etcd is more likely to be wrong than they are
            self._proxies = [(fnv1a64(r.node), address_of(r.sip_address)) for r in serving]
        known = frozenset(address_of(record.sip_address) for record in records)
        now = self._clock()
        recent = {address: left for address, left in self._left.items() if now - left < REMEMBERED_S}
        self._left = {**recent, **dict.fromkeys(self._known - known, now)}
        self._known = known

    @property
    def proxies(self) -> int:
        """Proxies that may be chosen."""
        return len(self._proxies)

    def is_proxy(self, address: Address) -> bool:
        """Whether this is the address of a proxy, or was until a minute ago."""
        left = self._left.get(address)
        return address in self._known or (left is not None and self._clock() - left < REMEMBERED_S)

    def known(self, address: Address) -> bool:
        """Whether this is the address of a proxy now, as the directory says."""
        return address in self._known

    def alive(self, address: Address) -> bool:
        """Whether this is the address of a live proxy, as far as is known."""
        return address in self._known and not self._passed_over(address)

    def avoid(self, address: Address) -> None:
        """A proxy that is not there: others are chosen for a moment."""
        self._avoided[address] = self._clock() + AVOIDED_S

    def _passed_over(self, address: Address) -> bool:
        until = self._avoided.get(address)
        if until is None:
            return False
        if self._clock() < until:
            return True
        del self._avoided[address]
        return False

    def choose(self, key: str, *, but: Address | None = None) -> Address | None:
        """The proxy for a Call-ID, `but` not this one: the same one as long as it lives. None when there is none."""
        proxies = self._proxies if but is None else [proxy for proxy in self._proxies if proxy[1] != but]
        if self._avoided:
            proxies = [proxy for proxy in proxies if not self._passed_over(proxy[1])] or proxies
        if not proxies:
            return None
        if len(proxies) == 1:
            return proxies[0][1]
        hashed = fnv1a64(key)
        return max(proxies, key=lambda proxy: mix64(hashed ^ proxy[0]))[1]

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
        if literal is not None and self.alive(literal):
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
