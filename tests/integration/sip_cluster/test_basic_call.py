"""One SIP node between SIPp callers and SIPp phones: calls, their events, what fails and how."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.servers import loopback
from tests.integration.sip_cluster.conftest import Bench
from tests.integration.sip_cluster.sipp import Caller, Phone, Sipp, pause

CALLER = Caller()
Starter = Callable[..., Sipp]


async def test_internal_call(bench: Bench, sipp: Starter) -> None:
    phone_ip = loopback()
    bench.dial_plan.phone("t1", "1001")
    bench.dial_plan.phone("t1", "1002", f"{phone_ip}:5060")
    phone = sipp(phone_ip, [Phone.called(), Phone.rings(), pause(200), Phone.answers(), Phone.hung_up()])
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(300), CALLER.bye()]
    caller = sipp(loopback(), steps, remote=bench.engine.sip)
    assert (await caller.good()).statuses() == [180, 200]
    await phone.good()
    await bench.settled()
    assert bench.streams.names(everything=True) == [
        "CallCreated",
        "CallPartyAdded@1001",
        "Dialing@1001",
        "CallPartyAdded@1002",
        "Ringing@1002",
        "CallPartyState@1001",
        "Established@1001",
        "CallPartyState@1002",
        "Established@1002",
        "Released@1001",
        "CallPartyDeleted@1001",
        "Released@1002",
        "CallPartyDeleted@1002",
        "CallDeleted",
    ]
    assert bench.streams.gaps == []
