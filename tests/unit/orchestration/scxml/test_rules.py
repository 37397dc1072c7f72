"""Every rule of the document format: what is wrong, and exactly where."""

from __future__ import annotations

import pytest

from services.orchestration.scxml import CompileError, Problem, compile_document

OPEN = '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0">'
QUEUE = 'xmlns:queue="http://www.genesyslab.com/modules/queue"'


def problems(lines: str, head: str = OPEN) -> list[Problem]:
    """Errors of a document whose second line is the first of `lines`."""
    with pytest.raises(CompileError) as caught:
        compile_document(f"{head}\n{lines}\n</scxml>")
    return caught.value.problems


def warnings(lines: str, head: str = OPEN) -> list[Problem]:
    return list(compile_document(f"{head}\n{lines}\n</scxml>").warnings)


ERRORS = [
    # The mark stands where the error is reported.
    ("element-misplaced", '<state id="s">¶<send event="e"/></state>'),
    ("element-misplaced", '<state id="s"><onentry>¶<state/></onentry></state>'),
    ("element-misplaced", '<final id="done">¶<transition target="done"/></final>'),
    ("element-misplaced", '<parallel id="both">¶<final id="f"/></parallel>'),
    ("element-repeated", '<state id="s"><datamodel/>¶<datamodel/></state>'),
    ("attribute-unknown", '<state id="s" color="¶red"/>'),
    ("attribute-missing", '<state id="s"><onentry>¶<raise/></onentry></state>'),
    ("attribute-missing", "<state id=\"s\"><onentry>¶<assign expr='1'/></onentry></state>"),
    ("attribute-missing", '<state id="s"><onentry>¶<send/></onentry></state>'),
    ("attribute-missing", '<state id="s"><onentry>¶<cancel/></onentry></state>'),
    ("attribute-missing", '<state id="s"><onentry>¶<if/></onentry></state>'),
    (
        "attribute-missing",
        "<state id=\"s\"><onentry><send event='e'>¶<param name='x'/></send></onentry></state>",
    ),
    ("attribute-exclusive", "<state id=\"s\"><onentry><send event='e' eventexpr='¶f'/></onentry></state>"),
    (
        "attribute-exclusive",
        "<state id=\"s\"><onentry><send event='e' id='i' idlocation='¶x'/></onentry></state>",
    ),
    ("attribute-exclusive", "<state id=\"s\"><invoke src='a' srcexpr='¶b'/></state>"),
    ("text-unexpected", '¶<state id="s">words</state>'),
    ("id", '<state id="¶a b"/>'),
    ("id-duplicate", '<state id="s"/>¶<state id="s"/>'),
    ("target-unknown", '<state id="s">¶<transition event="e" target="nowhere"/></state>'),
    ("target-empty", '<state id="s"><transition event="e" target="¶ "/></state>'),
    ("target-set", '<state id="s">¶<transition event="e" target="s t"/></state><state id="t"/>'),
    ("target-outside", '<state id="s" initial="¶t"><state id="u"/></state><state id="t"/>'),
    ("target-unknown", '<state id="s" initial="¶v"><state id="u"/></state>'),
    ("initial-atomic", '<state id="s" initial="¶s"/>'),
    ("initial-transition", '<state id="s">¶<initial/><state id="u"/></state>'),
    (
        "transition-default",
        '<state id="s"><initial><transition event="¶e" target="u"/></initial><state id="u"/></state>',
    ),
    ("target-missing", "<state id=\"s\"><initial>¶<transition/></initial><state id='u'/></state>"),
    ("transition-type", "<state id=\"s\"><transition event='e' type='¶both' target='s'/></state>"),
    ("event-descriptor", "<state id=\"s\"><transition event='¶a*b' target='s'/></state>"),
    ("event-descriptor", "<state id=\"s\"><transition event='¶' target='s'/></state>"),
    ("event-name", "<state id=\"s\"><onentry><raise event='¶a b'/></onentry></state>"),
    ("history-default", "<state id=\"s\">¶<history id='h'/><state id='u'/></state>"),
    (
        "history-type",
        "<state id=\"s\"><history id='h' type='¶wide'><transition target='u'/></history><state id='u'/></state>",
    ),
    ("history-atomic", "¶<state id=\"s\"><history id='h'><transition target='s'/></history></state>"),
    ("delay", "<state id=\"s\"><onentry><send event='e' delay='¶soon'/></onentry></state>"),
    (
        "delay-internal",
        "<state id=\"s\"><onentry>¶<send event='e' target='#_internal' delay='1s'/></onentry></state>",
    ),
    (
        "content-exclusive",
        "<state id=\"s\"><onentry><send event='e' namelist='a'>¶<content>1</content></send></onentry></state>",
    ),
    (
        "content-exclusive",
        "<state id=\"s\"><onentry>¶<assign location='a' expr='1'>2</assign></onentry></state>",
    ),
    (
        "content-exclusive",
        "<state id=\"s\"><onentry><send event='e'>¶<content expr='1'>2</content></send></onentry></state>",
    ),
    (
        "else-last",
        "<state id=\"s\"><onentry><if cond='1'><else/><log/>¶<elseif cond='2'/></if></onentry></state>",
    ),
    ("autoforward", "<state id=\"s\"><invoke src='a' autoforward='¶perhaps'/></state>"),
    ("data-id", '<datamodel>¶<data id="1x"/></datamodel><state id="s"/>'),
    ("data-id", '<datamodel>¶<data id="_event"/></datamodel><state id="s"/>'),
    ("data-id", '<datamodel>¶<data id="$scxml"/></datamodel><state id="s"/>'),
    ("data-duplicate", '<datamodel><data id="x"/> ¶<data id="x"/></datamodel><state id="s"/>'),
    ("script-source", "<script src='¶lib.js'/><state id='s'/>"),
]


