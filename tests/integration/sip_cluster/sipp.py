"""SIPp as callers and phones: scenarios put together from steps, run as processes, judged by their exit code."""

from __future__ import annotations

import asyncio
import csv
import itertools
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.integration.servers import end

SDP = """Content-Type: application/sdp
Content-Length: [len]

v=0
o={name} 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio {port} RTP/AVP 0
a=rtpmap:0 PCMU/8000
"""
EMPTY = "Content-Length: 0\n"
_FROM = "From: <sip:{caller}@[local_ip]:[local_port]>;tag=[pid]c[call_number]"
_TO = "To: <sip:[service]@{domain}>"
_numbers = itertools.count(1)


def _send(text: str, *, retransmit: bool = False, start: str = "") -> str:
    attributes = (' retrans="500"' if retransmit else "") + start
    return f"<send{attributes}><![CDATA[\n{text}\n]]></send>"


def receive(what: str | int, *, optional: bool = False, extra: str = "") -> str:
    """Waits for a request by its method or a response by its status."""
    kind = "response" if isinstance(what, int) else "request"
    return f'<recv {kind}="{what}"{" optional=" + chr(34) + "true" + chr(34) if optional else ""} {extra}/>'


def pause(milliseconds: int) -> str:
    """Waits."""
    return f'<pause milliseconds="{milliseconds}"/>'


@dataclass(frozen=True)
class Caller:
    """Steps of who calls."""

    number: str = "1001"
    domain: str = "t1.example"

    def _request(self, method: str, uri: str, cseq: str, rest: str, to_tag: str = "") -> str:
        # CANCEL and the ACK of a failure belong to the INVITE's transaction (RFC 3261 §9.1, §17.1.1.3).
        branch = "z9hG4bK[pid]i[call_number]" if f"sip:[service]@{self.domain}" == uri else "[branch]"
        return "\n".join(
            (
                f"{method} {uri} SIP/2.0",
                f"Via: SIP/2.0/UDP [local_ip]:[local_port];branch={branch}",
                *([] if method in ("INVITE", "CANCEL") else ["[routes]"]),
                _FROM.format(caller=self.number),
                _TO.format(domain=self.domain) + to_tag,
                "Call-ID: [call_id]",
                f"CSeq: {cseq} {method}",
                "Max-Forwards: 70",
                f"Contact: <sip:{self.number}@[local_ip]:[local_port]>",
                rest,
            )
        )

    def invite(self, offer: bool = True, headers: str = "") -> str:
        """INVITE."""
        rest = headers + (SDP.format(name="caller", port=40000) if offer else EMPTY)
        uri = f"sip:[service]@{self.domain}"
        return _send(self._request("INVITE", uri, "1", rest), retransmit=True)

    def ringing(self) -> str:
        """100 and 180 or 183, each when it comes."""
        return receive(100, optional=True) + receive(180, optional=True) + receive(183, optional=True)

    def answered(self) -> str:
        """200 and ACK."""
        ack = self._request("ACK", "[next_url]", "1", EMPTY, "[peer_tag_param]")
        return receive(200, extra='rrs="true"') + _send(ack)

    def answered_with_answer(self) -> str:
        """200 with an offer and ACK with the answer to it."""
        ack = self._request(
            "ACK", "[next_url]", "1", SDP.format(name="caller", port=40000), "[peer_tag_param]"
        )
        return receive(200, extra='rrs="true"') + _send(ack)

    def refused(self, status: int) -> str:
        """A final failure and its ACK."""
        uri = f"sip:[service]@{self.domain}"
        ack = self._request("ACK", uri, "1", EMPTY, "[peer_tag_param]")
        return receive(status) + _send(ack)

    def cancel(self) -> str:
        """CANCEL, its 200 and the 487."""
        uri = f"sip:[service]@{self.domain}"
        request = self._request("CANCEL", uri, "1", EMPTY)
        return _send(request, retransmit=True) + receive(200) + self.refused(487)

    def reinvite(self) -> str:
        """Re-INVITE with hold, its answer, ACK."""
        body = SDP.format(name="caller", port=40000) + "a=sendonly\n"
        invite = self._request("INVITE", "[next_url]", "2", body, "[peer_tag_param]")
        invite = invite.replace("From:", "[routes]\nFrom:", 1)
        ack = self._request("ACK", "[next_url]", "2", EMPTY, "[peer_tag_param]")
        return _send(invite, retransmit=True) + receive(100, optional=True) + receive(200) + _send(ack)

    def bye(self, cseq: int = 2) -> str:
        """BYE and its 200."""
        request = self._request("BYE", "[next_url]", str(cseq), EMPTY, "[peer_tag_param]")
        return _send(request, retransmit=True) + receive(200)

    def hung_up(self) -> str:
        """The other side's BYE, answered."""
        return receive("BYE") + _send(_response("200 OK", EMPTY))


