"""Ends the process groups of a mesh whose starter died without a word.

Run as a program with a pipe on standard input: a line `+7` names a process group, `-7` says it has ended; at
end of file every group left gets SIGKILL. PDEATHSIG ends the
children of a killed starter, this ends theirs (engines, workers), and removes the socket folder.
"""

import os
import shutil
import signal
import sys


def main() -> int:
    """Reads groups until the starter is gone. A line `done` means it has cleaned up itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        if line.strip() == "done":
            return 0
        number = int(line[1:])
        groups = groups | {number} if line[0] == "+" else groups - {number}
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
