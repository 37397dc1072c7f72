"""The contracts' own rules: each is broken once here, so that none can be a rule that never fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.contract_rules import NO_BINDING, NO_TENANT, Rpc, load, problems, rpc_problems, rpcs
from scripts.feature_record import ROOT

GOOD = Rpc(
    name="voice.x.v1.XService.Get",
    comment=" Gets.\n Errors: none. May be called by: every service,\n clients of the tenant.\n",
    request="voice.x.v1.GetRequest",
    client_streaming=False,
    bound=True,
)


def found(
    rpc: Rpc, scoped: bool = True, no_tenant: tuple[str, ...] = (), no_binding: tuple[str, ...] = ()
) -> str:
    exceptions = [dict.fromkeys(names, "for this test") for names in (no_tenant, no_binding)]
    return "\n".join(rpc_problems({rpc.name: rpc}, {rpc.request: scoped}, *exceptions))


def test_callers_are_read_from_the_comment() -> None:
    assert GOOD.callers == "every service, clients of the tenant"
    assert GOOD.public
    assert replace(GOOD, comment="May be called by: anybody through the edge.").public
    internal = replace(GOOD, comment="May be called by: tenant, operators.")
    assert not internal.public
    assert internal.outside
    assert not replace(GOOD, comment="May be called by: tenant.").outside


def test_a_good_rpc_breaks_no_rule() -> None:
    assert found(GOOD) == ""
    assert found(replace(GOOD, comment="May be called by: tenant.", bound=False), scoped=False) == ""
    assert found(replace(GOOD, client_streaming=True, bound=False)) == ""


@pytest.mark.parametrize(
    ("rpc", "scoped", "problem"),
    [
        (replace(GOOD, comment="Gets.", bound=False), True, "must end with who may call it"),
        (
            replace(GOOD, comment=GOOD.comment.replace("none", "NOT_OWNR, TIMEOUT")),
            True,
            "error NOT_OWNR, which is no",
        ),
        (GOOD, False, "a field must be marked tenant_scope"),
        (replace(GOOD, bound=False), True, "needs an HTTP binding"),
        (replace(GOOD, client_streaming=True), True, "its client streams"),
        (replace(GOOD, comment="May be called by: tenant."), True, "nobody outside may call it"),
    ],
)
def test_a_broken_rule_is_told(rpc: Rpc, scoped: bool, problem: str) -> None:
    said = found(rpc, scoped)
    assert problem in said
    assert said.startswith(GOOD.name)
    assert "\n" not in said


def test_an_exception_needs_to_be_listed_and_to_exist() -> None:
    assert found(GOOD, False, no_tenant=(GOOD.name,)) == ""
    assert found(replace(GOOD, bound=False), no_binding=(GOOD.name,)) == ""
    assert found(GOOD, no_tenant=("voice.x.v1.XService.Gone",)) == (
        "voice.x.v1.XService.Gone: is excepted from a rule but is no RPC"
    )


def test_every_exception_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in (*NO_TENANT.values(), *NO_BINDING.values()))


def test_our_contracts_keep_the_rules() -> None:
    files = load(ROOT / "gen" / "voicemesh.binpb")
    assert len(list(rpcs(files))) > 40
    assert problems(files) == []