def _response(status: str, rest: str, *, tag: bool = False, headers: str = "") -> str:
    return "\n".join(
        (
            f"SIP/2.0 {status}",
            "[last_Via:]",
            "[last_Record-Route:]",
            "[last_From:]",
            "[last_To:]" + (";tag=[pid]p[call_number]" if tag else ""),
            "[last_Call-ID:]",
            "[last_CSeq:]",
            "Contact: <sip:phone@[local_ip]:[local_port]>",
            headers + rest,
        )
    )


_KEEP = "".join(
    f'<ereg regexp="{pattern}" search_in="hdr" header="{header}:" assign_to="{name}"/>'
    for name, header, pattern in (
        ("remote", "From", ".*"),
        ("local", "To", ".*"),
        ("via", "Via", ".*"),
        ("target", "Contact", "sip:[^>]*"),
    )
)


class Phone:
    """Steps of who is called. What the INVITE had is kept, so that it can be answered after other requests."""

    @staticmethod
    def called() -> str:
        """INVITE."""
        return f'<recv request="INVITE" rrs="true"><action>{_KEEP}</action></recv>' + REFERENCES

    @staticmethod
    def rings() -> str:
        """180."""
        return _send(_response("180 Ringing", EMPTY, tag=True))

    @staticmethod
    def answers(port: int = 40002) -> str:
        """200 and its ACK."""
        ok = "\n".join(
            (
                "SIP/2.0 200 OK",
                "Via:[$via]",
                "[last_Record-Route:]",
                "From:[$remote]",
                "To:[$local];tag=[pid]p[call_number]",
                "Call-ID: [call_id]",
                "CSeq: 1 INVITE",
                "Contact: <sip:phone@[local_ip]:[local_port]>",
                SDP.format(name="phone", port=port),
            )
        )
        return _send(ok, retransmit=True) + receive("ACK")

    @staticmethod
    def answers_at_once(port: int = 40002) -> str:
        """200 and its ACK when nothing came after the INVITE: with all its Via headers, so through proxies too."""
        ok = _response("200 OK", SDP.format(name="phone", port=port), tag=True)
        return _send(ok, retransmit=True) + receive("ACK")

    @staticmethod
    def refuses(status: str) -> str:
        """A final failure and its ACK."""
        return _send(_response(status, EMPTY, tag=True), retransmit=True) + receive("ACK")

    @staticmethod
    def cancelled() -> str:
        """CANCEL, its 200, the 487 of the INVITE and its ACK."""
        ok = _send(_response("200 OK", EMPTY, tag=True))
        gone = _response("487 Request Terminated", EMPTY, tag=True).replace("[last_CSeq:]", "CSeq: 1 INVITE")
        return receive("CANCEL") + ok + _send(gone, retransmit=True) + receive("ACK")

    @staticmethod
    def told_to_talk(status: str = "200 OK") -> str:
        """NOTIFY with Event: talk, answered."""
        talk = '<action><ereg regexp="talk" search_in="hdr" header="Event:" check_it="true" assign_to="talk"/></action>'
        return f'<recv request="NOTIFY">{talk}</recv><Reference variables="talk"/>' + _send(
            _response(status, EMPTY)
        )

    @staticmethod
    def reinvited() -> str:
        """Re-INVITE, answered, and its ACK."""
        ok = _response("200 OK", SDP.format(name="phone", port=40002) + "a=recvonly\n")
        return receive("INVITE") + _send(ok, retransmit=True) + receive("ACK")

    @staticmethod
    def hung_up() -> str:
        """BYE, answered."""
        return receive("BYE") + _send(_response("200 OK", EMPTY))

    @staticmethod
    def hangs_up() -> str:
        """BYE of our own, and its 200."""
        bye = "\n".join(
            (
                "BYE [$target] SIP/2.0",
                "Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]",
                "From:[$local];tag=[pid]p[call_number]",
                "To:[$remote]",
                "Call-ID: [call_id]",
                "CSeq: 1 BYE",
                "Max-Forwards: 70",
                EMPTY,
            )
        )
        return _send(bye, retransmit=True) + receive(200)


