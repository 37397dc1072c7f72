"""SIP wire, transactions, transports and proxying (the Rust core of voicemesh)."""

from voicecore import hash, sip
from voicecore._native import __version__

__all__ = ["__version__", "hash", "sip"]
