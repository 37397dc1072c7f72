"""A SIP node with 1,000 established calls is killed, or drained: how long until its calls are served again, and how many are lost.
And what a call costs now that it survives its node, beside what it cost before.

A local mesh with one proxy and two SIP pods; calls from a trunk to an extension until 1,000 of them are on one node. Then that node gets
SIGKILL or SIGTERM, and each of the 1,000 dialogs sends a BYE or a re-INVITE at a random moment of the 3 s that follow.

`last_answer_ms`: after a kill, from the kill to the last final answer; on drain, the longest that any request waited for its
final answer. `calls_lost`: dialogs whose request was not answered 2xx. `longest_wait_ms` is the same figure for both;
`repeats`: the most often that one request was sent.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from voicecore import sip

from bench import sip_node_udp
from bench.harness import Invalid, Result
from mesh.discovery import Directory
from mesh.etcd import Etcd
from tests.e2e.platform import Platform, sipp_register

CALLS = int(os.environ.get("BENCH_FAILOVER_CALLS", "1000"))
RATE = 30
OPEN = 15
"""Calls without an answer at most while calls are made: a busy machine makes them slower."""
BEFORE_US = 6300.0
"""CPU microseconds of a call in a SIP node before its record was complete enough to be restored: sip_node_udp in bench/RESULTS.md of
0.1.0, a 2-core machine."""
WINDOW_S = 3.0
GRACE_S = 15.0
"""How long answers are waited for after the last request, seconds; what has none then is lost."""
NUMBER = "1901"
VICTIM = "sip_cluster-0"
COUNTS = {
    "sip_proxy": 1,
    "sip_cluster": 2,
    "tenant": 0,
    "orchestration": 0,
    "front_end": 0,
    "agent_state": 0,
    "call_state": 0,
}
SDP = "application/sdp"
BODY = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


@dataclass(eq=False)
class Talk:
    """One call, from the caller's side."""

    invite: sip.Request
    dialog: sip.Dialog | None = None
    method: str = ""
    """The request of the window."""
    sent: float = 0.0
    """When it was sent, loop time."""
    answered: float = 0.0
    status: int = 0


@dataclass
class Far:
    """Callers on a trunk, and the phone they all call: two sockets of one process."""

    proxy: sip.Address
    host: str
    phone_host: str
    talks: dict[int, Talk] = field(default_factory=dict)
    """By the transaction of their INVITE."""
    asked: dict[int, Talk] = field(default_factory=dict)
    """By the transaction of the request of the window."""
    failures: list[int] = field(default_factory=list)

    def open(self) -> None:
        self.callers = sip.Endpoint(sip.EndpointConfig(auto_trying=-1))
        self.phone = sip.Endpoint(sip.EndpointConfig(auto_trying=-1))
        self.callers.bind_udp(self.host, 5060)
        self.phone.bind_udp(self.phone_host, 5060)
        loop = asyncio.get_running_loop()
        loop.add_reader(self.callers.fileno(), self._callers)
        loop.add_reader(self.phone.fileno(), self._phone)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for endpoint in (self.callers, self.phone):
            loop.remove_reader(endpoint.fileno())
            endpoint.close()

    @property
    def open_calls(self) -> int:
        """Calls without an answer."""
        return len(self.talks) - len(self.failures) - len(self.established())

    @property
    def repeats(self) -> float:
        """Requests that were sent again, all together."""
        return float(self.callers.counters()["retransmissions_out"])

    def established(self) -> list[Talk]:
        return [talk for talk in self.talks.values() if talk.dialog is not None]

    def call(self) -> None:
        invite = sip.Request.new(
            "INVITE",
            f"sip:{NUMBER}@{self.proxy[0]}",
            from_=f"<sip:+14155550100@{self.host}>",
            to=f"<sip:{NUMBER}@{self.proxy[0]}>",
            contact=f"<sip:caller@{self.host}:5060>",
            body=BODY,
            content_type=SDP,
        )
        self.talks[self.callers.send_request(invite, self.proxy)] = Talk(invite)

    def ask(self, talk: Talk, method: str) -> None:
        """Sends the request of the window."""
        assert talk.dialog is not None
        invite = method == "INVITE"
        request = talk.dialog.create_request(
            method,
            contact=f"<sip:caller@{self.host}:5060>" if invite else None,
            body=BODY if invite else b"",
            content_type=SDP if invite else None,
        )
        talk.method, talk.sent = method, asyncio.get_running_loop().time()
        self.asked[self.callers.send_request(request, self.proxy)] = talk

    def _callers(self) -> None:
        for event in self.callers.drain(1024):
            if isinstance(event, sip.ResponseReceived):
                self._response(event.txn, event.response)
            elif isinstance(event, sip.TransactionTimeout | sip.TransportFailed):
                if (asked := self.asked.get(event.txn)) is not None:
                    asked.status = asked.status or 408
            elif isinstance(event, sip.RequestReceived):
                self.callers.respond(event.txn, event.request.reply(200))

    def _response(self, txn: int, response: sip.Response) -> None:
        if response.status < 200:
            return
        if (talk := self.talks.get(txn)) is not None:
            if response.status >= 300:
                self.failures.append(response.status)
                return
            talk.dialog = sip.Dialog.from_response(talk.invite, response)
            self.callers.send_ack(txn, talk.dialog.create_request("ACK", cseq=1), self.proxy)
        elif (asked := self.asked.get(txn)) is not None:
            asked.answered, asked.status = asyncio.get_running_loop().time(), response.status
            if asked.method == "INVITE" and response.status < 300 and asked.dialog is not None:
                cseq = asked.dialog.state().local_cseq
                self.callers.send_ack(txn, asked.dialog.create_request("ACK", cseq=cseq), self.proxy)

    def _phone(self) -> None:
        for event in self.phone.drain(1024):
            if isinstance(event, sip.RequestReceived):
                invite = event.request.method == "INVITE"
                response = event.request.reply(
                    200,
                    to_tag=sip.new_tag() if event.request.to_tag is None else None,
                    contact=f"<sip:{NUMBER}@{self.phone_host}:5060>" if invite else None,
                    body=BODY if invite else b"",
                    content_type=SDP if invite else None,
                )
                self.phone.respond(event.txn, response)


