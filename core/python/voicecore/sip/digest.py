"""Digest authentication for SIP."""

from voicecore._native import (
    Authorization,
    Challenge,
    NonceKeeper,
    answer,
    challenge,
    ha1,
    parse_authorization,
    parse_challenge,
    verify,
)

__all__ = [
    "Authorization",
    "Challenge",
    "NonceKeeper",
    "answer",
    "challenge",
    "ha1",
    "parse_authorization",
    "parse_challenge",
    "verify",
]
