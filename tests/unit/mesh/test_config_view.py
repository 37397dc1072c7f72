"""Lookups of the configuration view, whatever order changes come in."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1 import object_pb2 as o
from voice.config.v1 import registration_pb2 as r
from voice.config.v1.object_pb2 import ConfigObject

from mesh.config_cache import Changed, ConfigView, Login, Registrations
from mesh.config_objects import PASSWORD_MASK, overlay
from tests.unit.config.examples import good


def put(message: ConfigObject, dbid: int = 1, revision: int = 1, tenant: str = "t1") -> pb.Change:
    copy = ConfigObject()
    copy.CopyFrom(message)
    copy.dbid, copy.revision = dbid, revision
    return pb.Change(tenant=tenant, revision=revision, object=copy)


def told(*changes: pb.Change, revision: int = 1, synced: bool = False) -> pb.WatchResponse:
    return pb.WatchResponse(changes=changes, revision=revision, synced=synced)


def whole(tenant: str = "t1") -> list[pb.Change]:
    messages = good()
    messages["tenant"].tenant.tenant_id = tenant
    messages["tenant"].tenant.domains[:] = [f"{tenant}.example"]
    return [put(message, dbid, dbid, tenant) for dbid, message in enumerate(messages.values(), 1)]


def test_everything_is_found_by_its_keys() -> None:
    view = ConfigView()
    view.apply(told(*whole(), revision=20))
    assert view.revision == 20
    tenant = view.tenant("t1")
    assert tenant is not None
    assert (tenant.country, tenant.max_registration_s) == ("US", 3600)
    assert view.tenant_of_domain("T1.EXAMPLE") is tenant
    assert view.switch("t1", "sip") is not None
    phone = view.dn("t1", "1001")
    assert phone is not None
    assert (phone.is_phone, phone.is_route_point, phone.password) == (True, False, "pw")
    point = view.route_point("t1", "8000")
    assert point is not None
    assert point.route_point is not None
    assert point.route_point.parameters == (("skill", "English"),)
    assert [trunk.number for trunk in view.trunks("t1")] == ["trunk-1"]
    person = view.person("t1", "ada@t1")
    assert person is not None
    assert view.person_of_login("t1", "A1") is person
    assert view.person_of_employee("t1", "E1") is person
    assert view.skills_of("t1", "ada@t1") == {"English": 1000}
    assert [group.name for group in view.groups_of("t1", "ada@t1")] == ["all"]
    place = view.place_of_dn("t1", "1001")
    assert place is not None
    assert place.name == "desk 1"
    assert view.named("t1", "script", "s") is not None
    assert view.by_dbid("t1", "dn", phone.dbid) is phone
    assert len(view.dns("t1")) == 3
    for nobody in (
        view.dn("t1", "9"),
        view.dn("t2", "1001"),
        view.person("t1", "sip"),
        view.login_on("t1", "1001"),
    ):
        assert nobody is None


def test_a_number_means_what_takes_calls() -> None:
    view = ConfigView()
    numbers = [
        o.Dn(
            number="1", type=o.DN_TYPE_TRUNK, switch="a", enabled=True, trunk=o.TrunkSettings(contact="h:1")
        ),
        o.Dn(number="1", type=o.DN_TYPE_ACD_QUEUE, switch="a", enabled=True),
        o.Dn(number="1", type=o.DN_TYPE_EXTENSION, switch="a", enabled=False),
        o.Dn(number="1", type=o.DN_TYPE_ROUTING_POINT, switch="b", enabled=True),
    ]
    wanted = [14, 3, 3, 4]
    for dbid, (dn, type) in enumerate(zip(numbers, wanted, strict=True), 1):
        view.apply(told(put(ConfigObject(dn=dn), dbid)))
        found = view.dn("t1", "1")
        assert found is not None
        assert found.type == type
    assert len(view.dns("t1", "1")) == 4


def test_logins_and_bindings_come_and_go() -> None:
    view, heard = ConfigView(), list[Changed]()
    view.on_change(heard.append)
    login = r.Login(tenant="t1", agent_id="A1", dn="1001", user_name="ada", session_id="s")
    bindings = pb.DnRegistrations(
        dn="1001",
        revision=7,
        registrations=[
            r.Registration(contact="sip:a", expires_us=100, q=1),
            r.Registration(contact="sip:b", expires_us=200, q=9),
        ],
    )
    view.apply(told(pb.Change(tenant="t1", login=login), pb.Change(tenant="t1", registrations=bindings)))
    on = view.login_on("t1", "1001")
    assert isinstance(on, Login)
    assert view.login_of("t1", "A1") is on
    known = view.registrations("t1", "1001")
    assert isinstance(known, Registrations)
    assert [b.contact for b in known.live(50)] == ["sip:b", "sip:a"]
    assert [b.contact for b in known.live(100)] == ["sip:b"]
    view.apply(
        told(
            pb.Change(tenant="t1", deleted="logins/A1"), pb.Change(tenant="t1", deleted="registrations/1001")
        )
    )
    assert view.login_on("t1", "1001") is None
    assert view.registrations("t1", "1001") is None
    assert [change.new is None for change in heard] == [False, False, True, True]
    assert view.tenants() == []


def test_domains_follow_their_tenants() -> None:
    view = ConfigView()
    view.apply(told(put(ConfigObject(tenant=o.Tenant(tenant_id="t1", domains=["a.example", "b.example"])))))
    view.apply(told(put(ConfigObject(tenant=o.Tenant(tenant_id="t1", domains=["b.example"])), 1, 2)))
    assert dict(view.domains()) == {"b.example": "t1"}
    view.apply(told(pb.Change(tenant="t1", deleted="tenant/1")))
    assert dict(view.domains()) == {}


def test_a_snapshot_replaces_what_was_known_when_it_is_whole() -> None:
    view, heard = ConfigView(), list[Changed]()
    view.apply(told(*whole(), *whole("t2"), revision=20))
    view.on_change(heard.append)
    view.begin_snapshot()
    view.apply(told(*whole()[:8], revision=0))
    assert view.person("t1", "ada@t1") is not None
    changed = put(good()["person"], 9, 30)
    changed.object.person.last_name = "Lovelace"
    view.apply(told(*whole()[8:9][:0], changed, *whole()[9:], revision=0))
    assert not heard
    view.apply(told(revision=40, synced=True))
    assert view.revision == 40
    assert view.tenant("t2") is None
    assert view.tenant_of_domain("t2.example") is None
    mine = [change for change in heard if change.tenant == "t1"]
    assert [type(change.new).__name__ for change in mine] == ["Person"]
    assert len([change for change in heard if change.tenant == "t2" and change.new is None]) == 15


def test_unknown_types_are_passed_over() -> None:
    view = ConfigView()
    assert view.apply(told(pb.Change(tenant="t1", object=ConfigObject(dbid=1)))) == []
    assert view.apply(told(pb.Change(tenant="t1", deleted="novelty/3"))) == []


def test_a_mask_is_nobodys_password() -> None:
    view = ConfigView()
    for kind in ("dn", "agent_login"):
        message = good()[kind]
        getattr(message, kind).password = PASSWORD_MASK
        view.apply(told(put(message)))
    phone, login = view.dn("t1", "1001"), view.agent_login("t1", "A1")
    assert phone is not None
    assert login is not None
    assert (phone.password, login.password) == ("", "")


def test_layers_of_options() -> None:
    weak, strong = {"a": {"x": "1", "y": "2"}}, {"a": {"y": "3"}, "b": {"z": "4"}}
    assert overlay(weak, strong) == {"a": {"x": "1", "y": "3"}, "b": {"z": "4"}}
    assert weak == {"a": {"x": "1", "y": "2"}}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 14), max_size=40))
def test_indexes_hold_exactly_what_is_there(seed: int, steps: list[int]) -> None:
    """Puts and deletions in any order: the view is the one that the final state alone makes."""
    view, final, dice = ConfigView(), dict[int, pb.Change](), random.Random(seed)
    every = whole()
    for step in steps:
        change = every[step]
        kind = change.object.WhichOneof("object")
        if step in final and dice.random() < 0.5:
            del final[step]
            view.apply(told(pb.Change(tenant="t1", deleted=f"{kind}/{change.object.dbid}")))
        else:
            final[step] = change
            view.apply(told(change))
    fresh = ConfigView()
    fresh.apply(told(*final.values()))
    mine, theirs = view._tenants.get("t1"), fresh._tenants.get("t1")
    if theirs is None:
        assert mine is None
        return
    assert mine is not None
    for name in ("entries", "unique", "many"):
        left = {k: v for k, v in getattr(mine, name).items() if v}
        assert left == {k: v for k, v in getattr(theirs, name).items() if v}
