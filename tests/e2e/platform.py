"""The whole platform for end-to-end tests: a local mesh, clients at its edge, SIPp at its proxies."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
from voice.config.v1.config_service_pb2 import GetObjectRequest, UpdateObjectRequest
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.config.v1.object_pb2 import ObjectType
from voice.dial_plan.v1.dial_plan_service_pb2 import ResolveRequest
from voice.dial_plan.v1.dial_plan_service_pb2_grpc import DialPlanServiceStub
from voice.tlib.v1.agent_control_service_pb2_grpc import AgentControlServiceStub
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.event_service_pb2 import SubscribeRequest, SubscribeResponse
from voice.tlib.v1.event_service_pb2_grpc import EventServiceStub
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.tlib.v1.request_pb2 import (
    AgentLoginRequest,
    AgentLogoutRequest,
    AgentNotReadyRequest,
    AgentReadyRequest,
)

from demo.application_server import ApplicationServer
from demo.phone import Phone
from mesh.identity import tokens
from mesh.local import LocalMesh, LocalSettings

HERE = Path(__file__).resolve().parent
SIPP = Path(__file__).resolve().parents[1] / "sipp"
WAIT_S = 15.0
"""Longest wait for one thing to happen, seconds."""


class Platform:
    """A running platform. One event loop for it and for all that talks to it: grpc.aio allows no more in a process."""

    def __init__(
        self, run_dir: Path, counts: dict[str, int], environment: dict[str, str], *, etcd_members: int = 1
    ) -> None:
        """`etcd_members`: members of etcd."""
        settings = LocalSettings(
            counts=counts, run_dir=run_dir, net=None, environment=environment, etcd_members=etcd_members
        )
        self.mesh = LocalMesh(settings)
        self._applications: ApplicationServer | None = None

    async def __aenter__(self) -> Self:
        """Starts everything, the application server too."""
        await self.mesh.__aenter__()
        self._applications = ApplicationServer(f"127.{self.net}.240.1")
        return self

    async def __aexit__(self, *error: Any) -> None:
        """Stops everything."""
        if self._applications is not None:
            self._applications.close()
        await self.mesh.stop()

    @property
    def net(self) -> str:
        """Second octet of the platform's addresses."""
        return self.mesh.edge.split(".")[1]

    @property
    def applications(self) -> ApplicationServer:
        """The application server."""
        assert self._applications is not None
        return self._applications

    def ip(self, third: int, fourth: int = 1) -> str:
        """An address beside the platform: 200 phones, 201-203 trunks of t1-t3."""
        return f"127.{self.net}.{third}.{fourth}"

    @property
    def proxy(self) -> tuple[str, int]:
        """The first SIP proxy."""
        host, _, port = self.mesh.sip_proxies[0].rpartition(":")
        return host, int(port)

    def bearer(self, tenant: str, *scopes: str, subject: str = "test") -> tuple[tuple[str, str], ...]:
        """Metadata of a client of the tenant."""
        wanted = scopes or (tokens.AGENT, tokens.CLIENT, tokens.CONFIG_WRITE, tokens.OPERATOR)
        return (("authorization", f"Bearer {self.mesh.token(tenant, *wanted, subject=subject)}"),)

    @contextlib.asynccontextmanager
    async def edge(self) -> AsyncIterator[grpc.aio.Channel]:
        """A channel to the edge."""
        credentials = grpc.ssl_channel_credentials(self.mesh.ca_file.read_bytes())
        async with grpc.aio.secure_channel(self.mesh.edge, credentials) as channel:
            yield channel

    def phone(self, number: str, tenant: str = "t1", *, host: int = 10, ring_s: float = 0.1) -> Phone:
        """A simulated phone of a tenant at an address of its own."""
        third = 210 + int(tenant[1:])
        return Phone(number, self.ip(third, host), f"{tenant}.example", self.proxy, ring_s=ring_s)

    async def register(self, phone: Phone) -> None:
        """Registers a demo phone, and waits until the dial plan knows where it is."""
        tenant = phone.domain.partition(".")[0]
        answer = await phone.register(password(phone.name, tenant))
        assert answer.status == 200, answer.status
        async with self.edge() as channel, asyncio.timeout(WAIT_S):
            stub, request = (
                DialPlanServiceStub(channel),
                ResolveRequest(tenant=tenant, destination=phone.name),
            )
            while True:
                found = await stub.Resolve(request, timeout=5, metadata=self.bearer(tenant))
                if phone.contact in {contact.uri for contact in found.contacts}:
                    return
                await asyncio.sleep(0.02)

    def caller(self, tenant: str = "t1", host: int = 7) -> Phone:
        """A far end of the tenant's trunk."""
        third = 200 + int(tenant[1:])
        return Phone("+14155550100", self.ip(third, host), self.proxy[0], self.proxy)


