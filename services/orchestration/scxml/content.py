"""Executable content (SCXML 4, 6): elements -> statements, with every attribute rule checked."""

from __future__ import annotations

import re

from services.orchestration.scxml import document as doc
from services.orchestration.scxml.extensions import MODULES, ActionRule, Attr, Child, module_of
from services.orchestration.scxml.loading import Loader, base_of
from services.orchestration.scxml.problems import Report
from services.orchestration.scxml.reader import Element
from services.orchestration.scxml.xmltext import to_text, to_tree

SCXML = "http://www.w3.org/2005/07/scxml"
DELAY = re.compile(r"^\s*\+?\d*\.?\d+(s|ms|m|h|d)\s*$")
EVENT_NAME = re.compile(r"^[^\s*.][^\s*]*$")


class ContentParser:
    """Reads statements and the small elements that hang on them."""

    def __init__(self, loader: Loader, report: Report) -> None:
        self.loader = loader
        self.report = report
        self._readers = {
            "raise": self._raise,
            "if": self._if,
            "foreach": self._foreach,
            "log": self._log,
            "assign": self._assign,
            "script": self.script,
            "send": self._send,
            "cancel": self._cancel,
        }

    # -- shared rules -------------------------------------------------------------------------------

    def attributes(self, element: Element, allowed: str, required: str = "") -> None:
        """Only these attributes without namespace, and at least those."""
        names = allowed.split() + required.split()
        for attribute in element.attributes:
            if not attribute.namespace and attribute.name not in names:
                at = element.attribute_at(attribute.name)
                message = f"<{element.qname()}> has no attribute {attribute.name!r}"
                self.report.error(at, "attribute-unknown", message)
        for name in required.split():
            if element.get(name) is None:
                message = f"<{element.qname()}> needs the attribute {name!r}"
                self.report.error(element.at, "attribute-missing", message)

    def exclusive(self, element: Element, first: str, second: str) -> None:
        if element.get(first) is not None and element.get(second) is not None:
            message = f"<{element.qname()}> has both {first!r} and {second!r}; one excludes the other"
            self.report.error(element.attribute_at(second), "attribute-exclusive", message)

    def code(self, element: Element, name: str) -> doc.Code | None:
        value = element.get(name)
        return None if value is None else doc.Code(value, element.attribute_at(name))

    def needed(self, element: Element, name: str) -> doc.Code:
        return self.code(element, name) or doc.Code("", element.at)

    def no_text(self, element: Element) -> None:
        if element.text().strip():
            message = f"<{element.qname()}> holds no text; found {element.text().strip()[:40]!r}"
            self.report.error(element.at, "text-unexpected", message)

    def leaf(self, element: Element) -> None:
        for child in element.elements():
            self.unexpected(child, element)
        self.no_text(element)

    def unexpected(self, child: Element, parent: Element) -> None:
        module = module_of(child.namespace)
        if child.namespace == SCXML:
            rule, what = "element-misplaced", f"<{child.qname()}> is not allowed inside <{parent.qname()}>"
        elif module in MODULES:
            rule, what = "element-misplaced", f"action <{child.qname()}> is not allowed here"
        else:
            rule = "element-unknown"
            what = f"unknown element <{child.qname()}> of namespace {child.namespace or '(none)'!r}"
        self.report.error(child.at, rule, what)

    def inline(self, element: Element) -> doc.Inline | None:
        """Literal content of an element; None when there is none."""
        inner = element.elements()
        if inner:
            if len(inner) > 1:
                message = f"<{element.qname()}> holds more than one element; only the first is used"
                self.report.warning(inner[1].at, "content-many", message)
            return doc.Inline(to_text(inner[0]), tuple(to_tree(inner[0])))
        text = element.text()
        return doc.Inline(text, None) if text.strip() else None

    def namelist(self, element: Element) -> tuple[doc.Code, ...]:
        at = element.attribute_at("namelist")
        return tuple(doc.Code(name, at) for name in (element.get("namelist") or "").split())

    def params(self, element: Element) -> tuple[doc.Param, ...]:
        return tuple(self.param(child) for child in element.elements() if is_scxml(child, "param"))

    def param(self, element: Element) -> doc.Param:
        self.attributes(element, "expr location", "name")
        self.exclusive(element, "expr", "location")
        self.leaf(element)
        expr, location = self.code(element, "expr"), self.code(element, "location")
        if expr is None and location is None:
            message = "<param> needs 'expr' or 'location'"
            self.report.error(element.at, "attribute-missing", message)
        return doc.Param(element.at, element.get("name") or "", expr, location)

    def content_of(self, element: Element) -> doc.Content | None:
        found = [child for child in element.elements() if is_scxml(child, "content")]
        if len(found) > 1:
            self.report.error(found[1].at, "element-repeated", "only one <content> is allowed")
        return self.content(found[0]) if found else None

    def content(self, element: Element) -> doc.Content:
        self.attributes(element, "expr")
        inline = self.inline(element)
        if element.get("expr") is not None and inline is not None:
            self.report.error(element.at, "content-exclusive", "<content> has both 'expr' and inline content")
        return doc.Content(element.at, self.code(element, "expr"), inline)

    def payload(self, element: Element, allowed: tuple[str, ...]) -> None:
        """Children may only be of these names; namelist and params exclude content."""
        for child in element.elements():
            if not any(is_scxml(child, name) for name in allowed):
                self.unexpected(child, element)
        self.no_text(element)
        content = [child for child in element.elements() if is_scxml(child, "content")]
        values = element.get("namelist") or [c for c in element.elements() if is_scxml(c, "param")]
        if content and values:
            message = "<content> excludes namelist and <param>"
            self.report.error(content[0].at, "content-exclusive", message)

    def delay(self, element: Element) -> None:
        value = element.get("delay")
        if value is not None and not DELAY.match(value):
            message = f"delay {value!r} is not a number followed by s, ms, m, h or d"
            self.report.error(element.attribute_at("delay"), "delay", message)

    # -- statements ---------------------------------------------------------------------------------

    def block(self, parent: Element, skip: tuple[str, ...] = ()) -> tuple[doc.Statement, ...]:
        """All children of an element as statements."""
        self.no_text(parent)
        found = []
        for child in parent.elements():
            if child.namespace == SCXML and child.name in skip:
                continue
            statement = self.statement(child, parent)
            if statement is not None:
                found.append(statement)
        return tuple(found)

    def statement(self, element: Element, parent: Element) -> doc.Statement | None:
        module = module_of(element.namespace)
        if module is not None:
            return self._action(element, module)
        reader = self._readers.get(element.name) if element.namespace == SCXML else None
        if reader is None:
            self.unexpected(element, parent)
            return None
        return reader(element)

    def _raise(self, element: Element) -> doc.Statement:
        self.attributes(element, "", "event")
        self.leaf(element)
        event = element.get("event") or ""
        if event and not EVENT_NAME.match(event):
            self.report.error(element.attribute_at("event"), "event-name", f"{event!r} is no event name")
        return doc.Raise(element.at, event)

    def _log(self, element: Element) -> doc.Statement:
        self.attributes(element, "label expr")
        self.leaf(element)
        return doc.Log(element.at, element.get("label") or "", self.code(element, "expr"))

    def _assign(self, element: Element) -> doc.Statement:
        self.attributes(element, "expr type attr", "location")
        inline = self.inline(element)
        if element.get("expr") is not None and inline is not None:
            self.report.error(element.at, "content-exclusive", "<assign> has both 'expr' and inline content")
        return doc.Assign(element.at, self.needed(element, "location"), self.code(element, "expr"), inline)

    def script(self, element: Element) -> doc.Script:
        self.attributes(element, "src type charset")
        src, text = element.get("src"), element.text()
        if element.elements():
            self.report.error(element.elements()[0].at, "element-misplaced", "<script> holds only text")
        if src is None:
            return doc.Script(element.at, doc.Code(text, element.at))
        if text.strip():
            self.report.error(element.at, "content-exclusive", "<script> has both 'src' and text")
        try:
            code = self.loader.text(src, base_of(element.at, self.loader.url))
        except OSError as error:
            at = element.attribute_at("src")
            self.report.error(at, "script-source", f"cannot load the script: {error}")
            code = ""
        return doc.Script(element.at, doc.Code(code, element.at))

    def _if(self, element: Element) -> doc.Statement:
        self.attributes(element, "", "cond")
        self.no_text(element)
        branches: list[tuple[doc.Code | None, list[doc.Statement]]] = [(self.needed(element, "cond"), [])]
        for child in element.elements():
            if is_scxml(child, "elseif") or is_scxml(child, "else"):
                if branches[-1][0] is None:
                    self.report.error(child.at, "else-last", f"<{child.name}> after <else>")
                self.attributes(child, "", "cond" if child.name == "elseif" else "")
                self.leaf(child)
                cond = self.needed(child, "cond") if child.name == "elseif" else None
                branches.append((cond, []))
                continue
            statement = self.statement(child, element)
            if statement is not None:
                branches[-1][1].append(statement)
        return doc.If(element.at, tuple(doc.Branch(cond, tuple(body)) for cond, body in branches))

    def _foreach(self, element: Element) -> doc.Statement:
        self.attributes(element, "index", "array item")
        array, item = self.needed(element, "array"), self.needed(element, "item")
        return doc.Foreach(element.at, array, item, self.code(element, "index"), self.block(element))

    def _send(self, element: Element) -> doc.Statement:
        pairs = ("event", "target", "type", "delay")
        names = " ".join(pairs) + " " + " ".join(f"{name}expr" for name in pairs)
        self.attributes(element, f"{names} id idlocation namelist hints hintsexpr")
        for name in pairs:
            self.exclusive(element, name, f"{name}expr")
        self.exclusive(element, "id", "idlocation")
        self.payload(element, ("param", "content"))
        self.delay(element)
        values = {name: element.get(name) or "" for name in (*pairs, "id") if element.get(name) is not None}
        exprs = {name: code for name in pairs if (code := self.code(element, f"{name}expr"))}
        if hints := (self.code(element, "hintsexpr") or self.code(element, "hints")):
            exprs["hints"] = hints
        if values.get("target") == "#_internal" and ("delay" in values or "delay" in exprs):
            self.report.error(element.at, "delay-internal", "an event to #_internal cannot be delayed")
        content = self.content_of(element)
        if content is None and not {"event"} & (values.keys() | exprs.keys()):
            target = "type" in values or "type" in exprs
            if not target:
                self.report.error(element.at, "attribute-missing", "<send> needs 'event' or <content>")
        return doc.Send(
            element.at,
            values,
            exprs,
            self.code(element, "idlocation"),
            self.namelist(element),
            self.params(element),
            content,
        )

    def _cancel(self, element: Element) -> doc.Statement:
        self.attributes(element, "sendid sendidexpr")
        self.exclusive(element, "sendid", "sendidexpr")
        self.leaf(element)
        sendid, expr = element.get("sendid"), self.code(element, "sendidexpr")
        if sendid is None and expr is None:
            self.report.error(element.at, "attribute-missing", "<cancel> needs 'sendid' or 'sendidexpr'")
        return doc.Cancel(element.at, sendid, expr)

    # -- extensions ---------------------------------------------------------------------------------

    def _action(self, element: Element, module: str) -> doc.Statement | None:
        known = MODULES.get(module)
        if known is None:
            message = f"unknown extension {element.namespace!r} of <{element.qname()}>"
            self.report.error(element.at, "extension-unknown", message)
            return None
        rule = known.actions.get(element.name)
        if rule is None:
            message = f"extension {module!r} has no action <{element.qname()}>; it has {_list(known.actions)}"
            self.report.error(element.at, "extension-action", message)
            return None
        exprs, words = self._extension_attributes(element, rule.attributes)
        location = rule.attributes["requestid"].kind == "location"
        params, content, children = self._extension_body(element, rule)
        return doc.ExtensionAction(
            element.at,
            module,
            element.name,
            {name: code for name, code in exprs.items() if not (location and name == "requestid")},
            words,
            exprs.get("requestid") if location else None,
            children,
            params,
            content,
        )

    def _extension_body(
        self, element: Element, rule: ActionRule
    ) -> tuple[tuple[doc.Param, ...], doc.Content | None, tuple[doc.ExtensionChild, ...]]:
        """`<param>` and `<content>` (of either namespace) and the action's own parameter elements."""
        params: list[doc.Param] = []
        content: doc.Content | None = None
        children = []
        self.no_text(element)
        for child in element.elements():
            if child.name in rule.children and child.namespace == element.namespace:
                children.append(self._extension_child(child, rule.children[child.name]))
            elif child.name == "param" and child.namespace in (SCXML, element.namespace):
                params.append(self.param(child))
            elif child.name == "content" and child.namespace in (SCXML, element.namespace):
                content = self.content(child)
            else:
                message = f"<{child.qname()}> is not allowed inside <{element.qname()}>"
                self.report.error(child.at, "element-misplaced", message)
        return tuple(params), content, tuple(children)

    def _extension_attributes(
        self, element: Element, rules: dict[str, Attr]
    ) -> tuple[dict[str, doc.Code], dict[str, str]]:
        required = " ".join(name for name, rule in rules.items() if rule.required)
        self.attributes(element, " ".join(rules), required)
        exprs: dict[str, doc.Code] = {}
        words: dict[str, str] = {}
        for name, rule in rules.items():
            value = element.get(name)
            if value is None:
                continue
            if rule.kind == "text" or value.strip() in rule.words:
                words[name] = value.strip()
            else:
                exprs[name] = doc.Code(value, element.attribute_at(name))
        return exprs, words

    def _extension_child(self, element: Element, rule: Child) -> doc.ExtensionChild:
        exprs, words = self._extension_attributes(element, rule.attributes)
        children = []
        for child in element.elements():
            if child.name in rule.children and child.namespace == element.namespace:
                children.append(self._extension_child(child, rule.children[child.name]))
            else:
                message = f"<{child.qname()}> is not allowed inside <{element.qname()}>"
                self.report.error(child.at, "element-misplaced", message)
        return doc.ExtensionChild(element.name, exprs, words, tuple(children), element.text().strip())


def is_scxml(element: Element, name: str) -> bool:
    return element.namespace == SCXML and element.name == name


def _list(names: dict[str, ActionRule]) -> str:
    return ", ".join(sorted(names))
