"""What may stand beside what: decided on a model, whatever is written in whatever order."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voice.config.v1 import object_pb2 as o
from voice.config.v1.object_pb2 import ConfigObject

from mesh.errors import DomainError, Reason
from services.config.integrity import Plan, Stored, TenantModel, Write, existing, plan
from services.config.schema import (
    IMPORT_ORDER,
    TYPE_OF,
    in_import_order,
    kind_of,
    provided,
    references,
    uniques,
)
from tests.unit.config.examples import good


def writes(messages: Sequence[ConfigObject]) -> list[Write]:
    return [Write(f"objects[{at}]", message) for at, message in enumerate(messages)]


def carried_out(model: TenantModel, done: Plan) -> TenantModel:
    for id in done.deletes:
        model.remove(*id)
    for id, stored in done.puts.items():
        model.put(*id, stored)
    return model


@pytest.fixture
def model() -> TenantModel:
    """A whole tenant, with DBIDs from 1."""
    return carried_out(TenantModel(), plan(TenantModel(), writes(list(good().values())), 1))


def failure(model: TenantModel, *wanted: Write) -> DomainError:
    with pytest.raises(DomainError) as caught:
        plan(model, wanted, 1000)
    return caught.value


def test_every_type_has_its_place_in_the_order() -> None:
    assert set(IMPORT_ORDER) == {f.name for f in ConfigObject.DESCRIPTOR.oneofs_by_name["object"].fields}
    assert set(TYPE_OF.values()) == set(o.ObjectType.values()) - {0}


def test_what_is_referred_to_comes_first_in_an_import() -> None:
    messages = list(reversed(good().values()))
    seen = set[object]()
    for at in in_import_order(messages):
        assert {reference.key for reference in references(messages[at])} <= seen
        seen.add(provided(messages[at]))


def test_references_among_writes_may_be_in_any_order() -> None:
    done = plan(TenantModel(), writes(list(reversed(good().values()))), 1)
    assert (done.created, done.next_dbid) == (15, 16)


def test_an_equal_object_is_unchanged(model: TenantModel) -> None:
    again = [Write("o", message, existing(model, message)) for message in good().values()]
    done = plan(model, again, 16)
    assert (done.unchanged, done.puts, done.next_dbid) == (15, {}, 16)


def test_a_code_belongs_to_one_person_and_a_dn_to_one_place(model: TenantModel) -> None:
    person = ConfigObject(person=o.Person(user_name="bob", employee_id="E2", agent_logins=["A1"]))
    error = failure(model, Write("object", person))
    assert error.reason == Reason.REASON_INVALID_ATTRIBUTE
    assert error.violations[0][0] == "object.person.agent_logins[0]"
    assert 'person "ada@t1"' in error.message
    place = ConfigObject(place=o.Place(name="desk 2", dns=["1001"]))
    assert failure(model, Write("object", place)).violations[0][0] == "object.place.dns[0]"


def test_keys_may_change_hands_in_one_go(model: TenantModel) -> None:
    old = good()["person"]
    old.person.agent_logins[:] = []
    new = ConfigObject(person=o.Person(user_name="bob", employee_id="E2", agent_logins=["A1"]))
    done = plan(model, [Write("objects[0]", new), Write("objects[1]", old, existing(model, old))], 16)
    assert (done.created, done.updated) == (1, 1)


def test_two_writes_with_one_key_are_refused(model: TenantModel) -> None:
    twice = [ConfigObject(skill=o.Skill(name="French")) for _ in range(2)]
    error = failure(model, *writes(twice))
    assert error.violations == (("objects[1].skill.name", 'skill "French" is also at objects[0].skill.name'),)


def test_of_two_dns_with_one_number_one_may_go(model: TenantModel) -> None:
    queue = ConfigObject(dn=o.Dn(number="1001", type=o.DN_TYPE_ACD_QUEUE, switch="sip"))
    carried_out(model, plan(model, [Write("object", queue)], 16))
    phone = existing(model, good()["dn"])
    assert failure(model, *(Write("o", None, id) for id in (phone, ("dn", 16)))).reason
    carried_out(model, plan(model, [Write("object", None, phone)], 17))
    assert failure(model, Write("object", None, ("dn", 16))).reason == Reason.REASON_OBJECT_IN_USE


def test_a_group_of_objects_that_use_each_other_goes_together(model: TenantModel) -> None:
    ids = [existing(model, good()[kind]) for kind in ("skill", "person", "agent_group")]
    done = plan(model, [Write("o", None, id) for id in ids], 16)
    assert len(done.deletes) == 3


def test_a_name_in_use_is_not_changed(model: TenantModel) -> None:
    renamed = ConfigObject(skill=o.Skill(name="Englisch"))
    skill = existing(model, good()["skill"])
    assert failure(model, Write("object", renamed, skill)).reason == Reason.REASON_OBJECT_IN_USE


@pytest.mark.parametrize(("kind", "field", "value"), [
    ("dn", "number", "1002"), ("dn", "type", 2), ("dn", "switch", "x"), ("agent_login", "code", "A2"),
    ("agent_login", "switch", "x"),
])  # fmt: skip
def test_identity_is_immutable(model: TenantModel, kind: str, field: str, value: object) -> None:
    changed = good()[kind]
    id = existing(model, changed)
    setattr(getattr(changed, kind), field, value)
    error = failure(model, Write("object", changed, id))
    assert error.reason == Reason.REASON_INVALID_ATTRIBUTE
    assert (f"object.{kind}.{field}", "is immutable") in error.violations


def test_a_tenant_with_objects_stays(model: TenantModel) -> None:
    error = failure(model, Write("object", None, existing(model, good()["tenant"])))
    assert error.reason == Reason.REASON_OBJECT_IN_USE
    assert "14 other objects" in error.message


def test_problems_are_many_and_limited(model: TenantModel) -> None:
    lost = [
        ConfigObject(dn=o.Dn(number=f"{n}", type=o.DN_TYPE_EXTENSION, switch="nowhere"))
        for n in range(2000, 2100)
    ]
    error = failure(model, *writes(lost))
    assert error.reason == Reason.REASON_INVALID_ATTRIBUTE
    assert len(error.violations) == 50


# -- whatever is tried, what is accepted leaves the tenant whole ------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
DN_TYPES = st.sampled_from([o.DN_TYPE_EXTENSION, o.DN_TYPE_ACD_QUEUE])
SOME = st.lists(NAMES, max_size=2, unique=True)
MESSAGES = st.one_of(
    st.builds(lambda n: ConfigObject(switch=o.Switch(name=n)), NAMES),
    st.builds(lambda n: ConfigObject(skill=o.Skill(name=n)), NAMES),
    st.builds(lambda n, s, t: ConfigObject(dn=o.Dn(number=n, switch=s, type=t)), NAMES, NAMES, DN_TYPES),
    st.builds(lambda n, s: ConfigObject(agent_login=o.AgentLogin(code=n, switch=s)), NAMES, NAMES),
    st.builds(lambda n, d: ConfigObject(place=o.Place(name=n, dns=d)), NAMES, SOME),
    st.builds(
        lambda n, e, c, k: ConfigObject(
            person=o.Person(
                user_name=n, employee_id=e, agent_logins=c, skills=[o.SkillLevel(skill=s) for s in k]
            )
        ),
        NAMES, NAMES, SOME, SOME,
    ),
    st.builds(lambda n, m: ConfigObject(agent_group=o.AgentGroup(name=n, members=m)), NAMES, SOME),
)  # fmt: skip
STEPS = st.lists(st.lists(st.tuples(MESSAGES, st.booleans()), min_size=1, max_size=4), max_size=25)


def assert_whole(model: TenantModel) -> None:
    stored = [s.message for objects in model.objects.values() for s in objects.values()]
    keys = [unique.key for message in stored for unique in uniques(message)]
    assert len(keys) == len(set(keys))
    there = {provided(message) for message in stored}
    assert {reference.key for message in stored for reference in references(message)} <= there


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_tenant_is_whole_after_whatever_was_accepted(steps: list[list[tuple[ConfigObject, bool]]]) -> None:
    model, next_dbid = TenantModel(), 1
    for step in steps:
        tried = list[Write]()
        for at, (message, remove) in enumerate(step):
            id = existing(model, message)
            if id is not None and any(write.id == id for write in tried):
                continue
            if not remove:
                tried.append(Write(f"objects[{at}]", message, id))
            elif id is not None:
                tried.append(Write(f"objects[{at}]", None, id))
        done: Plan | None = None
        before = {(k, d): s for k, objects in model.objects.items() for d, s in objects.items()}
        with contextlib.suppress(DomainError):
            done = plan(model, tried, next_dbid)
        assert before == {(k, d): s for k, objects in model.objects.items() for d, s in objects.items()}
        if done is None:
            continue
        next_dbid = done.next_dbid
        assert_whole(carried_out(model, done))


def test_put_and_remove_leave_no_trace() -> None:
    model = TenantModel()
    for number, message in enumerate(good().values()):
        model.put(kind_of(message), number, Stored(message, 1, f"r{number}"))
    for number, message in enumerate(good().values()):
        model.remove(kind_of(message), number)
    assert model.size == 0
    assert not model._owner
    assert not model._providers
    assert not model._referrers
    assert not model._requests
