"""Answers of a session to requests from outside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What the application answered. `status` is an HTTP status, 200 to 599."""

    status: int = 200
    content_type: str = "application/json"
    content: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """Hand an answer to whoever waits for it here; nothing when nobody does."""

    request_id: str
    answer: Answer


Asked = dict[str, Answer | None]
"""Request id -> the answer, None while there is none; oldest first."""
