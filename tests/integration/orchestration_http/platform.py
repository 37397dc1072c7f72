"""A mesh with what sessions without calls need, and a client of its HTTP interface."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

from mesh.identity import tokens
from mesh.local import LocalMesh
from tests.integration.orchestration_http.web import Web

T = TypeVar("T")
WAIT_S = 20.0
"""Longest wait for one thing to happen on a busy machine, seconds."""
SCXML = 'xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript"'
MODULES = " ".join(
    f'xmlns:{prefix}="http://www.genesyslab.com/modules/{name}"'
    for prefix, name in (("session", "session"), ("ws", "ws"), ("ixn", "interaction"), ("queue", "queue"))
)
HEAD = f"<scxml {SCXML} {MODULES}"


async def eventually(check: Callable[[], Awaitable[T]], what: str, seconds: float = WAIT_S) -> T:
    """Waits until `check()` gives something true, and returns that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        found = await check()
        if found:
            return found
        assert loop.time() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.03)


class Client:
    """One tenant's application at the edge."""

    def __init__(self, mesh: LocalMesh, tenant: str = "t1") -> None:
        context = ssl.create_default_context(cafile=str(mesh.ca_file))
        token = mesh.token(tenant, tokens.CLIENT)
        self.http = httpx.AsyncClient(
            base_url=f"https://{mesh.edge}",
            verify=context,
            timeout=WAIT_S,
            headers={"authorization": f"Bearer {token}"},
        )

    async def start(self, src: str, **parameters: Any) -> str:
        """Starts a session by a form; its id."""
        answer = await self.http.post("/scxml/session/start", data={"src": src, **parameters})
        assert answer.status_code == 200, answer.text
        return answer.text

    async def query(self, session: str) -> dict[str, Any] | None:
        """The session as /query tells it; None when it is over."""
        answer = await self.http.get(f"/scxml/session/{session}/query")
        for _ in range(100):
            if answer.status_code != 503:  # its slot is on its way to another node
                break
            await asyncio.sleep(0.1)
            answer = await self.http.get(f"/scxml/session/{session}/query")
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def running(self, session: str, state: str = "") -> dict[str, Any]:
        """Waits until the application runs; in a certain state, when one is named."""

        async def check() -> dict[str, Any] | None:
            found = await self.query(session)
            if not found or found["phase"] != "SESSION_PHASE_RUNNING":
                return None
            there = state in found["configuration"] if state else found["configuration"]
            return found if there else None

        found = await eventually(check, f"session {session} runs")
        assert found is not None
        return found

    async def over(self, session: str) -> None:
        """Waits until the session is gone."""

        async def check() -> bool:
            return await self.query(session) is None

        await eventually(check, f"session {session} is over")

    async def ask(self, session: str, name: str, **parameters: Any) -> httpx.Response:
        """A request to the application."""
        return await self.http.post(f"/scxml/session/{session}/request/{name}", json=parameters)

    async def trace(self, session: str) -> list[dict[str, Any]]:
        """Steps of its trace, as far as they are written."""
        answer = await self.http.get(f"/v1/tenants/t1/sessions/{session}/trace")
        if answer.status_code == 404:
            return []
        assert answer.status_code == 200, answer.text
        steps: list[dict[str, Any]] = answer.json()["steps"]
        return steps

    async def end_of(self, session: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The trace of a session that is over: its steps, and the last entry."""

        async def check() -> list[dict[str, Any]]:
            steps = await self.trace(session)
            return steps if steps and steps[-1]["outcome"] else []

        steps = await eventually(check, f"session {session} is over and traced")
        return steps[:-1], steps[-1]


class Region:
    """The mesh, the web server and a client of tenant t1."""

    def __init__(self, mesh: LocalMesh, web: Web) -> None:
        self.mesh, self.web = mesh, web
        self.client = Client(mesh)
