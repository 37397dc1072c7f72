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

  send(what) {
    const id = sendId(what);
    const type = what.type === undefined ? SCXML_PROCESSOR : processor(what.type, id);
    const target = what.target === undefined ? "" : what.target;
    if (typeof target !== "string") throw failure("send: the target is not a string", undefined, id);
    const event = what.event === undefined ? "" : String(what.event);
    const delay = what.delay === undefined ? 0 : milliseconds(what.delay, id);
    const body = payload(what);
    if (type === SCXML_PROCESSOR && target === "#_internal") {
      if (delay > 0) throw failure("send: an event to #_internal cannot be delayed", undefined, id);
      const data = body.content === undefined ? revive(body.data) : what.value;
      enqueue({ name: event, type: "internal", data, sendid: id || undefined });
      return;
    }
    checkTarget(type, target, id, delay > 0);
    const hints = what.hints === undefined ? null : plain(what.hints);
    effect(["Send", target, type, event, body, id, delay, hints]);
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

function sendId(what) {
  if (what.idlocation) {
    const id = generate("send");
    what.idlocation(id);
    return id;
  }
  return what.id === undefined ? "" : String(what.id);
}

function processor(type, id) {
  const name = String(type);
  if (name === "scxml" || name === "http://www.w3.org/TR/scxml" || name === "http://www.w3.org/TR/scxml/") {
    return SCXML_PROCESSOR;
  }
  if (name === "basichttp") return HTTP_PROCESSOR;
  if (name === SCXML_PROCESSOR || has(session.ioprocessors, name)) return name;
  throw failure("send: type '" + name + "' is not supported", undefined, id);
}

// Who is there is asked when a send leaves: the host does it for one that waits.
function checkTarget(type, target, id, later) {
  if (type === HTTP_PROCESSOR && target === "") {
    throw failure("send: an HTTP message needs a target", "error.communication", id);
  }
  if (type !== SCXML_PROCESSOR || target === "" || target === "#_parent") return;
  const own = session.ioprocessors[SCXML_PROCESSOR];
  if (target === "#_scxml_" + session.id || (own && own.location === target)) return;
  if (target.startsWith("#_scxml_")) {
    if (!later && askable && !ask("scxml", "accessible", [target])) throw unreachable(target, id);
    return;
  }
  if (target.startsWith("#_") && target.length > 2) {
    if (!later && !invoked.some((entry) => entry.id === target.slice(2))) throw unreachable(target, id);
    return;
  }
  if (/^https?:\/\/./.test(target)) return;
  throw failure("send: illegal target '" + target + "'", undefined, id);
}

function unreachable(target, id) {
  return failure("send: no session at '" + target + "'", "error.communication", id);
}

const UNITS = { ms: 1, s: 1000, m: 60000, h: 3600000, d: 86400000, "": 1 };

function milliseconds(delay, id) {
  const found = /^\s*\+?(\d*\.?\d+)(ms|s|m|h|d|)\s*$/.exec(String(delay));
  if (found === null) throw failure("send: illegal delay '" + delay + "'", undefined, id);
  return Number(found[1]) * UNITS[found[2]];
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
