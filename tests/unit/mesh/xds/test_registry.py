"""Who is published: deletions at once, what is merely missing after a while, nothing before everything is
known."""

from __future__ import annotations

from mesh.envoy.endpoints import Endpoint
from mesh.xds.registry import GRACE_S, Deleted, Put, Registry, ServiceMembers


def put(number: int, incarnation: str = "1") -> Put:
    name = f"config-{number}.{incarnation}"
    return Put(name, Endpoint(name, f"127.10.1.{number + 1}:7000", True, 10))


def names(members: ServiceMembers) -> list[str]:
    return [endpoint.incarnation for endpoint in members.endpoints()]


def test_a_deletion_is_believed_at_once() -> None:
    members = ServiceMembers()
    members.snapshot([put(0), put(1)], now=0.0)
    members.change(Deleted("config-0.1"), now=200.0)
    assert names(members) == ["config-1.1"]


def test_a_node_missing_in_a_later_snapshot_stays_for_the_grace() -> None:
    members = ServiceMembers()
    members.snapshot([put(0), put(1)], now=0.0)
    members.snapshot([], now=100.0)
    members.expire(now=100.0 + GRACE_S - 0.1)
    assert names(members) == ["config-0.1", "config-1.1"]
    assert members.next_expiry() == 100.0 + GRACE_S
    members.expire(now=100.0 + GRACE_S)
    assert names(members) == []
    assert members.next_expiry() is None


def test_a_node_that_returns_is_not_given_up() -> None:
    members = ServiceMembers()
    members.snapshot([put(0)], now=0.0)
    members.snapshot([], now=100.0)
    members.change(put(0), now=200.0)
    members.expire(now=1000.0)
    assert names(members) == ["config-0.1"]


def test_a_new_incarnation_at_the_address_ends_the_wait_for_the_old_one() -> None:
    members = ServiceMembers()
    members.snapshot([put(0), put(1)], now=0.0)
    members.snapshot([], now=100.0)
    members.change(put(0, "2"), now=200.0)
    assert names(members) == ["config-0.2", "config-1.1"]


def test_a_deletion_of_a_missing_node_is_believed_too() -> None:
    members = ServiceMembers()
    members.snapshot([put(0)], now=0.0)
    members.snapshot([], now=1.0)
    members.change(Deleted("config-0.1"), now=200.0)
    assert names(members) == []


def test_the_last_node_that_takes_work_stays_for_the_grace() -> None:
    """etcd comes back after an outage: all leases have ended, and the records are deleted one after the other."""
    members = ServiceMembers()
    members.snapshot([put(0), put(1)], now=0.0)
    members.change(Deleted("config-0.1"), now=100.0)
    members.change(Deleted("config-1.1"), now=100.1)
    assert names(members) == ["config-1.1"]
    members.change(put(0), now=100.3)
    members.change(put(1), now=100.4)
    assert names(members) == ["config-0.1", "config-1.1"]
    assert members.next_expiry() is None
    members.change(Deleted("config-0.1"), now=200.0)
    members.change(Deleted("config-1.1"), now=200.0)
    members.expire(200.0 + GRACE_S)
    assert names(members) == [], "nobody came back"


def test_a_node_that_took_no_work_any_more_goes_with_its_record() -> None:
    members = ServiceMembers()
    leaving = Put("config-0.1", Endpoint("config-0.1", "127.10.1.1:7000", False, 10))
    members.snapshot([leaving], now=0.0)
    members.change(Deleted("config-0.1"), now=1.0)
    assert names(members) == []


def test_nothing_is_published_before_every_service_is_known() -> None:
    registry = Registry.of(["config", "tenant"])
    registry.services["config"].snapshot([], now=0.0)
    assert not registry.complete
    registry.services["tenant"].snapshot([], now=0.0)
    assert registry.complete
