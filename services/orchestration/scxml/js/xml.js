// XML nodes: what data models use of the DOM. A part of the runtime (entry.js), loaded when a session first meets XML.

(function () {
"use strict";

const has = (object, key) => Object.prototype.hasOwnProperty.call(object, key);

class XmlNode {
  constructor(parent) {
    this.parentNode = parent;
  }
  get nextSibling() {
    return sibling(this, 1);
  }
  get previousSibling() {
    return sibling(this, -1);
  }
}

function sibling(node, step) {
  const all = node.parentNode ? node.parentNode.childNodes : [];
  return all[all.indexOf(node) + step] || null;
}

class XmlText extends XmlNode {
  constructor(text, parent) {
    super(parent);
    this.data = text;
  }
  get nodeType() {
    return 3;
  }
  get nodeName() {
    return "#text";
  }
  get nodeValue() {
    return this.data;
  }
  get textContent() {
    return this.data;
  }
  toJSON() {
    return this.data;
  }
}

class XmlElement extends XmlNode {
  constructor(tree, parent) {
    super(parent);
    this.tagName = tree[0];
    this.attributeMap = Object.assign({}, tree[1]);
    this.namespaceURI = tree[3] || null;
    this.childNodes = tree[2].map((child) =>
      typeof child === "string" ? new XmlText(child, this) : new XmlElement(child, this));
  }
  get nodeType() {
    return 1;
  }
  get nodeName() {
    return this.tagName;
  }
  get nodeValue() {
    return null;
  }
  get localName() {
    return this.tagName.slice(this.tagName.indexOf(":") + 1);
  }
  get documentElement() {
    return this;
  }
  get ownerDocument() {
    return this.parentNode ? this.parentNode.ownerDocument : this;
  }
  get children() {
    return this.childNodes.filter((child) => child.nodeType === 1);
  }
  get firstChild() {
    return this.childNodes[0] || null;
  }
  get lastChild() {
    return this.childNodes[this.childNodes.length - 1] || null;
  }
  get firstElementChild() {
    return this.children[0] || null;
  }
  get attributes() {
    return Object.keys(this.attributeMap).map((name) => ({ name, value: this.attributeMap[name] }));
  }
  get textContent() {
    return this.childNodes.map((child) => child.textContent).join("");
  }
  hasChildNodes() {
    return this.childNodes.length > 0;
  }
  hasAttribute(name) {
    return has(this.attributeMap, name);
  }
  getAttribute(name) {
    return has(this.attributeMap, name) ? this.attributeMap[name] : null;
  }
  setAttribute(name, value) {
    this.attributeMap[name] = String(value);
  }
  removeAttribute(name) {
    delete this.attributeMap[name];
  }
  getElementsByTagName(name) {
    const found = [];
    for (const child of this.childNodes) {
      if (child.nodeType !== 1) continue;
      if (name === "*" || child.tagName === name || child.localName === name) found.push(child);
      found.push(...child.getElementsByTagName(name));
    }
    return found;
  }
  appendChild(node) {
    if (node.parentNode) node.parentNode.removeChild(node);
    node.parentNode = this;
    this.childNodes.push(node);
    return node;
  }
  removeChild(node) {
    const index = this.childNodes.indexOf(node);
    if (index < 0) throw new Error("removeChild: not a child of this element");
    this.childNodes.splice(index, 1);
    node.parentNode = null;
    return node;
  }
  tree() {
    const children = this.childNodes.map((child) => (child.nodeType === 1 ? child.tree() : child.data));
    const tree = [this.tagName, Object.assign({}, this.attributeMap), children];
    if (this.namespaceURI) tree.push(this.namespaceURI);
    return tree;
  }
  toJSON() {
    return { $xml: this.tree() };
  }
}

return XmlElement;
})
