"""SIP (RFC 3261 and friends): messages, transactions, dialogs, an endpoint and a proxy.

* `parse` gives a `Request` or `Response` over one buffer: headers are looked at when asked for, and what
is not changed is written
  back byte for byte.
* `Endpoint` is a transaction-stateful user agent core over UDP. Its thread receives, retransmits and
answers; Python drains
  decisions from it (`fileno` + `drain`).
* `Proxy` forwards statefully by tables; Python sees only what it asked to see (REGISTER).
* `Dialog` is RFC 3261 §12 as data.

Addresses are `(host, port)` with a literal IPv4 or IPv6 host. Times are seconds (float) unless a name says
otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Self, final

from voicecore.sip import digest as digest
from voicecore.sip import sdp as sdp

__all__ = [
    "AckReceived",
    "Address",
    "CSeq",
    "CancelReceived",
    "Dialog",
    "DialogError",
    "DialogState",
    "Endpoint",
    "EndpointConfig",
    "Event",
    "MAX_HEADER_COUNT",
    "MAX_LINE_LENGTH",
    "MAX_MESSAGE_SIZE",
    "MAX_PARAMS",
    "MAX_URI_LENGTH",
    "Message",
    "NameAddr",
    "Node",
    "ParseError",
    "Proxy",
    "ProxyConfig",
    "Request",
    "RequestReceived",
    "Response",
    "ResponseReceived",
    "SendsHeld",
    "TransactionGone",
    "TransactionTerminated",
    "TransactionTimeout",
    "TransportFailed",
    "Uri",
    "Via",
    "branch_prefix",
    "digest",
    "new_call_id",
    "new_tag",
    "parse",
    "reason_phrase",
    "sdp",
    "slot_of_branch",
    "slot_of_tag",
]

Address = tuple[str, int]
"""(literal IP, port)."""

MAX_MESSAGE_SIZE: int
"""65_535 bytes: the largest UDP datagram; longer input is refused with rule "message-size" (413)."""
MAX_HEADER_COUNT: int
"""128 header lines a message: rule "header-count" (400). Precedent: 100 in Apache, 128 in Go's sipgo
default chains."""
MAX_LINE_LENGTH: int
"""8_192 bytes of a header line with its folds: rule "line-length" (400). Precedent: 8 KiB in Apache and
nginx."""
MAX_URI_LENGTH: int
"""2_048 bytes of a request URI: rule "uri-length" (414)."""
MAX_PARAMS: int
"""64 parameters of one URI or header value: rule "param-count" (400)."""

class ParseError(ValueError):
    """Input that is not SIP (or SDP, or a digest header)."""

    position: int
    """Byte offset in the input at which it stopped being right."""
    rule: str
    """Name of the broken rule in kebab case, e.g. "start-line", "content-length", "cseq-method", "via",
    "uri"."""
    status: int
    """SIP status with which it could be answered: 400, 413, 414, 416 or 505."""

class DialogError(ValueError):
    """A request does not fit its dialog."""

    status: int
    """SIP status to answer with: 481 (no such dialog) or 500 (CSeq lower than the last)."""

class TransactionGone(LookupError):
    """The transaction id is unknown, finished, or in a state in which this call is impossible; nothing was
    sent."""

@final
class Uri:
    """A SIP, SIPS or tel URI (other schemes keep their text in `host`). Immutable; `str()` gives back the
    parsed text exactly."""

    scheme: str
    """Lower case: "sip", "sips", "tel" ..."""
    user: str | None
    """User part, escapes decoded; for tel: the number as written."""
    password: str | None
    host: str
    """Host as written; IPv6 with its brackets. Empty for tel:."""
    port: int | None
    params: tuple[tuple[str, str | None], ...]
    """(name in lower case, value with escapes decoded or None) in order."""
    headers: str | None
    """Text after `?`, undecoded."""

    @staticmethod
    def parse(text: str) -> Uri:
        """Raises ParseError (rule "uri"; "uri-length"; "param-count")."""

    def __init__(
        self,
        host: str,
        *,
        user: str | None = None,
        port: int | None = None,
        scheme: str = "sip",
        params: Mapping[str, str | None] | None = None,
    ) -> None:
        """Builds and escapes. Raises ValueError when a part cannot stand in a URI."""

    @property
    def secure(self) -> bool:
        """Scheme is sips."""

    def param(self, name: str) -> str | None:
        """Value of a parameter, "" when it has none, None when it is absent. Case-insensitive."""

    def with_param(self, name: str, value: str | None = None) -> Uri:
        """Copy with the parameter set (replaced or appended)."""

    def without_param(self, name: str) -> Uri: ...
    def with_user(self, user: str | None) -> Uri: ...
    def with_host(self, host: str, port: int | None = None) -> Uri: ...
    def aor(self) -> str:
        """Canonical address of record: scheme:user@host in lower-case host, no port, parameters or
        headers."""

    def equivalent(self, other: Uri) -> bool:
        """RFC 3261 §19.1.4."""

    def __eq__(self, other: object) -> bool:
        """Same text."""

    def __hash__(self) -> int: ...

@final
class NameAddr:
    """Value of From, To, Contact, Route, Record-Route, Refer-To ...: [display name] <URI> [;parameters].
    Immutable, exact round trip."""

    display_name: str | None
    """Unquoted."""
    uri: Uri
    params: tuple[tuple[str, str | None], ...]
    """Header parameters (after the URI), names in lower case."""

    @staticmethod
    def parse(text: str) -> NameAddr:
        """Raises ParseError (rule "name-addr")."""

    def __init__(
        self,
        uri: Uri | str,
        *,
        display_name: str | None = None,
        params: Mapping[str, str | None] | None = None,
    ) -> None: ...
    @property
    def tag(self) -> str | None: ...
    def param(self, name: str) -> str | None: ...
    def with_param(self, name: str, value: str | None = None) -> NameAddr: ...
    def without_param(self, name: str) -> NameAddr: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Via:
    """One Via value. Immutable, exact round trip."""

    transport: str
    """Upper case: "UDP", "TCP" ..."""
    host: str
    port: int | None
    branch: str | None
    received: str | None
    rport: int | None
    """None when absent or without value."""
    params: tuple[tuple[str, str | None], ...]

    @staticmethod
    def parse(text: str) -> Via:
        """Raises ParseError (rule "via")."""

    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@final
class CSeq:
    """A CSeq value."""

    number: int
    """0..=2**31-1."""
    method: str

    def __init__(self, number: int, method: str) -> None: ...

class Message:
    """What requests and responses share. Header names are case-insensitive and compact forms are the same
    header."""

    body: bytes
    """Settable; Content-Length follows. Set `content_type` with it."""

    @property
    def call_id(self) -> str:
        """ "" when absent (only in messages under construction)."""

    @property
    def cseq(self) -> CSeq: ...
    @property
    def via(self) -> Via | None:
        """Top Via. For a received request its `received` and `rport` are already filled in."""

    @property
    def from_(self) -> NameAddr: ...
    @property
    def to(self) -> NameAddr: ...
    @property
    def from_tag(self) -> str | None: ...
    @property
    def to_tag(self) -> str | None: ...
    @property
    def contact(self) -> NameAddr | None:
        """First Contact; None when absent or `*`."""

    @property
    def contacts(self) -> list[NameAddr]:
        """All Contacts; empty for `*` (look at `get("Contact")` for it)."""

    @property
    def routes(self) -> list[NameAddr]: ...
    @property
    def record_routes(self) -> list[NameAddr]: ...
    @property
    def max_forwards(self) -> int | None: ...
    @property
    def expires(self) -> int | None: ...
    @property
    def content_type(self) -> str | None: ...
    @content_type.setter
    def content_type(self, value: str | None) -> None: ...
    @property
    def authorization(self) -> str | None:
        """Value of Authorization, else of Proxy-Authorization; see `digest.parse_authorization`."""

    def get(self, name: str) -> str | None:
        """First value of a header (a line, unfolded; list headers are not split). Bytes that are not UTF-8
        become U+FFFD."""

    def get_all(self, name: str) -> list[str]:
        """One entry a line, unfolded, in order."""

    def get_values(self, name: str) -> list[str]:
        """As `get_all`, with comma-separated lists split outside quotes and angle brackets."""

    def headers(self) -> list[tuple[str, str]]:
        """All header lines (name as written, value unfolded)."""

    def set(self, name: str, value: str) -> None:
        """Replaces all lines of this header by one, at the place of the first (at the end when there was
        none).

        Raises ValueError when name is not a token or value holds CR, LF or NUL. So do append and prepend.
        """

    def append(self, name: str, value: str) -> None:
        """Adds a line after the last line of the same name (at the end when there is none)."""

    def prepend(self, name: str, value: str) -> None:
        """Adds a line before the first line of the same name (at the top when there is none)."""

    def remove(self, name: str) -> int:
        """Removes all lines of this header; how many there were."""

    def to_bytes(self) -> bytes:
        """The message on the wire. Lines that were not changed are the received bytes; Content-Length is
        set right."""

    def copy(self) -> Self: ...

@final
class Request(Message):
    """A request. `method` and `uri` are settable."""

    method: str

    @property
    def uri(self) -> Uri: ...
    @uri.setter
    def uri(self, value: Uri | str) -> None: ...
    @staticmethod
    def new(
        method: str,
        uri: Uri | str,
        *,
        from_: NameAddr | str,
        to: NameAddr | str,
        call_id: str | None = None,
        cseq: int = 1,
        contact: NameAddr | str | None = None,
        routes: Iterable[NameAddr | str] = (),
        max_forwards: int = 70,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Request:
        """A request out of a dialog. From without a tag gets a random one; call_id is random when None. No
        Via: the sender adds it."""

    def reply(
        self,
        status: int,
        reason: str | None = None,
        *,
        to_tag: str | None = None,
        contact: NameAddr | str | None = None,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """Response with Via, From, To, Call-ID, CSeq copied (RFC 3261 §8.2.6) and, for 1xx and 2xx,
        Record-Route.

        To gets to_tag unless it has one; without to_tag a random tag for every status but 100.
        """

@final
class Response(Message):
    """A response."""

    status: int
    """100..=699; settable."""
    reason: str

    @staticmethod
    def new(
        status: int, reason: str | None = None, *, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> Response:
        """A response from nothing; `Request.reply` is what one usually wants."""

def parse(data: bytes) -> Request | Response:
    """Parses one datagram. Bytes after the body that Content-Length announces are ignored (RFC 3261 §18.3).

    Raises ParseError. Header values that are not needed to route or match a message are checked when they
    are looked at.
    """

def reason_phrase(status: int) -> str:
    """Usual phrase of a status, "" when unknown."""

def new_tag(slot: int | None = None) -> str:
    """A random tag; with a slot `v1<slot:03x>-<random>` (docs/identifiers.md)."""

def new_call_id() -> str:
    """A random Call-ID without a host part."""

def branch_prefix(slot: int) -> str:
    """`v1<slot:03x>-` for `Endpoint.send_request(branch_prefix=...)`."""

def slot_of_tag(tag: str | None) -> int | None:
    """Slot named by one of our tags; None for any other tag."""

def slot_of_branch(branch: str | None) -> int | None:
    """Slot named by the branch of one of our Vias; None for any other."""

# --- events

@final
class RequestReceived:
    """A new request (no retransmission, no ACK, no CANCEL) with its server transaction."""

    __match_args__ = ("txn", "request", "source", "local")
    txn: int
    request: Request
    source: Address
    local: Address

@final
class ResponseReceived:
    """A response to a request of ours: every provisional one but 100, the first final one, and each 2xx
    with another To tag."""

    __match_args__ = ("txn", "response", "source")
    txn: int
    response: Response
    source: Address

@final
class AckReceived:
    """ACK of a 2xx that we sent. txn is the INVITE's, None when it is not known here (a dialog restored
    from another node)."""

    __match_args__ = ("txn", "request", "source")
    txn: int | None
    request: Request
    source: Address

@final
class CancelReceived:
    """The INVITE `txn` is cancelled by its sender; the CANCEL is already answered. The owner answers the
    INVITE with 487."""

    __match_args__ = ("txn", "request")
    txn: int
    request: Request
    """The CANCEL itself (its Reason header may matter)."""

@final
class TransactionTimeout:
    """kind "request": no final response in time (timer B or F, or 64*T1 after CANCEL): as 408.
    kind "ack": our 2xx was never acknowledged (RFC 3261 §13.3.1.4): the dialog should be ended with BYE.
    kind "response": Python left a non-INVITE request unanswered for 64*T1; 408 can no longer be sent (RFC
    4320).
    """

    __match_args__ = ("txn", "kind")
    txn: int
    kind: Literal["request", "ack", "response"]

@final
class TransportFailed:
    """A request of ours could not be delivered: as 503. reason: "icmp" (also when the system refuses to send)."""

    __match_args__ = ("txn", "reason")
    txn: int
    reason: str

@final
class TransactionTerminated:
    """Only with `EndpointConfig(report_terminated=True)`: the id is no longer known to the core."""

    __match_args__ = ("txn",)
    txn: int

@final
class SendsHeld:
    """The send deadline has passed and `count` packets wait (once until they are released, dropped or
    drained again)."""

    __match_args__ = ("count",)
    count: int

Event = (
    RequestReceived
    | ResponseReceived
    | AckReceived
    | CancelReceived
    | TransactionTimeout
    | TransportFailed
    | TransactionTerminated
    | SendsHeld
)

# --- endpoint

@final
class EndpointConfig:
    """Settings of an endpoint; all keyword arguments, readable as attributes."""

    t1: float
    """Round-trip estimate, seconds, 0.01..=10; default 0.5 (RFC 3261 §17.1.1.1). Timers B, F, H, J are
    64*T1."""
    t2: float
    """Longest retransmission interval, seconds; default 4."""
    t4: float
    """Longest time a message stays in the network, seconds; default 5."""
    user_agent: str
    """User-Agent of requests, Server of responses, unless the message has one; "" for none."""
    via_host: str | None
    """Host of our Via's sent-by; None for the bound address."""
    auto_trying: float
    """Seconds after which an unanswered INVITE gets 100; default 0.2 (§17.2.1); 0 at once; negative never."""
    report_terminated: bool
    """Whether TransactionTerminated events are wanted; default False."""
    max_transactions: int
    """Above it new requests are answered 503 with Retry-After; default 200_000."""
    max_events: int
    """Bound of the event queue; when full new requests are answered 503; default 65_536."""
    max_held: int
    """Bound of the packets held by the send deadline; what is above is dropped and counted; default
    16_384."""
    malformed_rate: int
    """Answers to malformed messages a second and source address; default 10."""
    receive_buffer: int
    """SO_RCVBUF in bytes; default 4 MiB (the kernel may give less)."""

    def __init__(
        self,
        *,
        t1: float = 0.5,
        t2: float = 4.0,
        t4: float = 5.0,
        user_agent: str = "",
        via_host: str | None = None,
        auto_trying: float = 0.2,
        report_terminated: bool = False,
        max_transactions: int = 200_000,
        max_events: int = 65_536,
        max_held: int = 16_384,
        malformed_rate: int = 10,
        receive_buffer: int = 4_194_304,
    ) -> None:
        """Raises ValueError naming the field that is out of range."""

