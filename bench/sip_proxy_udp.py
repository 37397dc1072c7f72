"""CPU of a call (INVITE … BYE, Record-Route) through the SIP proxy, beside Kamailio in the same run.

Ours: the Rust core's proxy in one Python process with tables for one node, as services/sip_proxy uses it. Kamailio: t_relay
and record_route, one worker (bench/peers/kamailio.cfg). SIPp at both ends over loopback UDP; a run with a failed call or a
retransmission does not count.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.harness import (
    ROOT,
    Invalid,
    Result,
    cpu_seconds,
    must_be_free,
    program,
    sipp_uac,
    sipp_uas,
    wait_udp,
)

CALLER, PROXY, PHONE = ("127.0.61.1", 5060), ("127.0.61.2", 5060), ("127.0.61.3", 5060)
RATE, CALLS = 300, 4000
_PROXY = """
import asyncio, sys
from voicecore import sip

async def main():
    proxy = sip.Proxy(sip.ProxyConfig())
    proxy.set_nodes([sip.Node("node", sys.argv[3], int(sys.argv[4]), 1.0)])
    proxy.set_slots([])
    proxy.set_identity(sys.argv[1])
    proxy.bind_udp(sys.argv[1], int(sys.argv[2]))
    asyncio.get_running_loop().add_reader(proxy.fileno(), proxy.drain)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def run() -> Iterator[Result]:
    """Ours and Kamailio's CPU a call, and the ratio."""
    ours = _measure([sys.executable, "-c", _PROXY, PROXY[0], str(PROXY[1]), PHONE[0], str(PHONE[1])])
    kamailio = shutil.which("kamailio") or "/usr/sbin/kamailio"
    peer = None
    if Path(kamailio).exists():
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "kamailio.cfg"
            text = (ROOT / "bench" / "peers" / "kamailio.cfg").read_text()
            text = text.replace("LISTEN_ADDRESS", f"{PROXY[0]}:{PROXY[1]}")
            config.write_text(text.replace("TARGET_ADDRESS", f"{PHONE[0]}:{PHONE[1]}"))
            peer = _measure([kamailio, "-f", str(config), "-DD", "-E", "-w", folder, "-Y", folder])
    yield Result("sip_proxy_udp", "cpu_per_call", "us", ours, "kamailio" if peer else "", peer)


def _measure(command: list[str]) -> float:
    """CPU microseconds a call."""
    for address in (CALLER, PROXY, PHONE):
        must_be_free(address)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        with program(command, logs / "proxy.log") as proxy, program(sipp_uas(PHONE), logs / "uas.log"):
            wait_udp(PROXY)
            wait_udp(PHONE)
            sipp_uac(CALLER, PROXY, "1001", calls=200, rate=100).check(200)
            before = cpu_seconds([proxy.pid])
            sipp_uac(CALLER, PROXY, "1001", calls=CALLS, rate=RATE).check(CALLS)
            spent = cpu_seconds([proxy.pid]) - before
            if proxy.poll() is not None:
                raise Invalid((logs / "proxy.log").read_text(errors="replace")[-500:])
    return spent / CALLS * 1e6
