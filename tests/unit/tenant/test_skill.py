"""Skill expressions: what parses, what does not and where, and what they mean."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tenant.skill import All, Any, Comparison, Expression, ExpressionError, parse

VALID = {
    "English=20": [({"English": 20}, True), ({"English": 19}, False), ({}, False)],
    "English != 20": [({"English": 19}, True), ({"English": 20}, False), ({}, False)],
    "English<5": [({"English": 4}, True), ({"English": 5}, False), ({}, False)],
    "English <= 5": [({"English": 5}, True), ({"English": 6}, False)],
    "English>5": [({"English": 6}, True), ({"English": 5}, False)],
    "English >= 5": [({"English": 5}, True), ({"English": 4}, False)],
    "English=20&Loans=2": [({"English": 20, "Loans": 2}, True), ({"English": 20}, False)],
    "English>1 | French>1": [({"French": 2}, True), ({"English": 2}, True), ({"German": 9}, False)],
    "A>1&B>1|C>1": [({"C": 2}, True), ({"A": 2, "B": 2}, True), ({"A": 2}, False)],
    "A>1&(B>1|C>1)": [({"A": 2, "C": 2}, True), ({"C": 2}, False)],
    "((A=1))": [({"A": 1}, True)],
    '"Card loss" >= 3': [({"Card loss": 3}, True), ({"Card loss": 2}, False)],
    "_x1=0": [({"_x1": 0}, True)],
    "  A  =  1  ": [({"A": 1}, True)],
    "A=1&B=2&C=3": [({"A": 1, "B": 2, "C": 3}, True), ({"A": 1, "B": 2}, False)],
    "A=1|B=2|C=3": [({"C": 3}, True), ({}, False)],
    "(A=1|B=2)&(C=3|D=4)": [({"A": 1, "D": 4}, True), ({"A": 1, "B": 2}, False)],
    "A=1000": [({"A": 1000}, True)],
    "A >= 0": [({"A": 0}, True), ({}, False)],
    "A!=1&A!=2": [({"A": 3}, True), ({"A": 2}, False)],
}
INVALID = {
    "": 0,
    "   ": 3,
    "English": 7,
    "English >": 9,
    "English > five": 10,
    "> 5": 0,
    "English 5": 8,
    "English => 5": 9,
    "English == 5": 9,
    "English > 1001": 10,
    "English > -1": 10,
    "A=1 B=2": 4,
    "A=1 &": 5,
    "A=1 & & B=2": 6,
    "A=1 && B=2": 5,
    "(A=1": 4,
    "A=1)": 3,
    "()": 1,
    "| A=1": 0,
    "5=A": 0,
    "A=1;B=2": 3,
    '"open=1': 0,
    "A=1.5": 3,
    "é=1": 0,
}


@pytest.mark.parametrize(
    ("text", "levels", "expected"), [(t, lv, e) for t, rows in VALID.items() for lv, e in rows]
)
def test_a_valid_expression_means_what_it_says(text: str, levels: dict[str, int], expected: bool) -> None:
    assert parse(text).holds(levels) is expected


@pytest.mark.parametrize(("text", "position"), INVALID.items())
def test_an_invalid_expression_is_refused_at_its_position(text: str, position: int) -> None:
    with pytest.raises(ExpressionError) as error:
        parse(text)
    assert error.value.position == position
    assert str(position) in str(error.value)


def test_limits_on_length_and_nesting() -> None:
    with pytest.raises(ExpressionError, match="1024"):
        parse("A=1" + " " * 1024)
    assert parse("(" * 32 + "A=1" + ")" * 32) == Comparison("A", "=", 1)
    with pytest.raises(ExpressionError, match="32 nested"):
        parse("(" * 33 + "A=1" + ")" * 33)


SKILLS = ["English", "French", "Loans", "Cards", "VIP"]
OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
comparisons = st.builds(
    Comparison, st.sampled_from(SKILLS), st.sampled_from(list(OPERATORS)), st.integers(0, 1000)
)
expressions: st.SearchStrategy[Expression] = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: All(tuple(parts))),
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: Any(tuple(parts))),
    ),
    max_leaves=12,
)


def _text(expression: Expression) -> str:
    if isinstance(expression, Comparison):
        return f"{expression.skill} {expression.op} {expression.level}"
    mark = " & " if isinstance(expression, All) else " | "
    return "(" + mark.join(_text(part) for part in expression.parts) + ")"


def _brute(expression: Expression, levels: dict[str, int]) -> bool:
    if isinstance(expression, Comparison):
        return expression.skill in levels and OPERATORS[expression.op](
            levels[expression.skill], expression.level
        )
    results = [_brute(part, levels) for part in expression.parts]
    return all(results) if isinstance(expression, All) else any(results)


@given(expressions, st.dictionaries(st.sampled_from(SKILLS), st.integers(0, 1000)))
def test_the_engine_equals_brute_force(expression: Expression, levels: dict[str, int]) -> None:
    assert parse(_text(expression)).holds(levels) is _brute(expression, levels)