REFERENCES = '<Reference variables="remote,local,via,target"/>'


@dataclass
class Result:
    """What a SIPp process did."""

    code: int
    text: str
    messages: str
    """Every message with its time, when they were kept."""

    def at(self, first_line: str) -> float:
        """When the first message beginning so was sent or received, seconds of the day."""
        for block in re.split(r"-{20,} ", self.messages)[1:]:
            stamp, _, message = block.partition("\n")
            if re.search(rf"^{first_line}", message.partition("bytes")[2], re.MULTILINE):
                hours, minutes, seconds = stamp.split()[1].split(":")
                return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        raise LookupError(first_line)

    def statuses(self) -> list[int]:
        """Status lines received, in order, without repetitions of the same one in a row."""
        blocks = re.findall(r"UDP message received \[\d+\] bytes :\s+SIP/2\.0 (\d{3})", self.messages)
        return [int(status) for status, _ in itertools.groupby(blocks)]


class Sipp:
    """One SIPp process."""

    def __init__(
        self,
        folder: Path,
        host: str,
        port: int,
        steps: list[str],
        *,
        remote: tuple[str, int] | None = None,
        service: str = "1002",
        calls: int = 1,
        rate: float = 10.0,
        timeout_s: int = 15,
        trace: bool = True,
        users: str = "",
    ) -> None:
        number = next(_numbers)
        self.folder = folder / f"sipp-{number}"
        self.folder.mkdir()
        scenario = self.folder / "scenario.xml"
        scenario.write_text(
            '<?xml version="1.0"?>\n<scenario name="s">\n' + "\n".join(steps) + "\n</scenario>\n"
        )
        self.command = [
            "sipp",
            *([f"{remote[0]}:{remote[1]}"] if remote else []),
            *("-sf", str(scenario), "-i", host, "-p", str(port), "-s", service, "-m", str(calls)),
            *("-r", str(rate), "-timeout", f"{timeout_s}s", "-timeout_error", "-nostdin", "-skip_rlimit"),
            *(("-trace_msg", "-message_file", str(self.folder / "messages")) if trace else ()),
            *("-trace_err", "-error_file", str(self.folder / "errors")),
            *(("-inf", users) if users else ()),
        ]
        with (self.folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                self.command, stdout=out, stderr=subprocess.STDOUT, cwd=self.folder, stdin=subprocess.DEVNULL
            )

        self._wait_bound(host, port)

    def _wait_bound(self, host: str, port: int) -> None:
        """Returns when the socket is there: an INVITE before that would find nobody."""
        wanted = "".join(f"{int(part):02X}" for part in reversed(host.split("."))) + f":{port:04X}"
        deadline = time.monotonic() + 5
        while wanted not in Path("/proc/net/udp").read_text() and self.process.poll() is None:
            assert time.monotonic() < deadline, self._read("out")
            time.sleep(0.005)

    async def finished(self, seconds: float = 20.0) -> Result:
        """Waits for the end of the process."""
        code = await asyncio.to_thread(self.process.wait, seconds)
        return Result(code, self._read("errors") or self._read("out"), self._read("messages"))

    async def good(self, seconds: float = 20.0) -> Result:
        """Waits for an end in which every call went as the scenario says."""
        result = await self.finished(seconds)
        assert result.code == 0, (
            f"SIPp ended with {result.code}:\n{result.text[-3000:]}\n{result.messages[-4000:]}"
        )
        return result

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """Ends it."""
        end(self.process)


def users(path: Path, rows: list[tuple[str, ...]]) -> str:
    """An injection file for -inf, taken in turn; fields are [field0], [field1] …"""
    with path.open("w", newline="") as file:
        file.write("SEQUENTIAL\n")
        csv.writer(file, delimiter=";").writerows(rows)
    return str(path)
