"""What the configuration cache last knew, on disk: a service that starts while Config is away goes on with it.

The file is what Watch said, in order: a snapshot, then changes, each `<length, 4 bytes big endian><WatchResponse>`
after one line that names the format. A torn tail (the process died while writing) is ignored. Mode 0600: a
service that may see passwords has them here too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError
from voice.config.v1.config_service_pb2 import WatchResponse

MAGIC = b"voicemesh config journal 1\n"
MIN_REWRITE_BYTES = 4 << 20
"""A journal smaller than this is never rewritten."""
REWRITE_FACTOR = 4
"""It is rewritten from a new snapshot when it has grown to this many times its snapshot."""


class ConfigJournal:
    """The file of one process. Errors of the file system are OSError; the caller decides to go on without."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._snapshot: BinaryIO | None = None
        self._size = 0
        self._snapshot_size = 0

    def replay(self) -> Iterator[WatchResponse]:
        """What was written, up to the last whole entry; nothing when there is no usable file."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        if not data.startswith(MAGIC):
            return
        at = len(MAGIC)
        while at + 4 <= len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if end > len(data):
                return
            try:
                yield WatchResponse.FromString(data[at + 4 : end])
            except DecodeError:
                return
            at = end

    def append(self, response: WatchResponse, *, loading: bool) -> None:
        """Writes what Watch said. While `loading` a new file grows beside the old one, which it replaces with
        the response that is `synced`."""
        entry = response.SerializeToString()
        if loading and self._snapshot is None:
            self._snapshot = self._create()
        into = self._snapshot if loading else self._file
        if into is None:
            return
        into.write(len(entry).to_bytes(4, "big") + entry)
        into.flush()
        self._size += len(entry) + 4
        if loading and response.synced:
            os.replace(self._new_path, self.path)
            if self._file is not None:
                self._file.close()
            self._file, self._snapshot, self._snapshot_size = into, None, self._size

    def abandon(self) -> None:
        """The snapshot under way will not be completed."""
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None

    @property
    def overgrown(self) -> bool:
        """Whether a new snapshot would make it much smaller."""
        return self._size > max(MIN_REWRITE_BYTES, REWRITE_FACTOR * self._snapshot_size)

    def close(self) -> None:
        """Ends writing; the file stays."""
        self.abandon()
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _new_path(self) -> Path:
        return self.path.with_name(self.path.name + ".new")

    def _create(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._new_path.unlink(missing_ok=True)
        descriptor = os.open(self._new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        file = os.fdopen(descriptor, "wb")
        file.write(MAGIC)
        self._size = len(MAGIC)
        return file
