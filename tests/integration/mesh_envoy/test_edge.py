"""The edge Envoy: tokens, scopes, stripped headers, REST, gRPC-Web, CORS, reflection by grpcurl, limits."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import time
from pathlib import Path

import grpc
import httpx
import pytest

from mesh.identity import tokens
from mesh.local import binaries
from mesh.local.layout import DEFAULT_COUNTS
from tests.integration.mesh_envoy.bench import Answer, Bench, Echo, bench, call, until

OK, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
DENIED, EXHAUSTED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED
MAKE_CALL = "/voice.tlib.v1.CallControlService/MakeCall"
ISSUE_TOKEN = "/voice.tenant.v1.TenantService/IssueToken"
EXECUTE = "/voice.sip_cluster.v1.SipNodeService/Execute"
CREATE_OBJECT = "/voice.config.v1.ConfigService/CreateObject"
NODE_STATUS = "/voice.mesh.v1.NodeService/GetNode"


async def serve_all(mesh: Bench) -> dict[str, Echo]:
    """A small service behind each sidecar, reachable through the edge."""
    services = {instance.service: Echo(instance.service) for instance in mesh.layout.instances()}
    for name, service in services.items():
        await mesh.serve(f"{name}-0", service)
    channel = mesh.outside()
    operator = mesh.bearer("t1", tokens.OPERATOR)

    async def reachable() -> bool:
        found = [await call(channel, NODE_STATUS, operator, ("voicemesh-service", name)) for name in services]
        return all(answer.code is OK for answer in found)

    await until(reachable)
    return services


async def check_configuration(mesh: Bench) -> None:
    """The edge and every sidecar took all they were told, and the edge has it."""
    assert await mesh.rejected() == []
    listeners = await mesh.admin_json(mesh.layout.edge_admin, "/listeners?format=json")
    assert [entry["name"] for entry in listeners["listener_statuses"]] == ["edge"]
    clusters = await mesh.admin_json(mesh.layout.edge_admin, "/clusters?format=json")
    hosts = {entry["name"]: len(entry.get("host_statuses", [])) for entry in clusters["cluster_statuses"]}
    for instance in mesh.layout.instances():
        assert hosts[instance.service] == hosts[f"{instance.service}.node"] == 1


def rest(mesh: Bench) -> httpx.AsyncClient:
    """An HTTP/1.1 client of the edge."""
    context = ssl.create_default_context(cafile=str(mesh.identities.ca_file))
    return httpx.AsyncClient(base_url=f"https://{mesh.layout.edge}", verify=context, timeout=5)


async def run(mesh: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs grpcurl against the edge."""
    command = [binaries.grpcurl(), "-cacert", str(mesh.identities.ca_file), "-max-time", "10", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=30, check=False
    )


async def test_a_token_opens_what_its_scopes_say(tmp_path: Path) -> None:
    async with bench(tmp_path, edge=True, front_end=1, config=1, tenant=1, sip_cluster=1) as mesh:
        services = await serve_all(mesh)
        channel = mesh.outside()
        client, agent = mesh.bearer("t1", tokens.CLIENT), mesh.bearer("t2", tokens.AGENT, subject="7001")
        writer = mesh.bearer("t1", tokens.CONFIG_WRITE)
        operator = mesh.bearer("t1", tokens.OPERATOR)

        assert (await call(channel, MAKE_CALL)).code is UNAUTHENTICATED
        assert (await call(channel, MAKE_CALL, ("authorization", "Bearer nonsense"))).code is UNAUTHENTICATED
        assert (await call(channel, MAKE_CALL, client)) == Answer(OK, "front_end")
        assert (await call(channel, MAKE_CALL, agent)) == Answer(OK, "front_end")
        assert (await call(channel, MAKE_CALL, operator)).code is DENIED
        assert (await call(channel, CREATE_OBJECT, client)).code is DENIED
        assert (await call(channel, CREATE_OBJECT, writer)) == Answer(OK, "config")
        assert (await call(channel, NODE_STATUS, client, ("voicemesh-service", "config"))).code is DENIED
        assert (await call(channel, ISSUE_TOKEN)) == Answer(OK, "tenant")
        for token in (client, agent, writer, operator):
            assert (await call(channel, EXECUTE, token)).code is DENIED
        assert not [served for served in services["sip_cluster"].calls if served.path == EXECUTE]

        # not ours, or over
        foreign = tokens.load_or_create_key(tmp_path / "foreign")
        now = time.time()
        for key, issued in ((foreign, now), (mesh.identities.signing_key, now - 7200)):
            stale = tokens.issue(key, subject="x", tenant="t1", scopes=[tokens.CLIENT], now=issued)
            refused = await call(channel, MAKE_CALL, ("authorization", f"Bearer {stale}"))
            assert refused.code is UNAUTHENTICATED


