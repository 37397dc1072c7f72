"""Certificates as Envoy reads them: one SDS resource a file, key and chain inline, so that a rename replaces
both together.

Envoy watches the folder (`watched_directory`) and takes the new secret without a restart and without touching
open connections.
"""

from __future__ import annotations

import json
from pathlib import Path

from mesh.identity.ca import Certificate
from mesh.identity.files import write_private

WORKLOAD = "workload"
"""Name of the SDS resource with the workload's certificate, in `workload.json`."""
TRUST = "trust"
"""Name of the SDS resource with the bundle of trusted authorities, in `trust.json`."""
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def workload_file(folder: Path) -> Path:
    """The SDS file of the workload's certificate."""
    return folder / f"{WORKLOAD}.json"


def trust_file(folder: Path) -> Path:
    """The SDS file of the trusted bundle."""
    return folder / f"{TRUST}.json"


def write_workload(folder: Path, certificate: Certificate) -> None:
    """Writes the SDS file, and the same as PEM (cert.pem, key.pem) for clients that are not Envoy."""
    tls = {
        "certificate_chain": {"inline_string": certificate.chain},
        "private_key": {"inline_string": certificate.key},
    }
    write_private(folder / "key.pem", certificate.key)
    write_private(folder / "cert.pem", certificate.chain)
    write_private(workload_file(folder), _secret(WORKLOAD, "tls_certificate", tls))


def write_trust(folder: Path, bundle: str) -> None:
    """Writes the SDS file of the bundle (PEM, several certificates while authorities change) and ca.pem."""
    write_private(folder / "ca.pem", bundle)
    write_private(
        trust_file(folder), _secret(TRUST, "validation_context", {"trusted_ca": {"inline_string": bundle}})
    )


def _secret(name: str, kind: str, value: object) -> str:
    return json.dumps({"resources": [{"@type": _SECRET, "name": name, kind: value}]})
