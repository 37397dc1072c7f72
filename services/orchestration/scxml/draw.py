"""A statechart as SVG: states as nested boxes in document order, transitions as arrows between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from services.orchestration.scxml import document as doc

FONT = 12
CHARACTER = 7.3
"""Width of one character of the font, in pixels; close enough to leave room."""
LINE = 17
PAD = 14
GAP = 46
"""Least room between neighbours, where arrows and their labels go."""
ROW_WIDTH = 1100
LABEL = 46
"""Characters of a condition or action that are shown."""

STYLE = """
text { font: 12px "DejaVu Sans Mono", monospace; fill: #222 }
.name { font-weight: bold }
.state { fill: #fff; stroke: #345; stroke-width: 1.3 }
.compound { fill: #f4f7fb; stroke: #345; stroke-width: 1.3 }
.parallel { fill: #fbf8ef; stroke: #654; stroke-width: 1.3; stroke-dasharray: 7 4 }
.final { fill: #fff; stroke: #111; stroke-width: 3 }
.history { fill: #fff; stroke: #345 }
.edge { fill: none; stroke: #58718c; stroke-width: 1.2; marker-end: url(#tip) }
.label { fill: #234; paint-order: stroke; stroke: #fff; stroke-width: 4px }
.initial { fill: #111 }
""".strip()


@dataclass(slots=True)
class Box:
    state: doc.State
    lines: list[str]
    children: list[Box]
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0
    gap: float = GAP
    """Room to the right, for the labels of the arrows that leave."""
    rows: list[list[Box]] = field(default_factory=list)

    def move(self, x: float, y: float) -> None:
        self.x, self.y = x, y
        top = y + PAD + LINE * (1 + len(self.lines))
        for row in self.rows:
            left = x + PAD
            for child in row:
                child.move(left, top)
                left += child.width + child.gap
            top += max(child.height for child in row) + GAP / 2

    def walk(self) -> list[Box]:
        return [self, *(box for child in self.children for box in child.walk())]


def draw(document: doc.Document) -> str:
    """SVG text of the whole document."""
    root = _box(document.root)
    root.move(10, 10)
    boxes = root.walk()
    by_id = {box.state.id: box for box in boxes}
    edges = [_edge(box, t, by_id) for box in boxes for t in box.state.transitions if t.targets]
    width, height = root.width + 20, root.height + 20
    name = escape(document.name or "scxml")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}">'
    marker = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"'
        ' orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#58718c"/></marker></defs>'
    )
    shapes = [_shape(box, name if box is root else box.state.id) for box in boxes]
    parts = [head, f"<title>{name}</title>", f"<style>{STYLE}</style>", marker, *shapes]
    return "\n".join([*parts, *(edge for edge in edges if edge), "</svg>\n"])


# -- boxes --------------------------------------------------------------------------------------------


def _box(state: doc.State) -> Box:
    box = Box(state, _lines(state), [_box(child) for child in state.children])
    row: list[Box] = []
    used = 0.0
    for child in box.children:
        if row and used + child.width > ROW_WIDTH and state.kind != "parallel":
            box.rows.append(row)
            row, used = [], 0.0
        row.append(child)
        used += child.width + child.gap
    if row:
        box.rows.append(row)
    _measure(box)
    inside = {inner.state.id for inner in box.walk()}
    for inner in box.walk():
        for transition in inner.state.transitions:
            if set(transition.targets) - inside:
                box.gap = max(box.gap, len(_cut(_label(transition))) * CHARACTER + 24)
    return box


def _measure(box: Box) -> None:
    text = max([len(box.state.id) + 2, *(len(line) for line in box.lines)])
    inner = max((sum(child.width + child.gap for child in row) for row in box.rows), default=0.0)
    box.width = max(text * CHARACTER, inner) + 2 * PAD
    rows = sum(max(child.height for child in row) + GAP / 2 for row in box.rows)
    box.height = 2 * PAD + LINE * (1 + len(box.lines)) + rows


def _lines(state: doc.State) -> list[str]:
    """What a box says besides its name: handlers, services, transitions that stay inside."""
    found = []
    for word, blocks in (("entry", state.onentry), ("exit", state.onexit)):
        actions = [_action(statement) for block in blocks for statement in block]
        if actions:
            found.append(_cut(f"{word} / {', '.join(actions)}"))
    for invoke in state.invokes:
        what = invoke.values.get("src") or invoke.values.get("id") or "…"
        found.append(_cut(f"invoke {what}"))
    found += [_cut(_label(t)) for t in state.transitions if not t.targets]
    return found


def _action(statement: doc.Statement) -> str:
    match statement:
        case doc.ExtensionAction():
            return f"{statement.module}:{statement.name}"
        case doc.Raise():
            return f"raise {statement.event}"
        case doc.Send():
            return f"send {statement.values.get('event', '…')}"
        case doc.Assign():
            return f"{statement.location.text} = …"
        case _:
            return type(statement).__name__.lower()


def _label(transition: doc.Transition) -> str:
    text = " ".join(transition.events)
    if transition.cond is not None:
        text += f" [{' '.join(transition.cond.text.split())}]"
    if transition.body:
        text += " / " + ", ".join(_action(statement) for statement in transition.body)
    return text.strip()


def _cut(text: str) -> str:
    return text if len(text) <= LABEL else text[: LABEL - 1] + "…"


def _shape(box: Box, name: str) -> str:
    state = box.state
    kind = state.kind if state.kind not in ("scxml", "state") else "compound" if box.children else "state"
    size = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
    parts = [f'<rect class="{kind}" {size} rx="8"/>']
    label = f"{'H*' if state.deep else 'H'} {name}" if kind == "history" else name
    y = box.y + PAD + FONT - 2
    parts.append(f'<text class="name" x="{box.x + PAD:.1f}" y="{y:.1f}">{escape(label)}</text>')
    for number, line in enumerate(box.lines, 1):
        parts.append(f'<text x="{box.x + PAD:.1f}" y="{y + number * LINE:.1f}">{escape(line)}</text>')
    parts += [_initial_dot(child) for child in _initial_children(box)]
    return "\n".join(parts)


def _initial_children(box: Box) -> list[Box]:
    states = [child for child in box.children if child.state.kind != "history"]
    if box.state.kind == "parallel" or not states:
        return []
    if box.state.initial is None:
        return states[:1]
    return [child for child in box.walk()[1:] if child.state.id in box.state.initial.targets]


def _initial_dot(box: Box) -> str:
    x, y = box.x - 12, box.y + PAD
    arrow = f'<path class="edge" d="M{x:.1f} {y:.1f} L{box.x:.1f} {y:.1f}"/>'
    return f'<circle class="initial" cx="{x:.1f}" cy="{y:.1f}" r="4"/>{arrow}'


# -- arrows -------------------------------------------------------------------------------------------


def _edge(box: Box, transition: doc.Transition, by_id: dict[str, Box]) -> str:
    parts = []
    for target in transition.targets:
        path, x, y = _curve(box, by_id[target])
        parts.append(f'<path class="edge" d="{path}"/>')
        text = escape(_cut(_label(transition)))
        parts.append(f'<text class="label" text-anchor="middle" x="{x:.1f}" y="{y:.1f}">{text}</text>')
    return "\n".join(parts)


def _curve(source: Box, target: Box) -> tuple[str, float, float]:
    """A path between two boxes and where its label goes."""
    if source is target:
        x, y = source.x + source.width, source.y + PAD
        return f"M{x:.1f} {y:.1f} c34 -12 34 30 0 18", x + 26, y + 10
    if target.x >= source.x + source.width:
        start = (source.x + source.width, source.y + source.height / 2)
        end = (target.x, target.y + target.height / 2)
        bend = (end[0] - start[0]) / 2
        path = f"M{start[0]:.1f} {start[1]:.1f} c{bend:.1f} 0 {bend:.1f} {end[1] - start[1]:.1f}"
        path += f" {end[0] - start[0]:.1f} {end[1] - start[1]:.1f}"
    elif target.y >= source.y + source.height:
        start = (source.x + source.width / 2, source.y + source.height)
        end = (target.x + target.width / 2, target.y)
        path = f"M{start[0]:.1f} {start[1]:.1f} L{end[0]:.1f} {end[1]:.1f}"
    else:
        start = (source.x + source.width / 3, source.y)
        end = (target.x + target.width * 2 / 3, target.y)
        lift = min(start[1], end[1]) - 24
        path = f"M{start[0]:.1f} {start[1]:.1f} C{start[0]:.1f} {lift:.1f} {end[0]:.1f} {lift:.1f}"
        path += f" {end[0]:.1f} {end[1]:.1f}"
        return path, (start[0] + end[0]) / 2, lift + 8
    return path, (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 4
