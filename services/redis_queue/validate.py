"""What a publisher, a reader and a sender may ask: checked before anything touches Redis."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from voice.redis_queue.v1 import queue_service_pb2 as pb
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.errors import invalid
from mesh.identifiers import event_id
from mesh.rq.route import stream_slot
from mesh.validation import TENANT_ID, Checks
from services.redis_queue.store import SLOTS

BATCH_EVENTS: Final = 512
EVENT_BYTES: Final = 128 * 1024
KEY_CHARACTERS: Final = 128
ENTRIES: Final = 256
ENTRY_BYTES: Final = 256 * 1024
IDS: Final = 1024
WRITES: Final = 256
SLOTS_A_REQUEST: Final = 256

FAMILIES: Final = (pb.StreamFamily.STREAM_FAMILY_THREAD, pb.StreamFamily.STREAM_FAMILY_AGENT)
_KEY: Final = re.compile(r"[A-Za-z0-9._:@/*#+-]{1,128}")
_QUEUE: Final = re.compile(r"(route_requests|route_answers|outcomes|instructions):[A-Za-z0-9._-]{1,100}")


def event_problem(family: pb.StreamFamily.ValueType, envelope: EventEnvelope, size: int) -> str:
    """Field and rule that an event breaks; "" when it is good."""
    key, seq = envelope.stream_key, envelope.seq
    if not _KEY.fullmatch(key):
        return f"stream_key must have 1 to {KEY_CHARACTERS} characters [A-Za-z0-9._:@/*#+-]"
    if not 1 <= seq < 1 << 53:
        return "seq must be 1 to 2^53"
    if not 0 <= envelope.epoch < 1 << 53:
        return "epoch must be 0 to 2^53"
    if not TENANT_ID.fullmatch(envelope.tenant):
        return "tenant must match [a-z][a-z0-9-]{1,30}"
    if family == FAMILIES[1] and not key.startswith(f"{envelope.tenant}:"):
        return "stream_key must begin with the tenant"
    if envelope.event_id != event_id(key, seq):
        return 'event_id must be "<stream_key>/<seq>"'
    if envelope.WhichOneof("body") is None:
        return "body is required"
    if size > EVENT_BYTES:
        return f"event must have at most {EVENT_BYTES} bytes"
    return ""


@lru_cache(maxsize=65536)
def slot_of(family: pb.StreamFamily.ValueType, key: str) -> int:
    """Slot of a stream, remembered: hashing costs microseconds."""
    return stream_slot(family, key)


def family(check: Checks, value: pb.StreamFamily.ValueType) -> None:
    """THREAD or AGENT."""
    check.that("family", value in FAMILIES, "must be STREAM_FAMILY_THREAD or STREAM_FAMILY_AGENT")


def stream(check: Checks, key: str) -> None:
    """A stream key."""
    check.matches("stream_key", key, _KEY)


def read_slots(request: pb.ReadSlotsRequest) -> None:
    """Raises INVALID_ATTRIBUTE."""
    check = Checks()
    family(check, request.family)
    check.length("slots", request.slots, 0, SLOTS_A_REQUEST)
    check.length("remove", request.remove, 0, SLOTS_A_REQUEST)
    for number, cursor in enumerate(request.slots):
        check.between(f"slots[{number}].slot", cursor.slot, 0, SLOTS - 1)
    slots = [cursor.slot for cursor in request.slots]
    check.that("slots", len(slots) == len(set(slots)), "must name each slot once")
    if request.tenant:
        check.tenant("tenant", request.tenant)
    check.done()


def queue(name: str, check: Checks | None = None) -> Checks:
    """A queue name."""
    check = check or Checks()
    check.matches(
        "queue", name, _QUEUE, "must be route_requests:…, route_answers:…, outcomes:… or instructions:…"
    )
    return check


def enqueue(request: pb.EnqueueRequest | pb.QueueWrite) -> None:
    """Raises INVALID_ATTRIBUTE."""
    check = queue(request.queue)
    check.length("entries", request.entries, 1, ENTRIES)
    for number, entry in enumerate(request.entries):
        check.length(f"entries[{number}].id", entry.id, 1, KEY_CHARACTERS)
        check.length(f"entries[{number}].payload", entry.payload, 0, ENTRY_BYTES)
    check.done()


def fence_streams(request: pb.FenceStreamsRequest) -> None:
    """Raises INVALID_ATTRIBUTE."""
    check = Checks()
    family(check, request.family)
    check.length("fences", request.fences, 1, BATCH_EVENTS)
    for number, fence in enumerate(request.fences):
        check.matches(f"fences[{number}].stream_key", fence.stream_key, _KEY)
        check.between(f"fences[{number}].epoch", fence.epoch, 1, (1 << 53) - 1)
    check.done()


def acknowledge(request: pb.AcknowledgeRequest | pb.QueueWrite) -> None:
    """Raises INVALID_ATTRIBUTE."""
    check = queue(request.queue)
    check.length("ids", request.ids, 1, IDS)
    for number, ident in enumerate(request.ids):
        check.length(f"ids[{number}]", ident, 1, KEY_CHARACTERS)
    check.done()


def write_queues(request: pb.WriteQueuesRequest) -> None:
    """What is wrong with the call as a whole. Raises INVALID_ATTRIBUTE."""
    check = Checks()
    check.length("writes", request.writes, 1, WRITES)
    check.done()


def queue_write(write: pb.QueueWrite) -> None:
    """Raises INVALID_ATTRIBUTE."""
    if write.entries and write.ids:
        raise invalid(("ids", "must be empty in a write that has entries"))
    if write.ids:
        acknowledge(write)
    else:
        enqueue(write)
