"""Whatever happens in whatever order: sequences without gap, nothing told after CallDeleted, nothing left behind."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.calls import Contact, DeviceType, LegState, Resolution
from services.sip_cluster.legs import IllegalFact
from services.sip_cluster.outcomes import DIAL_PLAN_AWAY, NO_ROUTE
from services.sip_cluster.records import from_record, to_record
from tests.unit.sip_cluster.driver import ANSWER, OFFER, SDP, Driver, extension, outside, route_point

TWO = (Contact("sip:1002@10.0.0.1"), Contact("sip:1002@10.0.0.2", q=7))
RESOLUTIONS = [
    extension("1002", contacts=TWO, can_talk=True),
    extension("1003", overflow="1004"),
    extension("1004", contacts=()),
    extension("1005", dnd=True, overflow="1003"),
    outside("+4930"),
    route_point("8000", default_dns=("1003", "1004"), routing_timeout_ms=1500),
    route_point("8000", divert_on_ringing=False),
    Resolution("t1", DeviceType.VOICEMAIL, "5555"),
]
MOVES = [
    "cancel", "ack", "ack_missing", "ring", "media", "answer", "busy", "decline", "bye", "bye_done", "offer",
    "offer_answered", "offer_refused", "info", "resolve", "unresolved", "away", "wait", "router_lost", "talk_refused",
    "route", "route_default", "reject", "answer_call", "release_call", "clear_call", "attach", "distribute", "restore",
]  # fmt: skip


def play(driver: Driver, move: str, number: int, resolution: Resolution) -> None:
    thread = driver.thread
    leg = list(thread.legs)[number % len(thread.legs)] if thread.legs else 1
    ask = next(iter(thread.asks), 0)
    dn = ("8000", "1001", "1002", "1003")[number % 4]
    facts: dict[str, object] = {
        "cancel": inputs.Cancelled(leg),
        "ack": inputs.Acked(leg),
        "ack_missing": inputs.AckMissing(leg),
        "ring": inputs.Progressed(leg, 180, True),
        "media": inputs.Progressed(leg, 183, True, ANSWER, SDP),
        "answer": inputs.Answered(leg, ANSWER, SDP),
        "busy": inputs.Failed(leg, 486),
        "decline": inputs.Failed(leg, 603),
        "bye": inputs.ByeReceived(leg),
        "bye_done": inputs.ByeDone(leg),
        "offer": inputs.Offered(leg, OFFER, SDP),
        "offer_answered": inputs.OfferAnswered(leg, ANSWER, SDP),
        "offer_refused": inputs.OfferRefused(leg, (481, 488)[number % 2]),
        "info": inputs.InfoReceived(leg, b"x", "y"),
        "resolve": inputs.Resolved(ask, resolution),
        "unresolved": inputs.Unresolved(ask, NO_ROUTE, "no", tenant="t1"),
        "away": inputs.Unresolved(ask, DIAL_PLAN_AWAY, "away"),
        "router_lost": inputs.RouterLost(number),
        "talk_refused": inputs.TalkRefused(leg, 489),
        "route": inputs.RouteCall(driver.request(dn), "1002"),
        "route_default": inputs.RouteCall(driver.request("8000"), "", 1),
        "reject": inputs.RouteCall(driver.request("8000"), "", 7),
        "answer_call": inputs.AnswerCall(driver.request(dn)),
        "release_call": inputs.ReleaseCall(driver.request(dn)),
        "clear_call": inputs.ClearCall(driver.request(dn)),
        "attach": inputs.AttachUserData(driver.request(dn), (("a", number),), b""),
        "distribute": inputs.DistributeEvent(driver.request(dn), 57, b""),
    }
    if move == "wait":
        driver.wait(number)
    elif move == "restore":
        saved = thread.saved
        driver.thread = from_record(to_record(thread))
        driver.thread.saved = saved
    else:
        driver.put(facts[move])  # type: ignore[arg-type]


steps = st.lists(
    st.tuples(st.sampled_from(MOVES), st.integers(0, 40), st.sampled_from(RESOLUTIONS)), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(first=st.sampled_from(RESOLUTIONS), inside=st.booleans(), made=st.booleans(), moves=steps)
def test_any_order(
    first: Resolution, inside: bool, made: bool, moves: list[tuple[str, int, Resolution]]
) -> None:
    driver = Driver()
    if made:
        driver.put(inputs.MakeCall(driver.request("1001", 0), "t1", "1002"))
    else:
        driver.call(first, caller_dn="1001" if inside else "")
    for move, number, resolution in moves:
        if driver.thread.finished:
            break
        try:
            play(driver, move, number, resolution)
        except IllegalFact:
            continue
    finish(driver)
    check(driver)


def finish(driver: Driver) -> None:
    """Ends what is open as a patient network would."""
    driver.put(inputs.Drop())
    for _ in range(30):
        for leg in list(driver.thread.legs.values()):
            if leg.state is LegState.CANCELLING:
                driver.put(inputs.Failed(leg.id, 487))
            elif leg.state is LegState.ENDING:
                driver.put(inputs.AckMissing(leg.id))
            elif leg.state is LegState.RELEASING:
                driver.put(inputs.ByeDone(leg.id))


def check(driver: Driver) -> None:
    thread = driver.thread
    assert thread.finished
    assert thread.timers == {}
    assert driver.sequence() == list(range(1, thread.seq + 1))
    names = driver.names(everything=True)
    if names:
        assert names[0] == "CallCreated" and names[-1] == "CallDeleted"
        assert names.count("CallCreated") == names.count("CallDeleted") == 1
    added = sorted(name.partition("@")[2] for name in names if name.startswith("CallPartyAdded"))
    deleted = sorted(name.partition("@")[2] for name in names if name.startswith("CallPartyDeleted"))
    assert added == deleted
    replies = [reply.request for reply in driver.effects(do.Reply)]
    assert len(replies) == len(set(replies))
    for dn in {name.partition("@")[2] for name in names}:
        assert names.count(f"Established@{dn}") <= names.count(f"Ringing@{dn}") + names.count(f"Dialing@{dn}")
        assert names.count(f"RouteUsed@{dn}") == names.count(f"Diverted@{dn}")
    finals = [e.leg for e in driver.done if isinstance(e, do.Reject | do.Accept)]
    assert len(finals) == len(set(finals)), "one final answer to each INVITE"


def test_requests_that_were_taken_are_all_answered() -> None:
    driver = Driver(dialled="8000")
    driver.call(route_point("8000", divert_on_ringing=False), caller_dn="")
    driver.route("1002")
    driver.resolve(extension("1002", can_talk=True))
    driver.ring()
    driver.put(inputs.AnswerCall(driver.request("1002")))
    driver.put(inputs.Drop())
    assert sorted(reply.request for reply in driver.effects(do.Reply)) == ["r1", "r2"]
