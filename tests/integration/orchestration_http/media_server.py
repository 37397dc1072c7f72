"""A digital media server as Orchestration knows one: it tells interactions' events and carries instructions out."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from voice.error.v1.reason_pb2 import Reason
from voice.interaction.v1.interaction_pb2 import (
    Instruction,
    Interaction,
    InteractionEvent,
    InteractionEventType,
)
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.rq import THREAD, Rq

SERVER = "ixn-1"


def kv(**pairs: str) -> KvList:
    """Pairs of texts."""
    return KvList(pairs=[KvPair(key=key, string_value=value) for key, value in pairs.items()])


@dataclass
class Message:
    """A digital interaction."""

    server: MediaServer
    queue: str
    interaction_id: str
    tenant: str = "t1"
    seq: int = 0
    instructions: list[Instruction] = field(default_factory=list)
    """What its sessions wanted, in order, each once."""

    @property
    def session(self) -> str:
        """Id of the session of its first placement."""
        return f"{self.interaction_id}.1"

    def tell(self, kind: str, **fields: Any) -> None:
        """Its next event: "PLACED", "MESSAGE" …"""
        self.seq += 1
        event = InteractionEvent(
            type=InteractionEventType.Value(f"INTERACTION_EVENT_TYPE_{kind}"),
            interaction=fields.pop("interaction", Interaction(interaction_id=self.interaction_id)),
            server=SERVER,
            **fields,
        )
        self.server.publish(self, event)

    def placed(self, **data: str) -> None:
        """It waits in its queue."""
        interaction = Interaction(
            interaction_id=self.interaction_id,
            media_type="email",
            interaction_type="Inbound",
            interaction_subtype="InboundNew",
            to="service@t1.example",
            subject="My invoice",
            received_us=1_700_000_000_000_000,
            attributes=kv(priority="low"),
            **{"from": "ann@example.com"},
        )
        self.tell("PLACED", interaction=interaction, queue=self.queue, user_data=kv(**data))


class MediaServer:
    """Publishes, and reads its queue of instructions. Each instruction is carried out unless `refuse` says why not."""

    def __init__(self, rq: Rq) -> None:
        self._rq, self._publisher = rq, rq.publisher(THREAD)
        self.messages: dict[str, Message] = {}
        self.deliveries: Counter[str] = Counter()
        """How often each instruction came out of the queue."""
        self.refuse: dict[str, Reason.ValueType] = {}
        """Action -> why it is refused."""
        self.silent = False
        """Whether instructions are taken without ever being answered."""
        self._task = asyncio.ensure_future(self._read())

    def message(self, queue: str, *, tenant: str = "t1") -> Message:
        """A new interaction."""
        made = Message(self, queue, secrets.token_hex(12), tenant)
        self.messages[made.interaction_id] = made
        return made

    def publish(self, message: Message, event: InteractionEvent) -> None:
        """Puts an event into the interaction's stream."""
        key = message.interaction_id
        self._publisher.append(
            EventEnvelope(
                event_id=f"{key}/{message.seq}",
                tenant=message.tenant,
                stream_key=key,
                seq=message.seq,
                epoch=1,
                time_us=time.time_ns() // 1000,
                call_thread_id=key,
                interaction=event,
            )
        )

    async def close(self) -> None:
        """Ends."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _read(self) -> None:
        queue = f"instructions:{SERVER}"
        async for entries in self._rq.read_queue(queue):
            for entry in entries:
                instruction = Instruction.FromString(entry.payload)
                self.deliveries[instruction.instruction_id] += 1
                if self.deliveries[instruction.instruction_id] == 1:
                    self._carry_out(instruction)
                self._rq.acknowledge(queue, entry.id)

    def _carry_out(self, instruction: Instruction) -> None:
        message = self.messages[instruction.interaction_id]
        message.instructions.append(instruction)
        if self.silent:
            return
        action = str(instruction.WhichOneof("action"))
        reason = self.refuse.get(action, Reason.REASON_UNSPECIFIED)
        text = f"{action} is refused" if reason else ""
        message.tell(
            "INSTRUCTION_DONE", instruction_id=instruction.instruction_id, reason=reason, message=text
        )
        if action == "change_user_data" and not reason:
            message.tell("USER_DATA_CHANGED", user_data=instruction.change_user_data.set)
        if action == "stop" and not reason:
            message.tell("STOPPED", message=instruction.stop.reason)
