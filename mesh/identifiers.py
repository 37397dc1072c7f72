"""Identifiers that carry where their owner is: bit layouts of docs/identifiers.md, version 1.

Pure: time and randomness are arguments. Functions that read an identifier raise `BadIdentifier` for
anything that is not one of ours, so a number somebody made up never addresses a slot.
"""

from __future__ import annotations

import re
import uuid
from functools import lru_cache

from mesh.stable_hash import slot

SIP_SLOTS = 1024
"""Slots of calls in the SIP cluster; fixed for good."""
THREAD_SLOTS = 256
"""Slots of call threads (RQ, Call State, Orchestration); fixed for good."""
AGENT_SLOTS = 256
"""Slots of agents (Agent State); fixed for good."""
REGIONS = 64

VERSION = 1
EPOCH_MS = 1_735_689_600_000
"""2025-01-01T00:00:00Z in ms since 1970: where the time in a ConnID starts."""
_TICKS = 1 << 36
_TICK_MS = 10

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_TAG = re.compile(r"v1([0-9a-f]{3})-([a-z2-7]{1,64})")
_BRANCH = re.compile(r"z9hG4bKv1([0-9a-f]{3})-([A-Za-z0-9.!%*_+`'~-]{1,200})")
_PARAM = re.compile(r"[0-9a-f]{3}")
_REGION_NUMBER = re.compile(r".*?([0-9]*)")
_SESSION = re.compile(r"([0-9a-f-]{36})\.([1-9][0-9]{0,19})")


class BadIdentifier(ValueError):
    """The text or number is no identifier of this platform (or of a layout version this release knows)."""


# -- ConnID ------------------------------------------------------------------------------------------


def new_conn_id(region: int, sip_slot: int, now_ms: int, random: int) -> int:
    """A ConnID: version 4 bits | region 6 | SIP slot 10 | time 36 (10 ms since 2025) | random 8.

    `now_ms`: UTC ms since 1970; `random`: 0 … 255. The creator owns the slot, so it draws again when a live
    call has the number. Lasts until 2046.
    """
    _check("region", region, REGIONS)
    _check("sip_slot", sip_slot, SIP_SLOTS)
    _check("random", random, 256)
    ticks = (now_ms - EPOCH_MS) // _TICK_MS
    _check("now_ms (in 10 ms since 2025)", ticks, _TICKS)
    return VERSION << 60 | region << 54 | sip_slot << 44 | ticks << 8 | random


def sip_slot_of_conn_id(conn_id: int) -> int:
    """SIP slot of a ConnID. Raises BadIdentifier."""
    return _conn_id(conn_id) >> 44 & 0x3FF


def region_of_conn_id(conn_id: int) -> int:
    """Region number of a ConnID. Raises BadIdentifier."""
    return _conn_id(conn_id) >> 54 & 0x3F


def time_of_conn_id(conn_id: int) -> int:
    """When the ConnID was made, UTC ms since 1970, to 10 ms. Raises BadIdentifier."""
    return EPOCH_MS + (_conn_id(conn_id) >> 8 & (_TICKS - 1)) * _TICK_MS


def conn_id_text(conn_id: int) -> str:
    """16 hex digits, as logs and clients show a ConnID."""
    return f"{conn_id:016x}"


def parse_conn_id(text: str) -> int:
    """The ConnID of `conn_id_text`. Raises BadIdentifier."""
    if not re.fullmatch(r"[0-9a-f]{16}", text):
        raise BadIdentifier(f"ConnID {text[:32]!r}: must be 16 hex digits")
    return _conn_id(int(text, 16))


def _conn_id(conn_id: int) -> int:
    if not 0 <= conn_id < 1 << 64 or conn_id >> 60 != VERSION:
        raise BadIdentifier(f"ConnID {conn_id:#x}: must be 64 bits of layout version {VERSION}")
    return conn_id


# -- CallUUID ----------------------------------------------------------------------------------------


def new_call_uuid(region: int, sip_slot: int, now_ms: int, random: int) -> str:
    """A CallUUID: UUIDv8 (RFC 9562 §5.8) text. 48 bits UTC ms | 0b1000 | layout 2, slot 10 | 0b10 | region 6,
    random 56. `random`: 0 … 2^56 - 1."""
    _check("region", region, REGIONS)
    _check("sip_slot", sip_slot, SIP_SLOTS)
    _check("random", random, 1 << 56)
    _check("now_ms", now_ms, 1 << 48)
    high = now_ms << 16 | 0x8 << 12 | VERSION << 10 | sip_slot
    low = 0b10 << 62 | region << 56 | random
    return str(uuid.UUID(int=high << 64 | low))


def sip_slot_of_call_uuid(call_uuid: str) -> int:
    """SIP slot of a CallUUID. Raises BadIdentifier."""
    return _call_uuid(call_uuid) >> 64 & 0x3FF


