"""What a SIP status means: to T-Library (CallState, reason of a refused request) and to the caller's phone. Pure.

| cause | to the caller | CallState | reason (T-Library number) |
|---|---|---|---|
| 486, 600 | 486, 600 | Busy | DN_BUSY (231) |
| 603, 607, 403 | 603, 607, 403 | Dropped | CALL_REJECTED (233) |
| 404, 410, 416, 484, 485, 604 | the same | SitInvalidNum | INVALID_TARGET (177) |
| 408, no answer in time | 408 | NoAnswer | NO_ANSWER (232) |
| 480 | 480 | NoAnswer | NO_ANSWER (232) |
| not registered | 480 | GeneralError | OUT_OF_SERVICE (58) |
| 503 of a trunk | 503 | AllTrunksBusy | OUT_OF_SERVICE (58) |
| other 5xx | the same | SystemError | OUT_OF_SERVICE (58) |
| other 3xx, 4xx | 480 | GeneralError | OUT_OF_SERVICE (58) |

Statuses that speak about one hop only (401, 407, 421, 481, 482, 483, 491 and 3xx) become 480 for the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.sip_cluster.tlib import CallState, Why


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why a destination was not reached."""

    status: int
    """SIP status for the caller."""
    state: CallState
    """CallState of the events that tell it."""
    why: Why
    """Reason for the request that wanted it."""


BUSY = Outcome(486, CallState.BUSY, Why.DN_BUSY)
NO_ANSWER = Outcome(408, CallState.NO_ANSWER, Why.NO_ANSWER)
NOT_REGISTERED = Outcome(480, CallState.GENERAL_ERROR, Why.OUT_OF_SERVICE)
NO_ROUTE = Outcome(404, CallState.SIT_INVALID_NUM, Why.INVALID_TARGET)
REJECTED = Outcome(603, CallState.DROPPED, Why.CALL_REJECTED)
NOT_AVAILABLE = Outcome(480, CallState.GENERAL_ERROR, Why.UNSUPPORTED)
DIAL_PLAN_AWAY = Outcome(503, CallState.SYSTEM_ERROR, Why.DEPENDENCY_UNAVAILABLE)

_EXACT = {
    486: (CallState.BUSY, Why.DN_BUSY),
    600: (CallState.BUSY, Why.DN_BUSY),
    603: (CallState.DROPPED, Why.CALL_REJECTED),
    607: (CallState.DROPPED, Why.CALL_REJECTED),
    403: (CallState.DROPPED, Why.CALL_REJECTED),
    404: (CallState.SIT_INVALID_NUM, Why.INVALID_TARGET),
    410: (CallState.SIT_INVALID_NUM, Why.INVALID_TARGET),
    416: (CallState.SIT_INVALID_NUM, Why.INVALID_TARGET),
    484: (CallState.SIT_INVALID_NUM, Why.INVALID_TARGET),
    485: (CallState.SIT_INVALID_NUM, Why.INVALID_TARGET),
    604: (CallState.SIT_INVALID_NUM, Why.INVALID_TARGET),
    408: (CallState.NO_ANSWER, Why.NO_ANSWER),
    480: (CallState.NO_ANSWER, Why.NO_ANSWER),
}
_PASSED_ON = frozenset({400, 413, 415, 420, 488, 493, 606})
"""Further statuses that tell the caller something about what he offered."""


def of_status(status: int, *, trunk: bool = False) -> Outcome:
    """The outcome of a final response from 300 to 699."""
    exact = _EXACT.get(status)
    if exact is not None:
        return Outcome(status, *exact)
    if status == 503 and trunk:
        return Outcome(503, CallState.ALL_TRUNKS_BUSY, Why.OUT_OF_SERVICE)
    if 500 <= status <= 599:
        return Outcome(status, CallState.SYSTEM_ERROR, Why.OUT_OF_SERVICE)
    return Outcome(status if status in _PASSED_ON else 480, CallState.GENERAL_ERROR, Why.OUT_OF_SERVICE)


def better(one: int, other: int) -> int:
    """Which of two statuses of a forked request is told (RFC 3261 §16.7 step 6): a 6xx wins, then 486 and the other
    answers of a user, then the lowest class."""
    return min(one, other, key=_rank)


def _rank(status: int) -> tuple[int, int]:
    if status >= 600:
        return 0, status
    if status in (486, 480, 403):
        return 1, status
    if status in (408, 503):
        return 8, status
    return 1 + status // 100, status


def next_contact(status: int, *, trunk: bool) -> bool:
    """Whether the next contacts are tried after this status: never after 6xx (RFC 3261 §16.7); a trunk's only when
    the trunk itself failed, since its other answers speak of the number."""
    if status >= 600:
        return False
    return status in (408, 480, 500, 502, 503, 504) if trunk else True
