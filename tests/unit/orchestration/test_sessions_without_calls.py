"""Sessions of clients and of digital interactions, cut and restored after every input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from voice.config.v1.object_pb2 import ConfigObject, DnType, RoutePointSettings
from voice.config.v1.object_pb2 import Dn as DnObject
from voice.error.v1.reason_pb2 import Reason
from voice.interaction.v1.interaction_pb2 import Interaction, InteractionEvent, InteractionEventType
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.config_objects import Dn, entry_of
from services.orchestration import digital
from services.orchestration.effects import (
    DeleteUserData,
    Effect,
    End,
    Load,
    Respond,
    Route,
    SetUserData,
    Start,
    Submit,
    Terminate,
    TerminateOther,
    Timer,
)
from services.orchestration.inputs import Ask, Begin, Cancel, Due, External, Loaded, Outcome
from services.orchestration.record import to_view
from services.orchestration.replies import Answer, Reply
from services.orchestration.scxml import Event
from services.orchestration.session import Phase
from services.orchestration.voice import news_of
from tests.unit.orchestration.test_machine import CALL, HEAD, Rig, one

NO_CALL = replace(
    CALL, conn_id=0, call_uuid="", route_point="", ani="", dnis="", default_dns=(), urls=("http://apps/a",)
)
ASKED = (
    HEAD
    + """<datamodel><data id="n" expr="0"/></datamodel>
<state id="wait">
  <transition event="session.request.count">
    <assign location="n" expr="n + 1"/>
    <session:response requestid="_event.data.requestid" content="{n: n, given: _event.data.parameters}"/>
  </transition>
  <transition event="session.request.bad"><session:response requestid="'nobody'"/></transition>
  <transition event="error.session.response" target="over"/>
  <transition event="go"><session:start src="'http://apps/b'" data="{x: 1}" idealtime="5"/></transition>
  <transition event="kill"><session:terminate sessionid="'other.1'"/></transition>
  <transition event="die"><session:terminate/></transition>
  <transition event="route"><ixn:redirect to="'1001'"/></transition>
  <transition event="queue"><queue:submit skillexpr="'English &gt; 5'"/></transition>
  <transition event="error.interaction.redirect error.queue.submit" target="over"/>
</state>
<final id="over"/></scxml>"""
)


def every(turn: int) -> bool:
    return True


def started(document: str = ASKED, **call: Any) -> Rig:
    rig = Rig(document, every, call=replace(NO_CALL, **call))
    load = one(rig.give(Begin()), Load)
    rig.give(Loaded(load.id, load.urls[0], rig.compiled.source_hash, "1"))
    return rig


def test_a_session_without_a_call_starts_silently_and_owes_nothing() -> None:
    rig = started()
    assert rig.session.phase is Phase.RUNNING
    assert rig.session.inbox == []
    (end,) = rig.give(External(Event("error.session.response")))
    assert end == End("finished", "")


def test_a_request_is_asked_once_and_its_answer_repeated() -> None:
    rig = started()
    (reply,) = rig.give(Ask("r1", "count", {"a": 1}))
    wanted = Reply("r1", Answer(200, "application/json", '{"n": 1, "given": {"a": 1}}'))
    assert reply == wanted
    assert rig.give(Ask("r1", "count", {"a": 1})) == [wanted]
    (second,) = rig.give(Ask("r2", "count"))
    assert isinstance(second, Reply)
    assert '"n": 2' in second.answer.content


def test_an_answer_to_nobody_is_an_error_of_the_document() -> None:
    rig = started()
    assert isinstance(rig.give(Ask("r1", "bad"))[-1], End)


def test_a_session_at_a_time_waits_for_it_and_loads_once() -> None:
    rig = Rig(ASKED, every, call=replace(NO_CALL, start_at_us=9_000_000))
    timer = one(rig.give(Begin(), now=1_000_000), Timer)
    assert (timer.due_us, rig.session.phase, rig.session.resting) == (9_000_000, Phase.STARTING, True)
    assert rig.give(Begin(), now=2_000_000) == [timer]  # another node sets the same timer again
    load = one(rig.give(Due(timer.id), now=9_000_000), Load)
    assert rig.give(Due(timer.id), now=9_000_001) == []
    rig.give(Loaded(load.id, load.urls[0], rig.compiled.source_hash, "1"))
    assert rig.session.phase is Phase.RUNNING


def test_a_time_that_has_come_is_now() -> None:
    rig = Rig(ASKED, every, call=replace(NO_CALL, start_at_us=1_000_000))
    assert isinstance(rig.give(Begin(), now=2_000_000)[0], Load)


def test_a_scheduled_session_is_cancelled_without_ever_loading() -> None:
    rig = Rig(ASKED, every, call=replace(NO_CALL, start_at_us=9_000_000))
    rig.give(Begin(), now=1_000_000)
    assert rig.give(Cancel(), now=1_500_000) == [End("cancelled", "")]


def test_other_sessions_are_started_and_ended_through_the_contract() -> None:
    rig = started()
    start = one(rig.give(External(Event("go"))), Start)
    assert (start.src, start.parameters, start.ideal_time_ms) == ("http://apps/b", {"x": 1}, 5)
    rig.give(Outcome(start.id, data={"sessionid": "b.1"}))
    ended = one(rig.give(External(Event("kill"))), TerminateOther)
    assert ended.session_id == "other.1"
    assert list(rig.session.pending) == [ended.id]


@pytest.mark.parametrize("name", ["route", "queue"])
def test_what_needs_a_call_is_an_error_without_one(name: str) -> None:
    rig = started()
    effects = rig.give(External(Event(name)))
    assert not [e for e in effects if isinstance(e, Route | Submit)]
    assert isinstance(effects[-1], End)


def test_the_view_says_what_started_it() -> None:
    assert to_view(started().session).origin == 1
    assert to_view(started(interaction_id="m1").session).origin == 2
    assert to_view(Rig(ASKED).session).origin == 0


# -- agents left out ---------------------------------------------------------------------------------------------


def test_agents_left_out_stay_out_of_every_later_request() -> None:
    document = (
        HEAD
        + """<state id="wait"><transition event="interaction.added">
