"""ProxyService: what the proxy sees of nodes and load."""

from __future__ import annotations

from collections import Counter
from typing import Any

import grpc
from voice.sip_proxy.v1.proxy_service_pb2 import GetStatusRequest, GetStatusResponse, SipNode
from voice.sip_proxy.v1.proxy_service_pb2_grpc import ProxyServiceServicer

from services.sip_proxy.app import App


class ProxyRpc(ProxyServiceServicer):
    """Serves the contract over the core's tables and counters."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def GetStatus(
        self, request: GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetStatusResponse:
        counters = self._app.proxy.counters()
        owned = Counter(index for _, index in self._app.forwarding.tables.slots)
        nodes = [
            SipNode(
                incarnation=node.id,
                address=f"{node.host}:{node.port}",
                weight=round(node.weight * 100),
                slots=owned[index],
                new_dialogs=counters.get(f"node.{node.id}.new_dialogs", 0),
            )
            for index, node in enumerate(self._app.forwarding.tables.nodes)
        ]
        return GetStatusResponse(nodes=nodes, counters=counters)
