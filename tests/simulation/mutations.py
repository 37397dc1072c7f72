"""Safeguards that can be taken out of a run, to show that the simulation notices."""

from __future__ import annotations

MUTATIONS = {
    "fence": "Redis takes writes of an epoch below the fence",
    "line": "Redis takes what comes late from a connection that its process has replaced",
    "raise": "an heir reads a slot without raising its fence first",
    "deadline": "effects leave past the lease's deadline without a fenced write",
    "append": "an event stream takes an event whose place is taken, and one of an old epoch",
    "offset": "the cursor is not kept with the state that its events made",
    "queue": "a queue takes an id that it has, or had",
    "request": "a SIP node carries out a request again whose id it knows",
    "order": "Call State moves its cursor before it has told Agent State",
    "before": "Agent State's effects leave before the state that explains them is stored",
    "outbox": "Orchestration's effects leave before the session's record is stored",
    "numbers": "an agent slot that comes back to its node under the same epoch begins again to number its effects",
    "token": "a reservation's token does not say when it ends",
    "answered": "a tenant acknowledges a request before its answer is in the answer queue",
}
"""Name -> what is taken out."""

HINTS = {"line": 0, "append": 1, "offset": 5, "deadline": 49, "order": 74, "request": 117, "fence": 173}
"""Safeguard -> the first seed that broke without it."""
