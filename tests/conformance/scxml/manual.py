"""The tests that the suite leaves to a person, each with the check a person would make, made by code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from services.orchestration.scxml import CompileError, compile_document
from services.orchestration.scxml.basichttp import FORM
from services.orchestration.scxml.local import LocalHost, Session
from tests.conformance.scxml.http_peer import HttpPeer

if TYPE_CHECKING:
    from tests.conformance.scxml.suite import Recorder


def check_178(recorder: Recorder, session: Session) -> str:
    """Both pairs with the same key are in the message: `_event.raw`, logged, names both values."""
    raw = [text for _, label, text in recorder.logs if label.strip() == "_event"]
    if len(raw) == 1 and "Var1=2" in raw[0] and "Var1=3" in raw[0]:
        return ""
    return f"_event.raw was logged as {raw}"


def check_230(recorder: Recorder, session: Session) -> str:
    """Parent and child log the seven fields of the event; they are the same."""
    own = [(label, text) for name, label, text in recorder.logs if name == session.id]
    forwarded = [(label, text) for name, label, text in recorder.logs if name != session.id]
    if len(own) == 7 and own == forwarded:
        return ""
    return f"the parent logged {own}, the child {forwarded}"


def check_250(recorder: Recorder, session: Session) -> str:
    """The cancelled child runs its onexit handlers, innermost first, and enters no final state."""
    texts = [text for name, _, text in recorder.logs if name != session.id]
    return "" if texts == ["Exiting sub01", "Exiting sub0"] else f"the child logged {texts}"


def check_307(recorder: Recorder, session: Session) -> str:
    """A variable that is not bound yet and a missing property of one that is behave alike: both are
    undefined, neither is an error."""
    logged = [(label, text) for _, label, text in recorder.logs]
    expected = [
        ("entering s0 value of Var 1 is: ", "undefined"),
        ("no error in s0", ""),
        ("entering s1, value of non-existent substructure of Var 1 is: ", "undefined"),
        ("No error in s1", ""),
    ]
    return "" if logged == expected else f"logged {logged}"


def check_pass(recorder: Recorder, session: Session) -> str:
    """313, 314: the document is not rejected, so the ill-formed expression has to raise error.execution
    where it is evaluated; the document sees to that itself."""
    return "" if session.configuration == ["pass"] else f"ended in {session.configuration}"


def check_415(recorder: Recorder, session: Session) -> str:
    """The machine halts at once: one step, no transition, and nothing took event1 from the queue."""
    results = [result for _, _, result in recorder.steps]
    if len(results) == 1 and results[0].finished and not results[0].trace:
        return ""
    return f"took {[result.trace for result in results]}"


def rejection(case: str, error: CompileError) -> bool:
    """301: a document whose script cannot be had is rejected, and for that reason."""
    return case == "301" and [problem.rule for problem in error.problems] == ["script-source"]


def check_301(recorder: Recorder, session: Session) -> str:
    return "the document was accepted"


def run_513() -> str:
    """513: a well-formed message to a session's location is answered with 2XX."""
    document = compile_document(
        '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0">'
        '<state id="s"><transition event="test" cond="_event.data.key1==\'value1\'" target="pass"/></state>'
        '<final id="pass"/></scxml>'
    )
    with HttpPeer() as peer:
        host = LocalHost(http=peer.deliver, io_processors=peer.io_processors)
        peer.attach(host)
        session = host.start(document)
        address = peer.io_processors(session.id)["basichttp"]["location"]
        status = peer.post(address, b"_scxmleventname=test&key1=value1&key2=value2", FORM)
        host.run_virtual(session, limit_ms=1000.0)
    if status != 200 or session.configuration != ["pass"]:
        return f"status {status}, ended in {session.configuration}"
    return ""


CHECKS: dict[str, Callable[[Recorder, Session], str]] = {
    "178": check_178,
    "230": check_230,
    "250": check_250,
    "301": check_301,
    "307": check_307,
    "313": check_pass,
    "314": check_pass,
    "415": check_415,
}
WITHOUT_DOCUMENT: dict[str, Callable[[], str]] = {"513": run_513}
