"""Settings of a process, read from its environment once, checked all at once.

`MeshSettings` is what every process has. A service's own settings are a frozen dataclass whose fields have
defaults; `load` fills it from VOICEMESH_<SERVICE>_<FIELD>. Every problem is reported in one `SettingsError`,
not the first only.
"""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

from mesh import redis_url

VERSION = "0.1.0"
"""Release of this code; announced in the node record."""

LOG_LEVELS = ("debug", "info", "warning", "error")
_NODE = re.compile(r"[a-z][a-z0-9_]{0,30}-[0-9]{1,5}")
_REGION = re.compile(r"[a-z][a-z0-9-]{0,30}")


class SettingsError(Exception):
    """The environment does not describe a process that can run. `problems` has every reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


S = TypeVar("S", bound=_Dataclass)


@dataclass(frozen=True)
class MeshSettings:
    """What a process must know to take part in the mesh. Environment names in brackets."""

    service: str
    """Service name, as its folder is called: "sip_cluster" [VOICEMESH_SERVICE, or the name given to `main`].
    """
    node: str
    """Node id, stable over restarts: "<service>-<index>" [VOICEMESH_NODE, default "<service>-0"]."""
    region: str = "local"
    """Region name, part of every etcd key [VOICEMESH_REGION]."""
    bind_ip: str = "127.0.0.1"
    """The instance's own address; metrics and SIP bind to it [VOICEMESH_BIND_IP]."""
    address: str = ""
    """host:port at which this instance's sidecar takes gRPC, as announced [VOICEMESH_ADDRESS]."""
    listen: str = ""
    """Path of the Unix socket on which gRPC is served [VOICEMESH_LISTEN, "unix:" prefix allowed]."""
    egress: str = ""
    """gRPC target of the sidecar's egress: "unix:/…" [VOICEMESH_EGRESS]; empty: no calls to others."""
    etcd: str = ""
    """host:port[,host:port…] of the etcd that holds ownership [VOICEMESH_ETCD]; empty: not in the mesh."""
    etcd_config: str = ""
    """The same for configuration; the ownership cluster when empty [VOICEMESH_ETCD_CONFIG]."""
    redis: str = ""
    """URL of Redis [VOICEMESH_REDIS]: `redis://host:port/db` of an address that is always the primary's, or
    `redis+sentinel://host:port[,host:port…]/<name>` of Sentinels; empty for a service without state."""
    metrics_port: int = 0
    """TCP port of /metrics and /healthz on bind_ip; 0 takes a free one [VOICEMESH_METRICS_PORT]."""
    log_level: str = "info"
    """One of debug, info, warning, error [VOICEMESH_LOG_LEVEL]."""
    capacity: int = 100
    """Work this node can carry in the service's unit, 0 … 1,000,000 [VOICEMESH_CAPACITY]."""
    zone: str = "z1"
    """Zone of the region [VOICEMESH_ZONE]."""
    run_dir: str = "run"
    """Folder for sockets and state of this machine [VOICEMESH_RUN_DIR]."""
    drain_seconds: float = 10.0
    """Bound of a graceful drain, 0 … 600 s [VOICEMESH_DRAIN_SECONDS]."""
    require_peer: bool = True
    """Refuse tenant-scoped calls that carry neither a tenant nor the identity of a peer service
    [VOICEMESH_REQUIRE_PEER]. Off only where no sidecar stands in front, as in tests of one service."""
    ladder: bool = False
    """Log one line for each step of a call, for drawing its ladder [VOICEMESH_LADDER]."""
    trace_file: str = ""
    """File to which finished spans are appended as JSON; empty: traces are propagated, not recorded
    [VOICEMESH_TRACE_FILE]."""
    version: str = VERSION
    """Release announced in the node record [VOICEMESH_VERSION]."""

    @classmethod
    def from_env(cls, service: str = "", env: Mapping[str, str] | None = None) -> MeshSettings:
        """Reads VOICEMESH_* from `env` (default: the process's environment).

        Raises SettingsError naming every variable that is missing or breaks its rule.
        """
        env = os.environ if env is None else env
        name = service or env.get("VOICEMESH_SERVICE", "")
        defaults = {"service": name, "node": f"{name}-0"}
        known = {k: v for k, v in env.items() if k != "VOICEMESH_SERVICE" or not service}
        settings = _read(cls, "VOICEMESH_", known, defaults)
        settings = dataclasses.replace(
            settings,
            listen=settings.listen.removeprefix("unix:"),
            etcd_config=settings.etcd_config or settings.etcd,
        )
        problems = settings.validate()
        if problems:
            raise SettingsError(problems)
        return settings

    def validate(self) -> list[str]:
        """Every rule broken, one line each; empty when the settings are good."""
        rules = (
            (bool(self.service), "VOICEMESH_SERVICE: missing"),
            (_NODE.fullmatch(self.node), "VOICEMESH_NODE: must be <service>-<index>"),
            (_REGION.fullmatch(self.region), "VOICEMESH_REGION: must match [a-z][a-z0-9-]{0,30}"),
            (0 <= self.metrics_port <= 65535, "VOICEMESH_METRICS_PORT: must be 0 to 65535"),
            (self.log_level in LOG_LEVELS, f"VOICEMESH_LOG_LEVEL: must be one of {', '.join(LOG_LEVELS)}"),
            (0 <= self.capacity <= 1_000_000, "VOICEMESH_CAPACITY: must be 0 to 1000000"),
            (0 <= self.drain_seconds <= 600, "VOICEMESH_DRAIN_SECONDS: must be 0 to 600"),
            (len(self.listen.encode()) <= 107, "VOICEMESH_LISTEN: a socket path has at most 107 bytes"),
            (not (redis := redis_url.problem(self.redis)), f"VOICEMESH_REDIS: {redis}"),
        )
        return [problem for holds, problem in rules if not holds]

    @property
    def etcd_prefix(self) -> str:
        """Key prefix of this region in etcd, without a trailing slash."""
        return f"/voicemesh/{self.region}"

    def new_incarnation(self) -> str:
        """A new incarnation id for a starting node: "<node>.<8 hex digits>"."""
        return f"{self.node}.{secrets.token_hex(4)}"


