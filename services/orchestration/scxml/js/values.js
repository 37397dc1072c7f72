// Values: XML nodes, the tagged encoding of snapshots, the registry of declared functions.
// Part of one function scope together with runtime.js.

"use strict";

const parseJson = JSON.parse;
const toJson = JSON.stringify;
const objectProto = Object.prototype;
const arrayProto = Array.prototype;
const getProto = Object.getPrototypeOf;
const isArray = Array.isArray;
const has = (object, key) => objectProto.hasOwnProperty.call(object, key);

// A plain copy, as a message to somebody else has it: JSON, with XML as {$xml: tree}.
function plain(value) {
  if (value === null || typeof value !== "object") {
    return typeof value === "function" || typeof value === "symbol" ? undefined : value;
  }
  return parseJson(toJson(value));
}

// The inverse for what comes in: {$xml: tree} becomes a node.
function revive(value) {
  if (value === null || typeof value !== "object") return value;
  if (isArray(value)) return value.map(revive);
  if (isArray(value.$xml)) return new XmlElement(value.$xml, null);
  for (const key of Object.keys(value)) value[key] = revive(value[key]);
  return value;
}

// ---- declared functions: known by the path under which they were declared -----------------------------
// (Methods in object literals, not classes: a class keeps its text beside that of each method.)

function Registry() {
  this.paths = new Map(); // function -> path
  this.functions = new Map(); // path -> function
}

Registry.prototype = {
  // Register every function that hangs below a variable, through plain objects and prototypes.
  walk(name, value) {
    const seen = new Set();
    const visit = (path, item, depth) => {
      if (item === null || (typeof item !== "object" && typeof item !== "function")) return;
      if (seen.has(item) || depth > 6 || seen.size > 20000) return;
      seen.add(item);
      if (typeof item === "function") {
        if (!this.paths.has(item)) this.paths.set(item, path);
        this.functions.set(path, item);
      }
      for (const key of Object.keys(item)) {
        const property = Object.getOwnPropertyDescriptor(item, key);
        if (property && "value" in property) visit(path + "." + key, property.value, depth + 1);
      }
    };
    visit(name, value, 0);
  },
};

// ---- tagged encoding -------------------------------------------------------------------------------------
// Plain JSON stays itself. {"$": tag, …} stands for the rest; an object with an own key "$" is itself tagged.

const SPECIAL = { part: "special" };

function Encoder(registry, lost) {
  this.registry = registry;
  this.lost = lost;
  this.seen = new Map(); // object -> {holder, key} of its first place, or its number once shared
  this.shared = 0;
}

Encoder.prototype = {
  // `above` is the path of what holds the value; paths are only put together where they are needed.
  encode(value, holder, key, above) {
    switch (typeof value) {
      case "string":
      case "boolean":
        return value;
      case "number":
        if (value - value === 0 && (value !== 0 || 1 / value > 0)) return value; // finite, and not -0
        break;
      case "undefined":
        return { $: "undefined" };
      case "object":
        return value === null ? null : this.encodeObject(value, holder, key, join(above, key));
    }
    return this.special(value, join(above, key));
  },
  encodeObject(value, holder, key, path) {
    const before = this.seen.get(value);
    if (before !== undefined) {
      if (before.number === 0) {
        before.number = ++this.shared;
        before.holder[before.key] = { $: "def", n: before.number, v: before.holder[before.key] };
      }
      return { $: "ref", n: before.number };
    }
    const place = { holder, key, number: 0 };
    this.seen.set(value, place);
    const proto = getProto(value);
    if (proto === arrayProto) return this.encodeArray(value, place, path);
    if (proto === objectProto) return this.encodePlain(value, place, path);
    return this.special(value, path, place, proto);
  },
  // Children are put into the node before it is complete, so that a cycle can wrap it in its own parent.
  put(place, node) {
    place.holder[place.key] = node;
    return node;
  },
  encodeArray(value, place, path) {
    const keys = Object.keys(value);
    const length = value.length;
    const dense = keys.length === length && (length === 0 || keys[length - 1] === String(length - 1));
    if (!dense) return this.special(value, path, place, arrayProto);
    const node = this.put(place, []);
    for (let i = 0; i < length; i++) node[i] = this.encode(value[i], node, i, path);
    return place.holder[place.key];
  },
  encodePlain(value, place, path) {
    if (has(value, "$")) return this.special(value, path, place, objectProto);
    this.encodeKeys(value, this.put(place, {}), path);
    return place.holder[place.key];
  },
  // Replaced by special.js, which the host loads then.
  special() {
    throw SPECIAL;
  },
  encodeKeys(value, node, path) {
    for (const key of Object.keys(value)) {
      const property = Object.getOwnPropertyDescriptor(value, key);
      if ("value" in property) set(node, key, this.encode(property.value, node, key, path));
      else this.lost.push(path + "." + key + ": an accessor");
    }
  },
};

function join(above, key) {
  return above === "" ? key : above + "." + key;
}

function set(object, key, value) {
  if (key === "__proto__") {
    Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
  } else {
    object[key] = value;
  }
}
