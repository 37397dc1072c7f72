"""What a document compiles to: readable, mapped back, stable, transportable."""

# ruff: noqa: E501 (documents read better on one line)

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.orchestration.scxml import Compiled, CompileError, compile_document, sourcemap
from services.orchestration.scxml.ecmascript import checker, clean, is_name
from tests.unit.orchestration.scxml.documents import compiled, logs, scxml, session

BODY = '\n<state id="s">\n  <onentry>\n    <log expr="1"/>\n  </onentry>\n  <transition event="go"\n    cond="x &gt; 1" target="t"/>\n</state><state id="t"/>'


def test_every_generated_line_of_a_statement_maps_to_it() -> None:
    document = compile_document(scxml(BODY), url="http://host/app.scxml")
    entries = sourcemap.decode(document.source_map)
    lines = document.javascript.splitlines()
    at = {line.strip(): entry for line, entry in zip(lines, entries, strict=False)}
    assert at['$scxml.log("", (1));'] == (0, 4, 5)
    assert at["return (x > 1);"] == (0, 7, 11)
    assert json.loads(document.source_map)["sources"] == ["http://host/app.scxml"]


def test_source_maps_survive_a_round_trip() -> None:
    lines = [None, (0, 1, 1), (0, 500, 90), None, (1, 2, 3), (0, 1, 1)]
    assert sourcemap.decode(sourcemap.encode(lines, ["a", "b"], "a.js")) == lines


def test_the_code_reads_like_the_document() -> None:
    text = compiled(BODY).javascript
    for part in (
        'ids: "scxml s t".split',
        "case 0: // s: onentry",
        '$scxml.log("", (1));',
        "return (x > 1);",
        '"go", // 0: s -> t',
    ):
        assert part in text


def test_compiling_twice_gives_the_same() -> None:
    assert compiled(BODY) == compiled(BODY)


def test_a_compiled_document_is_transportable() -> None:
    first = compiled(f"<script>var a = 1;</script>{BODY}")
    again = Compiled.from_json(first.to_json())
    assert again == first
    assert logs(session(again).start(1.0)) == ["1"]


@pytest.mark.parametrize(
    ("body", "heard", "unheard"),
    [
        ('<state id="s"><transition event="go voice.ringing"/></state>', ["go", "go.on", "voice.ringing"], ["gone", "voice", "voice.held"]),
        ('<state id="s"><transition event="error.*"/></state>', ["error", "error.queue.submit"], ["errors", "go"]),
        ('<state id="s"><transition event="*"/></state>', ["anything"], []),
        ('<state id="s"><transition target="t"/></state><state id="t"/>', [], ["go"]),
        ("<state id=\"s\"><transition cond=\"_event.name == 'go'\" target=\"t\"/></state><state id=\"t\"/>", ["go"], []),
        ('<state id="s"><invoke src="child.scxml"/></state>', ["go"], []),
        ('<state id="s"/>', ["interaction.udata.changed"], ["voice.ringing"]),
    ],
)  # fmt: skip
def test_a_document_hears_what_could_change_something(
    body: str, heard: list[str], unheard: list[str]
) -> None:
    document = compiled(body)
    assert [name for name in heard + unheard if document.hears(name)] == heard
    assert Compiled.from_json(document.to_json()) == document


def test_a_document_that_was_compiled_before_there_was_such_a_thing_hears_everything() -> None:
    stored = json.loads(compiled(BODY).to_json())
    assert stored.pop("listens") == ["go"]
    assert Compiled.from_json(json.dumps(stored)).hears("anything")


def test_the_hash_covers_everything_that_was_loaded() -> None:
    files = {"http://h/lib.js": b"var a = 1;"}
    text = scxml('<script src="lib.js"/><state id="s"/>')
    one = compile_document(text, url="http://h/app", resolve=files.__getitem__)
    assert list(one.parts) == ["http://h/lib.js"]
    files["http://h/lib.js"] = b"var a = 2;"
    two = compile_document(text, url="http://h/app", resolve=files.__getitem__)
    assert one.source_hash != two.source_hash


def test_script_and_data_sources() -> None:
    files = {
        "http://h/a/lib.js": b"var a = 1;",
        "http://h/a/d.json": b'{"x": [1]}',
        "http://h/a/t.txt": b" two  words ",
    }
    document = compile_document(
        scxml('<datamodel><data id="d" src="d.json"/><data id="t" src="t.txt"/><data id="gone" src="gone"/></datamodel><script src="lib.js"/><state id="s"><onentry><log expr="a + d.x.length + t + gone"/></onentry><transition event="error.execution"><log expr="_event.data.message"/></transition></state>'),
        url="http://h/a/app.scxml", resolve=files.__getitem__,
    )  # fmt: skip
    assert logs(session(document).start(1.0))[0] == "2two wordsundefined"
    assert [item.rule for item in document.warnings] == ["data-source"]


def test_a_document_without_a_resolver_loads_nothing() -> None:
    with pytest.raises(CompileError, match="may not load other files"):
        compile_document(scxml('<script src="x.js"/><state id="s"/>'))


# -- XInclude -----------------------------------------------------------------------------------------

XI = 'xmlns:xi="http://www.w3.org/2001/XInclude"'
NS = 'xmlns="http://www.w3.org/2005/07/scxml"'