def marked(text: str) -> tuple[str, int]:
    """The text without its mark, and the column of the mark."""
    return text.replace("¶", ""), text.index("¶") + 1


@pytest.mark.parametrize(("rule", "text"), ERRORS)
def test_an_error_names_its_rule_and_position(rule: str, text: str) -> None:
    plain, column = marked(text)
    assert (rule, 2, column) in [(item.rule, item.line, item.column) for item in problems(plain)]


def test_a_document_needs_a_state() -> None:
    assert [(item.rule, item.line) for item in problems("<datamodel/>")] == [("no-state", 1)]


def test_all_errors_are_reported_at_once_in_order() -> None:
    found = problems('<state id="s"><x/></state>\n<state id="s" colour="1"/>\n<nothing/>')
    assert [item.line for item in found] == sorted(item.line for item in found)
    assert {"element-misplaced", "attribute-unknown"} <= {item.rule for item in found}
    assert len(found) >= 3


@pytest.mark.parametrize(
    ("head", "rule"),
    [
        ("<scxml>", "root"),
        ('<scxml xmlns="http://www.w3.org/2005/07/scxml" version="2.0">', "version"),
        ('<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="xpath">', "datamodel"),
        ('<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" binding="lazy">', "binding"),
    ],
)
def test_the_root_is_checked(head: str, rule: str) -> None:
    assert rule in [item.rule for item in problems('<state id="s"/>', head)]


def test_the_null_data_model_allows_in_and_nothing_else() -> None:
    head = OPEN.replace(">", ' datamodel="null">')
    good = '<state id="s"><transition cond="In(\'t\')" target="t"/></state><state id="t"/>'
    compile_document(f"{head}{good}</scxml>")
    for bad in (
        '<state id="s"><transition cond="1 == 1" target="s"/></state>',
        '<datamodel><data id="x"/></datamodel><state id="s"/>',
        "<script>1</script><state id='s'/>",
        "<state id='s'><onentry><assign location='x' expr='1'/></onentry></state>",
    ):
        assert [item.rule for item in problems(bad, head)] == ["null-datamodel"]


# -- extensions ---------------------------------------------------------------------------------------