<script>_genesys.queue.excludeAgents(['a1', 'a2'])</script><queue:submit skillexpr="'English &gt; 5'"/></transition>
<transition event="error.queue.submit"><queue:submit skillexpr="'English &gt; 1'"/></transition></state></scxml>"""
    )
    rig = Rig(document, every)
    first = one(rig.start(), Submit)
    assert first.excluded == ("a1", "a2")
    second = one(rig.give(Outcome(first.id, "REASON_QUEUE_FULL", "full")), Submit)
    assert second.excluded == ("a1", "a2")


# -- digital interactions ----------------------------------------------------------------------------------------

INTERACTION = replace(
    NO_CALL,
    session_id="m1.1",
    call_thread_id="m1",
    interaction_id="m1",
    server="ixn-1",
    route_point="inbox",
    default_dns=("later",),
    facts={"media": "email", "subject": "Hi"},
)
POINT = ConfigObject(
    dn=DnObject(
        number="inbox",
        type=DnType.DN_TYPE_ROUTING_POINT,
        route_point=RoutePointSettings(
            application_url="http://apps/a.scxml?s=[EMAILSUBJECT]&f=[EMAILFROM]&u=[UDATA.k]",
            default_dns=["later"],
        ),
    )
)
QUEUE = cast(Dn, entry_of("t1", POINT))


def event(kind: str, **fields: Any) -> EventEnvelope:
    interaction = fields.pop("interaction", Interaction(interaction_id="m1"))
    value = InteractionEventType.Value(f"INTERACTION_EVENT_TYPE_{kind}")
    told = InteractionEvent(type=value, interaction=interaction, server="ixn-1", **fields)
    return EventEnvelope(
        tenant="t1", stream_key="m1", call_thread_id="m1", seq=5, time_us=9, interaction=told
    )


def test_a_placed_interaction_is_a_trigger_with_its_attributes_in_the_address() -> None:
    interaction = Interaction(interaction_id="m1", subject="A & B", media_type="email")
    setattr(interaction, "from", "a@b")
    placed = event("PLACED", interaction=interaction, queue="inbox")
    assert digital.is_trigger(placed)
    assert not digital.is_trigger(event("MESSAGE"))
    call = digital.call_of(placed, QUEUE)
    assert call.urls == ("http://apps/a.scxml?s=A%20%26%20B&f=a%40b&u=",)
    assert (call.session_id, call.interaction, call.server, call.route_point) == (
        "m1.5",
        "m1",
        "ixn-1",
        "inbox",
    )
    assert (call.facts["media"], call.facts["from"]) == ("email", "a@b")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"interaction": Interaction(interaction_id="m2")}, "key of the stream"),
        ({"server": ""}, "server is required"),
    ],
)
def test_an_interaction_that_cannot_be_served_is_refused(fields: dict[str, Any], words: str) -> None:
    placed = event("PLACED", **{k: v for k, v in fields.items() if k != "server"})
    if "server" in fields:
        placed.interaction.server = ""
    with pytest.raises(ValueError, match=words):
        digital.call_of(placed, QUEUE)


def test_events_of_an_interaction_are_those_of_its_session_only() -> None:
    message = news_of(event("MESSAGE", text="hi"), INTERACTION)
    assert message.event == Event("msgbased.message", {"interactionid": "m1", "text": "hi"})
    assert news_of(event("STOPPED"), INTERACTION).gone
    done = news_of(event("INSTRUCTION_DONE", instruction_id="x", reason=Reason.REASON_TIMEOUT), INTERACTION)
    assert done.outcome == Outcome("x", "REASON_TIMEOUT", "")
    assert news_of(event("MESSAGE", text="hi"), CALL).event is None


def effects() -> list[tuple[Effect, str, bool]]:
    return [
        (Route("e", "1001", "a1", "tok"), "deliver", True),
        (Route("e", "sales"), "place", True),
        (Terminate("e"), "stop", True),
        (SetUserData("e", (("k", "v"),)), "change_user_data", False),
        (DeleteUserData("e", ("k",)), "change_user_data", False),
        (Respond("e", {"text": "hi"}), "respond", False),
    ]


@pytest.mark.parametrize(("effect", "action", "terminal"), effects(), ids=lambda value: str(value)[:20])
def test_effects_are_instructions(effect: Effect, action: str, terminal: bool) -> None:
    found = digital.instruction_of(INTERACTION, effect)
    assert found is not None
    assert (found.WhichOneof("action"), found.terminal, found.instruction_id) == (action, terminal, "e")
    assert (found.interaction_id, found.session_id, found.tenant) == ("m1", "m1.1", "t1")


def test_what_is_no_matter_of_the_interaction_is_no_instruction() -> None:
    assert digital.instruction_of(INTERACTION, Load("e", ())) is None


def test_a_document_that_does_not_route_leaves_the_interaction_to_the_default_queue() -> None:
    document = (
        HEAD
        + """<state id="wait"><transition event="interaction.added" target="x"/></state><final id="x"/></scxml>"""
    )
    rig = Rig(document, every, call=INTERACTION)
    route = one(rig.start(), Route)
    assert (route.destination, route.is_default) == ("later", True)
    assert rig.give(Outcome(route.id)) == [End("finished", "")]
