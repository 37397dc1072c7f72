"""Print the table: `python -m tests.conformance.sip`. Exit status 1 when anything failed."""

from __future__ import annotations

import sys

from tests.conformance.sip import suite


def main() -> int:
    if not suite.present():
        print("sip-rfc4475: absent (no shared/suites/sip-rfc4475 beside the checkout)")
        return 0
    failed = []
    for case in suite.CASES:
        data = suite.message(case)
        found = (suite.parsed_rule(data), suite.outcome("agent", data), suite.outcome("proxy", data))
        if found != (case.rule, case.agent, case.proxy):
            failed.append(f"FAILED {case.name} ({case.section}): {found}")
    print(f"{'RFC 4475 torture messages':<40}{'passed':>8}{'of':>6}")
    print(f"  {'parser, user agent core, proxy':<38}{len(suite.CASES) - len(failed):>8}{len(suite.CASES):>6}")
    for line in failed:
        print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
