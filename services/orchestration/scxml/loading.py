"""Fetching what a document is made of: XInclude, `<script src>`, `<data src>`.

All of it is fetched when the document is compiled, so that one compiled version is one behaviour; the
hash of each part belongs to the version.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from urllib.parse import urljoin

from services.orchestration.scxml.problems import CompileError, Position, Report
from services.orchestration.scxml.reader import MAX_BYTES, Element, decode, read

XINCLUDE = "http://www.w3.org/2001/XInclude"
MAX_INCLUDES = 100
MAX_INCLUDE_DEPTH = 10

Resolve = Callable[[str], bytes]
"""Gives the bytes at an absolute address; raises OSError, LookupError or ValueError when it cannot."""


class Loader:
    """Fetches parts of one document and remembers their hashes."""

    def __init__(self, url: str, resolve: Resolve | None, report: Report) -> None:
        self.url = url
        self.report = report
        self.parts: dict[str, str] = {}
        """Address -> SHA-256 of what was there."""
        self._resolve = resolve
        self._cache: dict[str, bytes] = {}

    def fetch(self, src: str, base: str = "") -> bytes:
        """Bytes at `src`, relative to `base` or the document. Raises OSError with a plain reason."""
        address = urljoin(base or self.url, src)
        if address in self._cache:
            return self._cache[address]
        if self._resolve is None:
            raise OSError(f"{address}: this document may not load other files")
        try:
            data = self._resolve(address)
        except (OSError, LookupError, ValueError) as error:
            raise OSError(f"{address}: {error}") from error
        if len(data) > MAX_BYTES:
            raise OSError(f"{address}: {len(data)} bytes; at most {MAX_BYTES} are accepted")
        self._cache[address] = data
        self.parts[address] = hashlib.sha256(data).hexdigest()
        return data

    def text(self, src: str, base: str = "") -> str:
        """The same as text; XML declarations and byte order marks choose the encoding."""
        try:
            return decode(self.fetch(src, base))
        except CompileError as error:
            raise OSError(error.problems[0].message) from error

    def include(self, root: Element) -> Element:
        """Replace every `xi:include` below (and at) the root by what it names."""
        return self._expand(root, self.url, (self.url,))

    def _expand(self, element: Element, base: str, chain: tuple[str, ...]) -> Element:
        children: list[Element | str] = []
        for child in element.children:
            if isinstance(child, Element) and child.namespace == XINCLUDE:
                children += self._included(child, base, chain)
            elif isinstance(child, Element):
                children.append(self._expand(child, base, chain))
            else:
                children.append(child)
        element.children = children
        return element

    def _included(self, element: Element, base: str, chain: tuple[str, ...]) -> list[Element | str]:
        if element.name != "include":
            self.report.error(element.at, "xinclude", f"<{element.qname()}> stands alone")
            return []
        href = element.get("href")
        if not href:
            self.report.error(element.at, "xinclude", "an include without href")
            return []
        address = urljoin(base, href)
        if address in chain or len(chain) > MAX_INCLUDE_DEPTH:
            self.report.error(element.at, "xinclude", f"{address} includes itself or is nested too deeply")
            return []
        if len(self.parts) >= MAX_INCLUDES:
            self.report.error(element.at, "xinclude", f"more than {MAX_INCLUDES} files")
            return []
        try:
            return self._load(element, address, chain)
        except OSError as error:
            return self._fallback(element, str(error), base, chain)
        except CompileError as error:
            self.report.errors += error.problems
            return []

    def _load(self, element: Element, address: str, chain: tuple[str, ...]) -> list[Element | str]:
        if element.get("parse") == "text":
            return [self.text(address)]
        root = self._expand(read(self.fetch(address), address), address, (*chain, address))
        pointer = element.get("xpointer")
        if pointer is None:
            return [root]
        name = re.fullmatch(r"(?:element\()?([\w.\-]+)\)?", pointer)
        found = _by_id(root, name.group(1)) if name else None
        if found is None:
            self.report.error(element.at, "xinclude", f"nothing at xpointer {pointer!r} in {address}")
            return []
        return [found]

    def _fallback(
        self, element: Element, reason: str, base: str, chain: tuple[str, ...]
    ) -> list[Element | str]:
        for child in element.elements():
            if child.namespace == XINCLUDE and child.name == "fallback":
                return self._expand(child, base, chain).children
        self.report.error(element.at, "xinclude", f"cannot include: {reason}")
        return []


def _by_id(element: Element, name: str) -> Element | None:
    if element.get("id") == name:
        return element
    for child in element.elements():
        if found := _by_id(child, name):
            return found
    return None


def base_of(at: Position, url: str) -> str:
    """The address that relative references at this position start from."""
    return at.file or url
