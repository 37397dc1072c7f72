"""Certificates replaced while calls go on, and an old one refused after its end."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import grpc

from mesh.identity import ca, secrets
from tests.integration.mesh_envoy.bench import Answer, Bench, Echo, bench, call, until

EXECUTE = "/voice.sip_cluster.v1.SipNodeService/Execute"
OK = grpc.StatusCode.OK


async def serials(mesh: Bench) -> set[str]:
    """Serial numbers of the certificates that the callee's sidecar holds."""
    found = await mesh.admin_json(mesh.instance("sip_cluster-0").admin, "/certs")
    chains = [chain for entry in found["certificates"] for chain in entry.get("cert_chain", [])]
    return {chain["serial_number"] for chain in chains}


async def test_certificates_are_replaced_under_load_without_a_failed_call(tmp_path: Path) -> None:
    async with bench(tmp_path, front_end=1, sip_cluster=1) as mesh:
        await mesh.serve("sip_cluster-0", Echo("only"))
        channel = mesh.egress("front_end-0")

        async def served() -> bool:
            return (await call(channel, EXECUTE)).code is OK

        await until(served)
        answers: list[Answer] = []
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                answers.append(await call(channel, EXECUTE))

        callers = [asyncio.create_task(load()) for _ in range(8)]
        for _ in range(3):
            before, answered = await serials(mesh), len(answers)
            await asyncio.to_thread(mesh.identities.write)

            async def replaced(before: set[str] = before, answered: int = answered) -> bool:
                now = await serials(mesh)
                return not now & before and len(answers) >= answered + 40

            await until(replaced)
            # a connection made from now on stands on the new one
            fresh = mesh.mutual(mesh.instance("sip_cluster-0").nodes[0].address, "front_end")
            assert (await call(fresh, EXECUTE)).code is OK
        done.set()
        await asyncio.gather(*callers)
        assert len(answers) >= 120
        assert {answer.code for answer in answers} == {OK}


async def test_a_certificate_that_has_ended_opens_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, sip_cluster=1) as mesh:
        service = Echo("only")
        await mesh.serve("sip_cluster-0", service)
        address = mesh.instance("sip_cluster-0").nodes[0].address
        folder = mesh.identities.folder("front_end")
        authority = ca.load_or_create(mesh.folder / "identity" / "authority", dt.datetime.now(dt.UTC))
        secrets.write_trust(folder, authority.bundle)

        def write(lifetime: dt.timedelta) -> None:
            made = authority.issue("front_end", dt.datetime.now(dt.UTC), lifetime=lifetime)
            secrets.write_workload(folder, made)

        write(dt.timedelta(minutes=1))
        assert (await call(mesh.mutual(address, "front_end"), EXECUTE)).code is OK
        write(-dt.timedelta(seconds=5))
        before = len(service.calls)
        assert (await call(mesh.mutual(address, "front_end"), EXECUTE, timeout=1.5)).code is not OK

        # nor one of an authority that nobody trusts
        foreign = ca.new_authority(dt.datetime.now(dt.UTC))
        secrets.write_workload(folder, foreign.issue("front_end", dt.datetime.now(dt.UTC)))
        assert (await call(mesh.mutual(address, "front_end"), EXECUTE, timeout=1.5)).code is not OK
        assert len(service.calls) == before
