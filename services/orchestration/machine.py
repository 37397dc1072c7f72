"""One session of an application: a pure machine between the call, the interpreter and the services that act for it.

Theory of operation. Events for the document wait in `inbox`. One at a time the interpreter processes them (`Run`); what it
wants done becomes effects with ids "<session>/<step>/<index>", kept in `pending` until their outcome is known. The host
writes the state after each `handle` and only then performs the effects; a node that takes over performs the pending ones
again under the same ids and runs the interpreter on the same inbox.

Where the decisions are: `session.py` what waits and what runs next · `actions.py`, `sends.py`, `children.py` what the document
wants · `routing.py`, `outcomes.py` what comes back · `ending.py` the way out, to a default destination when one is owed.
"""

from __future__ import annotations

from services.orchestration import answers, children, sends
from services.orchestration.actions import (
    ActionError,
    Context,
    agents_of,
    carry_out,
    ends_another,
    error_event,
)
from services.orchestration.effects import (
    Effect,
    Fetch,
    Load,
    Post,
    Resubmit,
    Route,
    Say,
    Submit,
    Timer,
    as_object,
)
from services.orchestration.ending import finish, settle
from services.orchestration.inputs import (
    Ask,
    Begin,
    Broke,
    CallNews,
    Cancel,
    Due,
    External,
    FromChild,
    Input,
    Loaded,
    Outcome,
    Selected,
    Stepped,
)
from services.orchestration.outcomes import NAMES, tell
from services.orchestration.replies import Reply
from services.orchestration.routing import routed, selected
from services.orchestration.scxml import (
    Action,
    CancelInvoke,
    CancelSend,
    Done,
    Event,
    Forward,
    Invoke,
    Log,
    Send,
    StepResult,
)
from services.orchestration.session import (
    MAX_PENDING,
    REMEMBERED_REQUESTS,
    Exceeded,
    Phase,
    Session,
    cancel,
    next_step,
    post,
)


