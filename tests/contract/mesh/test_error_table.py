"""The error table says of every reason what the contract's comment says."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import DETAIL_MESSAGES, STATUS_SLI, TABLE, Sli
from scripts.contract_rules import documented_numbers, load, reason_comments, table_problems
from scripts.feature_record import ROOT

COMMENTS = reason_comments(load(ROOT / "gen" / "voicemesh.binpb"))


def test_every_reason_has_a_comment_with_its_numbers() -> None:
    assert set(COMMENTS) == set(Reason.keys())
    assert documented_numbers(COMMENTS["REASON_UNKNOWN_CALL"]) == ("NOT_FOUND", 481, 56)


def test_table_and_comments_agree() -> None:
    assert list(table_problems(COMMENTS, TABLE)) == []


@pytest.mark.parametrize("name", Reason.keys())
def test_a_changed_row_would_be_noticed(name: str) -> None:
    reason = Reason.Value(name)
    for change in (
        {"sip": 999},
        {"tlib": 9999},
        {"grpc": next(s for s in STATUS_SLI if s is not TABLE[reason].grpc)},
    ):
        changed = {**TABLE, reason: replace(TABLE[reason], **change)}
        (problem,) = table_problems(COMMENTS, changed)
        assert problem.startswith(f"{name}: the comment says")
    without = {known: row for known, row in TABLE.items() if known != reason}
    assert list(table_problems(COMMENTS, without)) == [f"{name}: missing in the error table"]


def test_a_reason_without_numbers_and_one_without_a_contract_are_noticed() -> None:
    assert list(table_problems({**COMMENTS, "REASON_TIMEOUT": "Too late."}, TABLE)) == [
        "REASON_TIMEOUT: its comment must end with <gRPC status> / <SIP status> / <T-Library number>."
    ]
    fewer = {name: comment for name, comment in COMMENTS.items() if name != "REASON_TIMEOUT"}
    assert list(table_problems(fewer, TABLE)) == ["reason 18 of the error table is in no contract"]


def test_only_what_may_succeed_unchanged_is_retryable() -> None:
    """A request that is wrong stays wrong: of those who are to blame themselves only the rate-limited and
    who met a reservation may try again."""
    blamed = {r for r, row in TABLE.items() if row.sli is Sli.CLIENT_ERROR and row.retryable}
    assert blamed == {Reason.REASON_RATE_LIMITED, Reason.REASON_AGENT_RESERVED}
    assert not TABLE[Reason.REASON_INTERNAL].retryable


def test_every_status_has_an_sli_class_and_only_ok_is_success() -> None:
    assert set(STATUS_SLI) == set(grpc.StatusCode)
    assert [status.name for status, sli in STATUS_SLI.items() if sli is Sli.SUCCESS] == ["OK"]
    assert Sli.SUCCESS not in {row.sli for row in TABLE.values()}


def test_detail_messages_belong_to_reasons_of_the_table() -> None:
    assert set(DETAIL_MESSAGES) <= set(TABLE)
