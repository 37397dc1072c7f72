"""A Redis that fails over: primary, replica and three Sentinels, as an installation has them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from tests.integration.servers import RedisServer, Server, program, wait_until

NAME = "voicemesh"
DOWN_AFTER_MS = 1000


class SentinelServer(Server):
    """One Sentinel of a primary; keeps what it knows in its configuration file."""

    name = "sentinel"

    def __init__(self, primary: RedisServer) -> None:
        super().__init__()
        lines = (
            f"bind {self.host}",
            f"port {self.port}",
            f"dir {self.folder}",
            f"sentinel announce-ip {self.host}",
            f"sentinel monitor {NAME} {primary.host} {primary.port} 2",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} 4000",
        )
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [program("redis-server"), str(self.folder / "sentinel.conf"), "--sentinel"]

    def answers(self) -> bool:
        return "+PONG" in self.ask("PING")

    def ask(self, command: str) -> str:
        """What it answers to a command without arguments that need quoting; "" when it does not."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(f"{command}\r\n".encode())
                return connection.recv(65536).decode()
        except OSError:
            return ""


class RedisGroup:
    """`primary` and `replica` say how they began."""

    def __init__(self) -> None:
        self.primary = RedisServer()
        self.replica = RedisServer(self.primary)
        self.sentinels = [SentinelServer(self.primary) for _ in range(3)]

    @property
    def url(self) -> str:
        """VOICEMESH_REDIS."""
        return f"redis+sentinel://{','.join(sentinel.endpoint for sentinel in self.sentinels)}/{NAME}"

    def start(self) -> None:
        """Starts everything; returns when every Sentinel knows the replica and the others."""
        for server in (self.primary, self.replica, *self.sentinels):
            server.launch()
        for server in (self.primary, self.replica, *self.sentinels):
            server.wait()
        wait_until(
            lambda: all(self._complete(one) for one in self.sentinels), 30, "sentinels know each other"
        )

    @staticmethod
    def _complete(sentinel: SentinelServer) -> bool:
        return "slaves=1,sentinels=3" in sentinel.ask("INFO sentinel")

    def promoted(self) -> bool:
        """Whether most Sentinels name the replica as primary."""
        place = f"\r\n{self.replica.host}\r\n"
        ask = f"SENTINEL get-master-addr-by-name {NAME}"
        return sum(place in sentinel.ask(ask) for sentinel in self.sentinels) >= 2

    def close(self) -> None:
        for server in (*self.sentinels, self.replica, self.primary):
            server.close()


@contextlib.contextmanager
def redis_group() -> Iterator[RedisGroup]:
    """A group that has started; gone at the end."""
    group = RedisGroup()
    try:
        group.start()
        yield group
    finally:
        group.close()
