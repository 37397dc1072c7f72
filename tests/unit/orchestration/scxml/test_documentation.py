"""docs/applications: every example runs and does what the page says, and every extension is described."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from services.orchestration.scxml import Action, ActionChild, cli
from services.orchestration.scxml.extensions import MODULES
from tests.unit.orchestration.scxml.documents import compiled, session

DOCS = Path(__file__).parents[4] / "docs" / "applications"
PAGE = (DOCS / "extensions.md").read_text("utf-8")
SURROUNDING = re.search(r"```\n(<datamodel>.*?)\n```", PAGE, re.DOTALL)
NAMESPACES = " ".join(
    f'xmlns:{name}="http://www.genesyslab.com/modules/{name}"' for name in [*MODULES, "ixn"]
)
ACTIONS = re.findall(
    r"^### (\w+):(\w+)\n(.*?)```xml\n(.*?)```\n\n```json\n(.*?)\n```", PAGE, re.DOTALL | re.M
)
CALLS = re.findall(r"^\| `(_genesys\.(\w+)\.(\w+)\(.*?\))` \|", PAGE, re.M)


def run(content: str) -> Any:
    assert SURROUNDING is not None
    document = compiled(f'{SURROUNDING[1]}<state id="s"><onentry>{content}</onentry></state>', NAMESPACES)
    assert document.warnings == ()
    return session(document).start(0.0)


def shown(child: ActionChild) -> dict[str, Any]:
    made: dict[str, Any] = {"name": child.name}
    if child.attributes:
        made["attributes"] = child.attributes
    if child.children:
        made["children"] = [shown(item) for item in child.children]
    return made


@pytest.mark.parametrize(
    ("module", "name", "text", "example", "effect"), ACTIONS, ids=lambda value: value[:20]
)
def test_an_action_has_the_effect_the_page_shows(
    module: str, name: str, text: str, example: str, effect: str
) -> None:
    (action,) = [item for item in run(example).effects if isinstance(item, Action)]
    assert (action.namespace, action.name) == (module, name)
    expected = json.loads(effect)
    assert action.attributes == expected["attributes"]
    assert [shown(child) for child in action.children] == expected.get("children", [])
    for attribute in MODULES[module].actions[name].attributes.keys() - {"hints", "requestid"}:
        assert f"`{attribute}`" in text


@pytest.mark.parametrize(("call", "root", "name"), CALLS, ids=lambda value: value[:40])
def test_a_function_runs_as_the_page_shows(call: str, root: str, name: str) -> None:
    call = call.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    result = run(f'<log expr="{call}"/>')
    function = next(
        module.functions[name]
        for module in MODULES.values()
        if module.root == root and name in module.functions
    )
    if function.kind == "query":
        assert result.query is not None
        assert (result.query.function, len(result.query.arguments)) == (name, len(function.arguments))
    else:
        assert result.query is None
        assert result.failure is None
        assert result.effects


def test_every_extension_is_described() -> None:
    described = {(module, name) for module, name, *_ in ACTIONS}
    assert described == {(short, name) for short, module in MODULES.items() for name in module.actions}
    functions = {(root, name) for _, root, name in CALLS}
    assert functions == {(module.root, name) for module in MODULES.values() for name in module.functions}
    for module in MODULES.values():
        for event in module.events:
            assert f"`{event}`" in PAGE


# -- whole applications -------------------------------------------------------------------------------

EXAMPLES = sorted((DOCS / "examples").glob("*.scxml"))


def contains(whole: Any, part: Any) -> bool:
    """Whether every member of `part` is in `whole`, at every level."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and contains(whole[key], value) for key, value in part.items()
        )
    return bool(whole == part)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_application_does_what_its_script_says(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The `.run` file beside it: events in, and lines that must come out, in this order."""
    script = [json.loads(line) for line in path.with_suffix(".run").read_text("utf-8").splitlines()]
    events = "".join(json.dumps(line["in"]) + "\n" for line in script if "in" in line)
    answers = [
        f"--answer={name}={json.dumps(value)}"
        for line in script
        for name, value in line.get("answer", {}).items()
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO(events))
    assert cli.main(["run", str(path), "--virtual", *answers]) == cli.OK
    captured = capsys.readouterr()
    assert captured.err == "", "an example has no warnings"
    lines = iter([json.loads(line) for line in captured.out.splitlines()])
    for expected in [line["out"] for line in script if "out" in line]:
        assert any(contains(line, expected) for line in lines), expected


def test_there_are_examples() -> None:
    assert [path.stem for path in EXAMPLES] == ["customer", "first", "menu"]
    readme = (DOCS / "README.md").read_text("utf-8")
    for path in EXAMPLES:
        assert f"examples/{path.name}" in readme


def test_the_page_names_every_option_and_line() -> None:
    readme = (DOCS / "README.md").read_text("utf-8")
    help_text = cli.parser().format_help()
    for command in ("check", "run", "draw"):
        assert command in help_text
        assert f"voicemesh-scxml {command}" in readme
    for option in ("--virtual", "--timeout", "--base", "--params", "--answer"):
        assert option in readme
