"""Settings of the control plane, from its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.envoy.contracts import DESCRIPTOR_SET


@dataclass(frozen=True)
class XdsSettings:
    """VOICEMESH_XDS_<FIELD>."""

    listen: str = ""
    """Path of the Unix socket on which Envoys are served."""
    reflection: str = ""
    """Path of the Unix socket on which reflection of all contracts is served; empty: not served."""
    descriptors: str = str(DESCRIPTOR_SET)
    """Descriptor set of the contracts."""

    def validate(self) -> list[str]:
        """Every rule broken."""
        problems = [] if self.listen else ["VOICEMESH_XDS_LISTEN: missing"]
        problems += [
            f"VOICEMESH_XDS_{name}: a socket path has at most 107 bytes"
            for name, path in (("LISTEN", self.listen), ("REFLECTION", self.reflection))
            if len(path.encode()) > 107
        ]
        if not Path(self.descriptors).is_file():
            problems.append(f"VOICEMESH_XDS_DESCRIPTORS: no file {self.descriptors}; `make gen` writes it")
        return problems