@final
class Endpoint:
    """A user agent core. All methods may be called from any thread and release the GIL while they wait for
    the core's lock.

    Use in asyncio::

        endpoint = Endpoint(EndpointConfig())
        endpoint.bind_udp("127.0.0.1", 5060)
        loop.add_reader(endpoint.fileno(), on_ready)      # on_ready: for event in endpoint.drain(): ...

    `drain` clears the readiness and sets it again when more is left, so one call per wake-up is right.
    """

    def __init__(self, config: EndpointConfig | None = None) -> None: ...
    def bind_udp(self, host: str, port: int) -> Address:
        """Opens a socket (port 0: any) and starts receiving. Several may be bound. Raises OSError."""

    def fileno(self) -> int:
        """An eventfd, readable while events wait."""

    def drain(self, max: int = 256) -> list[Event]:
        """Up to max events, oldest first."""

    def send_request(
        self, request: Request, destination: Address, *, branch_prefix: str = "", local: Address | None = None
    ) -> int:
        """Starts a client transaction and sends; its id (never 0, never reused). The request is copied;
        our Via is put on top with branch `z9hG4bK<branch_prefix><random>`. local picks one of several
        sockets (default: the first of the same family).

        Raises ValueError for ACK or CANCEL, a destination that is not literal, or a request without From
        tag; RuntimeError when nothing is bound or closed.
        """

    def prepare_request(
        self, request: Request, destination: Address, *, branch_prefix: str = "", local: Address | None = None
    ) -> Request:
        """The request as `send_prepared` will send it, our Via on top: a snapshot can hold it before it
        leaves. Nothing is sent. Raises what `send_request` raises."""

    def send_prepared(self, request: Request, destination: Address, *, local: Address | None = None) -> int:
        """Sends a prepared request under the branch of its Via and starts its client transaction: for the
        first time, or again by an heir (whoever has seen it repeats its last answer, RFC 3261 §17.2). The
        id of a transaction that is here already is given back and nothing is sent.

        Raises ValueError for ACK or CANCEL or a request without a branch; RuntimeError as `send_request`.
        """

    def restore_client_invite(
        self,
        request: Request,
        destination: Address,
        *,
        response: Response | None = None,
        local: Address | None = None,
    ) -> int:
        """Takes over an INVITE that another process sent, without sending: one that rings, to be cancelled
        at once by `cancel` or answered under the old branch; or one whose 2xx is `response`, to be
        acknowledged by `send_ack` (repeats of that 2xx are no news; they get the ACK again for 64*T1 from
        now). Returns the id of its transaction, also when it is here already.

        Raises ValueError for another method, a request without a branch, a response that is no 2xx or has
        no To tag.
        """

    def restore_server_invite(
        self,
        request: Request,
        source: Address,
        *,
        response: Response | None = None,
        local: Address | None = None,
    ) -> int:
        """Takes over an INVITE that another process received: `request` as that process saw it (with
        received and rport in its Via), `source` where answers go, `response` the last one given. A
        provisional one is said again when the INVITE is; a final one is sent now, and a 2xx repeated until
        its ACK (events AckReceived or TransactionTimeout "ack"). CANCEL and ACK find the transaction as
        they would have found the first one. An INVITE that came here before it was restored keeps its
        transaction, which then has had one RequestReceived.

        Raises ValueError for another method or a request that cannot be read; TransactionGone when a
        transaction is here that has had its final response.
        """

    def redirect(self, txn: int, destination: Address) -> bool:
        """Sends a request that nothing has answered, not even 100, from now on to another address, under the
        same branch and with its timers from the beginning. False when there was an answer or the transaction is
        over: nothing is done then."""

    def forget(self, txn: int) -> None:
        """Lets go of a transaction without a word; nothing for an unknown id. For an owner whose call is
        another's now."""

    def respond(self, txn: int, response: Response) -> None:
        """Sends a response of a server transaction. A 2xx to INVITE is repeated until ACK (events
        AckReceived or TransactionTimeout "ack"). Raises TransactionGone after a final response or when the
        request is gone."""

    def cancel(self, txn: int, *, reason: str | None = None) -> bool:
        """Cancels an INVITE of ours: at once after a provisional response, else as soon as one comes
        (§9.1). The answer to the INVITE comes as ResponseReceived (487 usually), or TransactionTimeout
        after 64*T1. reason: a Reason header value.

        False when a final response is already here (end the dialog with BYE). Raises TransactionGone.
        """

    def send_ack(self, txn: int, ack: Request, destination: Address) -> None:
        """ACK of a 2xx to our INVITE `txn` (built with `Dialog.create_request("ACK")`). Kept for its To
        tag and sent again for every repeated 2xx until 64*T1 after the first. A fresh Via is put on top.
        Raises TransactionGone."""

    def send_stateless(self, data: bytes, destination: Address, *, local: Address | None = None) -> None:
        """One datagram as it is."""

    def transaction_state(self, txn: int) -> str | None:
        """ "calling", "trying", "proceeding", "completed", "confirmed", "accepted"; None when gone."""

    def set_send_deadline(self, boottime_ns: int) -> None:
        """Nothing is put on the wire at or after this time of CLOCK_BOOTTIME (ns); it is held instead and
        reported by SendsHeld. 0: no gate. Raising the deadline does not release what is held."""

    def release_held(self) -> int:
        """Sends what is held, whatever the deadline; how many packets. For an owner whose fenced write has
        just succeeded."""

    def drop_held(self) -> int:
        """Forgets what is held; how many packets."""

    def counters(self) -> dict[str, int]:
        """Monotonic counters by name, among them received, sent, retransmissions_in, retransmissions_out,
        malformed, `malformed.<rule>`, answered_malformed, held, held_dropped, overload_rejected,
        events_dropped, send_errors, timeouts, and the gauges transactions, events_queued, held_now."""

    def close(self) -> None:
        """Stops the thread and closes the sockets; ends all transactions silently. Idempotent."""

