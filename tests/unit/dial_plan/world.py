"""A small installation for dial plan tests: two tenants with the same numbers."""

from __future__ import annotations

from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1 import object_pb2 as o
from voice.config.v1 import registration_pb2 as r
from voice.config.v1.object_pb2 import ConfigObject

from mesh.config_cache import ConfigView

NOW_US = 1_000_000_000


def annex(**options: str) -> list[o.OptionSection]:
    """Options of the telephony section; _ stands for -."""
    named = [o.Option(name=name.replace("_", "-"), value=value) for name, value in options.items()]
    return [o.OptionSection(name="TServer", options=named)]


class World:
    """Puts things into a view, with DBIDs of their own."""

    def __init__(self) -> None:
        self.view = ConfigView()
        self._dbid = 0

    def put(self, tenant: str, message: ConfigObject, dbid: int = 0) -> int:
        """Adds an object; gives its DBID."""
        self._dbid += 1
        message.dbid = dbid or self._dbid
        self._tell(pb.Change(tenant=tenant, object=message))
        return message.dbid

    def delete(self, tenant: str, what: str) -> None:
        """ "dn/3", "logins/A1" …"""
        self._tell(pb.Change(tenant=tenant, deleted=what))

    def dn(self, tenant: str, number: str, type: int = 1, **fields: object) -> None:
        """A DN on switch "sip"; `options` its annex."""
        options = fields.pop("options", [])
        fields = {"enabled": True, **fields}
        dn = o.Dn(number=number, type=type, switch="sip", **fields)  # type: ignore[arg-type]
        self.put(tenant, ConfigObject(dn=dn, options=options))  # type: ignore[arg-type]

    def trunk(self, tenant: str, number: str, **settings: object) -> None:
        """A trunk."""
        self.dn(tenant, number, 14, trunk=o.TrunkSettings(**settings))  # type: ignore[arg-type]

    def rule(self, tenant: str, name: str, pattern: str, replacement: str = "", barred: bool = False) -> int:
        """A dial rule."""
        rule = o.DialRule(name=name, pattern=pattern, replacement=replacement, barred=barred)
        return self.put(tenant, ConfigObject(dial_rule=rule))

    def register(
        self, tenant: str, dn: str, *contacts: str, expires_us: int = NOW_US + 1, q: tuple[int, ...] = ()
    ) -> None:
        """Bindings of a DN, sent from the contact's own host."""
        bindings = [
            r.Registration(
                contact=contact, expires_us=expires_us, q=(q or (0,) * 9)[at], path=[f"sip:edge{at};lr"]
            )
            for at, contact in enumerate(contacts)
        ]
        self._tell(pb.Change(tenant=tenant, registrations=pb.DnRegistrations(dn=dn, registrations=bindings)))

    def log_in(self, tenant: str, agent_id: str, dn: str, user_name: str) -> None:
        """An agent at work."""
        login = r.Login(tenant=tenant, agent_id=agent_id, dn=dn, user_name=user_name)
        self._tell(pb.Change(tenant=tenant, login=login))

    def agent(self, tenant: str, code: str, user_name: str, **fields: object) -> None:
        """A login code and its person; `options` and `login_options` their annexes."""
        login_options = fields.pop("login_options", [])
        options = fields.pop("options", [])
        login = o.AgentLogin(code=code, switch="sip", options=login_options)  # type: ignore[arg-type]
        self.put(tenant, ConfigObject(agent_login=login))
        person = o.Person(user_name=user_name, employee_id=user_name, is_agent=True, agent_logins=[code])
        self.put(tenant, ConfigObject(person=person, options=options))  # type: ignore[arg-type]

    def _tell(self, change: pb.Change) -> None:
        self.view.apply(pb.WatchResponse(changes=[change], revision=self.view.revision + 1))


def world() -> World:
    """t1 in the US, t2 in Germany, numbers alike."""
    made = World()
    for tenant, country, net in (("t1", "US", "1"), ("t2", "DE", "2")):
        made.put(
            tenant,
            ConfigObject(tenant=o.Tenant(tenant_id=tenant, domains=[f"{tenant}.example"], country=country)),
        )
        made.put(tenant, ConfigObject(switch=o.Switch(name="sip", tserver_dbid=999)))
        made.put(tenant, ConfigObject(application=o.Application(name="sip server")), 999)
        for number in ("1001", "1002", "1003"):
            made.dn(tenant, number)
        made.dn(tenant, "1009", enabled=False)
        made.dn(tenant, "8000", 4, route_point=o.RoutePointSettings(default_dns=["1001", "1002"]))
        made.dn(tenant, "8001", 22)
        made.dn(tenant, "VQ1", 5)
        made.dn(tenant, "7000", 3)
        made.dn(tenant, "5555", 29, options=annex(service_type="voicemail"))
        made.dn(tenant, "vip", 2)
        made.agent(tenant, "A1", "ada")
        made.agent(tenant, "A2", "bob")
        made.trunk(
            tenant, "trunk-main", contact=f"10.0.{net}.1:5060", sources=[f"10.0.{net}.0/24"], priority=5
        )
        made.register(tenant, "1001", f"sip:1001@10.5.{net}.1:5060")
    made.dn("t1", "8005550100", 4)
    made.dn("t1", "+12125550101", 4)
    made.trunk("t1", "trunk-low", contact="10.0.1.2:5060", priority=1)
    made.trunk("t1", "trunk-uk", contact="10.0.1.3:5060", prefix="+44", replace_prefix="0044")
    made.trunk("t1", "trunk-88", contact="10.0.1.4:5060", prefix="88")
    made.rule("t1", "national", "9N.", "${DIGITS:1}")
    made.rule("t1", "abroad", "9011.", "+${DIGITS:4}")
    made.rule("t1", "emergency", "911", "911")
    made.rule("t1", "any three", "9XX", "1003")
    made.rule("t1", "premium", "91900.", barred=True)
    made.rule("t1", "reception", "0", "1001")
    made.rule("t1", "did", "5550[1-3]XX", "8000")
    made.rule("t2", "out", "0Z.", "+49${DIGITS:1}")
    made.rule("t2", "out abroad", "00Z.", "+${DIGITS:2}")
    return made
