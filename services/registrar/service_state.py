"""Which devices have been reported in service, and what is to be reported next. Pure.

A DN is in service while it has bindings in Config. The owner of its slot compares that with what was reported
last, so a report is about the level and not about a message that could be lost: whoever inherits the slot
reports exactly what its predecessor had not.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.config_cache import Registrations

Device = tuple[str, str]
"""Tenant id, number of the DN."""


@dataclass(frozen=True, slots=True)
class Report:
    """A device came into service or went out of it."""

    device: Device
    in_service: bool
    cause: str
    """"register", "unregister", "expired"."""
    revision: int
    """Revision of the bindings reported in service; the same for the report that ends it."""

    @property
    def input_id(self) -> str:
        """The same for the same report, whoever makes it."""
        tenant, dn = self.device
        return f"{tenant}/{dn}/{'in' if self.in_service else 'out'}/{self.revision}"


class SlotReports:
    """What was reported of the devices of one slot."""

    def __init__(self, reported: dict[Device, int]) -> None:
        """`reported`: devices in service, and the revision of the bindings they were reported with."""
        self.reported = reported
        self._ends_us: dict[Device, int] = {}

    def seen(self, device: Device, registrations: Registrations) -> None:
        """Notes until when the bindings seen last would hold: it tells an end from a removal."""
        self._ends_us[device] = max((b.expires_us for b in registrations.bindings), default=0)

    def due(self, device: Device, present: Registrations | None, now_us: int) -> Report | None:
        """What is to be reported of a device now; None when that has been done."""
        known = self.reported.get(device)
        if present is not None and present.bindings:
            self.seen(device, present)
            return Report(device, True, "register", present.revision) if known is None else None
        if known is None:
            return None
        ended = self._ends_us.get(device, now_us + 1) <= now_us
        return Report(device, False, "expired" if ended else "unregister", known)

    def done(self, report: Report) -> None:
        """The report has been made."""
        if report.in_service:
            self.reported[report.device] = report.revision
        else:
            self.reported.pop(report.device, None)
            self._ends_us.pop(report.device, None)