async def test_a_client_cannot_say_what_only_the_mesh_says(tmp_path: Path) -> None:
    async with bench(tmp_path, edge=True, front_end=1, tenant=1) as mesh:
        services = await serve_all(mesh)
        lies = {
            "x-voicemesh-tenant": "t9",
            "x-voicemesh-peer": "spiffe://voicemesh.local/ns/voice/sa/orchestration",
            "x-voicemesh-node": "front_end-0.ffffffff",
            "x-voicemesh-scope": "operator",
            "x-voicemesh-subject": "somebody",
            "x-envoy-original-dst-host": "127.0.0.1:1",
            "x-envoy-upstream-rq-timeout-ms": "1",
            "x-forwarded-client-cert": "By=spiffe://lie",
        }
        token = mesh.bearer("t1", tokens.CLIENT, subject="c-1")
        answer = await call(mesh.outside(), MAKE_CALL, token, *lies.items())
        assert answer == Answer(OK, "front_end")
        heard = services["front_end"].calls[-1].metadata
        assert heard["x-voicemesh-tenant"] == "t1"
        assert heard["x-voicemesh-subject"] == "c-1"
        assert heard["x-voicemesh-scope"] == "client"
        assert heard["x-voicemesh-peer"] == "spiffe://voicemesh.local/ns/voice/sa/edge"
        assert not {"x-voicemesh-node", "x-envoy-original-dst-host", "x-forwarded-client-cert"} & heard.keys()

        # where no token is needed there is no tenant at all
        assert (await call(mesh.outside(), ISSUE_TOKEN, *lies.items())) == Answer(OK, "tenant")
        assert not {"x-voicemesh-tenant", "x-voicemesh-scope"} & services["tenant"].calls[-1].metadata.keys()

        # REST is no other way in
        async with rest(mesh) as client:
            made = await client.post("/v1/tenants/t1/calls", json={}, headers={**lies, **dict([token])})
        assert made.status_code == 200
        assert services["front_end"].calls[-1].metadata["x-voicemesh-tenant"] == "t1"


async def test_rest_and_grpc_web(tmp_path: Path) -> None:
    async with bench(tmp_path, edge=True, front_end=1, tenant=1) as mesh:
        services = await serve_all(mesh)
        name, value = mesh.bearer("t1", tokens.CLIENT)
        bearer = {name: value}
        async with rest(mesh) as client:
            answer = await client.post("/v1/tenants/t1/calls", json={}, headers=bearer)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
            assert services["front_end"].calls[-1].path == MAKE_CALL
            assert (await client.post("/v1/tenants/t1/calls", json={})).status_code == 401
            assert (await client.post("/v1/tenants/t1/tokens", json={})).status_code == 200
            assert (await client.get("/v1/nowhere", headers=bearer)).status_code in {403, 404}
            wrong = await client.post("/v1/tenants/t1/calls", content=b"{", headers=bearer)
            assert wrong.status_code == 400

            web = {**bearer, "content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
            answer = await client.post(MAKE_CALL, content=b"\0\0\0\0\0", headers=web)
            assert answer.status_code == 200
            assert b"grpc-status:0" in answer.content.replace(b" ", b"")

            preflight = {"origin": "https://desk.example", "access-control-request-method": "POST"}
            answer = await client.options(MAKE_CALL, headers=preflight)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == "https://desk.example"


@pytest.mark.feature("XC-15")
async def test_grpcurl_lists_describes_and_calls_every_service(tmp_path: Path) -> None:
    counts = dict.fromkeys(DEFAULT_COUNTS, 1)
    async with bench(tmp_path, engines=1, edge=True, edge_limits=None, **counts) as mesh:
        services = await serve_all(mesh)
        await check_configuration(mesh)
        listed = await run(mesh, mesh.layout.edge, "list")
        assert listed.returncode == 0, listed.stderr
        contracts = [line for line in listed.stdout.split() if line.startswith("voice.")]
        assert len(contracts) >= 15
        for contract in contracts:
            described = await run(mesh, mesh.layout.edge, "describe", contract)
            assert described.returncode == 0, described.stderr
            assert f"service {contract.rpartition('.')[2]}" in described.stdout

        name, value = mesh.bearer("t1", tokens.OPERATOR)
        for service in services:
            headers = ["-H", f"{name}: {value}", "-H", f"voicemesh-service: {service}"]
            called = await run(
                mesh, *headers, "-d", "{}", mesh.layout.edge, "voice.mesh.v1.NodeService/GetNode"
            )
            assert (called.returncode, json.loads(called.stdout)) == (0, {}), called.stderr
            assert services[service].calls[-1].path == NODE_STATUS

        refused = await run(mesh, "-d", "{}", mesh.layout.edge, "voice.tlib.v1.CallControlService/MakeCall")
        assert refused.returncode != 0
        assert "Unauthenticated" in refused.stderr


async def test_a_tenant_over_its_rate_is_slowed_and_no_other(tmp_path: Path) -> None:
    async with bench(tmp_path, edge=True, edge_limits=(1, 20), front_end=1) as mesh:
        await serve_all(mesh)
        channel = mesh.outside()
        greedy, modest = mesh.bearer("t2", tokens.CLIENT), mesh.bearer("t3", tokens.CLIENT)
        started = time.monotonic()
        answers = await asyncio.gather(*(call(channel, MAKE_CALL, greedy) for _ in range(60)))
        passed = sum(1 for answer in answers if answer.code is OK)
        assert {answer.code for answer in answers} == {OK, EXHAUSTED}
        assert 20 <= passed <= 20 + 1 + (time.monotonic() - started)
        assert (await call(channel, MAKE_CALL, modest)).code is OK
