"""Numbers: what they look like here and in E.164. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers

DIALLABLE = re.compile(r"\+?[0-9*#]{1,32}")
"""What may be sent to a trunk."""
SHORTEST_NATIONAL = 7
"""A number dialled without "+" and shorter than this is no subscriber's but a service: 112, 911, 115 must reach
the trunk as they are, and where numbers have no fixed length they would pass for subscribers' otherwise."""


@lru_cache(maxsize=65536)
def e164(number: str, country: str) -> str:
    """The number in E.164 with "+", as dialled within `country` (ISO 3166 alpha-2); "" when it is none that
    could exist there (short codes and service numbers among them)."""
    if not DIALLABLE.fullmatch(number) or not (number.startswith("+") or country):
        return ""
    if not number.startswith("+") and len(number) < SHORTEST_NATIONAL:
        return ""
    try:
        parsed = phonenumbers.parse(number, country or None)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_possible_number(parsed):
        return ""
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


@lru_cache(maxsize=65536)
def inbound_forms(number: str, country: str) -> tuple[str, ...]:
    """The forms under which a number that came in may be configured: as it came, E.164 with and without "+",
    and national, with and without the national prefix."""
    forms = [number]
    full = e164(number, country)
    if full:
        parsed = phonenumbers.parse(full, None)
        national = phonenumbers.national_significant_number(parsed)
        metadata = phonenumbers.PhoneMetadata.metadata_for_region(country, None)
        prefix = metadata.national_prefix if metadata is not None else ""
        forms += [full, full[1:], national, *([prefix + national] if prefix else [])]
    return tuple(dict.fromkeys(forms))