def run() -> Iterator[Result]:
    """The rows of both events, and the CPU a call costs a SIP node."""
    for name, number in (("kill", signal.SIGKILL), ("drain", signal.SIGTERM)):
        yield from asyncio.run(_measure(f"failover_sip_node_{name}", number))
    cpu, _ = asyncio.run(sip_node_udp._platform())
    yield Result(
        "failover", "cpu_per_call", "us", cpu["sip_cluster-0"], "before calls were restored", BEFORE_US
    )


async def _measure(bench: str, number: signal.Signals) -> list[Result]:
    environment = {"VOICEMESH_SIP_PROXY_DIGEST_ALGORITHMS": "MD5"}
    with tempfile.TemporaryDirectory() as folder:
        async with Platform(Path(folder) / "mesh", COUNTS, environment) as platform:
            phone_host = platform.ip(211, 99)
            await asyncio.to_thread(sipp_register, platform, "t1", [NUMBER], phone_host, Path(folder))
            far = Far(platform.proxy, platform.ip(201, 60), phone_host)
            far.open()
            try:
                return await _failover(platform, far, bench, number)
            finally:
                far.close()


async def _failover(platform: Platform, far: Far, bench: str, number: signal.Signals) -> list[Result]:
    talks = await _until_full(platform, far)
    await asyncio.sleep(2.0)  # what the last calls have to write
    before, loop = far.repeats, asyncio.get_running_loop()
    random.seed(1)
    moments = [(random.uniform(0, WINDOW_S), ("BYE", "INVITE")[n % 2], t) for n, t in enumerate(talks)]
    process, start = platform.mesh.processes[VICTIM], loop.time()
    process.signal(number, group=number is signal.SIGKILL)
    for after, method, talk in sorted(moments, key=lambda moment: moment[0]):
        await asyncio.sleep(max(0.0, start + after - loop.time()))
        far.ask(talk, method)
    limit = loop.time() + GRACE_S
    while loop.time() < limit:
        if all(talk.status for talk in talks):
            break
        await asyncio.sleep(0.02)
    lost = [talk for talk in talks if not 200 <= talk.status < 300]
    waits = [talk.answered - talk.sent for talk in talks if talk.answered]
    last = max((talk.answered for talk in talks), default=0.0) - start
    if lost:
        statuses: dict[tuple[str, int], int] = {}
        for talk in lost:
            statuses[talk.method, talk.status] = statuses.get((talk.method, talk.status), 0) + 1
        print(f"{bench}: lost {statuses}", flush=True)
    longest = max(waits, default=0.0)
    return [
        Result(bench, "last_answer_ms", "ms", (last if number is signal.SIGKILL else longest) * 1000),
        Result(bench, "longest_wait_ms", "ms", longest * 1000),
        Result(bench, "calls_lost", "calls", len(lost)),
        Result(bench, "requests_repeated", "requests", far.repeats - before),
    ]


async def _until_full(platform: Platform, far: Far) -> list[Talk]:
    """Makes calls until CALLS of them are established on the victim; those."""
    etcd = Etcd(platform.mesh.etcd)
    directory = Directory(etcd, platform.mesh.settings.region, "sip_cluster")
    await directory.start()
    try:
        owners = {
            int(slot): record.node
            for record in directory.nodes()
            for slot in directory.slots_of(record.incarnation)
        }
    finally:
        await directory.stop()
        await etcd.close()
    loop = asyncio.get_running_loop()
    next_at, limit = loop.time(), loop.time() + 6 * CALLS / RATE + 60
    while True:
        talks = [talk for talk in far.established() if _node(talk, owners).startswith(VICTIM)]
        if len(talks) >= CALLS:
            return talks[:CALLS]
        if len(far.failures) > CALLS / 20:  # the run is about calls that stand; making them is not measured
            raise Invalid(f"calls failed: {far.failures[:10]}")
        if loop.time() > limit:
            raise Invalid(f"{len(talks)} calls on {VICTIM}, {len(far.established())} in all")
        for _ in range(min(RATE // 10, OPEN - far.open_calls)):
            far.call()
        next_at += 0.1
        await asyncio.sleep(max(0.0, next_at - loop.time()))


def _node(talk: Talk, owners: dict[int, str]) -> str:
    assert talk.dialog is not None
    slot = sip.slot_of_tag(talk.dialog.id[2])
    return owners.get(slot, "") if slot is not None else ""
