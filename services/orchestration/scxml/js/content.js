// What generated code calls: executable content (recommendation 4 and 6).

const $scxml = {
  at: 0,

  raise(name) {
    enqueue({ name, type: "internal" });
  },

  log(label, value) {
    effect(["Log", label, describe(value)]);
  },

  test(at, cond) {
    try {
      return !!cond();
    } catch (error) {
      executionError(error, at);
      return false;
    }
  },

  fail(message) {
    throw new SyntaxError(message);
  },

  foreach(array, names, item, index, body) {
    if (!isArray(array)) throw new TypeError("foreach: array is not an array");
    names.forEach(this.declare);
    const copy = array.slice();
    for (let i = 0; i < copy.length; i++) {
      item(copy[i]);
      if (index !== null) index(i);
      body();
    }
  },

  declare(name) {
    if (!(name in globalThis)) define(name, undefined);
  },

  script(text) {
    (0, eval)(text);
  },

  xml(tree) {
    return new XmlElement(tree, null);
  },

  cancel(sendid) {
    effect(["CancelSend", String(sendid)]);
  },

  bring(name, assign) {
    const data = currentEvent === undefined ? undefined : currentEvent.data;
    if (data !== null && typeof data === "object" && name in data) assign(data[name]);
  },

  action(module, name, attributes, requestid, children, what) {
    const id = typeof attributes.requestid === "string" ? attributes.requestid : generate("req");
    if (requestid !== null) requestid(id);
    const body = payload(what);
    const values = plain(attributes);
    if (body.params.length > 0) values.params = Object.fromEntries(body.params);
    if (body.content !== undefined) values.content = body.content;
    else if (body.has && body.params.length === 0) values.content = body.data;
    effect(["Action", module, name, values, id, plain(children), $scxml.at]);
  },
};

function generate(kind) {
  return session.id + "." + kind + "." + ++serial;
}

// {has, data} for values, {content} for literal text; params keep order and duplicates.
function payload(what) {
  const params = [];
  if (what.params !== undefined) {
    const data = {};
    for (const [name, value] of what.params) {
      const copy = plain(value);
      if (copy !== undefined) {
        params.push([name, copy]);
        set(data, name, copy);
      }
    }
    if (what.params.length > 0) return { has: true, data, params };
  }
  if (what.text !== undefined) return { has: true, content: what.text, params };
  if ("value" in what && what.value !== undefined) return { has: true, data: plain(what.value), params };
  return { has: false, params };
}
