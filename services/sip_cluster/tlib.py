"""The numbers of T-Library that the call model speaks: historic, equal to voice.tlib.v1 (a test compares them)."""

from __future__ import annotations

from enum import IntEnum, IntFlag, StrEnum


class EventType(IntEnum):
    """Events this node tells (voice.tlib.v1.MessageType)."""

    QUEUED = 57
    DIVERTED = 58
    ABANDONED = 59
    RINGING = 60
    DIALING = 61
    NETWORK_REACHED = 62
    DESTINATION_BUSY = 63
    ESTABLISHED = 64
    RELEASED = 65
    ROUTE_REQUEST = 71
    ROUTE_USED = 72
    ATTACHED_DATA_CHANGED = 85
    CALL_CREATED = 160
    CALL_DELETED = 162
    CALL_PARTY_ADDED = 163
    CALL_PARTY_STATE = 164
    CALL_PARTY_DELETED = 166


class CallType(IntEnum):
    """voice.tlib.v1.CallType."""

    UNKNOWN = 0
    INTERNAL = 1
    INBOUND = 2
    OUTBOUND = 3
    CONSULT = 4


class CallState(IntEnum):
    """voice.tlib.v1.CallState, those this node tells."""

    OK = 0
    GENERAL_ERROR = 3
    SYSTEM_ERROR = 4
    REMOTE_RELEASE = 5
    BUSY = 6
    NO_ANSWER = 7
    ALL_TRUNKS_BUSY = 10
    SIT_INVALID_NUM = 11
    SIT_VACANT = 12
    CLEARED = 19
    OVERFLOWED = 20
    ABANDONED = 21
    REDIRECTED = 22
    DROPPED = 26


class DnRole(IntEnum):
    """voice.tlib.v1.DnRole, those this node tells."""

    UNKNOWN = 0
    ORIGINATION = 1
    DESTINATION = 2


class RouteType(IntEnum):
    """voice.tlib.v1.RouteType."""

    UNKNOWN = 0
    DEFAULT = 1
    LABEL = 2
    OVERWRITE_DNIS = 3
    DDD = 4
    IDDD = 5
    DIRECT = 6
    REJECT = 7
    ANNOUNCEMENT = 8
    POST_FEATURE = 9
    DIRECT_AGENT = 10
    PRIORITY = 11
    DIRECT_PRIORITY = 12
    AGENT_ID = 13
    CALL_DISCONNECT = 14


class PartyState(IntFlag):
    """voice.tlib.v1.PartyState, those this node tells."""

    INITIATED = 0x1
    QUEUED = 0x9
    ALERTING = 0xA
    CONNECTED = 0xC
    DIALING = 0x10000


class Why(StrEnum):
    """Reasons for refusing a request: names of voice.error.v1.Reason."""

    INVALID_ATTRIBUTE = "REASON_INVALID_ATTRIBUTE"
    UNKNOWN_CALL = "REASON_UNKNOWN_CALL"
    UNKNOWN_DN = "REASON_UNKNOWN_DN"
    UNKNOWN_DESTINATION = "REASON_UNKNOWN_DESTINATION"
    WRONG_STATE = "REASON_WRONG_STATE"
    UNSUPPORTED = "REASON_UNSUPPORTED"
    IN_PROGRESS = "REASON_IN_PROGRESS"
    QUEUE_FULL = "REASON_QUEUE_FULL"
    TIMEOUT = "REASON_TIMEOUT"
    DEPENDENCY_UNAVAILABLE = "REASON_DEPENDENCY_UNAVAILABLE"
    OUT_OF_SERVICE = "REASON_OUT_OF_SERVICE"
    DN_BUSY = "REASON_DN_BUSY"
    NO_ANSWER = "REASON_NO_ANSWER"
    CALL_REJECTED = "REASON_CALL_REJECTED"
    INVALID_TARGET = "REASON_INVALID_TARGET"
    RESERVATION_INVALID = "REASON_RESERVATION_INVALID"
    INTERNAL = "REASON_INTERNAL"
