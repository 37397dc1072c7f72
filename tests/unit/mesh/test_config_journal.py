"""The journal of the configuration cache: whatever it was doing when it died, it reads back what was whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from voice.config.v1 import config_service_pb2 as pb

from mesh.config_journal import MIN_REWRITE_BYTES, ConfigJournal


def told(revision: int, *, synced: bool = False, size: int = 0) -> pb.WatchResponse:
    changes = [pb.Change(tenant="t1", deleted="dn/" + "1" * size)] if size else []
    return pb.WatchResponse(changes=changes, revision=revision, synced=synced)


def written(path: Path) -> ConfigJournal:
    journal = ConfigJournal(path)
    journal.append(told(0, size=3), loading=True)
    journal.append(told(5, synced=True), loading=True)
    journal.append(told(6, size=4), loading=False)
    return journal


def test_what_was_written_is_read(tmp_path: Path) -> None:
    journal = written(tmp_path / "deep" / "j")
    journal.close()
    assert list(ConfigJournal(journal.path).replay()) == [
        told(0, size=3),
        told(5, synced=True),
        told(6, size=4),
    ]
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_any_torn_tail_is_ignored(tmp_path: Path) -> None:
    journal = written(tmp_path / "j")
    journal.close()
    data = journal.path.read_bytes()
    for length in range(len(data)):
        journal.path.write_bytes(data[:length])
        found = list(ConfigJournal(journal.path).replay())
        assert found == [told(0, size=3), told(5, synced=True), told(6, size=4)][: len(found)]
    assert len(found) == 2


def test_a_snapshot_that_was_not_finished_changes_nothing(tmp_path: Path) -> None:
    journal = written(tmp_path / "j")
    journal.append(told(0, size=9), loading=True)
    journal.abandon()
    journal.append(told(7, size=1), loading=False)
    journal.close()
    assert [response.revision for response in ConfigJournal(journal.path).replay()] == [0, 5, 6, 7]


def test_a_new_snapshot_takes_the_place_of_the_old(tmp_path: Path) -> None:
    journal = written(tmp_path / "j")
    journal.append(told(0, size=9), loading=True)
    journal.append(told(9, synced=True), loading=True)
    journal.append(told(10, size=1), loading=False)
    journal.close()
    assert [response.revision for response in ConfigJournal(journal.path).replay()] == [0, 9, 10]
    assert list(tmp_path.iterdir()) == [journal.path]


def test_it_is_overgrown_when_changes_outweigh_the_snapshot(tmp_path: Path) -> None:
    journal = written(tmp_path / "j")
    assert not journal.overgrown
    for revision in range(7, 12):
        journal.append(told(revision, size=MIN_REWRITE_BYTES // 4), loading=False)
    assert journal.overgrown
    journal.close()


@pytest.mark.parametrize("content", [b"", b"something else\n", b"voicemesh config journal 2\n\0\0\0\1x"])
def test_a_file_of_another_form_is_no_journal(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    assert list(ConfigJournal(tmp_path / "j").replay()) == []
    assert list(ConfigJournal(tmp_path / "none").replay()) == []
