"""SIPp, a user agent written by others, against the user agent core and through the proxy."""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from voicecore import sip
from voicecore.sip import digest

SCENARIOS = Path(__file__).resolve().parents[2] / "sipp"
CALLER, CALLEE, CORE = "127.77.1.1", "127.77.1.2", "127.77.1.3"

pytestmark = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed")


class EchoAgent:
    """Answers every call with 180 and 200 and every other request with 200, on a thread of its own."""

    def __init__(self, endpoint: sip.Endpoint, contact: str) -> None:
        self._endpoint = endpoint
        self._contact = contact
        self._stop = threading.Event()
        self.acks = 0
        self.byes = 0
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> EchoAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            select.select([self._endpoint.fileno()], [], [], 0.1)
            for event in self._endpoint.drain():
                self._handle(event)

    def _handle(self, event: sip.Event) -> None:
        match event:
            case sip.RequestReceived(txn, request, _, _) if request.method == "INVITE":
                tag = sip.new_tag(3)
                for status in (180, 200):
                    self._endpoint.respond(txn, request.reply(status, to_tag=tag, contact=self._contact))
            case sip.RequestReceived(txn, request, _, _):
                self.byes += request.method == "BYE"
                self._endpoint.respond(txn, request.reply(200))
            case sip.AckReceived(txn, _, _):
                self.acks += txn is not None
            case other:
                self.failures.append(repr(other))


@contextmanager
def callee() -> Iterator[sip.Address]:
    """SIPp as callee; ends with the context."""
    port = 5070
    command = ["sipp", "-sf", str(SCENARIOS / "uas.xml"), "-i", CALLEE, "-p", str(port), "-nostdin"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield CALLEE, port
        finally:
            process.kill()
            process.wait(10)


def calls(target: sip.Address, count: int, rate: int) -> tuple[int, int]:
    """(successful, failed) of SIPp as caller."""
    command = [
        "sipp",
        "-sf",
        str(SCENARIOS / "uac.xml"),
        "-i",
        CALLER,
        "-p",
        "5070",
        "-s",
        "2001",
        "-d",
        "50",
    ]
    command += ["-r", str(rate), "-m", str(count), "-nostdin", "-timeout", "40", f"{target[0]}:{target[1]}"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    totals = [
        int(number)
        for number in re.findall(r"(?:Successful|Failed) call\s+\|\s+\d+\s+\|\s+(\d+)", done.stdout)
    ]
    assert totals, done.stdout + done.stderr
    return totals[-2], totals[-1]


def test_registers_with_digest_at_the_proxys_owner() -> None:
    proxy = sip.Proxy()
    host, port = proxy.bind_udp(CORE, 0)
    keeper = digest.NonceKeeper(b"a secret of sixteen bytes or more")
    verdicts: list[tuple[str, bool]] = []
    command = [
        "sipp",
        "-sf",
        str(SCENARIOS / "register.xml"),
        "-i",
        CALLER,
        "-p",
        "5071",
        "-s",
        "1001",
        "-m",
        "1",
    ]
    command += [
        "-au",
        "1001",
        "-ap",
        "secret",
        "-key",
        "domain",
        "t1.example",
        "-key",
        "contact",
        f"{CALLER}:5060",
    ]
    command += ["-nostdin", "-timeout", "20", f"{host}:{port}"]
    with tempfile.TemporaryDirectory() as folder:
        sipp = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2):
            assert select.select([proxy.fileno()], [], [], 20)[0], "no REGISTER came"
            (event,) = proxy.drain()
            assert isinstance(event, sip.RequestReceived)
            answer = event.request.authorization
            if answer is None:
                asked = digest.challenge("t1.example", keeper.create("t1.example", 1000.0))
                proxy.respond(event.txn, event.request.reply(401, headers=[("WWW-Authenticate", asked)]))
                continue
            given = digest.parse_authorization(answer)
            fresh = keeper.check(given.nonce, given.realm, given.nc, 1000.0)
            verdicts.append((fresh, digest.verify(given, "REGISTER", password="secret")))
            proxy.respond(event.txn, event.request.reply(200, contact=event.request.contact))
        assert sipp.wait(20) == 0
    proxy.close()
    assert verdicts == [("good", True)]


def test_calls_to_a_user_agent_core() -> None:
    endpoint = sip.Endpoint()
    host, port = endpoint.bind_udp(CORE, 0)
    with EchoAgent(endpoint, f"<sip:echo@{host}:{port}>") as agent:
        assert calls((host, port), 200, 100) == (200, 0)
    assert (agent.acks, agent.byes, agent.failures) == (200, 200, [])
    counters = endpoint.counters()
    endpoint.close()
    assert (counters["malformed"], counters["timeouts"]) == (0, 0)


def test_calls_through_the_proxy_to_sipp() -> None:
    proxy = sip.Proxy()
    address = proxy.bind_udp(CORE, 0)
    with callee() as node:
        proxy.set_nodes([sip.Node("sipp", *node)])
        assert calls(address, 300, 150) == (300, 0)
    counters = proxy.counters()
    proxy.close()
    assert (counters["new_dialogs"], counters["malformed"], counters["reselected"]) == (300, 0, 0)
    assert counters["forwarded_requests"] >= 600 and counters["stateless_requests"] >= 300


def test_calls_through_the_proxy_to_nodes_that_name_slots() -> None:
    proxy = sip.Proxy()
    address = proxy.bind_udp(CORE, 0)
    endpoints = [sip.Endpoint(), sip.Endpoint()]
    nodes = [sip.Node(f"n{index}", *endpoint.bind_udp(CORE, 0)) for index, endpoint in enumerate(endpoints)]
    proxy.set_nodes(nodes)
    # Both answer with tags of slot 3, so requests in dialogs go to its owner alone: n0.
    proxy.set_slots([(3, 0)])
    with (
        EchoAgent(endpoints[0], f"<sip:echo@{CORE}:{nodes[0].port}>") as first,
        EchoAgent(endpoints[1], f"<sip:echo@{CORE}:{nodes[1].port}>") as second,
    ):
        assert calls(address, 200, 100) == (200, 0)
    counters = proxy.counters()
    proxy.close()
    for endpoint in endpoints:
        endpoint.close()
    shares = [counters[f"node.n{index}.new_dialogs"] for index in (0, 1)]
    assert sum(shares) == 200 and min(shares) > 60
    assert (first.byes, second.byes) == (200, 0)
