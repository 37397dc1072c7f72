"""Real etcd and Redis on loopback for tests: started fast, paused, killed, restarted, always ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

START_S = 20.0


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on at this moment, and that the kernel gives to no connection (those begin at 32768)."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port


def loopback() -> str:
    """A loopback address of one's own, so that two test runs do not meet."""
    return f"127.{random.randrange(64, 128)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def program(name: str) -> str:
    """A program that the locked wheels put beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """In a new child: end it when the test run is killed, and no fixture gets to end it (prctl(2))."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """One server process with a folder of its own, gone after `close()`."""

    name = ""

    def __init__(self) -> None:
        self.host = loopback()
        self.port = free_port(self.host)
        self.folder = Path(tempfile.mkdtemp(prefix=f"voicemesh-{self.name}-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Starts the process and waits until it serves."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Starts the process."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder, preexec_fn=die_with_parent
            )

    def wait(self) -> None:
        """Waits until it serves."""
        wait_until(self.answers, START_S, lambda: f"{self.name}: " + self.log()[-2000:])

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9; the data folder stays for a `start()`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class EtcdServer(Server):
    """A member of a cluster, of one when nothing else is said; without fsync."""

    name = "etcd"

    def __init__(self) -> None:
        super().__init__()
        self.peer_port = free_port(self.host)
        self.members: list[EtcdServer] = [self]

    @property
    def member(self) -> str:
        """name=peer URL."""
        return f"{self.host}=http://{self.host}:{self.peer_port}"

    def command(self) -> list[str]:
        client, peer = f"http://{self.endpoint}", f"http://{self.host}:{self.peer_port}"
        flags = {
            "name": self.host,
            "data-dir": str(self.folder / "data"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": ",".join(member.member for member in self.members),
            "log-level": "warn",
        }
        return [
            program("etcd"),
            "--unsafe-no-fsync",
            *(f"--{flag}={value}" for flag, value in flags.items()),
        ]

    def answers(self) -> bool:
        return _answers(self.host, self.port, b"GET /health HTTP/1.0\r\n\r\n", b'"health":"true"')

    def wipe(self) -> None:
        """Throws the data away; for a stopped server."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)


class EtcdCluster:
    """Three members."""

    def __init__(self) -> None:
        self.members = [EtcdServer() for _ in range(3)]
        for member in self.members:
            member.members = self.members

    @property
    def endpoints(self) -> str:
        return ",".join(member.endpoint for member in self.members)

    def start(self) -> None:
        for member in self.members:  # a member serves when it has a quorum
            member.launch()
        for member in self.members:
            member.wait()

    def close(self) -> None:
        for member in self.members:
            member.close()


class Place(Protocol):
    """Where something listens."""

    host: str
    port: int


class RedisServer(Server):
    """A primary without persistence, or a replica of another."""

    name = "redis"

    def __init__(self, replica_of: Place | None = None) -> None:
        super().__init__()
        self.replica_of = replica_of

    @property
    def url(self) -> str:
        return f"redis://{self.endpoint}/0"

    def command(self) -> list[str]:
        flags = {
            "bind": self.host,
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": "0",
        }
        args = [program("redis-server")]
        for flag, value in flags.items():
            args += [f"--{flag}", value]
        if self.replica_of is not None:
            args += ["--replicaof", self.replica_of.host, str(self.replica_of.port)]
        return args

    def answers(self) -> bool:
        return _answers(self.host, self.port, b"PING\r\n", b"+PONG")


def _answers(host: str, port: int, question: bytes, answer: bytes) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(question)
            return answer in connection.recv(4096)
    except OSError:
        return False


def wait_until(
    condition: Callable[[], bool], seconds: float, what: Callable[[], str] | str = "condition"
) -> None:
    """Polls until the condition holds; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.01)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that a test started, whatever state it is in."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait(10)


def environment(**more: str) -> dict[str, str]:
    """This process's environment for a child that imports the project."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "gen" / "python")])
    return {**os.environ, "PYTHONPATH": path, **more}
