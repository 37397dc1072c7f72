"""Applications of the tests: each waits for something, then has its call routed to an agent."""

from __future__ import annotations

HEAD = """<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript" initial="begin"
 xmlns:queue="http://www.genesyslab.com/modules/queue" xmlns:ixn="http://www.genesyslab.com/modules/interaction"
 xmlns:session="http://www.genesyslab.com/modules/session">"""
QUEUED = """<state id="queued">
  <onentry><queue:submit queue="'vq'" skillexpr="'English &gt; 0'"/></onentry>
  <transition event="queue.submit.done" target="done"/>
  <transition event="error.*" target="failed"/>
</state>
<final id="done"/><final id="failed"/></scxml>"""


def waits(state: str) -> str:
    """Waits in a state called "waiting", which goes on to "queued"."""
    begin = '<state id="begin"><transition event="interaction.added" target="waiting"/></state>'
    return f"{HEAD}{begin}{state}{QUEUED}"


QUEUE = waits('<state id="waiting"><transition target="queued"/></state>')


def _tick(due_ms: int) -> str:
    """A delayed event that is due at a time of the clock, UTC milliseconds."""
    return f'<onentry><send event="tick" delayexpr="Math.max(0, {due_ms} - Date.now()) + \'ms\'"/></onentry>'


def delayed(due_ms: int) -> str:
    """Waits for a delayed event of its own."""
    return waits(f'<state id="waiting">{_tick(due_ms)}<transition event="tick" target="queued"/></state>')


def fetching(url: str) -> str:
    """Waits for an answer by HTTP."""
    return waits(
        f'<state id="waiting"><onentry><session:fetch src="\'{url}\'" timeout="60"/></onentry>'
        '<transition event="session.fetch.done" target="queued"/><transition event="error.*" target="failed"/></state>'
    )


def invoking(due_ms: int) -> str:
    """Waits for a child session that waits for a delayed event of its own and counts what is forwarded to it."""
    child = (
        '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript">'
        '<datamodel><data id="given"/><data id="heard" expr="0"/></datamodel>'
        f'<state id="c">{_tick(due_ms)}'
        '<transition event="voice.*"><assign location="heard" expr="heard + 1"/></transition>'
        '<transition event="tick" target="f"/></state>'
        '<final id="f"><donedata><param name="given" expr="given"/><param name="heard" expr="heard"/></donedata></final></scxml>'
    )
    return waits(
        '<state id="waiting"><invoke type="scxml" id="kid" autoforward="true"><param name="given" expr="42"/>'
        f'<content>{child}</content><finalize><log label="finalized" expr="_event.name"/></finalize></invoke>'
        '<transition event="done.invoke.kid" cond="_event.data.given == 42" target="queued"/>'
        '<transition event="done.invoke.kid" target="failed"/><transition event="error.*" target="failed"/></state>'
    )


EVENT = waits('<state id="waiting"><transition event="go" target="queued"/></state>')