def password(number: str, tenant: str) -> str:
    """SIP password of a demo phone."""
    return f"phone-{number}-{tenant}"


class Desk:
    """An agent's requests at the edge."""

    def __init__(self, platform: Platform, channel: grpc.aio.Channel, tenant: str, dn: str) -> None:
        self._stub = AgentControlServiceStub(channel)
        self._metadata = platform.bearer(tenant, subject=f"agent:A{dn}")
        self.tenant, self.dn, self.agent_id = tenant, dn, f"A{dn}"

    def _fields(self) -> dict[str, Any]:
        return {
            "tenant": self.tenant,
            "dn": self.dn,
            "agent_id": self.agent_id,
            "request_id": uuid.uuid4().hex,
        }

    async def login(self, **more: Any) -> Event:
        """AgentLogin; gives the event."""
        request = AgentLoginRequest(**{**self._fields(), **more})
        return (await self._stub.AgentLogin(request, timeout=WAIT_S, metadata=self._metadata)).event

    async def ready(self) -> Event:
        """AgentReady."""
        request = AgentReadyRequest(**self._fields())
        return (await self._stub.AgentReady(request, timeout=WAIT_S, metadata=self._metadata)).event

    async def not_ready(self, **more: Any) -> Event:
        """AgentNotReady."""
        request = AgentNotReadyRequest(**{**self._fields(), **more})
        return (await self._stub.AgentNotReady(request, timeout=WAIT_S, metadata=self._metadata)).event

    async def logout(self) -> Event:
        """AgentLogout."""
        request = AgentLogoutRequest(**self._fields())
        return (await self._stub.AgentLogout(request, timeout=WAIT_S, metadata=self._metadata)).event


class Events:
    """Events of a tenant as a client sees them."""

    def __init__(self) -> None:
        self.seen: list[EventEnvelope] = []
        self.cursor = ""
        self._news = asyncio.Event()

    def add(self, envelopes: Sequence[EventEnvelope], cursor: str) -> None:
        """What came."""
        self.seen.extend(envelopes)
        self.cursor = cursor or self.cursor
        self._news.set()

    async def until(self, holds: Callable[[list[EventEnvelope]], bool], timeout: float = WAIT_S) -> None:
        """Waits until the events seen fulfil a condition. TimeoutError tells what was seen."""
        try:
            async with asyncio.timeout(timeout):
                while not holds(self.seen):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"not seen in {timeout} s; seen: {self.names()}") from None

    async def first(self, name: str, timeout: float = WAIT_S, **fields: object) -> EventEnvelope:
        """Waits for the first event of a name ("RINGING") with these attributes."""
        await self.until(lambda seen: any(_is(e, name, fields) for e in seen), timeout)
        return next(e for e in self.seen if _is(e, name, fields))

    def names(self, **fields: object) -> list[str]:
        """Names of the events with these attributes, in order."""
        return [name_of(e) for e in self.seen if _is(e, "", fields)]


def name_of(envelope: EventEnvelope) -> str:
    """ "RINGING", "ROUTE_REQUEST" …"""
    return MessageType.Name(envelope.event.event_type).removeprefix("MESSAGE_TYPE_EVENT_")


def _is(envelope: EventEnvelope, name: str, fields: dict[str, object]) -> bool:
    event = envelope.event
    return (not name or name_of(envelope) == name) and all(getattr(event, k) == v for k, v in fields.items())


