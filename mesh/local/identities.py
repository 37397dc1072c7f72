"""Certificates of everybody in a local mesh, and their replacement while it runs."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path

from mesh.identity import ca, secrets, tokens
from mesh.identity.tokens import SigningKey


class Identities:
    """The authority of one mesh and the files it keeps fresh under `folder`."""

    def __init__(
        self, folder: Path, hosts: Mapping[str, Iterable[str]], lifetime: dt.timedelta = ca.LEAF_LIFETIME
    ) -> None:
        """`hosts` has every identity, with names and addresses that its certificate carries beside the SPIFFE
        id."""
        self._folder = folder
        self._hosts = {name: tuple(some) for name, some in hosts.items()}
        self._lifetime = lifetime
        self._authority = ca.load_or_create(folder / "authority", _now())
        self.signing_key: SigningKey = tokens.load_or_create_key(folder / "tokens")
        """The key that signs tokens; the Tenant service reads the same files."""

    @property
    def ca_file(self) -> Path:
        """PEM of the authority, for clients of the edge."""
        return self._folder / "authority" / "ca.pem"

    def folder(self, name: str) -> Path:
        """SDS files of an identity."""
        return self._folder / name

    def write(self) -> None:
        """A fresh certificate for everybody."""
        for name, hosts in self._hosts.items():
            secrets.write_trust(self.folder(name), self._authority.bundle)
            certificate = self._authority.issue(name, _now(), lifetime=self._lifetime, hosts=hosts)
            secrets.write_workload(self.folder(name), certificate)

    async def rotate(self) -> None:
        """Replaces every certificate at half of its life, until cancelled."""
        while True:
            await asyncio.sleep(self._lifetime.total_seconds() / 2)
            await asyncio.to_thread(self.write)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
