"""Settings of a local mesh: from arguments and VOICEMESH_LOCAL_* variables."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesh.local.layout import DEFAULT_COUNTS, ETCD_SIZES, MAX_ENGINES, MAX_INSTANCES, SERVICE_NUMBERS

REPOSITORY = Path(__file__).resolve().parents[2]
"""The checkout that is run."""

NETS = range(10, 251)
"""Second octets a mesh may take."""


class SettingsError(ValueError):
    """What is wrong with the settings, all of it at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class LocalSettings:
    """How a local mesh is started."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Instances by service; a service not named has its default, 0 leaves it out."""
    engines: int = 1
    """Engines a SIP pod, 1-10."""
    etcd_members: int = 1
    """Members of etcd: 1, 3 or 5."""
    run_dir: Path = REPOSITORY / "run"
    """Folder for logs, certificates, configuration and stores. Its content is replaced at start; only logs/
    and envoy/ stay at the end."""
    net: int | None = 10
    """Second octet of the mesh's addresses, 10-250; None takes the first that is free."""
    region: str = "local"
    """Region name in etcd."""
    log_level: str = "info"
    """VOICEMESH_LOG_LEVEL of the services."""
    start_timeout: float = 60.0
    """Seconds until everything must be ready."""
    stop_timeout: float = 5.0
    """Seconds a process gets between SIGTERM and SIGKILL."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further variables for every service process."""

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise SettingsError(problems)

    def _problems(self) -> list[str]:
        found = [
            f"counts: no service is called {name!r}" for name in self.counts if name not in SERVICE_NUMBERS
        ]
        found += [
            f"counts: {name}={count} is not in 0-{MAX_INSTANCES}"
            for name, count in self.counts.items()
            if not 0 <= count <= MAX_INSTANCES
        ]
        if not 1 <= self.engines <= MAX_ENGINES:
            found.append(f"engines: {self.engines} is not in 1-{MAX_ENGINES}")
        if self.etcd_members not in ETCD_SIZES:
            found.append(f"etcd_members: {self.etcd_members} is not one of {', '.join(map(str, ETCD_SIZES))}")
        if self.net is not None and self.net not in NETS:
            found.append(f"net: {self.net} is not in {NETS.start}-{NETS.stop - 1}")
        if self.start_timeout <= 0:
            found.append("start_timeout: must be positive")
        if self.stop_timeout <= 0:
            found.append("stop_timeout: must be positive")
        return found

    def all_counts(self) -> dict[str, int]:
        """Instances of every service that is started, in starting order."""
        wanted = {**DEFAULT_COUNTS, **self.counts}
        return {service: count for service, count in wanted.items() if count}


def _pairs(items: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    problems = []
    for item in items:
        service, separator, number = item.partition("=")
        if not separator or not number.isdecimal():
            problems.append(f"--count {item}: write SERVICE=NUMBER")
        else:
            counts[service.replace("-", "_")] = int(number)
    if problems:
        raise SettingsError(problems)
    return counts


def _environment_counts(environ: Mapping[str, str]) -> dict[str, int]:
    found = {
        service: environ[key]
        for service in SERVICE_NUMBERS
        if (key := f"VOICEMESH_LOCAL_{service.upper()}") in environ
    }
    problems = [
        f"VOICEMESH_LOCAL_{service.upper()}={value}: not a number"
        for service, value in found.items()
        if not value.isdecimal()
    ]
    if problems:
        raise SettingsError(problems)
    return {service: int(value) for service, value in found.items()}


@dataclass(frozen=True)
class CommandLine:
    """What `python -m mesh.local` was asked for."""

    settings: LocalSettings
    once: bool
    """Exit after the demo call."""
    demo: bool
    """Run the demo call."""


def from_command_line(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> CommandLine:
    """Arguments win over VOICEMESH_LOCAL_<SERVICE>, _NET, _ENGINES, _ETCD_MEMBERS and ONCE. Raises SettingsError."""
    parser = argparse.ArgumentParser(
        prog="python -m mesh.local", description="the whole platform on this machine"
    )
    parser.add_argument(
        "--count", action="append", default=[], metavar="SERVICE=NUMBER", help="instances of a service"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="SERVICE", help="leave a service out"
    )
    parser.add_argument("--engines", default=environ.get("VOICEMESH_LOCAL_ENGINES", "1"), help="of a SIP pod")
    parser.add_argument(
        "--etcd-members", default=environ.get("VOICEMESH_LOCAL_ETCD_MEMBERS", "1"), help="of etcd: 1, 3 or 5"
    )
    parser.add_argument(
        "--run-dir", type=Path, default=Path(environ.get("VOICEMESH_LOCAL_RUN_DIR", REPOSITORY / "run"))
    )
    parser.add_argument(
        "--net",
        default=environ.get("VOICEMESH_LOCAL_NET", "10"),
        help="second octet of the addresses, or 'free'",
    )
    parser.add_argument("--log-level", default=environ.get("VOICEMESH_LOCAL_LOG_LEVEL", "info"))
    parser.add_argument("--once", action="store_true", default=environ.get("ONCE", "") not in {"", "0"})
    parser.add_argument("--no-demo", dest="demo", action="store_false", help="start, and make no call")
    arguments = parser.parse_args(list(argv))
    if arguments.net != "free" and not str(arguments.net).isdecimal():
        raise SettingsError([f"--net {arguments.net}: a number or 'free'"])
    if not str(arguments.engines).isdecimal():
        raise SettingsError([f"--engines (VOICEMESH_LOCAL_ENGINES={arguments.engines}): not a number"])
    if not str(arguments.etcd_members).isdecimal():
        raise SettingsError(
            [f"--etcd-members (VOICEMESH_LOCAL_ETCD_MEMBERS={arguments.etcd_members}): not a number"]
        )
    counts = {**_environment_counts(environ), **_pairs(arguments.count)}
    counts.update({service.replace("-", "_"): 0 for service in arguments.without})
    settings = LocalSettings(
        counts=counts,
        engines=int(arguments.engines),
        etcd_members=int(arguments.etcd_members),
        run_dir=arguments.run_dir.resolve(),
        net=None if arguments.net == "free" else int(arguments.net),
        log_level=arguments.log_level,
        # The demo draws its ladder from the services' logs.
        environment={"VOICEMESH_LADDER": "1"} if arguments.demo else {},
    )
    return CommandLine(settings, arguments.once, arguments.demo)