# --- dialogs

@final
class DialogState:
    """A dialog as plain fields, for snapshots."""

    call_id: str
    local_tag: str
    remote_tag: str
    """"" when the peer gave none (RFC 2543)."""
    local_uri: str
    """From/To value of our side without its tag, as written (display name kept)."""
    remote_uri: str
    local_cseq: int
    """Last number used by us; 0 when none."""
    remote_cseq: int
    """Last number seen; -1 when none (a UAC before the first request of the peer)."""
    remote_target: str
    """URI."""
    route_set: tuple[str, ...]
    """Values for Route headers, in order of sending."""
    is_uac: bool
    secure: bool
    early: bool

    def __init__(
        self,
        *,
        call_id: str,
        local_tag: str,
        remote_tag: str,
        local_uri: str,
        remote_uri: str,
        local_cseq: int,
        remote_cseq: int,
        remote_target: str,
        route_set: Sequence[str],
        is_uac: bool,
        secure: bool = False,
        early: bool = False,
    ) -> None: ...
    def __eq__(self, other: object) -> bool: ...

@final
class Dialog:
    """RFC 3261 §12. No I/O, no clock."""

    @staticmethod
    def from_request(request: Request, local_tag: str) -> Dialog:
        """UAS side, early, at the moment a response with this To tag is about to be sent (§12.1.1). Raises
        ParseError when Contact, From or CSeq cannot be used."""

    @staticmethod
    def from_response(request: Request, response: Response) -> Dialog:
        """UAC side (§12.1.2) from a 101..299 with a To tag: early for 1xx. Raises ValueError for another
        status, ParseError for a bad Contact."""

    @staticmethod
    def restore(state: DialogState) -> Dialog: ...
    def state(self) -> DialogState: ...
    @property
    def id(self) -> tuple[str, str, str]:
        """(call_id, local_tag, remote_tag)."""

    @property
    def early(self) -> bool: ...
    def confirm(self, message: Request | Response | None = None) -> None:
        """The dialog is confirmed. A UAC passes the 2xx: remote target and route set are taken anew from
        it (§13.2.2.4)."""

    def create_request(
        self,
        method: str,
        *,
        cseq: int | None = None,
        contact: NameAddr | str | None = None,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        max_forwards: int = 70,
    ) -> Request:
        """A request in the dialog (§12.2.1.1) with strict or loose routing as the first route asks. Takes
        the next local CSeq, except ACK, which needs `cseq` of its INVITE (default: the last local one)."""

    def next_hop(self) -> Uri:
        """Where a request of this dialog is to be sent: the first route's URI, else the remote target."""

    def accept(self, request: Request) -> None:
        """Checks a request of the peer against the dialog and takes its CSeq over; for target refresh
        requests (INVITE, UPDATE, SUBSCRIBE, NOTIFY, REFER) its Contact too. Raises DialogError: 481 when
        tags or Call-ID differ, 500 when CSeq is not higher (§12.2.2). ACK and CANCEL are not checked for
        order."""

    def refresh_target(self, response: Response) -> None:
        """Takes Contact of a 2xx to a target refresh request of ours (§12.2.1.2)."""

    def advance_cseq(self, by: int) -> None:
        """Raises the local CSeq: an heir adds 1000 before its first request."""

