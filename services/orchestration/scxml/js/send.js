// <send> (recommendation 6.2). A part of the runtime (entry.js): a document without one has none of it.

(function (inside) {
"use strict";

const { has, plain, revive, payload, ask, effect, enqueue, failure, generate } = inside;

const SCXML_PROCESSOR = "http://www.w3.org/TR/scxml/#SCXMLEventProcessor";
const HTTP_PROCESSOR = "http://www.w3.org/TR/scxml/#BasicHTTPEventProcessor";

function send(what) {
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
  if (name === SCXML_PROCESSOR || has(inside.session().ioprocessors, name)) return name;
  throw failure("send: type '" + name + "' is not supported", undefined, id);
}

// Who is there is asked when a send leaves: the host does it for one that waits.
function checkTarget(type, target, id, later) {
  if (type === HTTP_PROCESSOR && target === "") {
    throw failure("send: an HTTP message needs a target", "error.communication", id);
  }
  if (type !== SCXML_PROCESSOR || target === "" || target === "#_parent") return;
  const session = inside.session();
  const own = session.ioprocessors[SCXML_PROCESSOR];
  if (target === "#_scxml_" + session.id || (own && own.location === target)) return;
  if (target.startsWith("#_scxml_")) {
    if (!later && inside.askable() && !ask("scxml", "accessible", [target])) throw unreachable(target, id);
    return;
  }
  if (target.startsWith("#_") && target.length > 2) {
    if (!later && !inside.invoked().some((entry) => entry.id === target.slice(2))) throw unreachable(target, id);
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

return send;
})
