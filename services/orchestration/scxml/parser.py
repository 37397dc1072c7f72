"""States (SCXML 3, 5, 6.4): the element tree -> `Document`, with every element rule checked."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from services.orchestration.scxml import document as doc
from services.orchestration.scxml import rules
from services.orchestration.scxml.content import SCXML, ContentParser, is_scxml
from services.orchestration.scxml.extensions import MODULES, module_of
from services.orchestration.scxml.loading import Loader, base_of
from services.orchestration.scxml.problems import Position, Report
from services.orchestration.scxml.reader import Element

NMTOKEN = re.compile(r"^[\w.\-:·]+$")
STATES = ("state", "parallel", "final", "history")

CHILDREN = {
    "scxml": {"state", "parallel", "final", "datamodel", "script"},
    "state": {"onentry", "onexit", "transition", "initial", "state", "parallel", "final", "history",
              "datamodel", "invoke"},
    "parallel": {"onentry", "onexit", "transition", "state", "parallel", "history", "datamodel", "invoke"},
    "final": {"onentry", "onexit", "donedata"},
    "history": {"transition"},
}  # fmt: skip
ATTRIBUTES = {"state": "id initial", "parallel": "id", "final": "id", "history": "id type"}


class DocumentParser:
    def __init__(self, loader: Loader, report: Report) -> None:
        self.report = report
        self.loader = loader
        self.content = ContentParser(loader, report)
        self._unnamed = 0
        self._taken: set[str] = set()

    def parse(self, root: Element) -> doc.Document:
        if root.namespace != SCXML or root.name != "scxml":
            message = f"the root element is <{root.qname()}>, not <scxml> of namespace {SCXML!r}"
            self.report.error(root.at, "root", message)
            self.report.stop_on_errors()
        self.content.attributes(root, "initial name version datamodel binding exmode profile initialstate")
        if root.get("version") not in ("1.0", None):
            self.report.error(root.attribute_at("version"), "version", "the version must be '1.0'")
        elif root.get("version") is None:
            self.report.warning(root.at, "version", "<scxml> has no version='1.0'")
        self._collect_ids(root)
        binding = root.get("binding") or "early"
        if binding not in ("early", "late"):
            at = root.attribute_at("binding")
            self.report.error(at, "binding", f"binding is 'early' or 'late', not {binding!r}")
        scripts = [self.content.script(child) for child in root.elements() if is_scxml(child, "script")]
        state = self._state(root, "scxml")
        if not [child for child in state.children if child.kind != "history"]:
            self.report.error(root.at, "no-state", "<scxml> needs at least one state")
        return doc.Document(
            root.get("name") or "", self._datamodel(root), binding == "late", state, tuple(scripts)
        )

    def _collect_ids(self, element: Element) -> None:
        if element.namespace == SCXML:
            self._taken.add(element.get("id") or "")
        for child in element.elements():
            self._collect_ids(child)

    def _datamodel(self, root: Element) -> Literal["ecmascript", "null"]:
        name = root.get("datamodel") or "ecmascript"
        if name not in ("ecmascript", "null"):
            at = root.attribute_at("datamodel")
            self.report.error(at, "datamodel", f"data model {name!r} is not supported; use 'ecmascript'")
        return "null" if name == "null" else "ecmascript"

    # -- states -------------------------------------------------------------------------------------

    def _state(self, element: Element, kind: doc.Kind) -> doc.State:
        self._check_state(element, kind)
        children = element.elements()
        inner = [
            self._state(child, child.name)  # type: ignore[arg-type]
            for child in children
            if child.namespace == SCXML and child.name in STATES and child.name in CHILDREN[kind]
        ]
        donedata = [child for child in children if is_scxml(child, "donedata")]
        name = self._id(element, kind)
        return doc.State(
            at=element.at,
            kind=kind,
            id=name or self._make_id(kind),
            named=name is not None,
            children=tuple(inner),
            initial=self._initial(element, kind),
            transitions=tuple(self._transition(c, kind) for c in children if is_scxml(c, "transition")),
            onentry=self._handlers(element, "onentry"),
            onexit=self._handlers(element, "onexit"),
            invokes=tuple(self._invoke(child) for child in children if is_scxml(child, "invoke")),
            data=tuple(data for c in children if is_scxml(c, "datamodel") for data in self._data(c)),
            donedata=self._donedata(donedata[0]) if donedata else None,
            deep=element.get("type") == "deep",
        )

    def _check_state(self, element: Element, kind: doc.Kind) -> None:
        if kind != "scxml":
            self.content.attributes(element, ATTRIBUTES[kind])
        self.content.no_text(element)
        for child in element.elements():
            if child.namespace != SCXML or child.name not in CHILDREN[kind]:
                self._misplaced(child, element)
        for name in ("initial", "donedata", "datamodel"):
            many = [child for child in element.elements() if is_scxml(child, name)]
            if len(many) > 1:
                message = f"<{element.qname()}> holds more than one <{name}>"
                self.report.error(many[1].at, "element-repeated", message)
        if kind == "history":
            self._check_history(element)

    def _check_history(self, element: Element) -> None:
        if element.get("type") not in (None, "shallow", "deep"):
            at = element.attribute_at("type")
            self.report.error(at, "history-type", "the type of a history is 'shallow' or 'deep'")
        if len([child for child in element.elements() if is_scxml(child, "transition")]) != 1:
            self.report.error(element.at, "history-default", "<history> needs exactly one <transition>")

    def _misplaced(self, child: Element, parent: Element) -> None:
        if child.namespace == SCXML or module_of(child.namespace) in MODULES:
            self.content.unexpected(child, parent)
        elif module_of(child.namespace) is not None:
            message = f"unknown extension {child.namespace!r} of <{child.qname()}>"
            self.report.error(child.at, "extension-unknown", message)
        else:
            # Foreign markup between states is documentation (editor layout and the like).
            self.report.warning(child.at, "element-foreign", f"<{child.qname()}> is ignored")

    def _id(self, element: Element, kind: doc.Kind) -> str | None:
        name = element.get("id")
        if kind == "scxml" or name is None:
            return None
        if not NMTOKEN.match(name):
            self.report.error(element.attribute_at("id"), "id", f"{name!r} is no legal id")
        return name

    def _make_id(self, kind: str) -> str:
        if kind == "scxml":
            return "scxml"
        while True:
            self._unnamed += 1
            name = f"{kind}.{self._unnamed}"
            if name not in self._taken:
                return name

    def _initial(self, element: Element, kind: doc.Kind) -> doc.Transition | None:
        found = [child for child in element.elements() if is_scxml(child, "initial")]
        attribute = element.get("initial") if kind in ("scxml", "state") else None
        if found and attribute is not None:
            message = "'initial' is given both as an attribute and as an element"
            self.report.error(found[0].at, "attribute-exclusive", message)
        if attribute is not None:
            at = element.attribute_at("initial")
            if not attribute.split():
                self.report.error(at, "target-empty", "'initial' names no state")
            return doc.Transition(at, (), None, tuple(attribute.split()), False, ())
        if not found or kind != "state":
            return None
        return self._initial_element(found[0])

    def _initial_element(self, element: Element) -> doc.Transition | None:
        self.content.attributes(element, "")
        inner = [child for child in element.elements() if is_scxml(child, "transition")]
        if len(inner) != 1 or len(element.elements()) != 1:
            self.report.error(element.at, "initial-transition", "<initial> needs exactly one <transition>")
            return None
        return self._transition(inner[0], "initial")

    def _handlers(self, element: Element, name: str) -> tuple[tuple[doc.Statement, ...], ...]:
        found = []
        for child in element.elements():
            if is_scxml(child, name):
                self.content.attributes(child, "")
                found.append(self.content.block(child))
        return tuple(found)

    # -- transitions --------------------------------------------------------------------------------

    def _transition(self, element: Element, parent: str) -> doc.Transition:
        self.content.attributes(element, "event cond target type")
        kind = element.get("type")
        if kind not in (None, "internal", "external"):
            at = element.attribute_at("type")
            self.report.error(at, "transition-type", "the type is 'internal' or 'external'")
        events, target = element.get("event"), element.get("target")
        if parent in ("initial", "history"):
            for name in ("event", "cond"):
                if element.get(name) is not None:
                    message = f"the transition of <{parent}> has no {name!r}"
                    self.report.error(element.attribute_at(name), "transition-default", message)
            if not target:
                message = f"the transition of <{parent}> needs a target"
                self.report.error(element.at, "target-missing", message)
        elif events is None and target is None and element.get("cond") is None:
            message = "a transition without event, cond and target would be taken for ever"
            self.report.warning(element.at, "transition-endless", message)
        if target is not None and not target.split():
            self.report.error(element.attribute_at("target"), "target-empty", "'target' names no state")
        return doc.Transition(
            element.at,
            self._descriptors(element, events),
            self.content.code(element, "cond"),
            tuple((target or "").split()),
            kind == "internal",
            self.content.block(element),
        )

    def _descriptors(self, element: Element, events: str | None) -> tuple[str, ...]:
        """Event descriptors without the optional `.*` or `.` at their ends (3.12.1)."""
        if events is None:
            return ()
        found = []
        for descriptor in events.split():
            bare = "*" if descriptor in ("*", ".*") else re.sub(r"(\.\*|\.)$", "", descriptor)
            if not bare or ("*" in bare and bare != "*") or bare.startswith(".") or ".." in bare:
                at = element.attribute_at("event")
                self.report.error(at, "event-descriptor", f"{descriptor!r} is no event descriptor")
            found.append(bare)
        if not found:
            self.report.error(element.attribute_at("event"), "event-descriptor", "'event' names no event")
        return tuple(found)

    # -- data and invoke ----------------------------------------------------------------------------

    def _data(self, datamodel: Element) -> list[doc.Data]:
        self.content.attributes(datamodel, "")
        self.content.no_text(datamodel)
        found = []
        for child in datamodel.elements():
            if is_scxml(child, "data"):
                found.append(self._one_data(child))
            else:
                self.content.unexpected(child, datamodel)
        return found

    def _one_data(self, element: Element) -> doc.Data:
        self.content.attributes(element, "src expr", "id")
        inline = self.content.inline(element)
        self.content.exclusive(element, "src", "expr")
        if inline is not None and (element.get("src") or element.get("expr")):
            message = "<data> has inline content besides 'src' or 'expr'"
            self.report.error(element.at, "content-exclusive", message)
        data = doc.Data(element.at, element.get("id") or "", self.content.code(element, "expr"), inline)
        src = element.get("src")
        if src is None:
            return data
        try:
            text = self.loader.text(src, base_of(element.at, self.loader.url))
        except OSError as error:
            at = element.attribute_at("src")
            self.report.warning(at, "data-source", f"cannot load the data: {error}")
            return replace(data, failed_source=str(error))
        return replace(data, inline=doc.Inline(text, None))

    def _donedata(self, element: Element) -> doc.DoneData:
        self.content.attributes(element, "")
        self.content.payload(element, ("param", "content"))
        return doc.DoneData(element.at, self.content.params(element), self.content.content_of(element))

    def _invoke(self, element: Element) -> doc.Invoke:
        self.content.attributes(element, "type typeexpr src srcexpr id idlocation namelist autoforward")
        for first, second in (("type", "typeexpr"), ("src", "srcexpr"), ("id", "idlocation")):
            self.content.exclusive(element, first, second)
        self._check_invoke(element)
        values = {name: element.get(name) or "" for name in ("type", "src", "id") if element.get(name)}
        exprs = {
            name: code for name in ("type", "src") if (code := self.content.code(element, f"{name}expr"))
        }
        finalize = [child for child in element.elements() if is_scxml(child, "finalize")]
        content = self.content.content_of(element)
        self._check_invoked(element)
        if content is not None and ("src" in values or "src" in exprs):
            self.report.error(content.at, "content-exclusive", "<invoke> has both 'src' and <content>")
        return doc.Invoke(
            element.at,
            values,
            exprs,
            self.content.code(element, "idlocation"),
            self.content.namelist(element),
            self.content.params(element),
            content,
            element.get("autoforward") == "true",
            self.content.block(finalize[0]) if finalize else None,
        )

    def _check_invoked(self, element: Element) -> None:
        """An inline document is compiled when it is invoked; its author hears of its errors now."""
        contents = [child for child in element.elements() if is_scxml(child, "content")]
        for root in [inner for content in contents for inner in content.elements()]:
            if not is_scxml(root, "scxml"):
                continue
            report = Report()
            document = DocumentParser(self.loader, report).parse(root)
            if not report.errors:
                rules.check(document, rules.Tree(document.root), report)
            for problem in report.errors:
                at = Position(problem.line, problem.column, problem.file)
                message = f"{problem.message} [{problem.rule}]; error.communication when it is invoked"
                self.report.warning(at, "invoked-document", message)

    def _check_invoke(self, element: Element) -> None:
        for child in element.elements():
            if not any(is_scxml(child, name) for name in ("param", "content", "finalize")):
                self.content.unexpected(child, element)
        self.content.no_text(element)
        if element.get("autoforward") not in (None, "true", "false"):
            at = element.attribute_at("autoforward")
            self.report.error(at, "autoforward", "autoforward is 'true' or 'false'")
        if element.get("namelist") and any(is_scxml(child, "param") for child in element.elements()):
            message = "namelist excludes <param> in <invoke>"
            self.report.error(element.attribute_at("namelist"), "attribute-exclusive", message)


def parse(root: Element, loader: Loader, report: Report) -> doc.Document:
    """The document, or CompileError with everything that is wrong in it so far."""
    return DocumentParser(loader, report).parse(root)