# --- proxy

@final
class Node:
    """A SIP node behind the proxy."""

    id: str
    """Incarnation, unique; what slots and counters name."""
    host: str
    """Literal IP."""
    port: int
    weight: float
    """Share of new dialogs; 0 takes none (draining, full, out of service) and still gets in-dialog
    requests."""

    def __init__(self, id: str, host: str, port: int, weight: float = 1.0) -> None: ...

@final
class ProxyConfig:
    """Settings of a proxy; all keyword arguments, readable as attributes. Those of EndpointConfig mean the
    same here."""

    t1: float
    t2: float
    t4: float
    server_name: str
    """Server header of answers made here; "" for none."""
    timer_c: float
    """Seconds an INVITE may stay without a final response after the last provisional one (§16.6); default
    180."""
    reselect_after: float
    """Seconds without any response after which a new dialog is tried at the next node (with CANCEL of the
    first branch); default 2."""
    max_reselections: int
    """Other nodes tried for one request; default 2."""
    dialog_rate: float
    """New INVITE dialogs a second above which 503 is answered; 0: unlimited."""
    retry_after: int
    """Seconds in Retry-After of that 503; default 5."""
    python_methods: tuple[str, ...]
    """Methods of requests from outside that go to Python as RequestReceived; default ("REGISTER",)."""
    max_transactions: int
    max_events: int
    max_held: int
    malformed_rate: int
    receive_buffer: int

    def __init__(
        self,
        *,
        t1: float = 0.5,
        t2: float = 4.0,
        t4: float = 5.0,
        server_name: str = "",
        timer_c: float = 180.0,
        reselect_after: float = 2.0,
        max_reselections: int = 2,
        dialog_rate: float = 0.0,
        retry_after: int = 5,
        python_methods: Sequence[str] = ("REGISTER",),
        max_transactions: int = 400_000,
        max_events: int = 65_536,
        max_held: int = 16_384,
        malformed_rate: int = 10,
        receive_buffer: int = 8_388_608,
    ) -> None: ...

