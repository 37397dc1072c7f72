"""The Rust core: packets and transactions below, decisions above.

Python gets *decisions*, never packets: a new request, a response that changes a dialog, a time-out.
Everything that repeats (retransmissions, ACK of failures, 100 Trying, in-dialog forwarding) stays inside,
on threads of the core that run without the GIL.
"""

from voicecore import hash as hash
from voicecore import sip as sip

__all__ = ["__version__", "hash", "sip"]

__version__: str
"""Version of the crate, e.g. "0.1.0"."""
