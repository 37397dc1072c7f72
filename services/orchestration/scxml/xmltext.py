"""Elements back to XML text, and XML to the tree that a session sees as DOM nodes."""

from __future__ import annotations

import json
import re
from xml.sax.saxutils import escape, quoteattr

from services.orchestration.scxml.effects import Json
from services.orchestration.scxml.problems import CompileError
from services.orchestration.scxml.reader import XML_NAMESPACE, Element, read


def to_text(element: Element, scope: dict[str, str] | None = None) -> str:
    """XML text that stands alone: every namespace in use is declared on the way down."""
    scope = {"": "", "xml": XML_NAMESPACE} if scope is None else scope
    inner = dict(scope)
    declarations = []
    wanted = [(element.prefix, element.namespace)]
    wanted += [(a.prefix, a.namespace) for a in element.attributes if a.namespace]
    for prefix, namespace in wanted:
        if inner.get(prefix) != namespace:
            inner[prefix] = namespace
            declarations.append((f"xmlns:{prefix}" if prefix else "xmlns", namespace))
    attributes = [(f"{a.prefix}:{a.name}" if a.prefix else a.name, a.value) for a in element.attributes]
    head = element.qname() + "".join(f" {key}={quoteattr(value)}" for key, value in declarations + attributes)
    if not element.children:
        return f"<{head}/>"
    body = "".join(
        escape(child) if isinstance(child, str) else to_text(child, inner) for child in element.children
    )
    return f"<{head}>{body}</{element.qname()}>"


def to_tree(element: Element) -> list[Json]:
    """`[name, {attribute: value}, [children], namespace]`, the form XML has inside JSON."""
    attributes = {(f"{a.prefix}:{a.name}" if a.prefix else a.name): a.value for a in element.attributes}
    children = [child if isinstance(child, str) else to_tree(child) for child in element.children]
    tree: list[Json] = [element.qname(), attributes, children]
    if element.namespace:
        tree.append(element.namespace)
    return tree


def tree_to_text(tree: list[Json], namespace: str = "") -> str:
    """XML text of such a tree."""
    own = tree[3] if len(tree) > 3 else ""
    prefix = tree[0].rpartition(":")[0]
    head = tree[0]
    if prefix and own:
        head += f" xmlns:{prefix}={quoteattr(own)}"
    elif own != namespace:
        head += f" xmlns={quoteattr(own)}"
    head += "".join(f" {key}={quoteattr(str(value))}" for key, value in tree[1].items())
    inherited = namespace if prefix else own
    body = "".join(
        escape(child) if isinstance(child, str) else tree_to_text(child, inherited) for child in tree[2]
    )
    return f"<{head}>{body}</{tree[0]}>" if body else f"<{head}/>"


def normalise_space(text: str) -> str:
    """Runs of white space become one blank, none at either end (SCXML B.2.1)."""
    return re.sub(r"\s+", " ", text).strip()


def interpret(text: str) -> Json:
    """What raw content means to the ECMAScript data model: JSON, else XML, else a normalised string."""
    stripped = text.strip()
    try:
        return json.loads(stripped, parse_constant=_refuse)
    except ValueError:
        pass
    if stripped.startswith("<"):
        try:
            return {"$xml": to_tree(read(stripped))}
        except CompileError:
            pass  # not XML either: B.2.1 says it is a string then
    return normalise_space(text)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
