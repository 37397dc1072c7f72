"""What was acknowledged last: bounded by age and number."""

from __future__ import annotations

from mesh.rq.recent import Recent


def test_what_is_older_than_the_newest_by_more_than_the_span_is_forgotten() -> None:
    recent: Recent[str] = Recent(seconds=5.0)
    for item, now in (("a", 10.0), ("b", 12.0), ("c", 15.0)):
        recent.add(item, now)
    assert list(recent) == ["a", "b", "c"]
    recent.add("d", 15.1)
    assert list(recent) == ["b", "c", "d"]


def test_nothing_grows_old_while_nothing_is_acknowledged() -> None:
    """A fail-over may take its time: only a newer acknowledgement makes an older one safe."""
    recent: Recent[str] = Recent(seconds=5.0)
    recent.add("a", 10.0)
    assert list(recent) == ["a"]
    recent.add("b", 60.0)
    assert list(recent) == ["b"]


def test_there_is_a_limit() -> None:
    recent: Recent[int] = Recent(seconds=5.0, most=3)
    for number in range(10):
        recent.add(number, 1.0)
    assert list(recent) == [7, 8, 9]
    assert len(recent) == 3