@final
class Proxy:
    """A transaction-stateful proxy that forwards by tables (design: the proxy keeps no call state that a
    second proxy needs).

    Requests from outside
        *with a To tag*: to the owner of the slot that the To tag names (`v1<slot>-`), else of the `vs`
        parameter of our Route, else to the node whose address is the request URI, else by rendezvous on
        Call-ID. When the slot's owner changes, requests without a final response are sent again to the new
        owner under the same branch; an INVITE without a To tag, whose slot a response has told (100 does,
        when it has a To tag), then names the slot as `vs` in our Via.
        *without*: `python_methods` go to Python; others by weighted rendezvous on Call-ID. ICMP error, 503, a
        node taken out of the table, or `reselect_after` without a response leads to the next node.
    Requests from nodes (source address in the node table)
        go to the next Route that is not ours, else to the request URI. Names are looked up in the host
        table only; an unknown name is answered 404 with a Warning. A URI that is the proxy's own is
        handled as a request from outside.
    Responses
        go back by Via; where the next Via's branch names a slot, to that slot's present owner.
    Record-Route (INVITE, SUBSCRIBE, REFER)
        the outer side is `<sip:FQDN;lr>` when the peer is a trunk (see `set_trunk_peers`) and our address
        otherwise, the inner side our address; both are added when they differ (RFC 5658). Both carry
        `;vs=<slot>` when the slot is known, and the parameters of `set_identity`.
    """

    def __init__(self, config: ProxyConfig | None = None) -> None: ...
    def bind_udp(self, host: str, port: int) -> Address: ...
    def fileno(self) -> int: ...
    def drain(self, max: int = 256) -> list[Event]:
        """RequestReceived for `python_methods`, ResponseReceived / TransactionTimeout / TransportFailed
        for `send_request`, SendsHeld."""

    def set_nodes(self, nodes: Sequence[Node]) -> None:
        """The whole table; nodes are known again by id, so transactions and counters live on. Raises
        ValueError for a repeated id or a host that is not literal."""

    def set_slots(self, slots: Sequence[tuple[int, int]]) -> None:
        """The whole table as (slot, index in the last set_nodes); slots not named have no owner: their
        requests wait (retransmitted by their timers) and go to the owner once there is one, or end with
        408 / 503. Call after set_nodes."""

    def update_slots(self, changes: Sequence[tuple[int, str | None]]) -> None:
        """Changes as (slot, node id or None)."""

    def set_identity(
        self, fqdn: str, *, cluster: str = "", record_route_params: str = "", aliases: Sequence[str] = ()
    ) -> None:
        """fqdn: our name towards trunks (host or host:port), and the sent-by host of our Via towards nodes, so that
        a retransmission through another proxy is the same transaction there. cluster: a name counted as ours
        in request URIs and routes, like fqdn. aliases: more of them; literal addresses too, which then mean us
        with any port: give the other proxies' addresses, so that a route set made by one proxy works at every
        other. record_route_params: e.g. "transport=udp;x=1".
        """

    def set_domains(self, domains: Sequence[str]) -> None:
        """Host names whose request URIs, coming from nodes, mean ourselves."""

    def set_hosts(self, hosts: Mapping[str, Sequence[Address]]) -> None:
        """Addresses of names that nodes send to; the first is used, the next on failure."""

    def set_trunk_peers(self, peers: Sequence[str]) -> None:
        """Addresses of trunks: literal IPs or networks (`10.1.0.0/16`). A node may also say so by a Route
        to us with `;vd=trunk` or `;vd=phone`."""

    def set_dialog_rate(self, per_second: float) -> None: ...
    def respond(self, txn: int, response: Response) -> None:
        """Answers a RequestReceived. Raises TransactionGone."""

    def forward(self, txn: int, *, node: str | None = None) -> None:
        """Hands a RequestReceived back to the core: it is forwarded as if it were not in `python_methods`,
        or to this node."""

    def send_request(
        self, request: Request, destination: Address, *, branch_prefix: str = "", local: Address | None = None
    ) -> int:
        """A request of the proxy's own (OPTIONS to a node); as Endpoint.send_request, no INVITE."""

    def set_send_deadline(self, boottime_ns: int) -> None: ...
    def release_held(self) -> int: ...
    def drop_held(self) -> int: ...
    def counters(self) -> dict[str, int]:
        """As Endpoint.counters, and new_dialogs, forwarded_requests, forwarded_responses,
        stateless_requests, stateless_responses, reselected, slot_moved_resent, rate_limited, no_owner,
        no_node, loops, max_forwards, unresolved, from_nodes, from_outside, record_routed; by node
        `node.<id>.new_dialogs`, `node.<id>.forwarded`, `node.<id>.failed`."""

    def close(self) -> None: ...
