"""SIPp's logs read as facts."""

from __future__ import annotations

from tests.chaos.load import caller_calls, phone_calls


def lines(*steps: str) -> list[str]:
    """`<step> <Call-ID> <second> [more]` as SIPp writes it."""
    found = []
    for step in steps:
        what, call, second, *more = step.split()
        found.append(f"{what} {call} 2026-11-23\t05:23:21.000000\t{second}.000000 {' '.join(more)}")
    return found


def test_a_callers_log_tells_what_became_of_each_call() -> None:
    log = lines(
        "invited a 1", "ringing a 2", "answered a 3", "glare a 4", "reinvited a 5", "ended a 9",
        "invited b 1", "refused-503 b 2",
        "invited c 1", "ringing c 2", "answered c 3", "bye-481 c 4",
        "invited d 1", "forgotten d 70",
        "invited e 1", "answered e 3",
        "invited f 1", "answered f 3", "reinvite-500 f 4", "ended f 5",
    )  # fmt: skip
    errors = "The following events occurred:\n2026-11-23 05:27:30.6: Call-Id: e, aborting call on an\nunexpected BYE"
    a, b, c, d, e, f = caller_calls(log, "t1", "direct", errors)
    assert (a.complete, a.ringing_at, a.answered_at, a.ended_at, a.lost) == (True, 2, 3, 9, "")
    assert (b.complete, b.refused, b.answered_at) == (False, 503, None)
    assert (c.complete, c.lost) == (False, "its BYE got 481")
    assert (d.forgotten, d.refused, d.answered_at) == (True, 0, None)
    assert (e.complete, e.lost) == (False, "aborting call on an unexpected BYE")
    assert (f.complete, f.reinvite_refused) == (True, 500)


def test_a_phones_log_tells_its_number_and_its_end() -> None:
    log = lines(
        "offered a 1 1003",
        "established a 2",
        "ended a 5",
        "offered b 1 1901",
        "cancelled b 2",
        "offered c 3 1004",
    )
    a, b, c = phone_calls(log, "t2")
    assert (a.tenant, a.dn, a.established_at, a.ended_at) == ("t2", "1003", 2, 5)
    assert (b.dn, b.established_at, b.ended_at) == ("1901", None, 2)
    assert (c.dn, c.ended_at) == ("1004", None)
