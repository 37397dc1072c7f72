"""Keeps the core's forwarding tables current: nodes and slots by etcd, and which nodes answer OPTIONS."""

from __future__ import annotations

import asyncio
import time

from structlog.typing import FilteringBoundLogger
from voicecore import sip

from mesh.discovery import Directory
from services.sip_proxy import tables
from services.sip_proxy.probing import Probing
from services.sip_proxy.roster import Roster

LOOKS = 4
"""Looks at the answers in one interval of OPTIONS."""


class Forwarding:
    """The tables of one proxy."""

    def __init__(
        self, proxy: sip.Proxy, nodes: Directory, options_interval_s: float, log: FilteringBoundLogger
    ) -> None:
        self._proxy = proxy
        self.nodes = nodes
        self._log = log
        self._probing = Probing(options_interval_s)
        self._roster = Roster()
        self.asking = False
        """Whether SIP nodes are asked with OPTIONS: for that there has to be a socket."""
        self.tables = tables.Tables((), ())

    @property
    def silent(self) -> frozenset[str]:
        """SIP nodes that do not answer OPTIONS."""
        return self._probing.silent

    def follow(self) -> None:
        """Fills the tables, now and at each change. Before the first packet: a node that is not in them is a stranger, and what it
        sends to a phone would be given to the owner of the slot."""
        self._fill()
        self.nodes.on_change(self._fill)

    def _fill(self) -> None:
        records = self._roster.present(self.nodes.nodes(), self.silent, time.monotonic())
        self.tables = tables.build(records, self.nodes.slots_of, self.silent)
        self._proxy.set_nodes([sip.Node(n.id, n.host, n.port, n.weight) for n in self.tables.nodes])
        self._proxy.set_slots(self.tables.slots)

    async def probe(self) -> None:
        """Asks the SIP nodes whether they are there, for as long as the process lives."""
        while True:
            await asyncio.sleep(self._probing.interval_s / LOOKS)
            if not self.asking:
                continue
            before = self.silent
            self._ask(time.monotonic())
            if self.silent != before or self._holding():
                self._changed(before)

    def _ask(self, now: float) -> None:
        nodes = {node.id: node for node in self.tables.nodes}
        for name in self._probing.round(list(nodes), now):
            node = nodes[name]
            uri = f"sip:{node.host}:{node.port}"
            request = sip.Request.new("OPTIONS", uri, from_="<sip:proxy@voicemesh.invalid>", to=f"<{uri}>")
            txn = self._proxy.send_request(request, (node.host.strip("[]"), node.port))
            self._probing.asked(name, txn, now)

    def _holding(self) -> bool:
        """Whether nodes without a record are in the tables: they have to be left out in time."""
        return any(self.nodes.node(node.id) is None for node in self.tables.nodes)

    def _changed(self, before: frozenset[str]) -> None:
        if self.silent != before:
            self._log.warning("sip nodes that do not answer", silent=sorted(self.silent))
        self._fill()

    def told(self, event: sip.Event) -> None:
        """What became of an OPTIONS."""
        before = self.silent
        match event:
            case sip.ResponseReceived(txn, response) if response.status >= 200:
                changed = self._probing.answered(txn, response.status)
            case sip.TransactionTimeout(txn, _) | sip.TransportFailed(txn, _):
                changed = self._probing.failed(txn)
            case _:
                return
        if changed:
            self._changed(before)
