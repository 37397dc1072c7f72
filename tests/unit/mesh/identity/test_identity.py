"""Certificates and tokens."""

from __future__ import annotations

import datetime as dt
import json
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.identity import ca, files, secrets, tokens

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


def test_a_workload_certificate_carries_its_spiffe_id_and_ends_soon() -> None:
    authority = ca.new_authority(NOW)
    made = authority.issue("sip_cluster", NOW, hosts=["127.10.5.1", "localhost"])
    certificate = x509.load_pem_x509_certificate(made.chain.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://voicemesh.local/ns/voice/sa/sip_cluster"
    ]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.10.5.1"]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert certificate.not_valid_after_utc == NOW + ca.LEAF_LIFETIME
    assert certificate.not_valid_before_utc == NOW - ca.CLOCK_SKEW
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    key = authority.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    certificate.verify_directly_issued_by(authority.certificate)


def test_the_authority_is_kept_and_renewed_before_it_ends(tmp_path: Path) -> None:
    first = ca.load_or_create(tmp_path, NOW)
    assert ca.load_or_create(tmp_path, NOW).bundle == first.bundle
    assert ca.load_or_create(tmp_path, NOW + ca.CA_LIFETIME).bundle != first.bundle
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600


def test_sds_files_hold_one_secret_each_and_are_replaced_whole(tmp_path: Path) -> None:
    authority = ca.new_authority(NOW)
    certificate = authority.issue("tenant", NOW)
    secrets.write_workload(tmp_path, certificate)
    secrets.write_trust(tmp_path, authority.bundle)
    workload = json.loads(secrets.workload_file(tmp_path).read_text())["resources"]
    trust = json.loads(secrets.trust_file(tmp_path).read_text())["resources"]
    assert [one["name"] for one in workload] == ["workload"]
    assert workload[0]["tls_certificate"]["private_key"]["inline_string"] == certificate.key
    assert trust[0]["validation_context"]["trusted_ca"]["inline_string"] == authority.bundle
    before = secrets.workload_file(tmp_path).stat().st_ino
    secrets.write_workload(tmp_path, authority.issue("tenant", NOW))
    assert secrets.workload_file(tmp_path).stat().st_ino != before
    assert {path.name for path in tmp_path.iterdir()} == {
        "workload.json",
        "trust.json",
        "ca.pem",
        "cert.pem",
        "key.pem",
    }


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    files.write_private(target, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_private(target, "\ud800")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_token_says_who_for_which_tenant_and_until_when(tmp_path: Path) -> None:
    key, now = tokens.load_or_create_key(tmp_path), time.time()
    token = tokens.issue(key, subject="7001", tenant="t1", scopes=["agent", "client"], now=now, lifetime_s=60)
    claims = tokens.verify(token, (tmp_path / "jwks.json").read_text(), now=now)
    assert (claims.subject, claims.tenant, claims.scopes) == ("7001", "t1", frozenset({"agent", "client"}))
    assert claims.expires_at - claims.issued_at == 60
    with pytest.raises(tokens.TokenError, match="expired"):
        tokens.verify(token, tokens.jwks(key), now=now + 61)


def test_a_token_of_somebody_else_is_refused(tmp_path: Path) -> None:
    ours, theirs = tokens.load_or_create_key(tmp_path / "a"), tokens.load_or_create_key(tmp_path / "b")
    token = tokens.issue(theirs, subject="x", tenant="t1", scopes=["client"], now=time.time())
    with pytest.raises(tokens.TokenError, match="not in the set"):
        tokens.verify(token, tokens.jwks(ours), now=time.time())
    both = tokens.jwks(ours, theirs)
    assert tokens.verify(token, both, now=time.time()).subject == "x"
    for broken in ("", "a.b.c", token[:-4] + "AAAA"):
        with pytest.raises(tokens.TokenError):
            tokens.verify(broken, both, now=time.time())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject", ""),
        ("subject", "x" * 129),
        ("tenant", "T1"),
        ("scopes", []),
        ("scopes", ["root"]),
        ("lifetime_s", 0),
    ],
)
def test_a_token_that_breaks_a_rule_is_not_issued(field: str, value: object, tmp_path: Path) -> None:
    good: dict[str, object] = {"subject": "x", "tenant": "t1", "scopes": ["client"], "lifetime_s": 60}
    key = tokens.load_or_create_key(tmp_path)
    with pytest.raises(tokens.TokenError, match=field.removesuffix("_s")):
        tokens.issue(key, now=0.0, **{**good, field: value})  # type: ignore[arg-type]


def test_the_signing_key_is_kept(tmp_path: Path) -> None:
    first, second = tokens.load_or_create_key(tmp_path), tokens.load_or_create_key(tmp_path)
    assert first.key_id == second.key_id
    assert json.loads((tmp_path / "jwks.json").read_text())["keys"][0]["kid"] == first.key_id
