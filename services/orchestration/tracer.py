"""What tenants want to see of their sessions: traces, debug logs, and what neither may show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from structlog.typing import FilteringBoundLogger
from voice.orchestration.v1.orchestration_service_pb2 import TraceStep

from mesh.config_view import ConfigView
from services.orchestration import trace
from services.orchestration.masking import Mask, Secrets
from services.orchestration.scxml import Event, StepResult
from services.orchestration.session import Session
from services.orchestration.trace_store import TraceStore

SECTION = "orchestration"
"""Section of a tenant's options: trace (true), debug-log (false), mask (names separated by commas)."""

MAX_SESSIONS = 50_000
"""Sessions whose secrets are known at once."""


@dataclass(frozen=True, slots=True)
class _Wishes:
    trace: bool
    debug: bool
    mask: Mask


class Tracer:
    """Hears of every step and end. Secrets of a session are known to the node that met them; user data is looked at
    again with each line."""

    def __init__(self, store: TraceStore, config: ConfigView, log: FilteringBoundLogger, node: str) -> None:
        self._store, self._config, self._log, self._node = store, config, log, node
        self._secrets: dict[str, Secrets] = {}
        self._masks: dict[str, Mask] = {}

    def stepped(self, session: Session, event: Event | None, result: StepResult, now_us: int) -> None:
        """A step was done, and the session is about to learn of it."""
        wishes = self._wishes(session)
        if not (wishes.trace or wishes.debug or wishes.mask):
            return
        secrets = self._known(session, wishes.mask)
        if not (wishes.trace or wishes.debug):
            if event is not None:
                secrets.add(wishes.mask.secrets(event.data))
            return
        made: Callable[[], TraceStep] = partial(
            trace.step_of, session.step, now_us, self._node, event, result, wishes.mask, secrets
        )
        if wishes.mask or wishes.debug:
            step = made()  # at once: what it hides is hidden from the next line of the log on
            made = partial(_same, step)
            if wishes.debug:
                self._debug(session, step)
        if wishes.trace:
            self._store.write(session.id, session.call.tenant, made)

    def ended(self, session: Session, outcome: str, problem: str, now_us: int) -> None:
        """The session is over."""
        wishes = self._wishes(session)
        secrets = self._known(session, wishes.mask)
        if wishes.trace:
            step = trace.end_of(
                session.step, now_us, self._node, session.configuration, outcome, problem, secrets
            )
            self._store.write(session.id, session.call.tenant, partial(_same, step))
        self._secrets.pop(session.id, None)

    def text(self, session: Session, text: str) -> str:
        """A text of the application for a log, without secrets."""
        wishes = self._wishes(session)
        return self._known(session, wishes.mask).hide(text) if wishes.mask else text

    def _debug(self, session: Session, step: TraceStep) -> None:
        self._log.info(
            "step",
            session=session.id,
            tenant=session.call.tenant,
            number=step.step,
            input=step.event,
            data=step.data_json,
            transitions=[
                f"{t.source} -> {' '.join(t.targets)} ({t.line}:{t.column})" for t in step.transitions
            ],
            effects=[f"{e.kind} {e.name} {e.detail_json}" for e in step.effects],
            configuration=list(step.configuration),
        )

    def _known(self, session: Session, mask: Mask) -> Secrets:
        if not mask:
            return Secrets()
        secrets = self._secrets.setdefault(session.id, Secrets())
        while len(self._secrets) > MAX_SESSIONS:  # sessions that other nodes have by now
            del self._secrets[next(iter(self._secrets))]
        secrets.add(mask.secrets(list(session.user_data)))
        return secrets

    def _wishes(self, session: Session) -> _Wishes:
        tenant = self._config.tenant(session.call.tenant)
        if tenant is None:
            return _Wishes(True, False, Mask())
        option = tenant.option(SECTION, "mask")
        mask = self._masks.get(option)
        if mask is None:
            mask = self._masks[option] = Mask.of(option)
        return _Wishes(
            tenant.option(SECTION, "trace", "true") != "false",
            tenant.option(SECTION, "debug-log") == "true",
            mask,
        )


def _same(step: TraceStep) -> TraceStep:
    return step
