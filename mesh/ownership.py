"""Who is in a service and who owns which slot of it: the names that services import.

Decisions live one a file: `lease.py` (how a node stays alive), `membership.py` (what it tells of itself),
`allocation.py` (which node should have which slot), `handover.py` (what to do about it now), `claims.py`
(what etcd holds), `holdings.py` (acquire and release of one slot), `giving.py` (hand-overs), `slots.py` (all
of it together).

    async def acquire(slot, epoch):                     # an heir or a new owner
        await store.raise_fence(slot, epoch)            # first: from now on the former owner writes nothing
        state[slot] = restore(await store.read_fields(slot, "calls"))

    async def release(slot, epoch, reason):
        if reason is ReleaseReason.HANDED_OVER:
            await write_what_is_not_written(slot, epoch)
        del state[slot]

    slots = Slots(service, "sip", 1024, acquire=acquire, release=release)
    await slots.start()                                 # in a start hook; `Service` drains and leaves

    # before an effect (SIP, RPC, publish):
    if not slots.may_act(slot):                         # not mine, or the lease deadline has passed
        await store.prove(slot, slots.epoch(slot))      # NotOwner, StaleEpoch: no effect. StoreUnavailable:
        refuse
"""

from mesh.lease import Lease, boottime_ns
from mesh.membership import Membership
from mesh.slots import NotOwner, ReleaseReason, SlotKey, Slots

__all__ = ["Lease", "Membership", "NotOwner", "ReleaseReason", "SlotKey", "Slots", "boottime_ns"]
