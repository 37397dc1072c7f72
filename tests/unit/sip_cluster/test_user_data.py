"""User data as lists, and their size on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voice.error.v1.reason_pb2 import Reason
from voice.tlib.v1 import enums_pb2, message_type_pb2

from services.sip_cluster import kv, tlib, user_data
from services.sip_cluster.user_data import KvList

values = st.recursive(
    st.text(max_size=20) | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=300),
    lambda inner: st.lists(st.tuples(st.text(max_size=5), inner), max_size=4).map(tuple),
    max_leaves=8,
)
lists = st.lists(st.tuples(st.text(min_size=1, max_size=200), values), max_size=8).map(tuple)


@given(lists)
def test_size_is_that_of_the_contract(pairs: KvList) -> None:
    assert user_data.encoded_size(pairs) == kv.to_proto(pairs).ByteSize()


@given(lists)
def test_round_trip(pairs: KvList) -> None:
    assert kv.from_proto(kv.to_proto(pairs)) == pairs


def test_update_keeps_places_and_takes_repeated_keys() -> None:
    data = (("a", 1), ("b", 2), ("a", 3), ("c", 4))
    assert user_data.update(data, (("a", 9), ("d", 5), ("a", 8))) == (
        ("a", 9),
        ("a", 8),
        ("b", 2),
        ("c", 4),
        ("d", 5),
    )


def test_limit_is_exact() -> None:
    full = (("k", "x" * (user_data.MAX_BYTES - 11)),)
    assert user_data.encoded_size(full) == user_data.MAX_BYTES
    assert user_data.attach((), full) == full
    with pytest.raises(user_data.TooLarge):
        user_data.attach(full, (("k", ""),))


@pytest.mark.parametrize(
    ("ours", "contract", "prefix"),
    [
        (tlib.EventType, message_type_pb2.MessageType, "MESSAGE_TYPE_EVENT_"),
        (tlib.CallType, enums_pb2.CallType, "CALL_TYPE_"),
        (tlib.CallState, enums_pb2.CallState, "CALL_STATE_"),
        (tlib.DnRole, enums_pb2.DnRole, "DN_ROLE_"),
        (tlib.RouteType, enums_pb2.RouteType, "ROUTE_TYPE_"),
        (tlib.PartyState, enums_pb2.PartyState, "PARTY_STATE_"),
    ],
)
def test_numbers_are_those_of_the_contract(ours: object, contract: object, prefix: str) -> None:
    for member in ours:  # type: ignore[attr-defined]
        assert contract.Value(prefix + member.name) == member.value  # type: ignore[attr-defined]


def test_reasons_are_those_of_the_contract() -> None:
    assert {str(why) for why in tlib.Why} <= set(Reason.keys())
