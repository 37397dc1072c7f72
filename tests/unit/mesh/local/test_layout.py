"""Addresses of a local mesh."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.etcd import endpoints_of
from mesh.local.commands import Commands
from mesh.local.environment import service_environment
from mesh.local.layout import ETCD_SIZES, SERVICE_NUMBERS, Layout
from mesh.local.ports import needs
from mesh.settings import MeshSettings


def layout(engines: int = 1, etcd: int = 1, **counts: int) -> Layout:
    return Layout(10, Path("/run/s"), counts or {name: 2 for name in SERVICE_NUMBERS}, engines, etcd)


def environment(of: Layout, name: str) -> dict[str, str]:
    instance = next(one for one in of.instances() if one.name == name)
    return service_environment(of, instance, region="local", run_dir="/run", log_level="info")


@pytest.mark.parametrize("etcd", ETCD_SIZES)
def test_no_address_is_given_twice(etcd: int) -> None:
    found = [(need.address, need.udp) for need in needs(layout(engines=3, etcd=etcd))]
    assert len(found) == len(set(found))
    assert all(address.startswith("127.10.") for address, _ in found)


def test_members_of_etcd_have_an_address_each() -> None:
    assert layout().etcd_members == {"etcd": "127.10.0.1"}
    assert layout().etcd == "127.10.0.1:2379"
    assert layout(etcd=3).etcd_members == {f"etcd-{n}": f"127.10.0.{11 + n}" for n in range(3)}
    assert layout(etcd=3).etcd == "127.10.0.11:2379,127.10.0.12:2379,127.10.0.13:2379"


def test_everybody_is_told_every_member(tmp_path: Path) -> None:
    of = layout(etcd=3, tenant=1)
    members = [f"{ip}:2379" for ip in of.etcd_members.values()]
    settings = MeshSettings.from_env("tenant", environment(of, "tenant-0"))
    control_plane = Commands(of, tmp_path, "local", "info", {}).xds().environment
    for told in (settings.etcd, settings.etcd_config, control_plane["VOICEMESH_ETCD"]):
        assert endpoints_of(told) == members


def test_nodes_of_a_pod_are_its_engines() -> None:
    pod = layout(engines=2, sip_cluster=2).instances()[1]
    assert pod.name == "sip_cluster-1"
    assert [(n.node, n.address, n.listen) for n in pod.nodes] == [
        ("sip_cluster-10", "127.10.5.2:7000", "/run/s/sip_cluster-10.sock"),
        ("sip_cluster-11", "127.10.5.2:7001", "/run/s/sip_cluster-11.sock"),
    ]
    assert pod.sip == ("127.10.5.2:5060", "127.10.5.2:5061")
    assert pod.metrics == ("127.10.5.2:9100", "127.10.5.2:9101")


def test_a_service_reads_back_what_it_is_started_with() -> None:
    of = layout(tenant=1)
    settings = MeshSettings.from_env("tenant", environment(of, "tenant-0"))
    instance = of.instances()[0]
    assert settings.node == instance.nodes[0].node == "tenant-0"
    assert settings.address == instance.nodes[0].address == "127.10.9.1:7000"
    assert settings.listen == instance.nodes[0].listen
    assert settings.egress == f"unix:{instance.egress}"
    assert f"{settings.bind_ip}:{settings.metrics_port}" == instance.metrics[0]
    assert (settings.etcd, settings.redis) == (of.etcd, of.redis_url)


def test_an_engine_of_a_pod_reads_back_its_own() -> None:
    of = layout(engines=2, sip_cluster=1)
    pod = of.instances()[0]
    given = environment(of, "sip_cluster-0")
    assert given["VOICEMESH_ENGINES"] == "2"
    for engine, node in enumerate(pod.nodes):
        own = {key: value.replace("{engine}", str(engine)) for key, value in given.items()}
        settings = MeshSettings.from_env("sip_cluster", own)
        assert (settings.node, settings.address, settings.listen) == (node.node, node.address, node.listen)
        assert f"{settings.bind_ip}:{settings.metrics_port}" == pod.metrics[engine]
        assert own["VOICEMESH_SIP_ADDRESS"] == pod.sip[engine]
