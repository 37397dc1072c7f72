"""What becomes of the passwords in a request, and what a reader gets to see of those stored."""

from __future__ import annotations

import asyncio

from voice.config.v1.object_pb2 import ConfigObject

from mesh.errors import invalid
from services.config.integrity import Id, Stored, TenantModel
from services.config.schema import kind_of
from services.config.secrets import (
    MASK,
    Sealer,
    SecretError,
    hash_password,
    is_hashed,
    is_sealed,
    verify_password,
)

HASHES_AT_ONCE = 2
"""Threads that hash or verify at a time: each takes a core for some 40 ms."""


class Passwords:
    """Seals, hashes, keeps, masks."""

    def __init__(self, sealer: Sealer, scrypt_log_n: int) -> None:
        self._sealer = sealer
        self._log_n = scrypt_log_n
        self._turns = asyncio.Semaphore(HASHES_AT_ONCE)

    async def protect(self, at: str, message: ConfigObject, known: Stored | None) -> None:
        """Replaces a clear password in `message` by its stored form, that of `known` when it is the same one. A
        mask is left for `keep`. Raises INVALID_ATTRIBUTE for a sealed one that this installation cannot open."""
        match kind_of(message):
            case "dn":
                stored = known.message.dn.password if known is not None else ""
                message.dn.password = self._sealed(at, message.dn.password, stored)
            case "agent_login":
                stored = known.message.agent_login.password if known is not None else ""
                message.agent_login.password = await self._hashed(message.agent_login.password, stored)

    def _sealed(self, at: str, given: str, stored: str) -> str:
        if given in ("", MASK):
            return given
        if is_sealed(given):
            try:
                self._sealer.open(given)
            except SecretError as problem:
                raise invalid((f"{at}.dn.password", f"cannot be opened: {problem}")) from None
            return given
        return stored if self.reveal_dn(stored) == given else self._sealer.seal(given)

    async def _hashed(self, given: str, stored: str) -> str:
        if given in ("", MASK) or is_hashed(given):
            return given
        if stored and await self.verify(stored, given):
            return stored
        async with self._turns:
            return await asyncio.to_thread(hash_password, given, self._log_n)

    async def verify(self, hashed: str, password: str) -> bool:
        """Whether it is the password of the hash."""
        async with self._turns:
            return await asyncio.to_thread(verify_password, hashed, password)

    def reveal_dn(self, stored: str) -> str:
        """A DN's password in clear; "" when it has none, or one that no key of this node opens."""
        if not stored:
            return ""
        try:
            return self._sealer.open(stored)
        except SecretError:
            return ""

    def revealed(self, message: ConfigObject) -> None:
        """For a service that may see passwords: a DN's in clear, an agent's as hash."""
        if kind_of(message) == "dn":
            message.dn.password = self.reveal_dn(message.dn.password)


def keep(at: str, message: ConfigObject, model: TenantModel, id: Id | None) -> None:
    """A masked password becomes the stored one. Raises INVALID_ATTRIBUTE when there is none to keep."""
    kind = kind_of(message)
    if kind not in ("dn", "agent_login") or getattr(message, kind).password != MASK:
        return
    stored = model.get(*id) if id is not None else None
    if stored is None or not getattr(stored.message, kind).password:
        raise invalid((f"{at}.{kind}.password", f'must not be "{MASK}": there is none to keep'))
    getattr(message, kind).password = getattr(stored.message, kind).password


def mask(message: ConfigObject) -> None:
    """For a reader that may not see passwords."""
    match kind_of(message):
        case "dn" if message.dn.password:
            message.dn.password = MASK
        case "agent_login" if message.agent_login.password:
            message.agent_login.password = MASK
