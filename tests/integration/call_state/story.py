"""The events of calls as a SIP node publishes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.tlib.v1.request_pb2 import Request
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.identifiers import new_call_uuid, new_conn_id

NOW_MS = 1_800_000_000_000


def kv(**pairs: str) -> KvList:
    return KvList(pairs=[KvPair(key=key, string_value=value) for key, value in pairs.items()])


@dataclass
class Story:
    """One call thread, told event by event."""

    number: int
    tenant: str = "t1"
    epoch: int = 1
    start_us: int = NOW_MS * 1000
    envelopes: list[EventEnvelope] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thread = new_call_uuid(0, self.number % 1024, NOW_MS + self.number, self.number)

    def conn_id(self, call: int = 1) -> int:
        """ConnID of the thread's n-th call."""
        return new_conn_id(0, self.number % 1024, NOW_MS + 10 * (self.number * 10 + call), call)

    def uuid(self, call: int = 1) -> str:
        """CallUUID of the thread's n-th call; the first names the thread."""
        if call == 1:
            return self.thread
        return new_call_uuid(0, self.number % 1024, NOW_MS + self.number, self.number * 100 + call)

    def tell(self, name: str, dn: str = "", *, call: int = 1, **attributes: Any) -> EventEnvelope:
        """The next event."""
        event = Event(
            event_type=MessageType.Value(f"MESSAGE_TYPE_EVENT_{name}"),
            conn_id=self.conn_id(call),
            call_uuid=self.uuid(call),
            call_thread_id=self.thread,
            this_dn=dn,
            **attributes,
        )
        return self._append(event=event)

    def ask(self, **request: Any) -> EventEnvelope:
        """The next user-data request."""
        return self._append(request=Request(client="desk", **request))

    def _append(self, **body: Any) -> EventEnvelope:
        seq = len(self.envelopes) + 1
        envelope = EventEnvelope(
            event_id=f"{self.thread}/{seq}",
            tenant=self.tenant,
            stream_key=self.thread,
            seq=seq,
            epoch=self.epoch,
            time_us=self.start_us + seq,
            call_thread_id=self.thread,
            **body,
        )
        self.envelopes.append(envelope)
        return envelope

    def routed(self, agent: str, dn: str, queue: str = "8000") -> Story:
        """A caller reaches an agent through a route point, and hangs up (domain facts §2.1)."""
        self.tell("CALL_CREATED", call_type=2, ani="5551000", dnis=queue)
        self.tell("CALL_PARTY_ADDED", "5551000", this_dn_role=1, party_id=1, party_state=0x10001)
        self.tell("CALL_PARTY_ADDED", queue, this_dn_role=2, party_id=2, party_state=0x9)
        self.tell("QUEUED", queue, this_dn_role=2, this_queue=queue)
        self.tell("ROUTE_REQUEST", queue, this_dn_role=2, this_queue=queue)
        self.tell("ROUTE_USED", queue, this_dn_role=2, third_party_dn=dn)
        self.tell("CALL_PARTY_ADDED", dn, this_dn_role=2, party_id=3, party_state=0xA, agent_id=agent)
        self.tell("DIVERTED", queue, this_dn_role=2, third_party_dn=dn)
        self.tell("CALL_PARTY_DELETED", queue, this_dn_role=2)
        self.tell("RINGING", dn, this_dn_role=2, agent_id=agent, this_queue=queue, other_dn="5551000")
        self.tell("CALL_PARTY_STATE", dn, this_dn_role=2, party_id=3, party_state=0xC, agent_id=agent)
        self.tell("ESTABLISHED", dn, this_dn_role=2, agent_id=agent, this_queue=queue, other_dn="5551000")
        return self

    def hung_up(self, agent: str, dn: str) -> Story:
        """Both parties leave."""
        self.tell("RELEASED", dn, this_dn_role=2, agent_id=agent)
        self.tell("CALL_PARTY_DELETED", dn, this_dn_role=2, agent_id=agent)
        self.tell("CALL_PARTY_DELETED", "5551000", this_dn_role=1)
        self.tell("CALL_DELETED")
        return self

    def transferred(self, agents: tuple[str, str], dns: tuple[str, str]) -> Story:
        """The agent of the first call consults another and transfers (domain facts §2.5)."""
        (one, two), (b, c) = agents, dns
        self.tell("HELD", b, agent_id=one)
        self.tell("CALL_CREATED", call=2, call_type=4, previous_conn_id=self.conn_id())
        self.tell("DIALING", b, call=2, agent_id=one, this_dn_role=1, previous_conn_id=self.conn_id())
        self.tell("RINGING", c, call=2, agent_id=two, this_dn_role=2, previous_conn_id=self.conn_id())
        self.tell("ESTABLISHED", c, call=2, agent_id=two, this_dn_role=2)
        self.tell("ESTABLISHED", b, call=2, agent_id=one, this_dn_role=1)
        self.tell("RELEASED", b, agent_id=one, call_state=1)
        self.tell("RELEASED", b, call=2, agent_id=one, call_state=1)
        self.tell(
            "PARTY_CHANGED",
            c,
            agent_id=two,
            previous_conn_id=self.conn_id(2),
            other_dn="5551000",
            call_state=1,
        )
        self.tell("CALL_DELETED", call=2)
        return self