@contextlib.asynccontextmanager
async def events_of(
    platform: Platform, channel: grpc.aio.Channel, tenant: str = "t1", *, subject: str = "test", **wanted: Any
) -> AsyncIterator[Events]:
    """A subscription at the edge; entered when it stands."""
    events = Events()
    request = SubscribeRequest(tenant=tenant, **wanted)
    stream: Any = EventServiceStub(channel).Subscribe(
        request, metadata=platform.bearer(tenant, subject=subject)
    )
    first = await asyncio.wait_for(stream.read(), WAIT_S)
    events.add(first.events, first.cursor)

    async def read() -> None:
        while isinstance(response := await stream.read(), SubscribeResponse):
            events.add(response.events, response.cursor)

    task = asyncio.ensure_future(read())
    try:
        yield events
    finally:
        stream.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def sipp_register(
    platform: Platform, tenant: str, numbers: Sequence[str], host: str, folder: Path, *, expires_s: int = 600
) -> None:
    """Registers phones at an address, with SIPp. Blocks. AssertionError tells what went wrong."""
    lines = [
        f"{n};{tenant}.example;[authentication username={n} password={password(n, tenant)}]" for n in numbers
    ]
    users = folder / "users.csv"
    users.write_text("\n".join(["SEQUENTIAL", *lines, ""]))
    register = [
        "sipp", "-sf", str(HERE / "sipp" / "register.xml"), "-i", host, "-p", "5060", "-nostdin", "-inf", str(users),
        "-m", str(len(numbers)), "-r", "20", "-key", "expires", str(expires_s), "-timeout", "30s",
        "-trace_err", "-error_file", "errors.log", "{}:{}".format(*platform.proxy),
    ]  # fmt: skip
    done = subprocess.run(register, capture_output=True, cwd=folder, timeout=60, check=False)
    if done.returncode != 0:
        errors = folder / "errors.log"
        said = errors.read_text(errors="replace") if errors.exists() else done.stderr.decode()
        raise AssertionError(f"sipp could not register, exit code {done.returncode}: {said[-2000:]}")


@contextlib.contextmanager
def sipp_phones(
    platform: Platform, tenant: str, numbers: Sequence[str], *, answer_ms: int = 50
) -> Iterator[None]:
    """SIPp as the phones of agents: registers the numbers, then answers their calls. Blocks: enter it in a thread."""
    host = platform.ip(210 + int(tenant[1:]), 99)
    address = ["-i", host, "-p", "5060", "-nostdin"]
    with tempfile.TemporaryDirectory() as folder:
        sipp_register(platform, tenant, numbers, host, Path(folder))
        command = ["sipp", "-sf", str(SIPP / "uas.xml"), *address, "-d", str(answer_ms)]
        phones = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            phones.terminate()
            phones.wait(10)


def sipp_calls(
    platform: Platform, tenant: str, number: str, *, calls: int, rate: float, talk_ms: int, timeout_s: int
) -> subprocess.Popen[bytes]:
    """SIPp as callers over the tenant's trunk; returns while it runs. Exit code 0: every call was completed."""
    command = [
        "sipp", "-sf", str(SIPP / "uac.xml"), "-s", number, "-i", platform.ip(200 + int(tenant[1:]), 50), "-p", "5060",
        "-m", str(calls), "-r", str(rate), "-d", str(talk_ms), "-timeout", f"{timeout_s}s", "-timeout_error", "-nostdin",
        "{}:{}".format(*platform.proxy),
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=tempfile.gettempdir(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


async def after_call_work(
    platform: Platform, channel: grpc.aio.Channel, tenant: str, numbers: Sequence[str], seconds: int
) -> None:
    """Sets the after-call work of the agents on these numbers."""
    stub, metadata = ConfigServiceStub(channel), platform.bearer(tenant)
    for number in numbers:
        get = GetObjectRequest(tenant=tenant, type=ObjectType.OBJECT_TYPE_AGENT_LOGIN, number=f"A{number}")
        found = (await stub.GetObject(get, timeout=WAIT_S, metadata=metadata)).object
        if found.agent_login.wrapup_s != seconds:
            found.agent_login.wrapup_s = seconds
            update = UpdateObjectRequest(tenant=tenant, object=found)
            await stub.UpdateObject(update, timeout=WAIT_S, metadata=metadata)
