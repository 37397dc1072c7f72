"""Which trunks a number outside may take. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from mesh.config_cache import Dn


@dataclass(frozen=True, slots=True)
class Way:
    """A trunk and the number to send over it."""

    trunk: Dn
    number: str
    uri: str
    """SIP URI of the number at the trunk's peer."""


def ways(trunks: Iterable[Dn], number: str, full: str) -> list[Way]:
    """The trunks for a number, best first: longest prefix only; among equal prefixes by priority; equals share
    the load by the number. `number` as dialled after translation, `full` in E.164 or "".

    A prefix of digits is matched against the number as dialled, one with "+" or none against E.164 when there
    is such a form. Capacity and service state are the SIP cluster's to know: it goes on to the next.
    """
    matching = list[tuple[Dn, str]]()
    for dn in trunks:
        if dn.trunk is None or not dn.enabled:
            continue
        form = full if full and (not dn.trunk.prefix or dn.trunk.prefix.startswith("+")) else number
        if form.startswith(dn.trunk.prefix):
            matching.append((dn, form))
    longest = max((len(dn.trunk.prefix) for dn, _ in matching if dn.trunk), default=0)
    chosen = [(dn, form) for dn, form in matching if dn.trunk and len(dn.trunk.prefix) == longest]
    chosen.sort(key=lambda pair: (-(pair[0].trunk.priority if pair[0].trunk else 0), _share(number, pair[0])))
    return [_way(dn, form) for dn, form in chosen]


def _share(number: str, dn: Dn) -> int:
    # Rendezvous: each number has its own order of equal trunks, the same on every node.
    return zlib.crc32(f"{number}/{dn.number}".encode())


def _way(dn: Dn, form: str) -> Way:
    trunk = dn.trunk
    assert trunk is not None  # ways() takes trunks only
    sent = trunk.replace_prefix + form[len(trunk.prefix) :] if trunk.replace_prefix else form
    return Way(dn, sent, f"sip:{sent}@{trunk.contact}")