class Machine:
    """The decisions over a session's state."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def handle(self, item: Input, now_us: int) -> list[Effect]:
        """What follows from an input. Inputs for something that is over or not asked for change nothing."""
        if self.session.phase is Phase.OVER:
            return []
        try:
            return self._handle(item, now_us)
        except Exceeded as error:
            return finish(self.session, "failed", str(error))

    def _handle(self, item: Input, now_us: int) -> list[Effect]:
        match item:
            case Begin():
                return self._begin(item, now_us)
            case Loaded():
                return self._loaded(item)
            case Stepped():
                return self._stepped(item, now_us)
            case Broke():
                return self._broke(item)
            case CallNews():
                return self._news(item)
            case Selected():
                return selected(self.session, item)
            case Outcome():
                return self._outcome(item)
            case Due(effect_id):
                return self._due(effect_id)
            case External():
                return self._external(item)
            case Ask():
                return self._asked(item)
            case FromChild():
                return children.heard(self.session, item)
            case Cancel():
                return self._cancel()

    # -- its life ----------------------------------------------------------------------------------------------

    def _begin(self, begin: Begin, now_us: int) -> list[Effect]:
        session = self.session
        if session.phase is Phase.STARTING and not session.pending:
            first = self._first(now_us)
            session.pending[first.id] = first
        effects: list[Effect] = [
            effect for effect in session.pending.values() if not begin.performed or isinstance(effect, Timer)
        ]
        if session.phase is Phase.ENDING:
            return effects + settle(session)
        return effects + next_step(session)

    def _first(self, now_us: int) -> Load | Timer:
        """The application is fetched, now or when the session's time has come."""
        call = self.session.call
        if call.start_at_us > now_us:
            return Timer(f"{call.session_id}/start", call.start_at_us, None)
        return Load(f"{call.session_id}/load", call.urls)

    def _due(self, effect_id: str) -> list[Effect]:
        session = self.session
        if session.phase is not Phase.STARTING:
            return sends.due(session, effect_id)
        if session.pending.pop(effect_id, None) is None:
            return []
        load = Load(f"{session.id}/load", session.call.urls)
        session.pending[load.id] = load
        return [load]

    def _loaded(self, loaded: Loaded) -> list[Effect]:
        session = self.session
        if session.pending.pop(loaded.effect_id, None) is None:
            return []
        session.phase = Phase.RUNNING
        session.url, session.document_hash = loaded.url, loaded.document_hash
        session.compiler_version = loaded.compiler_version
        if session.parent is None and session.call.interaction:
            session.inbox.insert(0, self._added())
        return next_step(session)

    def _added(self) -> Event:
        call = self.session.call
        data = {
            "interactionid": call.interaction,
            "calluuid": call.call_uuid,
            "ani": call.ani,
            "dnis": call.dnis,
            "dn": call.route_point,
            "media": "voice",
            "udata": as_object(self.session.user_data),
            "parameters": as_object(call.parameters),
            **(call.facts or {}),
        }
        return Event("interaction.added", data)

    def _cancel(self) -> list[Effect]:
        if self.session.phase is Phase.STARTING:
            self.session.cancelled = True
            return finish(self.session, "cancelled")
        return cancel(self.session)

    def _broke(self, broke: Broke) -> list[Effect]:
        if self.session.phase is Phase.ENDING:
            return []
        if broke.effect_id and broke.effect_id not in self.session.pending:
            return []
        return finish(self.session, "failed", broke.problem)

    # -- steps -------------------------------------------------------------------------------------------------

    def _stepped(self, stepped: Stepped, now_us: int) -> list[Effect]:
        session, result = self.session, stepped.result
        if session.phase is not Phase.RUNNING:
            return []
        if result.failure is not None:
            return finish(session, "failed", f"{result.failure.reason}: {result.failure.message}")
        processed = session.inbox.pop(0) if session.snapshot and session.inbox else None
        session.snapshot = stepped.snapshot
        session.configuration = tuple(result.configuration)
        effects = self._translate(result, now_us)
        session.step += 1
        session.busy = False
        if len(session.pending) > MAX_PENDING:
            raise Exceeded(f"more than {MAX_PENDING} effects are under way")
        if result.finished:
            done = next((wish for wish in result.effects if isinstance(wish, Done)), None)
            return effects + finish(session, "cancelled" if session.cancelled else "finished", done=done)
        if processed is not None and self._deserted(processed, result):
            return effects + finish(session, "call gone")
        return effects + next_step(session)

    def _deserted(self, processed: Event, result: StepResult) -> bool:
        """Nobody listens for the end of the call, so nothing is left to wait for (domain facts §4.2)."""
        return processed.name == "interaction.deleted" and self.session.gone and not result.trace

    def _translate(self, result: StepResult, now_us: int) -> list[Effect]:
        session = self.session
        effects: list[Effect] = []
        for index, wish in enumerate(result.effects):
            effect_id = f"{session.id}/{session.step}/{index}"
            match wish:
                case Action():
                    effects += self._act(wish, effect_id, now_us)
                case Send():
                    effects += sends.send(session, wish, effect_id, now_us)
                case CancelSend(sendid):
                    sends.withdraw(session, sendid)
                case Log(label, text):
                    effects.append(Say(label, text))
                case Invoke():
                    effects += children.invoke(session, wish, f"{session.step}-{index}")
                case CancelInvoke():
                    effects += children.end(session, wish)
                case Forward():
                    effects += children.forward(session, wish)
                case Done():
                    pass  # told when the session ends
        return effects

    def _act(self, action: Action, effect_id: str, now_us: int) -> list[Effect]:
        session = self.session
        submits = {e.requestid: e.id for e in session.pending.values() if isinstance(e, Submit)}
        context = Context(effect_id, now_us, session.call, submits, session.excluded)
        try:
            match action.namespace, action.name:
                case "session", "response":
                    return [answers.respond(session.asked, action)]
                case "session", "terminate" if not ends_another(action, session.id):
                    return self._cancel()
                case "queue", "excludeAgents":
                    session.excluded = agents_of(action)
                    return []
            effect = carry_out(action, context)
        except ActionError as error:
            return post(session, error_event(action, str(error)))
        session.pending[effect.id] = effect
        return [effect]

    # -- what comes from outside -------------------------------------------------------------------------------

    def _external(self, item: External) -> list[Effect]:
        session = self.session
        if item.request_id:
            if item.request_id in session.requests:
                return []
            session.requests.append(item.request_id)
            del session.requests[:-REMEMBERED_REQUESTS]
        return post(session, item.event)

    def _asked(self, ask: Ask) -> list[Effect]:
        session = self.session
        if ask.request_id in session.asked:
            answer = session.asked[ask.request_id]
            return [] if answer is None else [Reply(ask.request_id, answer)]
        answers.note(session.asked, ask.request_id)
        return post(session, answers.event_of(ask))

    def _news(self, news: CallNews) -> list[Effect]:
        session = self.session
        if news.seq <= session.last_seq:
            return []
        session.last_seq = news.seq
        if news.user_data is not None:
            session.user_data = news.user_data
        if news.gone and not session.gone:
            session.gone = True
            if session.phase is Phase.STARTING:
                return finish(session, "call gone")
            if session.phase is Phase.ENDING:
                return settle(session)
        if news.outcome is not None:
            return self._outcome(news.outcome)
        return post(session, news.event) if news.event is not None else []

    def _outcome(self, outcome: Outcome) -> list[Effect]:
        session = self.session
        effect = session.pending.pop(outcome.effect_id, None)
        match effect:
            case None | Timer():
                return []
            case Route():
                return routed(session, effect, outcome)
            case Submit():
                # Asked; the answer comes by its queue.
                session.pending[effect.id] = effect
                if not outcome.reason:
                    return []
                return selected(session, Selected(effect.id, outcome.reason, outcome.message))
            case Load():
                return finish(session, "failed", outcome.message)
            case Post():
                if not outcome.reason:
                    return []
                return sends.unreachable(session, effect.sendid, effect.event, outcome.message)
            case Resubmit():
                if session.phase is Phase.ENDING:
                    return settle(session)
                name = "queue.cancel" if effect.priority is None else "queue.update"
                return tell(session, name, effect.requestid, outcome)
            case Fetch(module="ws.send") if not outcome.reason:
                return []  # nobody waits for the answer
            case Fetch():
                return tell(session, effect.module, effect.requestid, outcome)
            case _:
                return tell(session, NAMES[type(effect)], effect.requestid, outcome)
