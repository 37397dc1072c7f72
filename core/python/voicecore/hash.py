"""Stable hashes: slots of keys and rendezvous choice of nodes."""

from voicecore._native import fnv1a64, mix64, rendezvous, rendezvous_order, slot

__all__ = ["fnv1a64", "mix64", "rendezvous", "rendezvous_order", "slot"]
