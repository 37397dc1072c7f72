// Values that JSON does not have, written down. A part of the runtime (entry.js): most sessions have none.

(function (inside) {
"use strict";

const { has } = inside;

// A method of Encoder (values.js); place and proto only of objects.
function special(value, path, place, proto) {
  switch (typeof value) {
    case "number":
      return { $: "number", v: Object.is(value, -0) ? "-0" : String(value) };
    case "bigint":
      return { $: "bigint", v: String(value) };
    case "function":
      return encodeFunction(this, value, path);
    case "symbol":
      this.lost.push(path + ": a symbol");
      return { $: "undefined" };
  }
  switch (proto) {
    case Array.prototype: // not dense
      return encodeKeys(this, value, place, path, { $: "array", n: value.length, v: {} });
    case Object.prototype: // with a key "$"
      return encodeKeys(this, value, place, path, { $: "object", v: {} });
    case Date.prototype: {
      const time = Date.prototype.getTime.call(value);
      return this.put(place, { $: "date", v: Number.isNaN(time) ? null : time });
    }
    case RegExp.prototype:
      return this.put(place, { $: "regexp", v: [value.source, value.flags], i: value.lastIndex });
    case Map.prototype:
      return encodeItems(this, [...value].flat(), place, path, "map");
    case Set.prototype:
      return encodeItems(this, [...value], place, path, "set");
  }
  const element = inside.element();
  if (element !== null && value instanceof element) {
    if (value.parentNode) this.lost.push(path + ": an XML node is kept without its parent");
    return this.put(place, { $: "xml", v: value.tree() });
  }
  return encodeKeys(this, value, place, path, instance(this, value, proto, path));
}

function encodeFunction(encoder, value, path) {
  const declared = encoder.registry.paths.get(value);
  if (declared !== undefined) return { $: "function", v: declared };
  const source = Function.prototype.toString.call(value);
  if (source.includes("[native code]")) {
    encoder.lost.push(path + ": a native or bound function");
    return { $: "undefined" };
  }
  encoder.lost.push(path + ": a function made at run time is kept by its text only");
  return { $: "source", v: source };
}

function encodeKeys(encoder, value, place, path, node) {
  encoder.put(place, node);
  encoder.encodeKeys(value, node.v, path);
  return place.holder[place.key];
}

function encodeItems(encoder, flat, place, path, tag) {
  const items = [];
  encoder.put(place, { $: tag, v: items });
  flat.forEach((item, i) => (items[i] = encoder.encode(item, items, i, path)));
  return place.holder[place.key];
}

function instance(encoder, value, proto, path) {
  const maker = proto !== null && has(proto, "constructor") ? proto.constructor : null;
  const declared = typeof maker === "function" ? encoder.registry.paths.get(maker) : undefined;
  if (declared !== undefined && maker.prototype === proto) return { $: "instance", c: declared, v: {} };
  if (value instanceof Error) return { $: "error", c: String(value.name), m: String(value.message), v: {} };
  if (proto === null) return { $: "bare", v: {} };
  encoder.lost.push(path + ": an instance of an undeclared class is kept as a plain object");
  return { $: "object", v: {} };
}

return special;
})
