"""Addresses of proxies that have left are ours for a while, unless somebody else has them."""

from __future__ import annotations

from services.sip_proxy.aliases import MOST, REMEMBERED_S, Aliases


def test_a_proxy_that_has_left_is_ours_until_its_calls_have_ended() -> None:
    aliases = Aliases()
    assert aliases.of({"a", "b"}, (), 0.0) == ["a", "b"]
    assert aliases.of({"a"}, (), 10.0) == ["a", "b"]
    assert aliases.of({"a"}, (), 10.0 + REMEMBERED_S - 1) == ["a", "b"]
    assert aliases.of({"a"}, (), 10.0 + REMEMBERED_S) == ["a"]


def test_one_that_comes_back_and_leaves_again_begins_anew() -> None:
    aliases = Aliases()
    aliases.of({"a", "b"}, (), 0.0)
    aliases.of({"a"}, (), 0.0)
    aliases.of({"a", "b"}, (), REMEMBERED_S - 1)
    aliases.of({"a"}, (), REMEMBERED_S + 5)
    assert aliases.of({"a"}, (), 2 * REMEMBERED_S) == ["a", "b"]


def test_an_address_that_a_sip_node_has_now_is_not_ours() -> None:
    aliases = Aliases()
    aliases.of({"a", "b"}, (), 0.0)
    assert aliases.of({"a"}, {"b"}, 1.0) == ["a"]
    assert aliases.of({"a"}, (), 2.0) == ["a"]


def test_only_so_many_are_remembered_and_the_newest_stay() -> None:
    aliases = Aliases()
    for number in range(MOST + 10):
        aliases.of({f"p{number}"}, (), float(number))
    found = aliases.of({"last"}, (), float(MOST + 10))
    assert len(found) == MOST + 1
    assert f"p{MOST + 9}" in found
    assert "p0" not in found
