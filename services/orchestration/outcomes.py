"""From the outcome of an effect to the event that tells the document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.orchestration.effects import (
    CreateCall,
    DeleteUserData,
    Effect,
    Respond,
    SetUserData,
    Start,
    Terminate,
    TerminateOther,
)
from services.orchestration.inputs import Outcome
from services.orchestration.scxml import Event, Json
from services.orchestration.session import Session, post

NAMES: Mapping[type[Any], str] = {
    SetUserData: "interaction.setudata",
    DeleteUserData: "interaction.deleteudata",
    Terminate: "interaction.terminate",
    CreateCall: "interaction.createcall",
    Respond: "interaction.respond",
    Start: "session.start",
    TerminateOther: "session.terminate",
}
"""What completion events of an effect begin with."""


def error_data(reason: str, message: str) -> dict[str, Json]:
    """How a reason of the contracts looks to a document: REASON_DN_BUSY is "dn_busy"."""
    return {"error": reason.removeprefix("REASON_").lower(), "description": message}


def tell(session: Session, name: str, requestid: str, outcome: Outcome) -> list[Effect]:
    """`<name>.done` or `error.<name>`."""
    data: dict[str, Json] = {"requestid": requestid, "interactionid": session.call.interaction}
    if outcome.reason:
        return post(session, Event(f"error.{name}", data | error_data(outcome.reason, outcome.message)))
    extra = outcome.data if isinstance(outcome.data, dict) else {}
    return post(session, Event(f"{name}.done", data | extra))
