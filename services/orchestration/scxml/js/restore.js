// Restoring a session from its record. A part of the runtime (entry.js): most sessions start.

(function (inside) {
"use strict";

const { has, set, stopped } = inside;
const isArray = Array.isArray;

class Decoder {
  // known: a Registry; missing(path) is told of functions that are not declared; without it they are undefined
  constructor(known, missing) {
    this.known = known;
    this.missing = missing;
    this.numbered = new Map();
  }
  decode(node) {
    return this.node(node, 0);
  }
  node(node, number) {
    if (node === null || typeof node !== "object") return node;
    if (isArray(node)) return this.fill(this.note([], number), node);
    if (!has(node, "$")) return this.fill(this.note({}, number), node);
    return this.tagged(node, number);
  }
  note(value, number) {
    if (number) this.numbered.set(number, value);
    return value;
  }
  fill(target, node) {
    for (const key of Object.keys(node)) set(target, key, this.node(node[key], 0));
    return target;
  }
  tagged(node, number) {
    switch (node.$) {
      case "def":
        return this.node(node.v, node.n);
      case "ref":
        return this.numbered.get(node.n);
      case "undefined":
        return undefined;
      case "number":
        return Number(node.v);
      case "bigint":
        return BigInt(node.v);
      case "date":
        return this.note(new Date(node.v === null ? NaN : node.v), number);
      case "regexp":
        return this.note(Object.assign(new RegExp(node.v[0], node.v[1]), { lastIndex: node.i }), number);
      case "object":
        return this.fill(this.note({}, number), node.v);
      case "bare":
        return this.fill(this.note(Object.create(null), number), node.v);
      case "array":
        return this.fill(this.note(new Array(node.n), number), node.v);
      case "xml":
        return this.note(new (inside.element())(node.v, null), number);
      case "map":
      case "set":
        return this.collection(node, number);
      case "function":
        return this.declared(node.v);
      case "source":
        return this.missing === null ? undefined : madeOf(node.v);
      case "instance":
        return this.instance(node, number);
      case "error":
        return this.fill(this.note(makeError(node), number), node.v);
    }
    throw new Error("unknown tag " + node.$);
  }
  collection(node, number) {
    const made = this.note(node.$ === "map" ? new Map() : new Set(), number);
    if (node.$ === "set") node.v.forEach((item) => made.add(this.node(item, 0)));
    else for (let i = 0; i < node.v.length; i += 2) made.set(this.node(node.v[i], 0), this.node(node.v[i + 1], 0));
    return made;
  }
  declared(path) {
    const found = this.known.functions.get(path);
    if (found === undefined && this.missing !== null) this.missing(path);
    return found;
  }
  instance(node, number) {
    const maker = this.declared(node.c);
    const made = Object.create(maker === undefined ? Object.prototype : maker.prototype);
    return this.fill(this.note(made, number), node.v);
  }
}

// A function from its text; a method's text (`name(a) { … }`) is no expression by itself.
function madeOf(text) {
  try {
    return (0, eval)("(" + text + ")");
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const holder = (0, eval)("({" + text + "})");
    return holder[Object.keys(holder)[0]];
  }
}

function makeError(node) {
  const kinds = { TypeError, RangeError, ReferenceError, SyntaxError, EvalError, URIError };
  return new (has(kinds, node.c) ? kinds[node.c] : Error)(node.m);
}

// Before the scripts run again: plain values only, so that scripts find what they expect.
function restoreEarly(kept) {
  inside.begin(0);
  const decoder = new Decoder(inside.registry(), null);
  for (const name of Object.keys(kept.values.data)) {
    inside.declare(name);
    globalThis[name] = decoder.decode(kept.values.data[name]);
  }
}

// After them: functions are declared again, so every value can be put back.
function restoreLate(kept) {
  const registry = inside.renew();
  const machine = inside.machine();
  declareAgain(kept.values, registry, machine.data);
  const missing = [];
  const decoder = new Decoder(registry, (path) => missing.push(path));
  const values = kept.values;
  for (const name of Object.keys(values.data)) globalThis[name] = decoder.decode(values.data[name]);
  for (const name of Object.keys(values.lexical)) {
    restoreLexical(machine.lexical[name], decoder.decode(values.lexical[name]));
  }
  inside.become(kept, values.event === null ? null : decoder.decode(values.event), decoder.decode(values.interactions));
  return JSON.stringify(missing);
}

function restoreLexical(place, value) {
  if (place.set !== null) place.set(value);
  else if (value !== null && typeof value === "object") Object.assign(place.get(), value);
}

// Functions in data come back by evaluating the data's declaration once more; its value is thrown away.
function declareAgain(values, registry, data) {
  const wanted = new Set();
  const visit = (node) => {
    if (node === null || typeof node !== "object") return;
    if (node.$ === "function") wanted.add(node.v);
    if (node.$ === "instance") wanted.add(node.c);
    for (const key of Object.keys(node)) visit(node[key]);
  };
  visit(values);
  const roots = new Set([...wanted].filter((path) => !registry.functions.has(path)).map((path) => path.split(".")[0]));
  for (const [, name, , block] of data) {
    if (!roots.has(name) || block < 0) continue;
    try {
      inside.call(block);
      registry.walk(name, globalThis[name]);
    } catch (error) {
      if (stopped(error)) throw error;
    }
  }
}

return { restoreEarly, restoreLate };
})
