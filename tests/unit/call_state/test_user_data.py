"""User-data requests against a plain model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from voice.type.v1.kv_pb2 import KvList as Message
from voice.type.v1.kv_pb2 import KvPair

from services.call_state.events import kv_list, pairs
from services.call_state.user_data import Change, KvList, UserDataChange, changed

KEYS = st.sampled_from(["a", "b", "c"])
PAIRS = st.lists(st.tuples(KEYS, st.integers(0, 9)), max_size=4).map(tuple)
CHANGES = st.one_of(
    st.builds(UserDataChange, st.just(Change.ATTACH), PAIRS),
    st.builds(UserDataChange, st.just(Change.UPDATE), PAIRS),
    st.builds(UserDataChange, st.just(Change.DELETE_PAIR), st.just(()), KEYS),
    st.builds(UserDataChange, st.just(Change.DELETE_ALL)),
)


@given(st.lists(CHANGES, max_size=12))
def test_last_writer_wins_key_by_key(changes: list[UserDataChange]) -> None:
    data: KvList = ()
    newest: dict[str, object] = {}
    for change in changes:
        data = changed(data, change)
        match change.change:
            case Change.UPDATE:
                newest.update(dict(change.pairs))
                for key in dict(change.pairs):
                    assert [k for k, _ in data].count(key) == 1
                assert {k: v for k, v in data if k in dict(change.pairs)} == dict(change.pairs)
            case Change.ATTACH:
                newest.update(dict(change.pairs))
                assert data[len(data) - len(change.pairs) :] == change.pairs
            case Change.DELETE_PAIR:
                newest.pop(change.key, None)
            case Change.DELETE_ALL:
                newest.clear()
        assert {key for key, _ in data} == newest.keys()


def test_update_replaces_where_the_pair_stands() -> None:
    data: KvList = (("a", 1), ("b", 2), ("a", 3))
    assert changed(data, UserDataChange(Change.UPDATE, (("a", 9), ("c", 4)))) == (
        ("a", 9),
        ("b", 2),
        ("c", 4),
    )


def test_lists_survive_both_ways() -> None:
    inner = Message(pairs=[KvPair(key="x", binary_value=b"\x00"), KvPair(key="n")])
    outer = Message(
        pairs=[
            KvPair(key="s", string_value=""),
            KvPair(key="i", int_value=-5),
            KvPair(key="l", list_value=inner),
            KvPair(key="s", string_value="again"),
        ]
    )
    assert kv_list(pairs(outer)) == outer
