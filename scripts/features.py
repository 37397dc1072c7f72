"""`make features`: which features a test has proven, which failed, which nobody has shown yet.

Exit code 1 when a feature's test failed in its last run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from scripts.feature_record import CATALOGUE, RECORD, ROOT, Outcome, catalogue, load, proofs

MOST_TESTS = 5
"""Tests named for one feature; the rest is counted."""


def report(
    known: Mapping[str, str], found: Mapping[str, Mapping[Outcome, list[str]]]
) -> tuple[list[str], bool]:
    """The lines to print, and whether no feature's test failed."""
    proven, failed, skipped, unproven = [], [], [], []
    for feature, function in known.items():
        tests = found.get(feature)
        if tests is None:
            unproven.append(f"  {feature}  {function}")
        elif tests["failed"]:
            failed.append(_block(feature, function, tests["failed"]))
        elif tests["passed"]:
            proven.append(_block(feature, function, tests["passed"]))
        else:
            skipped.append(_block(feature, function, tests["skipped"]))
    lines = [f"proven: {len(proven)} of {len(known)}", *proven]
    for title, block in (("failed", failed), ("skipped, so unproven", skipped), ("not shown yet", unproven)):
        if block:
            lines += ["", f"{title}: {len(block)}", *block]
    return lines, not failed


def _block(feature: str, function: str, tests: list[str]) -> str:
    more = [f"      and {len(tests) - MOST_TESTS} more"] if len(tests) > MOST_TESTS else []
    return "\n".join([f"  {feature}  {function}", *(f"      {test}" for test in tests[:MOST_TESTS]), *more])


def main() -> int:
    """Prints the report of the last runs."""
    lines, good = report(catalogue(ROOT / CATALOGUE), proofs(load(ROOT / RECORD)))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
