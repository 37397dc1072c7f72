"""A good object of each kind, to be broken by tests."""

from __future__ import annotations

from voice.config.v1 import object_pb2 as o
from voice.config.v1.object_pb2 import ConfigObject


def good() -> dict[str, ConfigObject]:
    """Kind -> object; together they are a whole tenant."""
    trunk = o.TrunkSettings(
        contact="10.0.0.1:5060", sources=["10.0.0.0/24", "pbx.example", "[::1]:5060"], prefix="+1"
    )
    point = o.RoutePointSettings(
        application_url="http://apps/x.scxml?ani=[ANI]",
        parameters=[o.Option(name="skill", value="English")],
        default_dns=["1001"],
        routing_timeout_ms=1000,
    )
    return {
        "tenant": ConfigObject(tenant=o.Tenant(tenant_id="t1", domains=["t1.example"], country="US")),
        "switch": ConfigObject(switch=o.Switch(name="sip", tserver_dbid=5)),
        "skill": ConfigObject(skill=o.Skill(name="English")),
        "dn": ConfigObject(
            dn=o.Dn(number="1001", type=o.DN_TYPE_EXTENSION, switch="sip", enabled=True, password="pw")
        ),
        "trunk": ConfigObject(
            dn=o.Dn(number="trunk-1", type=o.DN_TYPE_TRUNK, switch="sip", enabled=True, trunk=trunk)
        ),
        "route_point": ConfigObject(
            dn=o.Dn(
                number="8000", type=o.DN_TYPE_ROUTING_POINT, switch="sip", enabled=True, route_point=point
            )
        ),
        "agent_login": ConfigObject(agent_login=o.AgentLogin(code="A1", switch="sip", wrapup_s=1_000_000)),
        "place": ConfigObject(place=o.Place(name="desk 1", dns=["1001"])),
        "person": ConfigObject(
            person=o.Person(
                user_name="ada@t1",
                employee_id="E1",
                is_agent=True,
                agent_logins=["A1"],
                skills=[o.SkillLevel(skill="English", level=1000)],
                place="desk 1",
            )
        ),
        "agent_group": ConfigObject(agent_group=o.AgentGroup(name="all", members=["ada@t1"])),
        "script": ConfigObject(script=o.Script(name="s", type="EnhancedRouting")),
        "transaction": ConfigObject(transaction=o.Transaction(name="dates", alias="d")),
        "application": ConfigObject(application=o.Application(name="a", type="TServer")),
        "host": ConfigObject(host=o.Host(name="h", address="10.0.0.1")),
        "dial_rule": ConfigObject(
            dial_rule=o.DialRule(name="out", pattern="9N[2-46]X.", replacement="+1${DIGITS:1}")
        ),
    }
