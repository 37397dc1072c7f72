"""What followed a snapshot is done by the heir too: from the record alone it finds everything that was to be sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from voice.record.v1.sip_call_pb2 import SipCall
from voicecore.sip import Request

from services.sip_cluster import effects as do
from services.sip_cluster import inputs, pending, resuming
from services.sip_cluster.calls import CallThread, LegState
from services.sip_cluster.entry import Entry, Signal
from services.sip_cluster.machine import handle
from services.sip_cluster.records import from_record, to_record
from tests.unit.sip_cluster.driver import CONN_ID, Driver, extension, route_point
from tests.unit.sip_cluster.test_snapshot import SCENARIOS, fresh

AGAIN = (
    do.Alert,
    do.Accept,
    do.Reject,
    do.SendAck,
    do.AcceptOffer,
    do.AskDialPlan,
    do.CancelInvite,
    do.SendBye,
)
"""Effects that an heir must carry out when it cannot know whether they were."""


def signal(leg: int) -> Signal:
    """The SIP side of a leg, as far as a refusal needs it."""
    invite = Request.new("INVITE", "sip:1002@x", from_="<sip:1001@x>", to="<sip:1002@x>")
    return Signal(leg, True, f"tag{leg}", ("10.0.0.1", 5060), invite)


def died_after(thread: CallThread, effects: list[do.Effect]) -> tuple[CallThread, list[do.Effect]]:
    """The heir's thread, and what it does first, when the node died right after its snapshot was written."""
    entry = Entry(thread)
    entry.outbox.extend(effects)
    entry.signals = {
        effect.leg: signal(effect.leg) for effect in effects if isinstance(effect, do.Reject | do.AnswerBye)
    }
    record = to_record(thread)
    record.pending.extend(pending.write(entry))
    read = SipCall.FromString(record.SerializeToString())
    again = [effect for one in read.pending if (effect := pending.read(one)) is not None]
    restored = from_record(read)
    return restored, [*again, *resuming.due(restored)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_whatever_followed_a_snapshot_is_done_again(scenario: Callable[[], Driver]) -> None:
    driver, snapshots = scenario(), 0
    thread = fresh(driver)
    for fact, now in driver.log:
        effects = handle(thread, fact, now)
        if not effects or not isinstance(effects[0], do.Save):
            assert not any(isinstance(e, do.Publish) for e in effects), "events are told behind a snapshot"
            continue
        snapshots += 1
        restored, first = died_after(thread, effects[1:])
        restored.saved = thread.saved
        assert restored == thread
        wanted = Counter(repr(effect) for effect in effects if isinstance(effect, AGAIN))
        assert not wanted - Counter(map(repr, first)), fact
        called = {effect.leg for effect in effects if isinstance(effect, do.SendInvite)}
        assert called <= {leg.id for leg in restored.legs.values() if leg.state is LegState.CALLING}
    assert snapshots >= 3


def test_a_thread_that_has_finished_is_forgotten_by_the_heir() -> None:
    driver = Driver()
    driver.call(extension("1002", dnd=True))
    assert driver.thread.finished
    assert isinstance(driver.last[0], do.Save), "its last events are stored with it"
    restored, first = died_after(driver.thread, driver.last[1:])
    assert first == [do.Reject(driver.caller, 486), do.Forget(True)]
    assert restored.calls == {}


def test_states_say_what_is_due() -> None:
    driver = Driver(dialled="8000", from_number="+1555")
    driver.call(route_point("8000"), caller_dn="")
    driver.route("1002")
    (ask,) = driver.thread.asks
    assert list(resuming.due(driver.thread)) == [do.AskDialPlan(ask)]
    driver.resolve(extension("1002"))
    assert list(resuming.due(driver.thread)) == []
    driver.put(inputs.Cancelled(driver.caller))
    assert list(resuming.due(driver.thread)) == [do.CancelInvite(driver.called)]
    driver.answer()
    assert list(resuming.due(driver.thread)) == [do.SendBye(driver.called)]


def test_a_caller_that_is_not_alerted_is_told_whose_call_it_is() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    assert driver.latest(do.Trying) == [do.Trying(driver.caller)]
    kinds = [type(effect) for effect in driver.last]
    assert kinds.index(do.Save) < kinds.index(do.SendInvite) < kinds.index(do.Trying)
    assert list(resuming.due(driver.thread)) == [do.Trying(driver.caller)]
    driver.ring()
    assert list(resuming.due(driver.thread)) == []


def test_a_lost_leg_ends_its_call_and_its_events_are_told() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    driver.answer()
    driver.ack()
    driver.put(inputs.LegLost(driver.called))
    assert driver.names()[-2:] == ["Released@1002", "Released@1001"]
    assert driver.names(everything=True)[-1] == "CallDeleted"
    assert driver.latest(do.SendBye) == [do.SendBye(driver.caller)]
    driver.put(inputs.ByeDone(driver.caller))
    assert driver.thread.finished
    driver.put(inputs.LegLost(driver.called))


def test_a_call_whose_end_is_told_already_ends_without_a_word() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    driver.answer()
    driver.ack()
    told = driver.names(everything=True)
    driver.put(inputs.CallsEnded([CONN_ID + 1]))
    assert driver.latest(do.SendBye) == [], "another's end changes nothing"
    driver.put(inputs.CallsEnded([CONN_ID]))
    assert driver.names(everything=True) == told
    assert driver.latest(do.SendBye) == [do.SendBye(driver.caller), do.SendBye(driver.called)]
    assert type(driver.last[0]) is do.Save
    assert not driver.thread.calls and not driver.thread.timers
    driver.put(inputs.ByeDone(driver.caller))
    driver.put(inputs.ByeDone(driver.called))
    assert driver.thread.finished


def test_a_call_that_rang_when_its_end_was_told_is_cancelled_and_refused() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    driver.put(inputs.CallsEnded([CONN_ID]))
    assert driver.latest(do.CancelInvite) == [do.CancelInvite(driver.called)]
    assert driver.latest(do.Reject) == [do.Reject(driver.caller, 480)]


def test_a_bye_is_answered_behind_the_snapshot() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.answer()
    driver.ack()
    kinds = [type(effect) for effect in driver.put(inputs.ByeReceived(driver.caller))]
    assert kinds[0] is do.Save and kinds.index(do.AnswerBye) == 1
    assert kinds.index(do.AnswerBye) < kinds.index(do.SendBye)
