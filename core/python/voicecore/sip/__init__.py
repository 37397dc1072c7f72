"""SIP: messages, transactions, dialogs, endpoint and proxy."""

from voicecore._native import (
    MAX_HEADER_COUNT,
    MAX_LINE_LENGTH,
    MAX_MESSAGE_SIZE,
    MAX_PARAMS,
    MAX_URI_LENGTH,
    AckReceived,
    CancelReceived,
    CSeq,
    Dialog,
    DialogError,
    DialogState,
    Endpoint,
    EndpointConfig,
    Message,
    NameAddr,
    Node,
    ParseError,
    Proxy,
    ProxyConfig,
    Request,
    RequestReceived,
    Response,
    ResponseReceived,
    SendsHeld,
    TransactionGone,
    TransactionTerminated,
    TransactionTimeout,
    TransportFailed,
    Uri,
    Via,
    branch_prefix,
    new_call_id,
    new_tag,
    parse,
    reason_phrase,
    slot_of_branch,
    slot_of_tag,
)
from voicecore.sip import digest, sdp

Address = tuple[str, int]

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

__all__ = [
    "Address",
    "AckReceived",
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
