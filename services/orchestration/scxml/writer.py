"""Writing JavaScript that can be read, and remembering which line came from where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.orchestration.scxml import sourcemap
from services.orchestration.scxml.problems import Position


class Writer:
    """Lines of code with indentation; each may know the position in the document that it came from."""

    def __init__(self) -> None:
        self._lines: list[tuple[int | None, str, str, Position | None]] = []
        """Depth (None: the line keeps its shape), code, comment, position."""
        self._depth = 0

    def line(self, text: str, at: Position | None = None, *, note: str = "") -> None:
        """Add one logical line, with a comment behind it; text that runs over several keeps its shape."""
        parts = text.split("\n")
        self._lines.append((self._depth, parts[0], note, at))
        for number, part in enumerate(parts[1:], 1):
            follow = Position(at.line + number, 1, at.file) if at else None
            self._lines.append((None, part, "", follow))

    def raw(self, text: str) -> None:
        """A line without indentation, inside a template literal."""
        self._lines.append((None, text, "", None))

    @contextmanager
    def block(self, head: str, tail: str, at: Position | None = None, *, note: str = "") -> Iterator[None]:
        """A head, an indented body, a tail."""
        self.line(head, at, note=note)
        with self.indented():
            yield
        self.line(tail)

    @contextmanager
    def indented(self) -> Iterator[None]:
        self._depth += 1
        yield
        self._depth -= 1

    def append(self, other: Writer) -> None:
        """Add another writer's lines at this depth."""
        for depth, text, note, at in other._lines:
            self._lines.append((None if depth is None else self._depth + depth, text, note, at))

    def text(self, *, compact: bool = False) -> str:
        """All lines; compact without indentation and comments, the lines staying what they are."""
        if compact:
            return "\n".join(text for _, text, _, _ in self._lines) + "\n"
        return "".join(
            f"{'  ' * (depth or 0)}{text}{f' // {note}' if note else ''}\n"
            for depth, text, note, _ in self._lines
        )

    def source_map(self, file: str) -> str:
        """The map from these lines to the document; `file` is the document's own address."""
        sources = [file]
        entries: list[tuple[int, int, int] | None] = []
        for *_, at in self._lines:
            if at is None:
                entries.append(None)
                continue
            name = at.file or file
            if name not in sources:
                sources.append(name)
            entries.append((sources.index(name), at.line, at.column))
        return sourcemap.encode(entries, sources, f"{file}.js")
