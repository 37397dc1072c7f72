"""Tokens of agents, clients and operators: JWT (RFC 7519), ES256, checked by the edge Envoy against a JWKS
(RFC 7517).

Claims: iss, sub (who), tenant, scope (words separated by blanks, RFC 8693 section 4.2), iat, exp. The Tenant
service issues them, the edge verifies
them, both with the key pair kept here: `tokens.key` signs, `jwks.json` is public.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from mesh.identity.files import read_text, write_private

ISSUER = "https://voicemesh.local"
AUDIENCE = "voicemesh"
AGENT = "agent"
"""Scope of a person at a desktop: own tenant, own agent."""
CLIENT = "client"
"""Scope of an application that works for its tenant (reporting, middleware)."""
OPERATOR = "operator"
"""Scope that reaches the contracts inside of the mesh through the edge."""
CONFIG_WRITE = "config.write"
"""Scope of a client that may change its tenant's configuration."""
SCOPES = frozenset({AGENT, CLIENT, OPERATOR, CONFIG_WRITE})
LONGEST_S = 24 * 3600
"""A token lives a day at most, seconds."""
TENANT = re.compile(r"[a-z][a-z0-9-]{1,30}")
_ALGORITHM = "ES256"


class TokenError(Exception):
    """A token that is not to be trusted, or a request for one that breaks a rule; says which."""


@dataclass(frozen=True)
class Claims:
    """What a verified token says."""

    subject: str
    tenant: str
    scopes: frozenset[str]
    issued_at: int
    """UTC seconds."""
    expires_at: int
    """UTC seconds."""


@dataclass(frozen=True)
class SigningKey:
    """A private key and its id in the JWKS."""

    key: ec.EllipticCurvePrivateKey
    key_id: str


def issue(
    key: SigningKey, *, subject: str, tenant: str, scopes: Iterable[str], now: float, lifetime_s: int = 3600
) -> str:
    """A signed token. `now` is UTC seconds. Raises TokenError naming the field that breaks its rule."""
    wanted = frozenset(scopes)
    if not subject or len(subject) > 128:
        raise TokenError("subject: 1 to 128 characters")
    if not TENANT.fullmatch(tenant):
        raise TokenError("tenant: must match [a-z][a-z0-9-]{1,30}")
    if not wanted or wanted - SCOPES:
        raise TokenError(f"scopes: some of {', '.join(sorted(SCOPES))}")
    if not 1 <= lifetime_s <= LONGEST_S:
        raise TokenError(f"lifetime: 1 to {LONGEST_S} s")
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "tenant": tenant,
        "scope": " ".join(sorted(wanted)),
        "iat": int(now),
        "exp": int(now) + lifetime_s,
    }
    return jwt.encode(claims, key.key, algorithm=_ALGORITHM, headers={"kid": key.key_id})


def verify(token: str, jwks: str, *, now: float) -> Claims:
    """What the token says, when one of the keys signed it, it is ours and in force at `now`. Raises
    TokenError."""
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
        key = next((k for k in jwt.PyJWKSet.from_json(jwks).keys if k.key_id == key_id), None)
        if key is None:
            raise TokenError("signed with a key that is not in the set")
        options: Any = {
            "verify_exp": False,
            "verify_iat": False,
            "require": ["iss", "aud", "sub", "exp", "iat"],
        }
        claims = jwt.decode(
            token, key, algorithms=[_ALGORITHM], issuer=ISSUER, audience=AUDIENCE, options=options
        )
    except jwt.PyJWTError as error:
        raise TokenError(f"not a valid token: {error}") from error
    if claims["exp"] <= now:
        raise TokenError("the token has expired")
    tenant, scope = claims.get("tenant"), claims.get("scope")
    if not isinstance(tenant, str) or not TENANT.fullmatch(tenant) or not isinstance(scope, str):
        raise TokenError("the token names no tenant or no scope")
    return Claims(claims["sub"], tenant, frozenset(scope.split()), claims["iat"], claims["exp"])


def load_or_create_key(folder: Path) -> SigningKey:
    """The key kept in `folder` (tokens.key; jwks.json beside it is its public half). Raises ValueError on a
    foreign file."""
    file = folder / "tokens.key"
    if file.exists():
        key = serialization.load_pem_private_key(read_text(file).encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{file}: not an elliptic-curve key")
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(file, pem.decode())
    signing = SigningKey(key, key_id(key.public_key()))
    write_private(folder / "jwks.json", jwks(signing))
    return signing


def jwks(*keys: SigningKey) -> str:
    """The public halves as a JWK set: what the edge is given."""
    entries = []
    for signing in keys:
        entry = ECAlgorithm.to_jwk(signing.key.public_key(), as_dict=True)
        entries.append({**entry, "kid": signing.key_id, "alg": _ALGORITHM, "use": "sig"})
    return json.dumps({"keys": entries})


def key_id(public: ec.EllipticCurvePublicKey) -> str:
    """First 16 hex digits of the SHA-256 of the public key (SubjectPublicKeyInfo, DER)."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return digest.finalize().hex()[:16]
