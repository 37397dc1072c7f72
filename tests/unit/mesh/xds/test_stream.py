"""The aggregated stream as a machine: what is answered, what is ignored, and in which order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.xds.stream import CDS, EDS, LDS, RDS, Accepted, AdsStream, Ignored, Refused, Request, Send

WORLD = {CDS: {"a": "1", "b": "1"}, EDS: {"a": "1", "b": "1"}, LDS: {"in": "1"}, RDS: {"out": "1"}}


def sends(effects: list[object]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send)]


def test_the_first_request_is_answered_with_everything_it_may_see() -> None:
    stream = AdsStream()
    assert stream.request(Request(CDS, (), ""), WORLD) == [Send(CDS, "1", ("a", "b"))]
    assert stream.request(Request(EDS, ("a",), ""), WORLD) == [Send(EDS, "2", ("a",))]


def test_an_acknowledgement_is_not_answered() -> None:
    stream = AdsStream()
    stream.request(Request(CDS, (), ""), WORLD)
    assert stream.request(Request(CDS, (), "1"), WORLD) == [Accepted(CDS, "1")]


def test_a_refusal_is_told_and_not_repeated() -> None:
    stream = AdsStream()
    stream.request(Request(CDS, (), ""), WORLD)
    assert stream.request(Request(CDS, (), "1", "bad cluster"), WORLD) == [Refused(CDS, "1", "bad cluster")]
    assert stream.changed(WORLD) == []


def test_a_current_nonce_with_other_names_is_answered_with_what_is_new() -> None:
    stream = AdsStream()
    stream.request(Request(EDS, ("a",), ""), WORLD)
    effects = stream.request(Request(EDS, ("a", "b"), "1"), WORLD)
    assert effects == [Accepted(EDS, "1"), Send(EDS, "2", ("b",))]


def test_an_old_nonce_is_ignored() -> None:
    stream = AdsStream()
    stream.request(Request(EDS, ("a",), ""), WORLD)
    stream.changed({**WORLD, EDS: {"a": "2"}})
    assert stream.request(Request(EDS, ("a", "b"), "1"), WORLD) == [Ignored(EDS, "an old nonce")]


def test_after_a_reconnect_the_nonce_of_the_earlier_stream_is_no_obstacle() -> None:
    """Envoy sends the last nonce it saw with its first request on a new stream."""
    assert AdsStream().request(Request(EDS, ("a",), "17"), WORLD) == [Send(EDS, "1", ("a",))]


def test_a_name_left_and_taken_up_again_is_sent_again() -> None:
    stream = AdsStream()
    stream.request(Request(EDS, ("a", "b"), ""), WORLD)
    stream.request(Request(EDS, ("a",), "1"), WORLD)
    assert stream.request(Request(EDS, ("a", "b"), "1"), WORLD)[-1] == Send(EDS, "2", ("b",))


def test_a_type_that_is_not_served_is_ignored() -> None:
    assert AdsStream().request(Request("type.googleapis.com/x", (), ""), WORLD) == [
        Ignored("type.googleapis.com/x", "not served")
    ]


def test_a_change_sends_changed_endpoints_only_and_whole_lists_of_clusters() -> None:
    stream = AdsStream()
    stream.request(Request(CDS, (), ""), WORLD)
    stream.request(Request(EDS, ("a", "b"), ""), WORLD)
    changed = {**WORLD, CDS: {"a": "2", "b": "1"}, EDS: {"a": "2", "b": "1"}}
    assert stream.changed(changed) == [Send(CDS, "3", ("a", "b")), Send(EDS, "4", ("a",))]
    assert stream.changed(changed) == []


def test_what_is_pointed_at_is_sent_first() -> None:
    stream = AdsStream()
    for kind, names in ((LDS, ()), (RDS, ("out",)), (EDS, ("a",)), (CDS, ())):
        stream.request(Request(kind, names, ""), WORLD)
    changed = {kind: {name: "2" for name in some} for kind, some in WORLD.items()}
    assert [send.type_url for send in sends(list(stream.changed(changed)))] == [CDS, EDS, LDS, RDS]


names = st.sets(st.sampled_from(["a", "b", "c"]), max_size=3)
versions = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", "3"]))


@settings(deadline=None)
@given(
    st.lists(st.one_of(names.map(lambda n: ("ask", n)), versions.map(lambda v: ("world", v))), max_size=30)
)
def test_an_envoy_that_answers_everything_ends_up_with_the_present_world(
    steps: list[tuple[str, object]],
) -> None:
    """Whatever is asked and whatever changes: what Envoy last received of each name it wants is the present
    version."""
    stream, world, nonce = AdsStream(), {EDS: {"a": "1"}}, ""
    wanted: frozenset[str] = frozenset()
    received: dict[str, str] = {}
    for kind, value in steps:
        if kind == "ask":
            wanted = frozenset(value)  # type: ignore[call-overload]
            received = {name: version for name, version in received.items() if name in wanted}
            effects = stream.request(Request(EDS, tuple(sorted(wanted)), nonce), world)
        else:
            world = {EDS: dict(value)}  # type: ignore[call-overload]
            effects = stream.changed(world)
        for send in sends(list(effects)):
            nonce = send.nonce
            received.update({name: world[EDS][name] for name in send.names})
    if steps and any(kind == "ask" for kind, _ in steps):
        expected = {name: version for name, version in world[EDS].items() if name in wanted}
        assert {name: received.get(name) for name in expected} == expected
