"""Starting the stand-in for a SIP node (sip_node.py) in a region of processes."""

from __future__ import annotations

import asyncio

from tests.integration.nodes import NodeProcess
from tests.integration.redis_queue.processes import Processes


async def start_sip_node(nodes: Processes, index: int) -> NodeProcess:
    """A node of sip_cluster; returns when it serves."""
    node = NodeProcess(
        "sip_cluster",
        index,
        REGION=nodes.region,
        ETCD=nodes.etcd.endpoint,
        REDIS=nodes.redis.url,
        EGRESS=nodes.router.target,
    )
    node.module = "tests.integration.front_end.sip_node"
    nodes.nodes[f"sip_cluster-{index}"] = node
    nodes.router.add(node, f"sip_cluster-{index}")
    await asyncio.to_thread(node.start)
    return node
