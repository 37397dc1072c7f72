"""Passwords at rest: those of DNs sealed, since digest needs them back; those of agents hashed.

    $sealed$<key id>$<base64 of nonce and AES-256-GCM text>
    $scrypt$<log2 n>$<r>$<p>$<base64 salt>$<base64 hash>

Both forms are taken by writes as they are, so that an export can be imported again. MASK stands for a password
that the reader may not see; written back it keeps what is stored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mesh.config_objects import PASSWORD_MASK

MASK = PASSWORD_MASK
"""What a reader sees of a password that is there."""
_SEALED = re.compile(r"\$sealed\$([0-9a-f]{8})\$([A-Za-z0-9+/=]{24,1000})")
_SCRYPT = re.compile(
    r"\$scrypt\$(\d{1,2})\$(\d{1,2})\$(\d{1,2})\$([A-Za-z0-9+/=]{1,100})\$([A-Za-z0-9+/=]{1,200})"
)
_BOUND_TO = b"voicemesh dn password"
MAX_LOG_N = 18
"""Costliest hash that is verified: 2^18, 256 MiB at r = 8."""


class SecretError(Exception):
    """The password cannot be unsealed: it was sealed with a key this node does not have, or is damaged."""


def key_id(key: bytes) -> str:
    """Eight hex digits that tell keys apart and say nothing about them."""
    return hashlib.sha256(b"voicemesh key id" + key).hexdigest()[:8]


def is_sealed(text: str) -> bool:
    """Whether the text is a sealed password."""
    return _SEALED.fullmatch(text) is not None


def is_hashed(text: str) -> bool:
    """Whether the text is a hashed password."""
    return _SCRYPT.fullmatch(text) is not None


class Sealer:
    """Seals with the first of its keys and opens with any: a new key goes in front of the old one."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Keys of 32 bytes, at least one."""
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.primary = key_id(keys[0])

    @property
    def key_ids(self) -> frozenset[str]:
        """Of all its keys."""
        return frozenset(self._ciphers)

    def seal(self, password: str) -> str:
        """The password as stored."""
        nonce = os.urandom(12)
        text = self._ciphers[self.primary].encrypt(nonce, password.encode(), _BOUND_TO)
        return f"$sealed${self.primary}${base64.b64encode(nonce + text).decode()}"

    def open(self, sealed: str) -> str:
        """The password in clear. Raises SecretError."""
        match = _SEALED.fullmatch(sealed)
        cipher = self._ciphers.get(match[1]) if match else None
        if match is None or cipher is None:
            raise SecretError(
                f"sealed with key {match[1]}, which this node has not" if match else "not sealed"
            )
        try:
            raw = base64.b64decode(match[2], validate=True)
            return cipher.decrypt(raw[:12], raw[12:], _BOUND_TO).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise SecretError("damaged") from None


def hash_password(password: str, log_n: int, salt: bytes | None = None) -> str:
    """scrypt with r = 8, p = 1 (RFC 7914): 2^14 takes about 40 ms and 16 MiB. Blocks: call it in a thread."""
    salt = os.urandom(16) if salt is None else salt
    digest = _scrypt(password, salt, log_n, 8, 1, 32)
    return f"$scrypt${log_n}$8$1${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def verify_password(hashed: str, password: str) -> bool:
    """Whether the password is the one hashed. Blocks as `hash_password` does."""
    match = _SCRYPT.fullmatch(hashed)
    if match is None or not 1 <= int(match[1]) <= MAX_LOG_N:
        return False
    salt, wanted = base64.b64decode(match[4]), base64.b64decode(match[5])
    return hmac.compare_digest(
        _scrypt(password, salt, int(match[1]), int(match[2]), int(match[3]), len(wanted)), wanted
    )


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int, length: int) -> bytes:
    n = 1 << log_n
    return hashlib.scrypt(
        password.encode(), salt=salt, n=n, r=r, p=p, dklen=length, maxmem=256 * n * r + (1 << 20)
    )


def load_keys(keys: Sequence[str], file: Path) -> list[bytes]:
    """Keys given in hex, or those in the file (one a line). Without either a key is made and written to the
    file, which does for one machine and is lost with it. Raises ValueError naming what is wrong."""
    lines = list(keys) or _lines(file)
    found = list[bytes]()
    for line in lines:
        try:
            key = bytes.fromhex(line)
        except ValueError:
            key = b""
        if len(key) != 32:
            raise ValueError("a secret key must have 64 hex digits")
        found.append(key)
    return found


def _lines(file: Path) -> list[str]:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    if not file.exists():
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(os.urandom(32).hex() + "\n")
        try:
            os.link(new, file)  # whoever is first has made the key; it is never seen half written
        except FileExistsError:
            pass
        new.unlink()
    return [line.strip() for line in file.read_text().splitlines() if line.strip()]
