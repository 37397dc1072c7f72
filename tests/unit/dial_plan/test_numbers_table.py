"""What numbers mean: a table of destinations as dialled inside, from a trunk and by a stranger."""

from __future__ import annotations

import pytest

from services.dial_plan.policy import Barred, DeviceType, DialPlan, Query, Refusal, UnknownDestination
from services.dial_plan.source import Source
from tests.unit.dial_plan.world import NOW_US, world

WORLD = world()
PLAN = DialPlan(WORLD.view)

EXT, RP, AGENT, OUT, VM, VIRTUAL = (
    DeviceType.EXTENSION,
    DeviceType.ROUTE_POINT,
    DeviceType.AGENT,
    DeviceType.EXTERNAL,
    DeviceType.VOICEMAIL,
    DeviceType.VIRTUAL,
)
NOWHERE, BARRED = UnknownDestination, Barred

INSIDE = [
    # dialled, type, DN, number as sent
    ("1001", EXT, "1001", "1001"),
    ("vip", EXT, "vip", "vip"),
    ("8000", RP, "8000", "8000"),
    ("8001", RP, "8001", "8001"),
    ("VQ1", VIRTUAL, "VQ1", "VQ1"),
    ("7000", VIRTUAL, "7000", "7000"),
    ("5555", VM, "5555", "5555"),
    ("A1", AGENT, "", "A1"),
    ("ada", AGENT, "", "ada"),
    ("0", EXT, "1001", "1001"),
    ("5550199", RP, "8000", "8000"),
    ("911", OUT, "trunk-main", "911"),
    ("912", EXT, "1003", "1003"),
    ("92125551234", OUT, "trunk-main", "+12125551234"),
    ("92025550143", OUT, "trunk-main", "+12025550143"),
    ("9011442079460000", OUT, "trunk-uk", "00442079460000"),
    ("901149301234567", OUT, "trunk-main", "+49301234567"),
    ("+442079460000", OUT, "trunk-uk", "00442079460000"),
    ("+12125551234", OUT, "trunk-main", "+12125551234"),
    ("2125551234", OUT, "trunk-main", "+12125551234"),
    ("8812345", OUT, "trunk-88", "8812345"),
    ("*72", OUT, "trunk-main", "*72"),
    ("9190012345", BARRED, "", ""),
    ("1009", OUT, "trunk-main", "1009"),
    ("trunk-main", NOWHERE, "", ""),
    ("nobody", NOWHERE, "", ""),
    ("1001@elsewhere", NOWHERE, "", ""),
    ("+", NOWHERE, "", ""),
]

FROM_A_TRUNK = [
    ("8000", RP, "8000", "8000"),
    ("1001", EXT, "1001", "1001"),
    ("+18005550100", RP, "8005550100", "8005550100"),
    ("18005550100", RP, "8005550100", "8005550100"),
    ("8005550100", RP, "8005550100", "8005550100"),
    ("2125550101", RP, "+12125550101", "+12125550101"),
    ("12125550101", RP, "+12125550101", "+12125550101"),
    ("5550101", RP, "8000", "8000"),
    ("A1", AGENT, "", "A1"),
    ("0", EXT, "1001", "1001"),
    ("92125551234", NOWHERE, "", ""),
    ("+442079460000", NOWHERE, "", ""),
    ("9190012345", BARRED, "", ""),
    ("1009", NOWHERE, "", ""),
]

Expected = DeviceType | type[Refusal]


def check(query: Query, expected: Expected, dn: str, number: str) -> None:
    if isinstance(expected, DeviceType):
        found = PLAN.resolve(query, NOW_US)
        assert (found.type, found.dn, found.number) == (expected, dn, number)
    else:
        with pytest.raises(expected):
            PLAN.resolve(query, NOW_US)


@pytest.mark.parametrize(("dialled", "expected", "dn", "number"), INSIDE)
def test_dialled_inside(dialled: str, expected: Expected, dn: str, number: str) -> None:
    check(Query(dialled, tenant="t1", caller_dn="1002"), expected, dn, number)


@pytest.mark.parametrize(("dialled", "expected", "dn", "number"), INSIDE)
def test_dialled_by_a_registered_phone(dialled: str, expected: Expected, dn: str, number: str) -> None:
    source = Source("10.5.1.1:5060", "t1.example", "t1.example", "1001")
    check(Query(dialled, source=source), expected, dn, number)


@pytest.mark.parametrize(("dialled", "expected", "dn", "number"), FROM_A_TRUNK)
def test_coming_in_over_a_trunk(dialled: str, expected: Expected, dn: str, number: str) -> None:
    source = Source("10.0.1.77:5060", "anything.example", "carrier.example", "+13125550000")
    check(Query(dialled, source=source), expected, dn, number)


@pytest.mark.parametrize(
    ("dialled", "expected", "dn", "number"),
    [
        ("8000", RP, "8000", "8000"),
        ("1001", EXT, "1001", "1001"),
        ("92125551234", NOWHERE, "", ""),
        ("911", NOWHERE, "", ""),
        ("+442079460000", NOWHERE, "", ""),
    ],
)
def test_called_by_a_stranger_who_claims_to_be_a_phone(
    dialled: str, expected: Expected, dn: str, number: str
) -> None:
    source = Source("203.0.113.9:5060", "t1.example", "t1.example", "1001")
    check(Query(dialled, source=source), expected, dn, number)


@pytest.mark.parametrize(
    ("dialled", "expected", "dn", "number"),
    [
        ("8000", RP, "8000", "8000"),
        ("030123456", OUT, "trunk-main", "+4930123456"),
        ("0012125551234", OUT, "trunk-main", "+12125551234"),
        ("+12125551234", OUT, "trunk-main", "+12125551234"),
        ("911", OUT, "trunk-main", "911"),
    ],
)
def test_the_other_tenant_has_its_own_plan(dialled: str, expected: Expected, dn: str, number: str) -> None:
    check(Query(dialled, tenant="t2", caller_dn="1002"), expected, dn, number)


def test_there_are_thirty_numbers_and_more() -> None:
    assert len(INSIDE) + len(FROM_A_TRUNK) >= 40