def load(cls: type[S], service: str, env: Mapping[str, str] | None = None) -> S:
    """Fills the frozen dataclass `cls` from VOICEMESH_<SERVICE>_<FIELD>; what is not set keeps its default.

    Field types: str, int, float, bool ("1"/"0"/"true"/"false"), tuple[str, ...] (comma-separated). A method
    `validate(self) -> list[str]` is called when there is one. Raises SettingsError with every problem.
    """
    prefix = f"VOICEMESH_{service.upper()}_"
    settings = _read(cls, prefix, os.environ if env is None else env, {})
    validate: Callable[[], list[str]] | None = getattr(settings, "validate", None)
    problems = validate() if validate else []
    if problems:
        raise SettingsError(problems)
    return settings


def _read(cls: type[S], prefix: str, env: Mapping[str, str], values: dict[str, Any]) -> S:
    problems: list[str] = []
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = prefix + field.name.upper()
        if name not in env:
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and field.name not in values:
                problems.append(f"{name}: missing")
            continue
        try:
            values[field.name] = _parse(hints[field.name], env[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise SettingsError(problems)
    return cls(**values)


def _parse(kind: Any, text: str) -> Any:
    if kind is str:
        return text
    if kind is bool:
        words = {"1": True, "true": True, "0": False, "false": False, "": False}
        if text.lower() not in words:
            raise ValueError("must be 1, 0, true or false")
        return words[text.lower()]
    if kind is int or kind is float:
        try:
            return kind(text)
        except ValueError:
            raise ValueError("must be a number" if kind is float else "must be a whole number") from None
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    raise TypeError(f"a settings field cannot have the type {kind}")