def including(body: str, files: dict[str, str]) -> Compiled:
    encoded = {name: text.encode() for name, text in files.items()}
    return compile_document(scxml(body, XI), url="http://h/app/main.scxml", resolve=encoded.__getitem__)


def test_includes_are_part_of_the_document() -> None:
    document = including(
        '<xi:include href="parts/menu.xml"/><state id="t"/>',
        {
            "http://h/app/parts/menu.xml": f'<state {NS} {XI} id="menu"><xi:include href="sub.xml" xpointer="inner"/></state>',
            "http://h/app/parts/sub.xml": f'<state {NS} id="x"><state id="inner"/></state>',
        },
    )
    assert document.states[1:] == ("menu", "inner", "t")


def test_positions_inside_an_include_name_its_file() -> None:
    with pytest.raises(CompileError) as caught:
        including(
            '<xi:include href="p.xml"/>', {"http://h/app/p.xml": f'<state {NS} id="s">\n <nothing/></state>'}
        )
    problem = caught.value.problems[0]
    assert (problem.file, problem.line, problem.column) == ("http://h/app/p.xml", 2, 2)
    assert str(problem).startswith("http://h/app/p.xml:2:2: ")


def test_an_include_of_text_and_a_fallback() -> None:
    document = including(
        '<script><xi:include href="a.js" parse="text"/></script><xi:include href="gone"><xi:fallback><state id="s"/></xi:fallback></xi:include>',
        {"http://h/app/a.js": "var a = 1;"},
    )
    assert (document.scripts[0].text, document.states[1]) == ("var a = 1;", "s")


@pytest.mark.parametrize(
    "body",
    [
        '<xi:include href="gone"/>',
        "<xi:include/>",
        '<xi:include href="self.xml"/>',
        '<xi:include href="p.xml" xpointer="nobody"/>',
        "<xi:fallback/>",
    ],
)
def test_includes_that_cannot_be(body: str) -> None:
    files = {
        "http://h/app/self.xml": f'<state {NS} {XI} id="s"><xi:include href="self.xml"/></state>',
        "http://h/app/p.xml": f'<state {NS} id="s"/>',
    }
    with pytest.raises(CompileError) as caught:
        including(body + '<state id="ok"/>', files)
    assert [item.rule for item in caught.value.problems] == ["xinclude"]


# -- ECMAScript ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "a.b[c]",
        "function () { return 1; }",
        "{a: 1}",
        "x => x",
        "a, b",
        "`${a}`",
        "/x/.test(y)",
        "1 // c",
        "new a",
    ],
)
def test_expressions(text: str) -> None:
    assert checker().expression(text) == ""


@pytest.mark.parametrize(
    "text",
    ["", "return", "1 +", "a;b", "1); f(2", "1], [2", "}", "...a", "var a", "if (a) b", "'open", "/* open"],
)
def test_what_is_no_expression(text: str) -> None:
    assert checker().expression(text)


@pytest.mark.parametrize("text", ["a", "a.b", "a['b'].c", "f().x", "this.a"])
def test_locations(text: str) -> None:
    assert checker().location(text) == ""


@pytest.mark.parametrize("text", ["", "1", "a + b", "f()", "var a", "a = 1", "'x'", "a; b", "a++"])
def test_what_is_no_location(text: str) -> None:
    assert checker().location(text)


def test_names_and_semicolons() -> None:
    assert is_name("a1_$") and not is_name("1a") and not is_name("a b") and not is_name("while")
    assert clean(" new X(); ") == "new X()"


def test_lexical_declarations_are_found_where_they_count() -> None:
    text = "let a = 1, b; const c = {d: 1}; class E {} function f() { let g; } { let h; } var i; // let j\n'let k'"
    assert checker().lexical(text) == {"a": "let", "b": "let", "c": "const", "E": "class"}


def test_scripts_without_declarations_are_code_of_their_block() -> None:
    text = compiled(
        '<datamodel><data id="n" expr="0"/></datamodel><state id="s"><onentry><script>n++; if (n) { n = n + 1; } // done</script>'
        "<script>var m = n;</script><script>n = this === globalThis ? m : -1;</script><log expr=\"n + ' ' + m\"/></onentry></state>"
    )
    assert "{n++; if (n) { n = n + 1; } // done\n" in text.javascript
    assert '$scxml.script("var m = n;");' in text.javascript
    assert logs(session(text).start(1.0)) == ["2 2"]


def test_lines_of_a_script_map_to_lines_of_the_document() -> None:
    document = compile_document(
        scxml(
            '<datamodel><data id="n"/></datamodel><state id="s"><onentry>\n<script>\n  n = 1;\n  n = 2;\n</script></onentry></state>'
        )
    )
    at = dict(zip(document.javascript.splitlines(), sourcemap.decode(document.source_map), strict=False))
    assert at["  n = 1;"] is not None
    assert [at[line][1] for line in ("  n = 1;", "  n = 2;")] == [3, 4]  # type: ignore[index]


def test_documents_are_compiled_in_many_threads_at_once() -> None:
    text = "".join(f'<state id="s{n}"><onentry><log expr="{n} + x"/></onentry></state>' for n in range(40))
    document = (
        f'<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript">{text}</scxml>'
    )
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: compile_document(document.replace("+ x", f"+ x{n}")), range(24)))
    assert len({one.source_hash for one in made}) == 24
