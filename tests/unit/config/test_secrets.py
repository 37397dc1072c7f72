"""Passwords at rest and in passing."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from mesh.errors import DomainError
from services.config.integrity import Stored, TenantModel
from services.config.passwords import Passwords, keep, mask
from services.config.secrets import (
    MASK,
    Sealer,
    SecretError,
    hash_password,
    is_hashed,
    is_sealed,
    key_id,
    load_keys,
    verify_password,
)
from tests.unit.config.examples import good

ONE, TWO = bytes(range(32)), bytes(range(1, 33))


def test_a_sealed_password_opens_with_its_key_only() -> None:
    sealed = Sealer([ONE]).seal("gehëim")
    assert is_sealed(sealed)
    assert "gehëim" not in sealed
    assert Sealer([ONE]).open(sealed) == "gehëim"
    with pytest.raises(SecretError, match=key_id(ONE)):
        Sealer([TWO]).open(sealed)
    with pytest.raises(SecretError, match="damaged"):
        Sealer([ONE]).open(sealed[:-6] + "AAAAAA")


def test_a_new_key_seals_while_the_old_one_opens() -> None:
    old = Sealer([ONE]).seal("x")
    both = Sealer([TWO, ONE])
    assert both.open(old) == "x"
    assert both.seal("x").split("$")[2] == key_id(TWO)


def test_equal_passwords_are_not_seen_to_be_equal() -> None:
    sealer = Sealer([ONE])
    assert sealer.seal("x") != sealer.seal("x")
    assert hash_password("x", 10) != hash_password("x", 10)


def test_the_longest_password_is_still_recognised_as_sealed() -> None:
    assert is_sealed(Sealer([ONE]).seal("€" * 128))


def test_hashes_verify_and_tell_costs() -> None:
    hashed = hash_password("pin", 10)
    assert is_hashed(hashed)
    assert verify_password(hashed, "pin")
    assert not verify_password(hashed, "pim")
    assert not verify_password("pin", "pin")
    assert not verify_password(hashed.replace("$10$", "$30$", 1), "pin")


def test_scrypt_is_that_of_rfc_7914() -> None:
    # RFC 7914 §12, third vector: N = 16384, r = 8, p = 1, first 32 of its 64 bytes.
    salt, wanted = b"SodiumChloride", "7023bdcb3afd7348461c06cd81fd38eb"
    hashed = hash_password("pleaseletmein", 14, salt)
    assert base64.b64decode(hashed.rpartition("$")[2]).hex().startswith(wanted)


def test_keys_are_read_or_made_once(tmp_path: Path) -> None:
    file = tmp_path / "config" / "secret.key"
    made = load_keys((), file)
    assert load_keys((), file) == made
    assert file.stat().st_mode & 0o077 == 0
    assert load_keys((ONE.hex(),), file) == [ONE]
    with pytest.raises(ValueError, match="64 hex digits"):
        load_keys(("zz",), file)


async def test_a_known_password_is_stored_as_it_is() -> None:
    passwords = Passwords(Sealer([ONE]), 10)
    for kind, clear in (("dn", "pw"), ("agent_login", "pin")):
        first = good()[kind]
        getattr(first, kind).password = clear
        await passwords.protect("object", first, None)
        stored = getattr(first, kind).password
        assert stored not in ("", clear)
        again = good()[kind]
        getattr(again, kind).password = clear
        await passwords.protect("object", again, Stored(first, 1))
        assert again == first
        other = good()[kind]
        getattr(other, kind).password = "other"
        await passwords.protect("object", other, Stored(first, 1))
        assert getattr(other, kind).password != stored


async def test_a_password_sealed_elsewhere_is_refused_by_name() -> None:
    message = good()["dn"]
    message.dn.password = Sealer([TWO]).seal("pw")
    with pytest.raises(DomainError) as caught:
        await Passwords(Sealer([ONE]), 10).protect("objects[3]", message, None)
    assert caught.value.violations[0][0] == "objects[3].dn.password"


def test_masks_hide_and_keep() -> None:
    model, stored = TenantModel(), good()["dn"]
    stored.dn.password = Sealer([ONE]).seal("pw")
    model.put("dn", 1, Stored(stored, 5))
    seen = good()["dn"]
    mask(seen)
    assert seen.dn.password == MASK
    keep("object", seen, model, ("dn", 1))
    assert seen == stored
    unknown = good()["dn"]
    unknown.dn.password = MASK
    with pytest.raises(DomainError, match="none to keep"):
        keep("object", unknown, model, None)
    bare = good()["dn"]
    bare.dn.password = ""
    mask(bare)
    assert bare.dn.password == ""
