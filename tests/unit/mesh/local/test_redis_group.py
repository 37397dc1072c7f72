"""Redis of one machine: roles in files that the Sentinels may rewrite."""

from __future__ import annotations

from pathlib import Path

from mesh.local.layout import Layout
from mesh.local.redis_group import RESTART_S, commands
from mesh.redis_url import parse_sentinels


def test_a_primary_a_replica_and_three_sentinels_that_know_it(tmp_path: Path) -> None:
    layout = Layout(10, Path("/run/s"))
    found = {command.name: command for command in commands(layout, tmp_path, {})}
    assert list(found) == ["redis", "redis-replica", *(f"redis-sentinel-{n}" for n in range(3))]
    files = {name: Path(command.argv[1]).read_text().splitlines() for name, command in found.items()}
    assert "replicaof 127.10.0.2 6379" in files["redis-replica"]
    assert not any(line.startswith("replicaof") for line in files["redis"])
    for name in ("redis", "redis-replica"):
        assert found[name].restart_s == RESTART_S
        assert f'dir "{tmp_path / name}"' in files[name]
    url = parse_sentinels(layout.redis_url)
    for number, (host, port) in enumerate(url.sentinels):
        name = f"redis-sentinel-{number}"
        assert found[name].argv[-1] == "--sentinel"
        assert found[name].restart_s == 0
        assert {f"bind {host}", f"port {port}"} <= set(files[name])
        assert f"sentinel monitor {url.name} 127.10.0.2 6379 2" in files[name]


def test_a_new_start_forgets_what_sentinels_had_written(tmp_path: Path) -> None:
    layout = Layout(10, Path("/run/s"))
    file = Path(commands(layout, tmp_path, {})[0].argv[1])
    before = file.read_text()
    file.write_text(before + "replicaof 127.10.0.3 6379\n")
    commands(layout, tmp_path, {})
    assert file.read_text() == before
