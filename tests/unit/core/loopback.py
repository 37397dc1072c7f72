"""Endpoints on loopback sockets, and events waited for with a deadline."""

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from voicecore import sip

E = TypeVar("E")
DEADLINE = 10.0


class Owner:
    """Whoever owns an endpoint or a proxy: keeps events in order and takes the wanted one out."""

    def __init__(self, core: sip.Endpoint | sip.Proxy) -> None:
        self.core = core
        self.events: list[sip.Event] = []

    def wait(self, kind: type[E], accept: Callable[[E], bool] = lambda _: True) -> E:
        """The first event of this kind; others stay for later calls."""
        end = time.monotonic() + DEADLINE
        while True:
            for index, event in enumerate(self.events):
                if isinstance(event, kind) and accept(event):
                    del self.events[index]
                    return event
            left = end - time.monotonic()
            assert left > 0, (kind, self.events)
            readable, _, _ = select.select([self.core.fileno()], [], [], left)
            if readable:
                self.events += self.core.drain()

    def response(self, status: int) -> sip.ResponseReceived:
        return self.wait(sip.ResponseReceived, lambda event: event.response.status == status)

    def request(self, method: str) -> sip.RequestReceived:
        return self.wait(sip.RequestReceived, lambda event: event.request.method == method)


class Phone(Owner):
    """An endpoint with one socket."""

    def __init__(self, config: sip.EndpointConfig | None = None, host: str = "127.0.0.1") -> None:
        self.endpoint = sip.Endpoint(config)
        super().__init__(self.endpoint)
        self.address = self.endpoint.bind_udp(host, 0)
        bracketed = f"[{host}]" if ":" in host else host
        self.contact = f"<sip:phone@{bracketed}:{self.address[1]}>"

    def new(self, method: str, to: sip.Address, user: str = "bob") -> sip.Request:
        uri = sip.Uri(to[0], user=user, port=to[1])
        return sip.Request.new(method, uri, from_="sip:alice@a.example", to=f"<{uri}>", contact=self.contact)


@contextmanager
def phones(count: int, config: sip.EndpointConfig | None = None) -> Iterator[list[Phone]]:
    made = [Phone(config) for _ in range(count)]
    try:
        yield made
    finally:
        for phone in made:
            phone.endpoint.close()


def until(condition: Callable[[], bool]) -> None:
    """Polls for what no event tells."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
