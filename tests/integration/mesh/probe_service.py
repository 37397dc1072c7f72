"""A service of nothing but the bootstrap, run as a process of its own by the tests beside."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from mesh.service import Service, main


async def build(service: Service) -> None:
    """Uses etcd and Redis; its drain writes a file, then waits while the file "hold" is there."""
    if os.environ.get("VOICEMESH_PROBE_FAIL") == "build":
        raise LookupError("told to fail in build")
    _ = service.redis
    run_dir = Path(service.settings.run_dir)

    async def drain() -> None:
        (run_dir / "drained").touch()
        while True:
            if not (run_dir / "hold").exists():
                return
            await asyncio.sleep(0.01)

    async def fail() -> None:
        raise LookupError("told to fail")

    service.on_drain(drain)
    if os.environ.get("VOICEMESH_PROBE_FAIL") == "start":
        service.on_start(fail)


if __name__ == "__main__":
    main(build, name="probe")
