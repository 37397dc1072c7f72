"""The language of dial rules."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.dial_pattern import BadPattern, compile_pattern, compile_replacement


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("911", ["911"], ["91", "9111", "912"]),
        ("9XX", ["900", "999"], ["9", "90", "9000", "9+1"]),
        ("N11", ["211", "911"], ["111", "011"]),
        ("Z", ["1", "9"], ["0"]),
        ("[13-5]X", ["10", "49", "55"], ["20", "60"]),
        ("9.", ["90", "91234"], ["9", "81"]),
        (".", ["1", "*72", "+49"], [""]),
        ("+1NXXXXXXXXX", ["+12125551234"], ["+11125551234", "12125551234"]),
        ("*7[2-4]#", ["*72#", "*74#"], ["*75#", "*72"]),
        ("[*#]0", ["*0", "#0"], ["00"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert all(compiled.matches(number) for number in matching)
    assert not any(compiled.matches(number) for number in others)


@pytest.mark.parametrize(
    "pattern", ["", "9A", "9..", ".9", "[12", "12]", "[]", "[a-c]", "[5-1]", "9" * 65, "9 1", "[1-]"]
)
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(BadPattern, match=r"^must"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("replacement", "result"),
    [
        ("", "90112345"),
        ("${DIGITS}", "90112345"),
        ("${DIGITS:1}", "0112345"),
        ("+${DIGITS:4}", "+2345"),
        ("${DIGITS:1:3}", "011"),
        ("${DIGITS:0:1}x${DIGITS:7}", "9x5"),
        ("8000", "8000"),
        ("${DIGITS:99}", ""),
        ("agent_1.a-b", "agent_1.a-b"),
    ],
)
def test_replacements(replacement: str, result: str) -> None:
    assert compile_replacement(replacement).apply("90112345") == result


@pytest.mark.parametrize(
    "replacement", ["${NUMBER}", "${DIGITS:a}", "$1", "a b", "x" * 256, "${DIGITS:1:2:3}", "é"]
)
def test_bad_replacements(replacement: str) -> None:
    with pytest.raises(BadPattern, match=r"^must"):
        compile_replacement(replacement)


PLACES = st.lists(
    st.sampled_from(["0", "5", "9", "+", "*", "X", "N", "Z", "[135]", "[2-4]"]), min_size=1, max_size=6
)
NUMBERS = st.text("0123456789+*#", max_size=8)
_AS_REGEX = {"X": "[0-9]", "N": "[2-9]", "Z": "[1-9]", "+": r"\+", "*": r"\*"}


@settings(deadline=None)
@given(PLACES, st.booleans(), NUMBERS)
def test_matching_is_that_of_the_equal_regular_expression(places: list[str], tail: bool, number: str) -> None:
    expression = "".join(_AS_REGEX.get(place, place) for place in places) + ("[0-9+*#]+" if tail else "")
    compiled = compile_pattern("".join(places) + ("." if tail else ""))
    assert compiled.matches(number) is bool(re.fullmatch(expression, number))


@settings(deadline=None)
@given(PLACES, NUMBERS)
def test_a_number_itself_is_closer_than_any_other_pattern_that_matches(
    places: list[str], number: str
) -> None:
    for text in ("".join(places), "".join(places) + "."):
        pattern = compile_pattern(text)
        if number and pattern.matches(number) and text != number:
            assert compile_pattern(number).closeness <= pattern.closeness


@pytest.mark.parametrize(
    ("closer", "wider"),
    [("911", "9XX"), ("9XX", "9."), ("91.", "9X."), ("9[12]1", "9X1"), ("[1-3]X", "N."), ("9N", "9X")],
)
def test_closer_patterns_come_first(closer: str, wider: str) -> None:
    assert compile_pattern(closer).closeness < compile_pattern(wider).closeness
