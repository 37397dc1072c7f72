"""What benchmarks share: results, CPU of processes, SIPp at both ends, programs that end with us."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = ROOT / "tests" / "sipp"
_TICK = os.sysconf("SC_CLK_TCK")


class Invalid(RuntimeError):
    """A run that does not count: a failed call, a retransmission, a peer that is not there."""


@dataclass(frozen=True)
class Result:
    """One figure, with the peer's beside it when there is one."""

    bench: str
    metric: str
    unit: str
    value: float
    peer: str = ""
    peer_value: float | None = None

    def line(self) -> str:
        """The JSON line."""
        ratio = round(self.value / self.peer_value, 3) if self.peer_value else None
        row = {
            "bench": self.bench,
            "metric": self.metric,
            "unit": self.unit,
            "value": round(self.value, 3),
            "peer": self.peer or None,
            "peer_value": round(self.peer_value, 3) if self.peer_value is not None else None,
            "ratio": ratio,
        }
        return json.dumps(row)


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of the processes and their children that live, seconds."""
    total = 0.0
    for pid in {p for root in pids for p in _family(root)}:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / _TICK
    return total


def memory_bytes(pids: Sequence[int]) -> int:
    """Resident memory of the processes, bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids)


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = (task / "children").read_text().split()
            found += [p for child in children for p in _family(int(child))]
    return found


@contextlib.contextmanager
def program(argv: Sequence[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the time of the block; its whole group is ended after."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdout=out, stderr=out, cwd=ROOT, env={**os.environ, **environment}, start_new_session=True
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_udp(address: tuple[str, int], timeout: float = 10.0) -> None:
    """Waits until something is bound to the UDP address. Raises Invalid."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(address)
            except OSError:
                return
        time.sleep(0.05)
    raise Invalid(f"nothing listens on {address[0]}:{address[1]}")


def must_be_free(address: tuple[str, int]) -> None:
    """Two programs can share a UDP port without noticing: look before each run. Raises Invalid."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(address)
        except OSError as error:
            raise Invalid(f"{address[0]}:{address[1]} is taken") from error


@dataclass(frozen=True)
class Calls:
    """What SIPp counted."""

    successful: int
    failed: int
    retransmissions: int
    elapsed_s: int
    """Seconds from the first call to the end of the last."""
    response_ms: tuple[float, ...]
    """Times from INVITE to 180, milliseconds, sorted."""

    def check(self, expected: int, *, lost: int = 0) -> None:
        """Raises Invalid unless all calls but `lost` at most were made, without retransmission."""
        if self.successful < expected - lost or self.failed > lost or self.retransmissions:
            raise Invalid(
                f"{self.successful} of {expected} calls, {self.failed} failed, {self.retransmissions} retransmissions"
            )

    def percentile(self, share: float) -> float:
        """A percentile of the response times, milliseconds."""
        if not self.response_ms:
            raise Invalid("no response times")
        return self.response_ms[min(len(self.response_ms) - 1, int(len(self.response_ms) * share))]


def sipp_uas(address: tuple[str, int], *, answer_after_ms: int = 0) -> list[str]:
    """Command of a phone that answers calls at an address."""
    scenario = str(SCENARIOS / "uas.xml")
    return [
        "sipp",
        "-sf",
        scenario,
        "-i",
        address[0],
        "-p",
        str(address[1]),
        "-d",
        str(answer_after_ms),
        "-nostdin",
    ]


def sipp_uac(
    source: tuple[str, int],
    target: tuple[str, int],
    number: str,
    *,
    calls: int,
    rate: float,
    talk_ms: int = 0,
    limit: int = 2000,
    timeout_s: int = 120,
) -> Calls:
    """Makes calls and counts them."""
    with tempfile.TemporaryDirectory() as folder:
        stats, times = Path(folder) / "stats.csv", Path(folder)
        command = [
            "sipp", "-sf", str(SCENARIOS / "uac.xml"), "-s", number, "-i", source[0], "-p", str(source[1]),
            "-m", str(calls), "-r", str(rate), "-l", str(limit), "-d", str(talk_ms), "-nostdin", "-timeout", f"{timeout_s}s",
            "-trace_stat", "-stf", str(stats), "-fd", "1", "-trace_rtt", "-rtt_freq", "1",
            f"{target[0]}:{target[1]}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, cwd=times, timeout=timeout_s + 30, check=False)
        if not stats.exists():
            raise Invalid(f"sipp made no statistics: {done.stderr.decode(errors='replace')[-500:]}")
        with stats.open() as lines:
            last = list(csv.DictReader(lines, delimiter=";"))[-1]
        return Calls(
            successful=int(last["SuccessfulCall(C)"]),
            failed=int(last["FailedCall(C)"]),
            retransmissions=int(last["Retransmissions(C)"]),
            elapsed_s=_seconds(last["ElapsedTime(C)"]),
            response_ms=tuple(sorted(_response_times(times))),
        )


def _seconds(clock: str) -> int:
    """Seconds of SIPp's HH:MM:SS."""
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


def _response_times(folder: Path) -> Iterator[float]:
    for file in folder.glob("*_rtt.csv"):
        with file.open() as lines:
            for row in csv.DictReader(lines, delimiter=";"):
                yield float(row["response_time_ms"])
