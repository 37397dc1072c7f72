"""XML in: encodings, positions, limits."""

from __future__ import annotations

import pytest

from services.orchestration.scxml import CompileError
from services.orchestration.scxml.problems import Position
from services.orchestration.scxml.reader import MAX_BYTES, MAX_DEPTH, decode, read


def problem(data: bytes | str) -> tuple[int, int, str]:
    with pytest.raises(CompileError) as caught:
        read(data)
    first = caught.value.problems[0]
    return first.line, first.column, first.rule


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("utf-8", "UTF-8"), ("utf-16", "UTF-16"), ("iso-8859-1", "ISO-8859-1"), ("cp1252", "WINDOWS-1252")],
)
def test_declared_encodings_are_honoured(encoding: str, declared: str) -> None:
    text = f'<?xml version="1.0" encoding="{declared}"?><a b="blåbær"/>'
    assert read(text.encode(encoding)).get("b") == "blåbær"


def test_a_byte_order_mark_is_not_content() -> None:
    assert read(b"\xef\xbb\xbf<a/>").name == "a"


def test_an_unknown_encoding_and_wrong_bytes_are_refused() -> None:
    assert problem(b'<?xml version="1.0" encoding="klingon"?><a/>') == (1, 1, "encoding")
    assert problem(b"<a b='\xff'/>") == (1, 1, "encoding")


def test_positions_count_characters_from_one() -> None:
    root = read("<a>\n  <b å='1'\n     c = \"2\"/></a>")
    child = root.elements()[0]
    assert child.at == Position(2, 3)
    assert child.attribute_at("å") == Position(2, 9)
    assert child.attribute_at("c") == Position(3, 11)
    assert child.attribute_at("missing") == child.at


def test_carriage_returns_do_not_move_lines() -> None:
    assert read("<a>\r\n<b/>\r\n<c/></a>").elements()[1].at == Position(3, 1)


def test_what_is_not_well_formed_has_a_position() -> None:
    assert problem("<a>\n<b></a>") == (2, 6, "xml")
    assert problem("") == (1, 1, "xml")
    assert problem("<a/><b/>") == (1, 5, "xml")


def test_entity_declarations_are_refused() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY x "yyyy"><!ENTITY z "&x;&x;">]>\n<a>&z;</a>'
    assert problem(bomb)[2] == "entity"


def test_size_and_depth_are_bounded() -> None:
    assert problem(b" " * (MAX_BYTES + 1))[2] == "document-size"
    assert problem("<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1))[2] == "depth"


def test_text_is_taken_as_it_is() -> None:
    assert decode("plain") == "plain"