def test_an_unknown_action_is_named_with_its_position() -> None:
    head = OPEN.replace(">", f" {QUEUE}>")
    found = problems("<state id='s'>\n<onentry><queue:sumbit/></onentry></state>", head)
    assert [(item.rule, item.line, item.column) for item in found] == [("extension-action", 3, 10)]
    assert "queue:sumbit" in found[0].message
    assert "submit" in found[0].message


def test_an_unknown_extension_is_named_with_its_position() -> None:
    head = OPEN.replace(">", ' xmlns:fax="www.genesyslab.com/modules/fax">')
    found = problems("<state id='s'><onentry><fax:send/></onentry></state>", head)
    assert [(item.rule, item.line, item.column) for item in found] == [("extension-unknown", 2, 24)]


def test_an_element_of_a_foreign_namespace_is_no_action() -> None:
    head = OPEN.replace(">", ' xmlns:my="urn:mine">')
    found = problems("<state id='s'><onentry><my:thing/></onentry></state>", head)
    assert [(item.rule, item.line, item.column) for item in found] == [("element-unknown", 2, 24)]


def test_attributes_and_children_of_an_action_are_checked() -> None:
    head = OPEN.replace(">", f" {QUEUE}>")
    body = "<state id='s'><onentry><queue:submit prio='1'><queue:targets><queue:goal/></queue:targets></queue:submit></onentry></state>"
    assert [item.rule for item in problems(body, head)] == ["attribute-unknown", "element-misplaced"]
    missing = "<state id='s'><onentry><queue:update priority='1'/></onentry></state>"
    assert [item.rule for item in problems(missing, head)] == ["attribute-missing"]


# -- warnings -----------------------------------------------------------------------------------------


WARNINGS = [
    ("state-unreachable", '<state id="s"/>¶<state id="lost"/>'),
    (
        "transition-shadowed",
        '<state id="s"><transition target="t"/>¶<transition target="s"/></state><final id="t"/>',
    ),
    ("transition-endless", '<state id="s">¶<transition/></state>'),
    ("ecmascript", '<state id="s"><transition cond="¶1 +" target="s"/></state>'),
    ("ecmascript", '<state id="s"><onentry><assign location="¶1" expr="2"/></onentry></state>'),
    ("element-foreign", '<state id="s">¶<x xmlns="urn:layout"/></state>'),
    ("data-source", '<datamodel><data id="d" src="¶x.json"/></datamodel><state id="s"/>'),
]


@pytest.mark.parametrize(("rule", "text"), WARNINGS)
def test_a_warning_names_its_rule_and_position(rule: str, text: str) -> None:
    plain, column = marked(text)
    assert (rule, 2, column) in [(item.rule, item.line, item.column) for item in warnings(plain)]


def test_a_clean_document_has_no_warnings() -> None:
    assert warnings('<state id="s"><transition event="e" target="t"/></state><final id="t"/>') == []


def test_errors_of_an_inline_document_are_known_beforehand() -> None:
    child = '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0">\n<state id="a"><transition target="b"/></state></scxml>'
    found = warnings(f"<state id='s'><invoke><content>{child}</content></invoke></state>")
    assert [(item.rule, item.line, item.column) for item in found] == [("invoked-document", 3, 15)]
    assert "target-unknown" in found[0].message


@pytest.mark.parametrize(
    ("attribute", "warned"),
    [("VQ_Sales", True), ("music/on_hold", True), ("'VQ_Sales'", False), ("known", False), ("made", False),
     ("item.name", False), ("_event.data.queue", False), ("a + b", False), ("null", False), ("5", False)],
)  # fmt: skip
def test_a_text_without_quotes_is_noticed(attribute: str, warned: bool) -> None:
    head = OPEN.replace(">", f" {QUEUE}>")
    found = warnings(
        "<datamodel><data id='known'/></datamodel><script>var made = 1;</script><state id='s'><onentry>"
        f'<foreach array="[1]" item="item"><queue:submit queue="{attribute}"/></foreach></onentry></state>',
        head,
    )
    assert [item.rule for item in found] == (["bare-word"] if warned else [])
