"""python -m tests.simulation: runs schedules, tells which seeds break an invariant, and shows one in detail."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import Result, run
from tests.simulation.schedule import draw

BATCH = 25
"""Schedules a process takes at a time."""


class Tally(NamedTuple):
    """What became of some schedules."""

    done: int
    happened: int
    revived: int
    excused: int
    broken: list[tuple[int, str]]


def _batch(work: tuple[int, int, frozenset[str]]) -> Tally:
    first, count, mutations = work
    gc.disable()  # a run leaves circles behind, which are cheaper to collect all at once
    results = [_run(seed, mutations) for seed in range(first, first + count)]
    gc.collect()
    broken = [(result.seed, result.violations[0]) for result in results if result.violations]
    return Tally(
        count,
        sum(r.happened for r in results),
        sum(r.revived for r in results),
        sum(bool(r.excused) for r in results),
        broken,
    )


def _run(seed: int, mutations: frozenset[str]) -> Result:
    try:
        return run(seed, mutations=mutations)
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise


def _work(first: int, count: int, mutations: frozenset[str]) -> Iterator[tuple[int, int, frozenset[str]]]:
    for begin in range(first, first + count, BATCH):
        yield begin, min(BATCH, first + count - begin), mutations


def search(first: int, count: int, mutations: frozenset[str] = frozenset()) -> Result | None:
    """The first schedule of a range that breaks an invariant."""
    for seed in range(first, first + count):
        result = run(seed, mutations=mutations)
        if result.violations:
            return result
    return None


def main() -> int:
    """0 when every schedule holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--first", type=int, default=0, help="first seed (0)")
    parser.add_argument(
        "--seconds", type=float, default=0, help="stop after so many seconds; 0: when all have run"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--seed", type=int, help="run this one and show it step by step")
    parser.add_argument("--without", choices=sorted(MUTATIONS), action="append", default=[],
                        help="a safeguard that is taken out")  # fmt: skip
    given = parser.parse_args()
    mutations = frozenset(given.without)
    if given.seed is not None:
        return _show(given.seed, mutations)
    began = time.monotonic()
    done = happened = revived = excused = broken = 0
    with multiprocessing.Pool(given.jobs) as pool:
        for tally in pool.imap(_batch, _work(given.first, given.schedules, mutations)):
            done, happened, revived = done + tally.done, happened + tally.happened, revived + tally.revived
            excused, broken = excused + tally.excused, broken + len(tally.broken)
            for seed, violation in tally.broken:
                print(f"seed {seed}: {violation}", flush=True)
            if given.seconds and time.monotonic() - began > given.seconds:
                pool.terminate()
                break
    took = time.monotonic() - began
    last = given.first + done - 1
    print(
        f"seeds {given.first} to {last}: {done} schedules, {broken} broken, {excused} excused, {took:.1f} s, "
        f"{done / took * 60:.0f} a minute, {happened / done:.0f} steps each, {revived} calls taken over"
    )
    return 1 if broken else 0


def _show(seed: int, mutations: frozenset[str]) -> int:
    print(draw(seed).describe())
    result = run(seed, tracing=True, mutations=mutations)
    print("\n".join(result.lines))
    print("\n".join(result.violations) or result.excused or "every invariant holds")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
