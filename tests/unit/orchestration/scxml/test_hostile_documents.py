"""Whatever is given to the compiler, it answers with a compiled document or with problems that have positions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from services.orchestration.scxml import CompileError, compile_document
from services.orchestration.scxml.reader import MAX_DEPTH
from tests.unit.orchestration.scxml.documents import compiled, session

EXAMPLES = sorted((Path(__file__).parents[4] / "docs" / "applications" / "examples").glob("*.scxml"))
PIECES = (
    "<",
    ">",
    '"',
    "'",
    "&",
    "/",
    "id",
    "=",
    "<state>",
    "</state>",
    "$scxml",
    "\0",
    "\ud800",
    "{",
    "}",
    "]]>",
)


def outcome(text: str | bytes) -> str:
    try:
        compile_document(text)
    except CompileError as error:
        assert error.problems
        assert all(
            item.line >= 1 and item.column >= 1 and item.rule and item.message for item in error.problems
        )
        return "refused"
    return "compiled"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_damaged_documents(path: Path) -> None:
    chooser = random.Random(path.name)
    text = path.read_text("utf-8")
    seen = set()
    for _ in range(150):
        damaged = text
        for _ in range(chooser.randint(1, 3)):
            at = chooser.randrange(len(damaged))
            cut = chooser.choice([0, 0, 1, 5, 40])
            damaged = damaged[:at] + chooser.choice(["", *PIECES]) + damaged[at + cut :]
        seen.add(outcome(damaged.encode("utf-8", "surrogatepass")))
    assert seen == {"refused", "compiled"}


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff\xfe", b"<", b"<scxml", "<scxml xmlns='http://www.w3.org/2005/07/scxml'/>"]
)
def test_scraps(data: bytes | str) -> None:
    assert outcome(data) == "refused"


@pytest.mark.parametrize(
    ("open_", "close"),
    [
        ('<state id="s{n}">', "</state>"),
        ('<state id="s{n}"><parallel id="p{n}">', "</parallel></state>"),
    ],
)
def test_deep_states(open_: str, close: str) -> None:
    depth = (MAX_DEPTH - 5) // open_.count("<")
    body = "".join(open_.format(n=n) for n in range(depth)) + '<state id="inner"/>' + close * depth
    made = session(compiled(body))
    assert made.start(0.0).configuration[-1] == "inner"


@pytest.mark.parametrize("element", ['if cond="true"', 'foreach array="[1]" item="x"'])
def test_deep_content(element: str) -> None:
    depth = MAX_DEPTH - 10
    name = element.split()[0]
    body = f"<{element}>" * depth + "<log/>" + f"</{name}>" * depth
    result = session(compiled(f'<state id="s"><onentry>{body}</onentry></state>')).start(0.0)
    assert result.failure is None
    assert len(result.effects) == 1


def test_deep_literal_content() -> None:
    depth = MAX_DEPTH - 10
    inner = "<a>" * depth + "</a>" * depth
    compiled(f'<datamodel><data id="d">{inner}</data></datamodel><state id="s"/>')
