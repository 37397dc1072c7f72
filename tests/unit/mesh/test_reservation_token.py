"""What a reservation's token says about its end."""

from __future__ import annotations

import pytest

from mesh.reservation_token import CLOCKS_APART_US, ending, has_ended, name

UNTIL = 1_795_000_000_000_000


def test_a_token_ends_when_clocks_may_say_so() -> None:
    token = ending("abc-_~x", UNTIL)
    assert name(token) == "abc-_~x"
    assert not has_ended(token, UNTIL - CLOCKS_APART_US - 1)
    assert has_ended(token, UNTIL - CLOCKS_APART_US)


def test_a_prolonged_token_keeps_its_name() -> None:
    token = ending(ending("abc", UNTIL), UNTIL + 10_000_000)
    assert name(token) == "abc"
    assert not has_ended(token, UNTIL)


@pytest.mark.parametrize("token", ["", "abc", "abc~", "abc~XYZ", f"abc~{'f' * 17}", "a b"])
def test_a_token_that_names_no_end_has_none(token: str) -> None:
    assert name(token) == token
    assert not has_ended(token, UNTIL)
