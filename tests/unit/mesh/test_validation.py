"""Checks of fields: each rule, at its edges, named in the violation."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voice.error.v1.reason_pb2 import Reason
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.errors import DomainError
from mesh.validation import KV_BYTES, KV_DEPTH, MAX_VIOLATIONS, Checks


def violations(check: Checks) -> list[tuple[str, str]]:
    return list(check.error.violations) if check.error else []


def test_nothing_wrong_raises_nothing() -> None:
    check = Checks()
    assert check.required("tenant", "t1")
    assert check.one_of("state", 2, (1, 2))
    assert check.between("capacity", 0, 0, 10)
    assert check.between("capacity", 10, 0, 10)
    assert check.length("name", "x" * 64, 1, 64)
    assert check.matches("dn", "1001", re.compile("[0-9]+"))
    assert check.tenant("tenant", "t1")
    assert check.request_id("request_id", "a1:b/2")
    assert check.kv_list("user_data", KvList())
    check.done()
    assert check.error is None


def test_every_violation_is_told_in_order() -> None:
    check = Checks()
    check.required("tenant", "")
    check.one_of("state", 3, (1, 2))
    check.between("capacity", 11, 0, 10, unit="calls")
    check.length("name", "", 1, 64)
    check.length("body", b"12345", 0, 4)
    check.length("dns", [1, 2], 3, 9)
    check.matches("dn", "10 01", re.compile("[0-9]+"), "must be digits")
    check.that("end", False, "must not be before start")
    with pytest.raises(DomainError) as caught:
        check.done()
    assert caught.value.reason == Reason.REASON_INVALID_ATTRIBUTE
    assert caught.value.violations == (
        ("tenant", "is required"),
        ("state", "must be one of 1, 2"),
        ("capacity", "must be 0 to 10 calls"),
        ("name", "must have 1 to 64 characters"),
        ("body", "must have 0 to 4 bytes"),
        ("dns", "must have 3 to 9 entries"),
        ("dn", "must be digits"),
        ("end", "must not be before start"),
    )


@pytest.mark.parametrize("tenant", ["T1", "1t", "t", "t_1", "t" * 32, "t1\n", "té"])
def test_a_wrong_tenant_id_is_refused(tenant: str) -> None:
    check = Checks()
    assert not check.tenant("tenant", tenant)
    assert violations(check) == [("tenant", "must match [a-z][a-z0-9-]{1,30}")]


@pytest.mark.parametrize("value", ["", "a b", "x" * 129, "é", "a\n"])
def test_a_wrong_request_id_is_refused(value: str) -> None:
    assert not Checks().request_id("request_id", value)


def test_a_value_that_is_no_number_is_outside_every_range() -> None:
    assert not Checks().between("weight", float("nan"), 0, 1)


def test_a_hostile_request_makes_no_large_answer() -> None:
    check = Checks()
    for index in range(10_000):
        check.required(f"entries[{index}]", "")
    assert len(violations(check)) == MAX_VIOLATIONS


def nested(depth: int) -> KvList:
    inner = KvList(pairs=[KvPair(key="leaf", string_value="x")])
    for _ in range(depth - 1):
        inner = KvList(pairs=[KvPair(key="list", list_value=inner)])
    return inner


def test_key_value_lists_nest_eight_deep() -> None:
    assert Checks().kv_list("user_data", nested(KV_DEPTH))
    check = Checks()
    assert not check.kv_list("user_data", nested(KV_DEPTH + 1))
    ((field, rule),) = violations(check)
    assert field.startswith("user_data.pairs[0].list_value.")
    assert rule == "must be at most 8 levels deep"


def test_key_value_lists_have_at_most_64_kib() -> None:
    fits = KvList(pairs=[KvPair(key="k", string_value="x" * (KV_BYTES - 20))])
    assert Checks().kv_list("user_data", fits)
    check = Checks()
    assert not check.kv_list("user_data", KvList(pairs=[KvPair(key="k", string_value="x" * KV_BYTES)]))
    assert violations(check) == [("user_data", "must have at most 65536 bytes")]


@pytest.mark.parametrize(
    ("key", "good"), [("", False), ("k" * 255, True), ("k" * 256, False), ("é" * 128, False)]
)
def test_keys_have_1_to_255_bytes(key: str, good: bool) -> None:
    check = Checks()
    assert check.kv_list("user_data", KvList(pairs=[KvPair(key=key)])) is good
    assert bool(violations(check)) is not good


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.booleans()), max_size=30))
def test_a_list_is_good_exactly_when_all_its_keys_are(entries: list[tuple[str, bool]]) -> None:
    value = KvList()
    for key, deep in entries:
        pair = value.pairs.add(key="outer" if deep else key)
        if deep:
            pair.list_value.pairs.add(key=key)
    assert Checks().kv_list("user_data", value) is all(key for key, _ in entries)
