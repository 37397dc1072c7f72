"""Sessions that clients start."""

from __future__ import annotations

import uuid

import pytest
from voice.orchestration.v1.orchestration_service_pb2 import StartSessionRequest

from mesh.errors import DomainError
from services.orchestration import starts
from services.orchestration.finding import slot_of

NOW_US = 1_800_000_000_000_000


def request(**fields: object) -> StartSessionRequest:
    return StartSessionRequest(**{"tenant": "t1", "src": "http://apps/a.scxml", **fields})  # type: ignore[arg-type]


def test_a_request_id_always_names_the_same_session_and_a_tenant_has_its_own() -> None:
    first = starts.id_of_request("t1", "r-1")
    assert first == starts.id_of_request("t1", "r-1")
    assert len({first, starts.id_of_request("t2", "r-1"), starts.id_of_request("t1", "r-2")}) == 3


def test_an_id_has_the_layout_of_a_call_uuid_and_its_slot() -> None:
    for number in (0, 1, 2**128 - 1, 0x1234 << 64):
        session = starts.new_id(number)
        name, _, seq = session.partition(".")
        assert (uuid.UUID(name).version, uuid.UUID(name).variant, seq) == (8, uuid.RFC_4122, "1")
        assert 0 <= slot_of(session) < 256


def test_ids_spread_over_the_slots() -> None:
    slots = {slot_of(starts.id_of_request("t1", f"r-{n}")) for n in range(4000)}
    assert len(slots) == 256


def test_a_good_request_gives_its_parameters() -> None:
    asked = request(parameters_json='{"a": 1}', ideal_time_ms=NOW_US // 1000 + 5)
    parameters = starts.check(asked, NOW_US, from_peer=False)
    session = starts.session_of(asked, "s.1", "key", parameters, NOW_US)
    assert session.params == {"a": 1}
    assert session.call.start_at_us == NOW_US + 5000
    assert session.call.key == "key"
    assert not session.call.interaction


def test_a_time_in_the_past_is_now() -> None:
    session = starts.session_of(request(ideal_time_ms=5), "s.1", "key", {}, NOW_US)
    assert session.call.start_at_us == 0
    assert session.params is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tenant": ""}, "tenant"),
        ({"src": ""}, "src"),
        ({"src": "file:///etc/passwd"}, "src"),
        ({"src": "http://"}, "src"),
        ({"src": "http://[::1"}, "src"),
        ({"src": "http://a/" + "x" * 8192}, "src"),
        ({"alternate_src": "ftp://a"}, "alternate_src"),
        ({"session_id": "mine.1"}, "session_id"),
        ({"request_id": "no blanks"}, "request_id"),
        ({"ideal_time_ms": -1}, "ideal_time_ms"),
        ({"ideal_time_ms": NOW_US // 1000 + 367 * 86_400_000}, "ideal_time_ms"),
        ({"parameters_json": "{"}, "parameters_json"),
        ({"parameters_json": "[1]"}, "parameters_json"),
        ({"parameters_json": '{"a": "' + "x" * 65_536 + '"}'}, "parameters_json"),
    ],
)
def test_a_bad_request_is_refused_by_name(fields: dict[str, object], field: str) -> None:
    with pytest.raises(DomainError) as caught:
        starts.check(request(**fields), NOW_US, from_peer=False)
    assert field in [name for name, _ in caught.value.violations]


def test_another_node_may_name_the_session() -> None:
    starts.check(request(session_id="named.1"), NOW_US, from_peer=True)
