"""Settings of a SIP node and of the controller, from VOICEMESH_SIP_CLUSTER_<FIELD>.

The configuration file (the same for all nodes) holds these fields as `field = value` lines in TOML; a variable of the
environment wins over it. What differs from node to node (addresses, names) is in mesh.settings only.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from mesh.settings import SettingsError, load

SERVICE = "sip_cluster"
DEFAULT_FILE = Path(__file__).with_name("sip_cluster.toml")
"""The configuration file of every node unless VOICEMESH_SIP_CLUSTER_FILE names another."""


@dataclass(frozen=True)
class SipSettings:
    """How a SIP node treats calls."""

    dial_plan_timeout_ms: int = 800
    """Milliseconds the dial plan has to answer, 50 … 10,000; then the caller gets 503."""
    max_duration_s: int = 14_400
    """Seconds a call may last at most, 60 … 604,800 (four hours unless set)."""
    max_ring_s: int = 600
    """Seconds a destination may ring at most, 5 … 600, whatever its own setting."""
    retry_after_s: int = 5
    """Seconds in Retry-After of a 503, 1 … 3,600."""
    router_grace_ms: int = 2_000
    """Milliseconds without any orchestration node after which waiting calls go to default DNs, 0 … 60,000."""
    drain_s: int = 30
    """Seconds existing calls have to end after SIGTERM, 0 … 86,400; then they are released."""
    contact_host: str = "voice-sipproxy.voice.svc.cluster.local"
    """Host of our Contact: the proxies' name, so that no peer sees a node. Requests reach us by their Route."""
    direct: bool = False
    """Send to contacts themselves when there is no proxy: for benches and tests of one node."""
    t1_ms: int = 500
    """SIP timer T1, milliseconds, 10 … 5,000 (RFC 3261 §17.1.1.1)."""
    user_agent: str = "voicemesh"
    """User-Agent and Server header; empty for none."""

    def validate(self) -> list[str]:
        """Every rule broken."""
        rules = {
            "dial_plan_timeout_ms": (50, 10_000),
            "max_duration_s": (60, 604_800),
            "max_ring_s": (5, 600),
            "retry_after_s": (1, 3_600),
            "router_grace_ms": (0, 60_000),
            "drain_s": (0, 86_400),
            "t1_ms": (10, 5_000),
        }
        return [
            f"VOICEMESH_SIP_CLUSTER_{name.upper()}: must be {low} to {high}"
            for name, (low, high) in rules.items()
            if not low <= getattr(self, name) <= high
        ]


@dataclass(frozen=True)
class Configuration:
    """The settings and what they were read from."""

    settings: SipSettings
    sha256: str
    """SHA-256 of the configuration file, hex: equal on all nodes (SC-05)."""


def read(env: Mapping[str, str] | None = None) -> Configuration:
    """The configuration file with the environment over it. Raises SettingsError with every problem."""
    env = os.environ if env is None else env
    path = Path(env.get("VOICEMESH_SIP_CLUSTER_FILE", "") or DEFAULT_FILE)
    try:
        raw = path.read_bytes()
        table = tomllib.loads(raw.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([f"VOICEMESH_SIP_CLUSTER_FILE: {path.name}: {error}"]) from None
    known = {field.name for field in fields(SipSettings)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise SettingsError([f"{path.name}: no setting is called {name!r}" for name in unknown])
    prefix = "VOICEMESH_SIP_CLUSTER_"
    merged = {prefix + name.upper(): _text(value) for name, value in table.items()}
    merged |= {name: value for name, value in env.items() if name.startswith(prefix)}
    return Configuration(load(SipSettings, SERVICE, merged), hashlib.sha256(raw).hexdigest())


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class SipAddress:
    """Where a node takes SIP over UDP."""

    host: str
    port: int

    @staticmethod
    def of(env: Mapping[str, str], bind_ip: str) -> SipAddress:
        """From VOICEMESH_SIP_ADDRESS, "host:port", [host]:port, or a host alone; without it 5060 on `bind_ip`."""
        text = env.get("VOICEMESH_SIP_ADDRESS", "") or f"{bind_ip}:5060"
        host, separator, port = text.rpartition(":")
        if not separator or not port.isdecimal() or not 0 <= int(port) <= 65535:
            raise SettingsError([f"VOICEMESH_SIP_ADDRESS: {text!r} must be host:port"])
        return SipAddress(host.strip("[]"), int(port))
