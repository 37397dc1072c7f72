"""Names of the keys in etcd, and nothing else knows them (README.md has the table)."""

from __future__ import annotations

from dataclasses import dataclass

from services.config.schema import TYPE_OF


@dataclass(frozen=True, slots=True)
class Parsed:
    """A key under the prefix."""

    tenant: str
    """Tenant id; "" for keys of the installation."""
    kind: str
    """Kind of object, "counter", "registrations", "logins", "dn_logins", "_domains", "_nodes"."""
    id: str
    """The rest."""


class Keys:
    """Keys of one region."""

    def __init__(self, region: str) -> None:
        self.prefix = f"/voicemesh/{region}/config/"

    def object(self, tenant: str, kind: str, dbid: int) -> str:
        """An object: ConfigRecord."""
        return f"{self.prefix}{tenant}/{kind}/{dbid:010d}"

    def counter(self, tenant: str) -> str:
        """The next DBID, as text. Every write of the tenant's objects puts it, so its mod_revision is the
        revision of the tenant's objects and guards all of them at once."""
        return f"{self.prefix}{tenant}/counter"

    def registrations(self, tenant: str, dn: str) -> str:
        """The bindings of a DN: DnRegistrations. Absent when there is none."""
        return f"{self.prefix}{tenant}/registrations/{dn}"

    def login(self, tenant: str, agent_id: str) -> str:
        """The login of an agent: Login."""
        return f"{self.prefix}{tenant}/logins/{agent_id}"

    def dn_login(self, tenant: str, dn: str) -> str:
        """The agent on a DN: login code as text."""
        return f"{self.prefix}{tenant}/dn_logins/{dn}"

    def domain(self, domain: str) -> str:
        """The tenant that has a SIP domain: tenant id as text."""
        return f"{self.prefix}_domains/{domain.lower()}"

    def node(self, node: str) -> str:
        """Sign of life of a Config node; see copy.py."""
        return f"{self.prefix}_nodes/{node}"

    def secret_key_id(self) -> str:
        """Id of the key that DN passwords were sealed with first."""
        return f"{self.prefix}_key"

    def parse(self, key: str) -> Parsed | None:
        """What a key stands for; None for one of a later release."""
        parts = key.removeprefix(self.prefix).split("/")
        if len(parts) == 2 and parts[0] in ("_domains", "_nodes"):
            return Parsed("", parts[0], parts[1])
        if len(parts) == 2 and parts[1] == "counter":
            return Parsed(parts[0], "counter", "")
        if len(parts) != 3:
            return None
        if parts[1] in TYPE_OF:
            return Parsed(parts[0], parts[1], str(int(parts[2])))
        if parts[1] in ("registrations", "logins", "dn_logins"):
            return Parsed(parts[0], parts[1], parts[2])
        return None
