"""Compiled documents by version: a session goes on with the one it began with, whatever its address gives now.

Before a session starts, the document is in Redis under its hash and the compiler's version; the heir of the session
reads it there. One that is gone cannot be made again from the address: that may give another version.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import OrderedDict

from structlog.typing import FilteringBoundLogger

from mesh.store import StoreUnavailable
from services.orchestration.scxml import COMPILER_VERSION, Compiled
from services.orchestration.store import Store

KEPT = 256
"""Documents kept in memory."""
AGAIN_S = 86_400.0
"""After so long a document is kept in Redis anew, seconds."""


class UnknownDocument(LookupError):
    """The version of a document that a session began with cannot be had."""


class Documents:
    """Compiled documents of this node, backed by Redis."""

    def __init__(self, store: Store, log: FilteringBoundLogger) -> None:
        self._store = store
        self._log = log
        self._known: OrderedDict[str, Compiled] = OrderedDict()
        self._kept: OrderedDict[str, float] = OrderedDict()
        self._busy: dict[str, asyncio.Lock] = {}

    async def keep(self, compiled: Compiled) -> None:
        """A session is about to start with it. Redis away does not hold the call up: that is logged."""
        key = _key(compiled.source_hash)
        self._know(key, compiled)
        if self._is_kept(key):
            return
        # Many sessions of one document start at once: it is written once.
        async with self._busy.setdefault(key, asyncio.Lock()):
            if not self._is_kept(key):
                await self._write(key, compiled)
        self._busy.pop(key, None)

    def _is_kept(self, key: str) -> bool:
        return time.monotonic() - self._kept.get(key, -AGAIN_S) < AGAIN_S

    async def _write(self, key: str, compiled: Compiled) -> None:
        body = await asyncio.to_thread(lambda: zlib.compress(compiled.to_json().encode(), 1))
        try:
            await self._store.keep_document(key, body)
        except StoreUnavailable as error:
            self._log.error("document is not kept for heirs", document=key, why=str(error))
            return
        self._kept[key] = time.monotonic()
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    async def rewrite(self) -> None:
        """Redis may have forgotten documents: those known here are kept again."""
        self._kept.clear()
        for compiled in list(self._known.values()):
            await self.keep(compiled)

    async def find(self, document_hash: str, compiler_version: str) -> Compiled:
        """The document of a session. Raises UnknownDocument, StoreUnavailable."""
        if compiler_version != COMPILER_VERSION:
            raise UnknownDocument(
                f"the session is of compiler version {compiler_version}, here is {COMPILER_VERSION}"
            )
        key = _key(document_hash)
        found = self._known.get(key)
        if found is None:
            # Many sessions of one document are restored at once: it is read once.
            async with self._busy.setdefault(key, asyncio.Lock()):
                found = self._known.get(key) or await self._read(key)
            self._busy.pop(key, None)
        self._know(key, found)
        return found

    async def _read(self, key: str) -> Compiled:
        body = await self._store.document(key)
        if body is None:
            raise UnknownDocument(f"no document {key} is kept")
        compiled = await asyncio.to_thread(lambda: Compiled.from_json(zlib.decompress(body).decode()))
        self._know(key, compiled)
        return compiled

    def _know(self, key: str, compiled: Compiled) -> None:
        self._known[key] = compiled
        self._known.move_to_end(key)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)


def _key(document_hash: str) -> str:
    return f"{document_hash}:{COMPILER_VERSION}"
