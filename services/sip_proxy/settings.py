"""Settings of SIP Proxy: VOICEMESH_SIP_PROXY_<FIELD>, and VOICEMESH_SIP_ADDRESS."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class SipProxySettings:
    """What this service needs beside what every process has."""

    fqdn: str = "voice-sipproxy.voice.svc.cluster.local"
    """Name of the cluster of proxies towards trunks: an SRV name in the cluster's DNS."""
    dialog_rate: float = 0.0
    """New dialogs a second above which 503 is answered; 0: no limit."""
    reselect_after: float = 2.0
    """Seconds without any response after which a new dialog is tried at the next node, 0.1 to 30."""
    options_interval: float = 1.0
    """Seconds between OPTIONS to each SIP node, 0.1 to 60; a node that does not answer gets no new dialog before two
    intervals have passed."""
    nonce_window: float = 300.0
    """Seconds a nonce may be used, 10 to 86400."""

    digest_algorithms: tuple[str, ...] = ("SHA-256", "MD5")
    """Algorithms offered to a phone, best first (RFC 8760 §2.4). MD5 alone for phones that look at the first only."""

    def validate(self) -> list[str]:
        """Every rule broken, one line each."""
        algorithms = bool(self.digest_algorithms) and set(self.digest_algorithms) <= {"SHA-256", "MD5"}
        rules = (
            (0 < len(self.fqdn) <= 253, "VOICEMESH_SIP_PROXY_FQDN: must have 1 to 253 characters"),
            (self.dialog_rate >= 0, "VOICEMESH_SIP_PROXY_DIALOG_RATE: must not be below 0"),
            (0.1 <= self.reselect_after <= 30, "VOICEMESH_SIP_PROXY_RESELECT_AFTER: must be 0.1 to 30"),
            (
                0.1 <= self.options_interval <= 60,
                "VOICEMESH_SIP_PROXY_OPTIONS_INTERVAL: must be 0.1 to 60",
            ),
            (10 <= self.nonce_window <= 86400, "VOICEMESH_SIP_PROXY_NONCE_WINDOW: must be 10 to 86400"),
            (algorithms, "VOICEMESH_SIP_PROXY_DIGEST_ALGORITHMS: must be some of SHA-256, MD5"),
        )
        return [problem for holds, problem in rules if not holds]


def sip_address() -> tuple[str, int]:
    """Where SIP is listened for: VOICEMESH_SIP_ADDRESS, "host:port". ValueError when it is missing or wrong."""
    host, _, port = os.environ.get("VOICEMESH_SIP_ADDRESS", "").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("VOICEMESH_SIP_ADDRESS: must be host:port")
    return host, int(port)
