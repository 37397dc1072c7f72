"""The authorization table, pair by pair: every identity of the mesh against every method of every contract."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from mesh.envoy.authorization import EDGE, TABLE, WATCHMAN, callers, identities
from mesh.envoy.contracts import Contract, load
from mesh.local.layout import DEFAULT_COUNTS
from tests.integration.mesh_envoy.bench import Bench, Echo, bench, call

OK, DENIED = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED


async def wrong_answers(mesh: Bench, service: str, caller: str, contracts: tuple[Contract, ...]) -> list[str]:
    """Pairs that were not answered as the table says; streams count as let in when the service got them."""
    address = mesh.instance(f"{service}-0").nodes[0].address
    channel = mesh.mutual(address, caller)
    wrong = []
    for contract in contracts:
        if contract.server not in {service, ""}:
            continue
        for method in contract.methods:
            allowed = caller in identities(callers(contract.name, method.name))
            answer = await call(channel, method.path)
            if (answer.code is OK) != allowed or (not allowed and answer.code is not DENIED):
                wrong.append(f"{caller} -> {method.path}: {answer}")
    unknown = await call(channel, f"/voice.{service}.v1.UnknownService/Anything")
    if unknown.code is not DENIED:
        wrong.append(f"{caller} -> a contract outside of the table: {unknown}")
    return wrong


@pytest.mark.feature("XC-18")
@pytest.mark.slow
async def test_every_pair_outside_of_the_table_is_refused(tmp_path: Path) -> None:
    contracts = load()
    servers = sorted({contract.server for contract in contracts if contract.server})
    assert {contract.name for contract in contracts} == set(TABLE)
    # every service may be a caller, also those that serve no contract; sidecars only stand where one is
    # served
    counts = {**dict.fromkeys(DEFAULT_COUNTS, 0), **dict.fromkeys(servers, 1)}
    async with bench(tmp_path, edge=False, engines=1, edge_limits=None, **counts) as mesh:
        for service in servers:
            await mesh.serve(f"{service}-0", Echo(service))
        everybody = [*servers, EDGE, WATCHMAN]
        wrong = [
            line
            for service in servers
            for caller in everybody
            for line in await wrong_answers(mesh, service, caller, contracts)
        ]
        assert not wrong, "\n".join(wrong)