def region_of_call_uuid(call_uuid: str) -> int:
    """Region number of a CallUUID. Raises BadIdentifier."""
    return _call_uuid(call_uuid) >> 56 & 0x3F


def time_of_call_uuid(call_uuid: str) -> int:
    """When the CallUUID was made, UTC ms since 1970. Raises BadIdentifier."""
    return _call_uuid(call_uuid) >> 80


def _call_uuid(text: str) -> int:
    try:
        value = uuid.UUID(text).int
    except ValueError:
        value = 0
    ours = value >> 76 & 0xF == 8 and value >> 74 & 0x3 == VERSION and value >> 62 & 0x3 == 0b10
    if not ours or len(text) != 36:
        raise BadIdentifier(f"CallUUID {text[:40]!r}: must be a UUIDv8 of layout version {VERSION}")
    return value


@lru_cache(maxsize=16_384)
def thread_slot(call_thread_id: str) -> int:
    """Slot of a call thread: its events, its thread state, its sessions. Asked for every event of a call."""
    return slot(call_thread_id, THREAD_SLOTS)


def agent_slot(tenant: str, subject: str) -> int:
    """Slot of an agent or device; `subject` is "agent:<agent id>" or "dn:<number>"."""
    return slot(f"{tenant}:{subject}", AGENT_SLOTS)


# -- SIP ---------------------------------------------------------------------------------------------


def new_tag(sip_slot: int, random: int) -> str:
    """Tag of our From or To: "v1<slot, 3 hex>-<16 base32>"; `random`: 0 … 2^80 - 1 (RFC 3261 §19.3 asks for
    32 bits of it)."""
    return f"v1{slot_param(sip_slot)}-{_base32(random)}"


def sip_slot_of_tag(tag: str) -> int:
    """SIP slot of a tag of ours. Raises BadIdentifier for anybody else's."""
    return _slot_in(_TAG, tag, "tag")


def new_branch(sip_slot: int, random: int) -> str:
    """Branch of our Via: "z9hG4bKv1<slot, 3 hex>-<16 base32>" (RFC 3261 §8.1.1.7); `random`: 0 … 2^80 - 1."""
    return f"z9hG4bKv1{slot_param(sip_slot)}-{_base32(random)}"


def sip_slot_of_branch(branch: str) -> int:
    """SIP slot of a branch of ours. Raises BadIdentifier for anybody else's."""
    return _slot_in(_BRANCH, branch, "branch")


def slot_param(sip_slot: int) -> str:
    """Value of the `vs` parameter of our Record-Route URI: 3 hex digits."""
    _check("sip_slot", sip_slot, SIP_SLOTS)
    return f"{sip_slot:03x}"


def sip_slot_of_param(text: str) -> int:
    """SIP slot of a `vs` parameter. Raises BadIdentifier."""
    if not _PARAM.fullmatch(text) or int(text, 16) >= SIP_SLOTS:
        raise BadIdentifier(f"vs parameter {text[:16]!r}: must be 3 hex digits below 400")
    return int(text, 16)


def _slot_in(pattern: re.Pattern[str], text: str, what: str) -> int:
    match = pattern.fullmatch(text)
    if not match or int(match[1], 16) >= SIP_SLOTS:
        raise BadIdentifier(f"{what} {text[:64]!r}: not one of ours")
    return int(match[1], 16)


def _base32(random: int) -> str:
    _check("random", random, 1 << 80)
    return "".join(_BASE32[random >> shift & 31] for shift in range(75, -1, -5))


# -- sessions, events, regions -----------------------------------------------------------------------


def session_id(call_uuid: str, seq: int) -> str:
    """Orchestration session of a call: "<CallUUID>.<seq of its route request>", seq from 1."""
    if seq < 1:
        raise BadIdentifier(f"seq {seq}: must be at least 1")
    return f"{call_uuid}.{seq}"


def call_of_session(session: str) -> tuple[str, int]:
    """CallUUID and seq of a session id. Raises BadIdentifier."""
    match = _SESSION.fullmatch(session)
    if not match:
        raise BadIdentifier(f"session id {session[:64]!r}: must be <CallUUID>.<seq>")
    return match[1], int(match[2])


def event_id(stream_key: str, seq: int) -> str:
    """Id of an event: "<stream key>/<seq>"; the same event always has the same id."""
    return f"{stream_key}/{seq}"


def region_number(region: str) -> int:
    """Number of a region by its name: the digits at the end, 0 without any ("local" 0, "eu-7" 7).

    BadIdentifier above 63. Two regions that exchange calls need different numbers.
    """
    match = _REGION_NUMBER.fullmatch(region)
    number = int(match[1] or 0) if match else 0
    if number >= REGIONS:
        raise BadIdentifier(f"region {region!r}: its number must be below {REGIONS}")
    return number


def _check(name: str, value: int, limit: int) -> None:
    if not 0 <= value < limit:
        raise BadIdentifier(f"{name} {value}: must be 0 to {limit - 1}")
