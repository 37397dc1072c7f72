"""The environment a service process is started with: the one place that decides its values
(docs/operations.md lists them)."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.local.layout import INGRESS_PORT, METRICS_PORT, SIP_PORT, Instance, Layout
from mesh.local.settings import REPOSITORY

CAPACITY: Mapping[str, int] = {"sip_cluster": 2000, "sip_proxy": 5000}
"""Work a node can carry, in the service's unit; other services 1000."""


def service_environment(
    layout: Layout, instance: Instance, *, region: str, run_dir: str, log_level: str
) -> dict[str, str]:
    """VOICEMESH_* of a service instance. A pod's values that differ by engine are templates with `{engine}`."""
    slot = "{engine}" if instance.pod else "0"
    node = instance.nodes[0]
    environment = {
        "VOICEMESH_REGION": region,
        "VOICEMESH_ZONE": f"zone-{instance.index % 2}",
        "VOICEMESH_SERVICE": instance.service,
        "VOICEMESH_NODE": f"{instance.name}{{engine}}" if instance.pod else instance.name,
        "VOICEMESH_BIND_IP": instance.ip,
        "VOICEMESH_ADDRESS": f"{instance.ip}:{str(INGRESS_PORT)[:-1]}{slot}",
        "VOICEMESH_LISTEN": str(layout.sockets / f"{instance.name}{{engine}}.sock")
        if instance.pod
        else node.listen,
        "VOICEMESH_EGRESS": f"unix:{instance.egress}",
        "VOICEMESH_ETCD": layout.etcd,
        "VOICEMESH_ETCD_CONFIG": layout.etcd,
        "VOICEMESH_REDIS": layout.redis_url,
        "VOICEMESH_METRICS_PORT": f"{str(METRICS_PORT)[:-1]}{slot}",
        "VOICEMESH_LOG_LEVEL": log_level,
        "VOICEMESH_CAPACITY": str(CAPACITY.get(instance.service, 1000)),
        "VOICEMESH_RUN_DIR": run_dir,
    }
    environment.update(_own(instance.service, layout, run_dir))
    if instance.pod:
        environment["VOICEMESH_ENGINES"] = str(len(instance.nodes))
    if instance.sip:
        environment["VOICEMESH_SIP_ADDRESS"] = f"{instance.ip}:{str(SIP_PORT)[:-1]}{slot}"
    return environment


def _own(service: str, layout: Layout, run_dir: str) -> dict[str, str]:
    """What one service alone is told."""
    match service:
        case "config":
            return {"VOICEMESH_CONFIG_SEED": str(REPOSITORY / "demo" / "tenants")}
        case "tenant":
            return {"VOICEMESH_TENANT_TOKEN_DIR": f"{run_dir}/identity/tokens"}
        case "orchestration":
            return {
                "VOICEMESH_ORCHESTRATION_HTTP_BASE": f"https://{layout.edge}",
                "VOICEMESH_ORCHESTRATION_CA_FILE": f"{run_dir}/identity/authority/ca.pem",
            }
        case _:
            return {}
