"""What to do with a REGISTER: challenge, refuse, or hand it to the Registrar. Pure but for the store of nonces.

RFC 3261 §10.3 (registrar), §22 (digest), RFC 7616, RFC 8760: SHA-256 is offered first, MD5 for older phones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from voice.registrar.v1.registrar_service_pb2 import ContactUpdate, RegisterRequest
from voicecore import sip
from voicecore.sip import digest

MAX_CONTACTS = 10
"""Contacts of one REGISTER, as many as bindings of a DN."""
MIN_EXPIRES = 60
"""Shortest registration, seconds (RFC 3261 §10.2.8); shorter ones get 423."""
DEFAULT_EXPIRES = 3600
"""When the phone does not say, seconds."""
ALGORITHMS = ("SHA-256", "MD5")


class Directory(Protocol):
    """What is known of tenants and devices."""

    def tenant_of(self, domain: str) -> str:
        """The tenant that has the domain; "" for none."""

    def password(self, tenant: str, dn: str) -> str | None:
        """Password of a DN; None when the DN does not exist or may not register."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with this status; `challenges` become WWW-Authenticate headers. `counted` names the reason in the metric."""

    status: int
    counted: str
    challenges: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """Hand it to the Registrar."""

    request: RegisterRequest


Decision = Refuse | Ask


class Register:
    """Decides over REGISTER requests of all tenants of one proxy."""

    def __init__(
        self, directory: Directory, nonces: digest.NonceKeeper, algorithms: Sequence[str] = ALGORITHMS
    ) -> None:
        self._directory = directory
        self._nonces = nonces
        self._algorithms = algorithms

    def decide(self, request: sip.Request, source: sip.Address, now: float) -> Decision:
        """The decision. `now`: UTC seconds. Never raises for what a phone may send."""
        try:
            return self._decide(request, source, now)
        except sip.ParseError as error:
            return Refuse(error.status, "malformed")

    def _decide(self, request: sip.Request, source: sip.Address, now: float) -> Decision:
        to = request.to.uri
        domain, user = to.host.lower(), to.user or ""
        tenant = self._directory.tenant_of(domain)
        if not tenant:
            return Refuse(404, "unknown_domain")
        given = request.authorization
        if given is None:
            return self._challenge(domain, now, stale=False, counted="no_credentials")
        authorization = digest.parse_authorization(given)
        if authorization.realm != domain or authorization.username != user:
            return Refuse(403, "foreign_credentials")
        password = self._directory.password(tenant, user)
        if password is None or not digest.verify(authorization, "REGISTER", password=password):
            return Refuse(403, "wrong_credentials")
        match self._nonces.check(authorization.nonce, domain, authorization.nc, now):
            case "good":
                return self._ask(request, tenant, user, source)
            case "replayed":
                return self._challenge(domain, now, stale=True, counted="replayed_nonce")
            case _:
                # Too old, or of another proxy: the phone tries again at once with a nonce of ours.
                return self._challenge(domain, now, stale=True, counted="stale_nonce")

    def _challenge(self, realm: str, now: float, *, stale: bool, counted: str) -> Refuse:
        nonce = self._nonces.create(realm, now)
        challenges = (
            digest.challenge(realm, nonce, algorithm=name, stale=stale) for name in self._algorithms
        )
        return Refuse(401, counted, tuple(challenges))

    def _ask(self, request: sip.Request, tenant: str, dn: str, source: sip.Address) -> Decision:
        wildcard = (request.get("Contact") or "").strip() == "*"
        contacts = [] if wildcard else request.contacts
        if wildcard and request.expires != 0:
            return Refuse(400, "wildcard_with_expiry")
        if len(contacts) > MAX_CONTACTS:
            return Refuse(403, "too_many_contacts")
        default = DEFAULT_EXPIRES if request.expires is None else request.expires
        updates = [_update(contact, default) for contact in contacts]
        if any(0 < update.expires < MIN_EXPIRES for update in updates):
            return Refuse(423, "interval_too_brief", headers=(("Min-Expires", str(MIN_EXPIRES)),))
        cseq = request.cseq
        return Ask(
            RegisterRequest(
                tenant=tenant,
                dn=dn,
                call_id=request.call_id,
                cseq=cseq.number,
                contacts=updates,
                wildcard=wildcard,
                received=f"{source[0]}:{source[1]}",
                path=[str(value) for value in request.get_values("Path")],
                user_agent=(request.get("User-Agent") or "")[:128],
                proxy="",
            )
        )


def _update(contact: sip.NameAddr, default: int) -> ContactUpdate:
    said = contact.param("expires")
    expires = int(said) if said is not None and said.isdigit() else default
    instance = (contact.param("+sip.instance") or "").strip('"')
    reg_id = contact.param("reg-id") or ""
    return ContactUpdate(
        uri=str(contact.uri),
        expires=min(expires, 2**31 - 1),
        q=_preference(contact.param("q")),
        instance_id=instance,
        reg_id=int(reg_id) if reg_id.isdigit() else 0,
    )


def _preference(text: str | None) -> int:
    """q in thousandths; 1000 when not given (RFC 3261 §10.2.1.2 leaves it to us)."""
    try:
        value = 1.0 if text is None or not text else float(text)
    except ValueError:
        return 1000
    return round(min(max(value, 0.0), 1.0) * 1000)


def contact_headers(bindings: list[tuple[str, int, int]]) -> list[tuple[str, str]]:
    """Contact headers of the 200: (uri, seconds left, q in thousandths) of every present binding."""
    return [("Contact", f"<{uri}>;expires={left};q={q / 1000:g}") for uri, left, q in bindings]
