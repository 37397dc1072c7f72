"""What a REGISTER does to the bindings of a DN (RFC 3261 §10.3). Pure: `now_us` is an argument.

Bindings are compared by contact URI, those of RFC 5626 by instance and reg-id. Within a Call-ID the CSeq
orders: an older REGISTER changes nothing and is refused, the same one again is answered as the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.config_cache import Registration
from services.registrar.contact import same_uri

SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class ContactUpdate:
    """One contact of a REGISTER."""

    uri: str
    expires_s: int
    """0 removes."""
    q: int = 1000
    instance_id: str = ""
    reg_id: int = 0


@dataclass(frozen=True, slots=True)
class Register:
    """A REGISTER whose sender is known to be who he says."""

    call_id: str
    cseq: int
    contacts: tuple[ContactUpdate, ...] = ()
    wildcard: bool = False
    received: str = ""
    path: tuple[str, ...] = ()
    proxy: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the installation and the tenant allow."""

    max_bindings: int = 10
    min_expires_s: int = 60
    max_expires_s: int = 3600
    jitter_percent: int = 0
    """By how much less than it asks for a binding may get at most, so that refreshes do not come together."""


class Refused(Exception):
    """The REGISTER changes nothing."""


class TooBrief(Refused):
    """A contact wants less than the least time to live: 423. `contact` is its position."""

    def __init__(self, contact: int, min_expires_s: int) -> None:
        super().__init__(f"must be 0 or at least {min_expires_s} s")
        self.contact = contact
        self.min_expires_s = min_expires_s


class OutOfOrder(Refused):
    """A REGISTER of the same Call-ID with a higher CSeq, or this CSeq with other contents, came before."""


class TooMany(Refused):
    """More bindings than a DN may have."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The bindings after it."""

    bindings: tuple[Registration, ...]
    changed: bool
    """Whether they are to be stored."""


def handle(
    bindings: Sequence[Registration], register: Register, now_us: int, limits: Limits, spread: float = 0.0
) -> Outcome:
    """Applies a REGISTER. `spread` in [0, 1): a random number, how much of the jitter it gets. Raises TooBrief,
    OutOfOrder, TooMany; nothing is changed then (§10.3 step 7)."""
    stored = tuple(bindings)
    present = tuple(binding for binding in stored if binding.expires_us > now_us)
    if register.wildcard:
        return _remove_all(stored, present, register)
    if not register.contacts:
        return Outcome(present, changed=False)
    if _repeated(stored, register):
        return Outcome(present, changed=False)
    after = list(present)
    for position, contact in enumerate(register.contacts):
        _apply(after, position, contact, register, now_us, limits, spread)
    if len(after) > limits.max_bindings:
        raise TooMany(f"at most {limits.max_bindings} bindings a DN")
    return Outcome(tuple(after), changed=tuple(after) != stored)


def _remove_all(
    stored: tuple[Registration, ...], present: tuple[Registration, ...], register: Register
) -> Outcome:
    for binding in present:
        if binding.call_id == register.call_id and register.cseq <= binding.cseq:
            raise OutOfOrder(f"CSeq {register.cseq} is not above {binding.cseq}")
    return Outcome((), changed=bool(stored))


def _repeated(stored: Sequence[Registration], register: Register) -> bool:
    """Whether this very REGISTER has been carried out: each contact that it adds carries its Call-ID and CSeq."""
    for contact in register.contacts:
        binding = _find(stored, contact)
        if contact.expires_s == 0:
            if binding is not None:
                return False
        elif binding is None or (binding.call_id, binding.cseq) != (register.call_id, register.cseq):
            return False
    return any(contact.expires_s for contact in register.contacts)


def _apply(
    after: list[Registration],
    position: int,
    contact: ContactUpdate,
    register: Register,
    now_us: int,
    limits: Limits,
    spread: float,
) -> None:
    binding = _find(after, contact)
    if binding is not None and binding.call_id == register.call_id and register.cseq <= binding.cseq:
        if binding.cseq == register.cseq:
            raise OutOfOrder(f"CSeq {register.cseq} was used for other contacts")
        raise OutOfOrder(f"CSeq {register.cseq} is not above {binding.cseq}")
    if 0 < contact.expires_s < limits.min_expires_s:
        raise TooBrief(position, limits.min_expires_s)
    if contact.expires_s == 0:
        if binding is not None:
            after.remove(binding)
        return
    new = Registration(
        contact=contact.uri,
        received=register.received,
        path=register.path,
        q=contact.q,
        expires_us=now_us + granted(contact.expires_s, limits, spread) * SECOND_US,
        call_id=register.call_id,
        cseq=register.cseq,
        instance_id=contact.instance_id,
        reg_id=contact.reg_id,
        proxy=register.proxy,
        user_agent=register.user_agent,
    )
    if binding is not None:
        after[after.index(binding)] = new
    else:
        after.append(new)


def granted(wanted_s: int, limits: Limits, spread: float) -> int:
    """Seconds that a contact gets: what it asks for, at most what the tenant allows, less its share of the jitter;
    never below the least. A registrar may shorten (§10.3 step 8); phones refresh by what they were granted."""
    most = min(wanted_s, limits.max_expires_s)
    return max(most - int(most * limits.jitter_percent / 100 * spread), min(most, limits.min_expires_s))


def _find(bindings: Sequence[Registration], contact: ContactUpdate) -> Registration | None:
    for binding in bindings:
        if contact.instance_id and contact.reg_id:
            if (binding.instance_id, binding.reg_id) == (contact.instance_id, contact.reg_id):
                return binding
        elif same_uri(binding.contact, contact.uri):
            return binding
    return None


def expire(bindings: Sequence[Registration], now_us: int) -> tuple[Registration, ...]:
    """The bindings that have not ended."""
    return tuple(binding for binding in bindings if binding.expires_us > now_us)
