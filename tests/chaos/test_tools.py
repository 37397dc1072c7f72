"""The tools of the trade do what they say: a clock that is off, a process that is cut off."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos import network
from tests.chaos.faults import HERE

NET = 252
"""Second octet no mesh takes."""


def test_a_clock_can_be_moved_while_the_process_runs(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    library, clock = tmp_path / "skew.so", tmp_path / "clock"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", str(library), str(HERE / "clock_skew.c"), "-ldl"], check=True
    )
    clock.write_bytes(struct.pack("=q", 0))
    code = "import time\nwhile input() == 'now':\n print(time.time(), time.time_ns() / 1e9, flush=True)"
    environment = {**os.environ, "LD_PRELOAD": str(library), "VOICEMESH_CLOCK_SKEW": str(clock)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for off in (0.0, 100.0, -50.0):
            with clock.open("r+b") as file:
                file.write(struct.pack("=q", round(off * 1e9)))
            before = time.time()
            process.stdin.write("now\n")
            process.stdin.flush()
            told = [float(field) for field in process.stdout.readline().split()]
            after = time.time()
            assert all(before + off - 0.001 <= moment <= after + off + 0.001 for moment in told)
        process.stdin.write("end\n")
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_process_that_is_cut_off_reaches_nobody_until_it_is_joined_again(tmp_path: Path) -> None:
    if why := network.why_not():
        pytest.skip(why)
    group, here, there = network.group_id(NET, 0), f"127.{NET}.1.1", f"127.{NET}.1.2"
    code = (
        "import socket, sys\n"
        f"a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(('{here}', 0)); a.settimeout(0.3)\n"
        f"b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b.bind(('{there}', 0)); b.settimeout(0.3)\n"
        "try:\n a.sendto(b'x', b.getsockname()); b.recv(9); print('through')\n"
        "except (OSError, TimeoutError): print('cut')\n"
    )

    def tried(group_id: int | None) -> str:
        command = [sys.executable, "-c", code]
        argv = command if group_id is None else network.in_group(command, group_id)
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout.strip()

    assert tried(group) == "through"
    network.cut(NET, group, [])
    try:
        assert tried(group) == "cut"
        assert tried(None) == "through"
    finally:
        network.join(NET, group, [])
    assert tried(group) == "through"
    network.cut(NET, group, [there])
    try:
        assert tried(None) == "cut"  # what is sent to its address
    finally:
        network.join(NET, group, [there])
    network.join(NET, group, [there])  # twice is no error
