"""Who is in a service and who owns which slot of it: the names that services import.

Decisions live one a file: `lease.py` (how a node stays alive), `membership.py` (what it tells of itself),
`allocation.py` (which node should have which slot), `handover.py` (what to do about it now), `slots.py`
(doing it).
"""

from mesh.lease import Lease, boottime_ns
from mesh.membership import Membership
from mesh.slots import NotOwner, ReleaseReason, SlotKey, Slots

__all__ = ["Lease", "Membership", "NotOwner", "ReleaseReason", "SlotKey", "Slots", "boottime_ns"]
