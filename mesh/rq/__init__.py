"""Event streams and queues: the one way in which services write and read them (the rq-client library).

rq = Rq(service)                                           # service.mesh.service.Service
await rq.start()

publisher = rq.publisher(THREAD)
publisher.append(envelope)                                 # at once; sent with the turn's others; acknowledged later
publisher.unacknowledged(call_thread_id)                   # goes into the snapshot of the call
await publisher.append(envelope)                           # … or wait until it is in the stream

reader = rq.read_slots(THREAD)                             # the owner of slots follows them
reader.add(slot, cursor)                                   # cursor from the fenced record; "0" oldest kept, "" from now on
async for batch in reader:                                 # SlotEvents: slot, events, cursor, caught_up, expired
    ...                                                    # keep batch.cursor in the same fenced write as the state

async for events in rq.read_stream(THREAD, key, from_seq=1):   # one stream, then follow it (once=True: what is there)
    ...
await rq.enqueue("route_requests:t1", effect_id, request)  # once per id
async for entries in rq.read_queue("route_requests:t1"):   # what is not acknowledged, then what comes
    ...
rq.acknowledge("route_requests:t1", *[e.id for e in entries])

Any node serves any slot; this library prefers one node for each slot (rendezvous over the live nodes) and has
another as backup. It reconnects by itself; nothing is lost or delivered twice over a change of node.
"""

from voice.redis_queue.v1.queue_service_pb2 import QueueEntry, StreamFamily

from mesh.rq.client import AGENT, THREAD, Rq
from mesh.rq.publisher import AppendRefused, Publisher, PublisherFull
from mesh.rq.queue_reader import QueueReader
from mesh.rq.slot_reader import SlotEvents, SlotReader
from mesh.rq.stream_reader import StreamExpired, StreamReader

__all__ = [
    "AGENT",
    "THREAD",
    "AppendRefused",
    "Publisher",
    "PublisherFull",
    "QueueEntry",
    "QueueReader",
    "Rq",
    "SlotEvents",
    "SlotReader",
    "StreamExpired",
    "StreamFamily",
    "StreamReader",
]
