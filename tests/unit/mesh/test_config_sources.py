"""Trunks by the address a request came from."""

from __future__ import annotations

import pytest
from voice.config.v1 import object_pb2 as o
from voice.config.v1.object_pb2 import ConfigObject

from mesh.config_objects import Dn, entry_of
from mesh.config_sources import TrunkSources, split_address


def trunk(number: str, *sources: str, contact: str = "10.9.9.9:5060", enabled: bool = True) -> Dn:
    settings = o.TrunkSettings(contact=contact, sources=sources)
    entry = entry_of(
        "t1", ConfigObject(dn=o.Dn(number=number, type=o.DN_TYPE_TRUNK, enabled=enabled, trunk=settings))
    )
    assert isinstance(entry, Dn)
    return entry


TRUNKS = TrunkSources(
    [
        trunk("wide", "10.0.0.0/8"),
        trunk("narrow", "10.1.0.0/16", "2001:db8::/32"),
        trunk("narrow too", "10.1.0.0/16"),
        trunk("host", "10.1.1.1"),
        trunk("port", "10.1.1.1:5070"),
        trunk("contact", contact="192.0.2.7:5060"),
        trunk("off", "198.51.100.1", enabled=False),
        trunk("v6", "[2001:db8::5]:5060"),
    ]
)


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("10.2.3.4:5060", ["wide"]),
        ("10.1.3.4:5060", ["narrow", "narrow too"]),
        ("10.1.1.1:5060", ["host"]),
        ("10.1.1.1:5070", ["port"]),
        ("192.0.2.7:5060", ["contact"]),
        ("192.0.2.7:49152", ["contact"]),
        ("198.51.100.1:5060", []),
        ("203.0.113.1:5060", []),
        ("[2001:db8::1]:5060", ["narrow"]),
        ("[2001:db8::5]:5060", ["v6"]),
        ("gateway.example:5060", []),
        ("", []),
    ],
)
def test_the_closest_source_wins(address: str, names: list[str]) -> None:
    assert [dn.number for dn in TRUNKS.match(address)] == names


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("h:1", ("h", "1")),
        ("H", ("h", "")),
        ("[::1]:5060", ("::1", "5060")),
        ("[::1]", ("::1", "")),
        ("2001:db8::1", ("2001:db8::1", "")),
    ],
)
def test_addresses_are_split(address: str, parts: tuple[str, str]) -> None:
    assert split_address(address) == parts
