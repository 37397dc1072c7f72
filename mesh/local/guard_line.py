"""The line to the guard process (guard.py): it is told every process group, and ends them when the line breaks."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Self

GUARD = Path(__file__).with_name("guard.py")


class GuardLine:
    """Our end of the pipe. The guard is in a session of its own, so that no signal to us reaches it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def open(cls, sockets: Path) -> Self:
        """Starts a guard that also removes the folder of sockets."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-S",
                "-E",
                str(GUARD),
                str(sockets),
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        )

    def tell(self, line: str) -> None:
        """`+<group>` or `-<group>`."""
        pipe = self._process.stdin
        if pipe is not None and not pipe.is_closing():
            pipe.write(f"{line}\n".encode())

    async def close(self) -> None:
        """Everything was ended in order: the guard has nothing to do."""
        self.tell("done")
        pipe = self._process.stdin
        if pipe is not None:
            with contextlib.suppress(ConnectionError):
                await pipe.drain()
                pipe.close()
        await self._process.wait()
