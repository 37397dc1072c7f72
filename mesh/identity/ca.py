"""A certificate authority for one machine: workload certificates with SPIFFE ids (SPIFFE X.509-SVID, section
4).

Installations have an authority of their own (SPIRE, cert-manager) that writes the same files; nothing else in
the mesh knows the difference.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.identity.files import read_text, write_private

TRUST_DOMAIN = "voicemesh.local"
NAMESPACE = "voice"
CA_LIFETIME = dt.timedelta(days=365)
LEAF_LIFETIME = dt.timedelta(hours=1)
"""Of a workload certificate; replaced at half of it."""
CLOCK_SKEW = dt.timedelta(seconds=60)
"""A certificate is valid from so much before its making, for peers whose clock is behind."""


def spiffe_id(service: str) -> str:
    """`spiffe://voicemesh.local/ns/voice/sa/<service>`."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{service}"


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, both PEM."""

    chain: str
    key: str


@dataclass(frozen=True)
class Authority:
    """The signing certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def bundle(self) -> str:
        """What peers trust, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self,
        service: str,
        now: dt.datetime,
        *,
        lifetime: dt.timedelta = LEAF_LIFETIME,
        hosts: Iterable[str] = (),
    ) -> Certificate:
        """A certificate for `service`: URI SAN its SPIFFE id, and `hosts` (names or addresses) for TLS
        clients that check them."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spiffe_id(service))]
        names += [_host_name(host) for host in hosts]
        certificate = (
            _builder(service, self.certificate.subject, key, now, lifetime)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(leaf=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        chain = certificate.public_bytes(serialization.Encoding.PEM).decode()
        return Certificate(chain, _key_pem(key))


def new_authority(now: dt.datetime) -> Authority:
    """A new authority, valid a year."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{TRUST_DOMAIN} authority")])
    certificate = (
        _builder(f"{TRUST_DOMAIN} authority", name, key, now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(leaf=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def load_or_create(folder: Path, now: dt.datetime) -> Authority:
    """The authority kept in `folder` (ca.pem, ca.key); a new one when there is none or it ends within a day.

    Raises ValueError when the files are there and are no certificate and key.
    """
    certificate_file, key_file = folder / "ca.pem", folder / "ca.key"
    if certificate_file.exists() and key_file.exists():
        certificate = x509.load_pem_x509_certificate(read_text(certificate_file).encode())
        key = serialization.load_pem_private_key(read_text(key_file).encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_file}: not an elliptic-curve key")
        if certificate.not_valid_after_utc - now > dt.timedelta(days=1):
            return Authority(certificate, key)
    authority = new_authority(now)
    write_private(key_file, _key_pem(authority.key))
    write_private(certificate_file, authority.bundle)
    return authority


def _builder(
    subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: dt.datetime, lifetime: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
