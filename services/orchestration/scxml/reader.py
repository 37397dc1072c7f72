"""XML text -> a tree of elements that know where they stand.

expat does the parsing, one document at a time, with namespaces. Declared encodings are honoured, entity
declarations are refused (they are how small documents become large ones), size and depth are bounded.
"""

from __future__ import annotations

import bisect
import codecs
import re
from dataclasses import dataclass, field
from xml.parsers import expat

from services.orchestration.scxml.problems import CompileError, Position, Problem

MAX_BYTES = 4 * 1024 * 1024
"""A megabyte is already a very large generated application."""
MAX_DEPTH = 120
"""Elements; parsing and writing take several Python frames for each."""
MAX_ELEMENTS = 50_000
XML_NAMESPACE = "http://www.w3.org/XML/1998/namespace"


@dataclass(slots=True)
class Attribute:
    namespace: str
    name: str
    prefix: str
    value: str


@dataclass(slots=True)
class Element:
    namespace: str
    name: str
    prefix: str
    at: Position
    attributes: list[Attribute]
    children: list[Element | str] = field(default_factory=list)
    source: Source | None = None
    offset: int = 0
    """Where the start tag begins in the source's UTF-8 bytes."""

    def get(self, name: str) -> str | None:
        """Value of an attribute without namespace."""
        for attribute in self.attributes:
            if attribute.name == name and not attribute.namespace:
                return attribute.value
        return None

    def elements(self) -> list[Element]:
        return [child for child in self.children if isinstance(child, Element)]

    def text(self) -> str:
        """Character data directly inside, comments and elements left out."""
        return "".join(child for child in self.children if isinstance(child, str))

    def qname(self) -> str:
        return f"{self.prefix}:{self.name}" if self.prefix else self.name

    def attribute_at(self, name: str) -> Position:
        """Where the value of an attribute begins; the element itself when it has none of that name."""
        return self.source.attribute_at(self, name) if self.source else self.at


class Source:
    """The text of one file, to find positions in."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.data = text.encode("utf-8")
        self._starts = [0, *(match.end() for match in re.finditer(b"\n", self.data))]

    def position(self, offset: int) -> Position:
        line = bisect.bisect_right(self._starts, offset)
        before = self.data[self._starts[line - 1] : offset]
        return Position(line, len(before.decode("utf-8", "replace")) + 1, self.file)

    def attribute_at(self, element: Element, name: str) -> Position:
        for match in _ATTRIBUTE.finditer(self.data, element.offset, self._tag_end(element.offset)):
            if match.group(1).decode("utf-8").split(":")[-1] == name:
                return self.position(match.start(2) + 1)
        return element.at

    def _tag_end(self, offset: int) -> int:
        match = _START_TAG.match(self.data, offset)
        return match.end() if match else offset


_ATTRIBUTE = re.compile(rb"([\w:.\-\x80-\xff]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_START_TAG = re.compile(rb"<[^\s/>]+(?:\s*[\w:.\-\x80-\xff]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*")
_DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._\-]+)[\"']")


def fail(line: int, column: int, rule: str, message: str, file: str = "") -> CompileError:
    """A CompileError with one problem."""
    return CompileError([Problem(line, column, rule, message, file)])


def decode(data: bytes | str, file: str = "") -> str:
    """Text of an XML file by its byte order mark or declaration, UTF-8 otherwise."""
    if isinstance(data, str):
        return data
    if len(data) > MAX_BYTES:
        raise fail(1, 1, "document-size", f"{len(data)} bytes; at most {MAX_BYTES} are accepted", file)
    declared = _DECLARED.match(data[:300])
    encoding = declared.group(1).decode("ascii") if declared else "utf-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    elif encoding.lower() == "windows-1252":
        # The five bytes cp1252 leaves open are control characters in every browser's decoder.
        return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in data)
    try:
        return data.decode(encoding)
    except LookupError:
        raise fail(1, 1, "encoding", f"unknown encoding {encoding!r}", file) from None
    except UnicodeDecodeError as error:
        raise fail(1, 1, "encoding", f"not {encoding}: byte {error.start} is {error.reason}", file) from None


def read(data: bytes | str, file: str = "") -> Element:
    """Parse one file. Raises CompileError for anything that is not well-formed XML within the limits."""
    return _Builder(decode(data, file).replace("\r\n", "\n").replace("\r", "\n"), file).parse()


class _Builder:
    def __init__(self, text: str, file: str) -> None:
        self.source = Source(text, file)
        self.stack: list[Element] = []
        self.root: Element | None = None
        self.count = 0
        self.parser = expat.ParserCreate("utf-8", namespace_separator=" ")
        self.parser.namespace_prefixes = True
        self.parser.ordered_attributes = True
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._entity

    def parse(self) -> Element:
        try:
            self.parser.Parse(self.source.data, True)
        except expat.ExpatError as error:
            message = expat.errors.messages.get(error.code, str(error))
            raise fail(error.lineno, error.offset + 1, "xml", message, self.source.file) from None
        assert self.root is not None  # expat refuses a file without an element
        return self.root

    def _here(self) -> Position:
        return Position(self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1, self.source.file)

    def _start(self, name: str, attributes: list[str]) -> None:
        at = self._here()
        self.count += 1
        if len(self.stack) >= MAX_DEPTH:
            raise fail(at.line, at.column, "depth", f"nested deeper than {MAX_DEPTH} elements", at.file)
        if self.count > MAX_ELEMENTS:
            raise fail(at.line, at.column, "size", f"more than {MAX_ELEMENTS} elements", at.file)
        pairs = zip(attributes[::2], attributes[1::2], strict=True)
        element = Element(
            *_split(name),
            at,
            [_attribute(key, value) for key, value in pairs],
            source=self.source,
            offset=self.parser.CurrentByteIndex,
        )
        if self.stack:
            self.stack[-1].children.append(element)
        else:
            self.root = element
        self.stack.append(element)

    def _end(self, _name: str) -> None:
        self.stack.pop()

    def _text(self, data: str) -> None:
        if self.stack:
            children = self.stack[-1].children
            if children and isinstance(children[-1], str):
                children[-1] += data
            else:
                children.append(data)

    def _entity(self, name: str, *_rest: object) -> None:
        at = self._here()
        raise fail(at.line, at.column, "entity", f"entity declarations are refused: {name}", at.file)


def _split(name: str) -> tuple[str, str, str]:
    parts = name.split(" ")
    if len(parts) == 1:
        return "", parts[0], ""
    return parts[0], parts[1], parts[2] if len(parts) > 2 else ""


def _attribute(key: str, value: str) -> Attribute:
    namespace, name, prefix = _split(key)
    return Attribute(namespace, name, prefix, value)
