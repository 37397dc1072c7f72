"""Print the table: `python -m tests.conformance.scxml`. Exit status 1 when anything failed."""

from __future__ import annotations

import sys
from collections import defaultdict

from tests.conformance.scxml import suite


def main() -> int:
    if not suite.present():
        print("scxml-w3c: absent (no shared/suites/scxml-w3c beside the checkout)")
        return 0
    outcomes = [suite.run(case) for case in suite.cases()]
    groups: dict[str, list[suite.Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.case.group].append(outcome)
    print(f"{'W3C SCXML 1.0 (ECMAScript data model)':<40}{'passed':>8}{'of':>6}{'seconds':>10}")
    for name, found in sorted(groups.items()):
        passed = sum(outcome.passed for outcome in found)
        print(f"  {name:<38}{passed:>8}{len(found):>6}{sum(o.seconds for o in found):>10.2f}")
    total = sum(outcome.passed for outcome in outcomes)
    print(f"  {'all':<38}{total:>8}{len(outcomes):>6}{sum(o.seconds for o in outcomes):>10.2f}")
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        print(f"FAILED {outcome.case.id} ({outcome.case.section}): {outcome.detail}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
