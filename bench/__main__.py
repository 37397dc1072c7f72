"""`python -m bench [NAME …]`: runs benchmarks, prints one JSON object a line, keeps them in bench/RESULTS.md with --keep."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator

import bench
from bench.harness import Invalid, Result

NOT_BENCHES = {"__main__", "harness", "report"}


def names() -> list[str]:
    """Every benchmark: a module of this package with `run()`."""
    return sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if m.name not in NOT_BENCHES)


def main() -> int:
    """Exit code 1 when a benchmark could not be run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="benchmarks beside their peers")
    parser.add_argument("name", nargs="*", help=f"which; all when none: {', '.join(names())}")
    chosen = parser.parse_args().name or names()
    unknown = [name for name in chosen if name not in names()]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    code = 0
    for name in chosen:
        run: Callable[[], Iterator[Result]] = importlib.import_module(f"bench.{name}").run
        try:
            for result in run():
                print(result.line(), flush=True)
        except Invalid as error:
            print(f"{name}: {error}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
