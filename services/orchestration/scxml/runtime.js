// The algorithm of the recommendation's Appendix D over tables made by the compiler. One macrostep per
// call; everything that leaves the session is an effect in the answer. Part of one function scope together
// with values.js; the last expression is the only thing the host sees: (operation, argument) => text.

const COMPOUND = 1; // state kinds; see compiler.py
const PARALLEL = 2;
const ATOMIC = 3;
const FINAL = 4;
const HISTORY = 5;

const SCXML_PROCESSOR = "http://www.w3.org/TR/scxml/#SCXMLEventProcessor";
const HTTP_PROCESSOR = "http://www.w3.org/TR/scxml/#BasicHTTPEventProcessor";

let machine = null;
let states = [];
let session = null; // {id, name, ioprocessors, seed, limits, functions}
let now = 0;
let random = null;

let configuration = []; // active states in document order
let active = new Uint8Array(0);
let historyValue = new Map(); // history state index -> states
let bound = new Set(); // states whose late data is bound
let invoked = []; // {id, state, index}
let running = false;
let started = false;
let stepNumber = 0;
let serial = 0; // of generated ids

let internalQueue = [];
let queueHead = 0;
let currentEvent = undefined;
let toInvoke = [];
let effects = [];
let trace = [];
let microsteps = 0;
let finalState = null;
let finished = false;

let answers = [];
let given = []; // answers for the step that follows
let asked = 0;
let pending = null;
let askable = false;

let registry = new Registry();
let dataIds = new Set();
let interactions = {};

// Thrown to end the step. Code of the application may catch it; the answer of the step does not change.
class Stop {
  constructor(reason, message) {
    this.reason = reason;
    this.message = message;
    halted = this;
  }
}
let halted = null;
const QUERY = new Stop("query", "");

// ---- errors ------------------------------------------------------------------------------------------------

function stopped(error) {
  if (error instanceof Stop) return true;
  if (error instanceof InternalError) return true; // out of memory
  if (error === null) return exhausted(); // out of memory even for the error
  return error instanceof RangeError && error.message === "Maximum call stack size exceeded";
}

function exhausted() {
  try {
    return new Array(1024).fill(0).length === 0;
  } catch (error) {
    return true;
  }
}

function executionError(error, at) {
  if (pending !== null) throw QUERY;
  if (stopped(error)) throw error;
  const place = position(at);
  const message = error instanceof Error ? error.name + ": " + error.message : describe(error);
  const data = { message, line: Number(place[1]), column: Number(place[2]), element: place[3] };
  if (place[4]) data.file = place[4];
  const known = error !== null && typeof error === "object";
  const event = { name: (known && error.scxmlEvent) || "error.execution", type: "platform", data };
  if (known && error.scxmlSendid) event.sendid = error.scxmlSendid;
  enqueue(event);
}

// One string for all positions: an array a position would cost a session more than its data.
function position(at) {
  return / (\d+):(\d+) (\S*) ?(.*)$/.exec(machine.positions.split("\n")[at + 1]) || ["", 0, 0, "", ""];
}

function failure(message, event, sendid) {
  const error = new Error(message);
  error.scxmlEvent = event;
  error.scxmlSendid = sendid;
  return error;
}

function enqueue(event) {
  if (internalQueue.length - queueHead >= session.limits.internal_events) {
    throw new Stop("queue", "more than " + session.limits.internal_events + " internal events waiting");
  }
  internalQueue.push(event);
}

function effect(value) {
  if (effects.length >= session.limits.effects) {
    throw new Stop("effects", "more than " + session.limits.effects + " effects in one step");
  }
  effects.push(value);
}

function describe(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return value.name + ": " + value.message;
  const text = typeof value === "object" ? toJson(value) : undefined;
  return text === undefined ? String(value) : text;
}

// All code of a state is one function with numbered blocks; -1 is no block.
function run(state, block) {
  if (block < 0) return;
  try {
    state.code(block);
  } catch (error) {
    executionError(error, $scxml.at);
  }
}

function holds(t) {
  try {
    return !!t.source.code(t.cond);
  } catch (error) {
    executionError(error, t.at);
    return false;
  }
}

function runEntry(state) {
  for (let i = 0; i < state.entry; i++) run(state, i);
}

function runExit(state) {
  for (let i = 0; i < state.exit; i++) run(state, state.entry + i);
}

// ---- what generated code calls -------------------------------------------------------------------------------

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
      const data = body.content === undefined ? revive(body.data) : what.value;
      enqueue({ name: event, type: "internal", data, sendid: id || undefined });
      return;
    }
    checkTarget(type, target, id);
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

function checkTarget(type, target, id) {
  if (type === HTTP_PROCESSOR && target === "") {
    throw failure("send: an HTTP message needs a target", "error.communication", id);
  }
  if (type !== SCXML_PROCESSOR || target === "" || target === "#_parent") return;
  const own = session.ioprocessors[SCXML_PROCESSOR];
  if (target === "#_scxml_" + session.id || (own && own.location === target)) return;
  if (target.startsWith("#_scxml_")) {
    if (askable && !ask("scxml", "accessible", [target])) throw unreachable(target, id);
    return;
  }
  if (target.startsWith("#_") && target.length > 2) {
    if (!invoked.some((entry) => entry.id === target.slice(2))) throw unreachable(target, id);
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

// ---- selecting transitions -----------------------------------------------------------------------------------

function matches(descriptors, name) {
  if (typeof descriptors === "string") return matchesOne(descriptors, name);
  for (let i = 0; i < descriptors.length; i++) {
    if (matchesOne(descriptors[i], name)) return true;
  }
  return false;
}

function matchesOne(d, name) {
  if (d === "*" || d === name) return true;
  return name.length > d.length && name.charCodeAt(d.length) === 46 && name.startsWith(d);
}

// Transitions that could fire in an atomic state, innermost first: for no event (name null) or for a name.
function candidates(state, name) {
  const key = name === null ? "" : name;
  if (state.candidates === null || state.candidates.size > 64) state.candidates = new Map();
  let found = state.candidates.get(key);
  if (found !== undefined) return found;
  found = [];
  for (let s = state; s !== null; s = s.parent) {
    for (const t of s.transitions) {
      if (name === null ? t.events === null : t.events !== null && matches(t.events, name)) found.push(t);
    }
  }
  state.candidates.set(key, found);
  return found;
}

function select(name) {
  const enabled = [];
  for (let i = 0; i < configuration.length; i++) {
    const state = configuration[i];
    if (state.kind !== ATOMIC && state.kind !== FINAL) continue;
    const list = candidates(state, name);
    for (let k = 0; k < list.length; k++) {
      const t = list[k];
      if (t.cond < 0 || holds(t)) {
        if (!enabled.includes(t)) enabled.push(t);
        break;
      }
    }
  }
  return enabled.length > 1 ? withoutConflicts(enabled) : enabled;
}

function within(state, ancestor) {
  return state.index > ancestor.index && state.index <= ancestor.last;
}

function withoutConflicts(enabled) {
  let kept = [];
  for (const t1 of enabled) {
    const d1 = domain(t1);
    const dropped = [];
    let preempted = false;
    for (const t2 of kept) {
      const d2 = domain(t2);
      if (d1 === null || d2 === null || !(d1 === d2 || within(d1, d2) || within(d2, d1))) continue;
      if (within(t1.source, t2.source)) {
        dropped.push(t2);
      } else {
        preempted = true;
        break;
      }
    }
    if (!preempted) kept = kept.filter((t) => !dropped.includes(t)).concat([t1]);
  }
  return kept;
}

// The state whose active descendants a transition exits. Known beforehand unless a history is a target.
function domain(t) {
  if (t.targets.length === 0) return null;
  if (t.domain !== undefined) return t.domain;
  const targets = effectiveTargets(t);
  if (t.internal && t.source.kind === COMPOUND && targets.every((s) => within(s, t.source))) return t.source;
  for (let s = t.source.parent; s !== null; s = s.parent) {
    if (s.kind === COMPOUND && targets.every((target) => within(target, s))) return s;
  }
  return states[0];
}

function effectiveTargets(t) {
  const found = [];
  for (const s of t.targets) {
    if (s.kind !== HISTORY) found.push(s);
    else found.push(...(historyValue.get(s.index) || effectiveTargets(s.transitions[0])));
  }
  return found;
}

// ---- microsteps -----------------------------------------------------------------------------------------------

function microstep(transitions) {
  if (++microsteps > session.limits.microsteps) {
    throw new Stop("microsteps", "more than " + session.limits.microsteps + " microsteps in one step");
  }
  if (transitions.length === 1 && transitions[0].direct) {
    directStep(transitions[0]);
    return;
  }
  for (const t of transitions) trace.push(t.number);
  exitStates(transitions);
  for (const t of transitions) run(t.source, t.run);
  enterStates(transitions);
}

// The common case: one transition, to one atomic state that is a child of the domain.
function directStep(t) {
  const d = t.domain;
  trace.push(t.number);
  let end = configuration.length;
  while (configuration[end - 1].index > d.last) end--;
  let begin = end;
  while (begin > 0 && configuration[begin - 1].index > d.index) begin--;
  for (let i = begin; i < end; i++) {
    const s = configuration[i];
    for (let k = 0; k < s.histories.length; k++) recordHistory(s.histories[k], s);
  }
  for (let i = end - 1; i >= begin; i--) leave(configuration[i]);
  run(t.source, t.run);
  enter(t.targets[0], null);
}

function exitStates(transitions) {
  const leaving = [];
  for (const t of transitions) {
    const d = domain(t);
    if (d === null) continue;
    for (const s of configuration) if (within(s, d) && !leaving.includes(s)) leaving.push(s);
  }
  if (transitions.length > 1) leaving.sort((a, b) => a.index - b.index);
  for (const s of leaving) for (const h of s.histories) recordHistory(h, s);
  for (let i = leaving.length - 1; i >= 0; i--) leave(leaving[i]);
}

function recordHistory(h, s) {
  const keep = h.deep ? (x) => within(x, s) && (x.kind === ATOMIC || x.kind === FINAL) : (x) => x.parent === s;
  historyValue.set(h.index, configuration.filter(keep));
}

function leave(state) {
  if (state.exit > 0) runExit(state);
  if (state.invokes.length > 0) {
    for (const entry of invoked) if (entry.state === state) effect(["CancelInvoke", entry.id]);
    invoked = invoked.filter((entry) => entry.state !== state);
    toInvoke = toInvoke.filter((s) => s !== state);
  }
  configuration.splice(configuration.indexOf(state), 1);
  active[state.index] = 0;
}

function enterStates(transitions) {
  const entry = { marked: new Set(), defaults: new Set(), contents: new Map() };
  for (const t of transitions) {
    if (t.targets.length === 0) continue;
    for (const s of t.targets) addDescendants(s, entry);
    const ancestor = domain(t);
    for (const s of effectiveTargets(t)) addAncestors(s, ancestor, entry);
  }
  const entering = [...entry.marked];
  if (entering.length > 1) entering.sort((a, b) => a.index - b.index);
  for (const s of entering) enter(s, entry);
}

function addDescendants(state, entry) {
  if (state.kind === HISTORY) {
    const kept = historyValue.get(state.index);
    if (kept === undefined) entry.contents.set(state.parent, state);
    const targets = kept || state.transitions[0].targets;
    for (const s of targets) addDescendants(s, entry);
    for (const s of targets) addAncestors(s, state.parent, entry);
    return;
  }
  entry.marked.add(state);
  if (state.kind === COMPOUND) {
    entry.defaults.add(state);
    for (const s of state.initial.targets) addDescendants(s, entry);
    for (const s of state.initial.targets) addAncestors(s, state, entry);
  } else if (state.kind === PARALLEL) {
    addRegions(state, entry);
  }
}

function addAncestors(state, ancestor, entry) {
  for (let s = state.parent; s !== null && s !== ancestor && s.index > 0; s = s.parent) {
    entry.marked.add(s);
    if (s.kind === PARALLEL) addRegions(s, entry);
  }
}

function addRegions(parallel, entry) {
  for (const child of parallel.states) {
    let entered = false;
    for (const s of entry.marked) if (within(s, child)) entered = true;
    if (!entered) addDescendants(child, entry);
  }
}

function enter(state, entry) {
  insert(state);
  if (state.invokes.length > 0) toInvoke.push(state);
  if (machine.late && !bound.has(state)) {
    bound.add(state);
    for (const data of state.data) bind(state, data);
  }
  if (state.entry > 0) runEntry(state);
  if (entry !== null && entry.defaults.has(state)) run(state, state.initial.run);
  if (entry !== null && entry.contents.has(state)) {
    const history = entry.contents.get(state);
    run(history, history.transitions[0].run);
  }
  if (state.kind === FINAL) entered(state);
}

function insert(state) {
  let i = configuration.length;
  while (i > 0 && configuration[i - 1].index > state.index) i--;
  configuration.splice(i, 0, state);
  active[state.index] = 1;
}

function entered(state) {
  const parent = state.parent;
  if (parent.index === 0) {
    running = false;
    finalState = state;
    return;
  }
  const event = { name: "done.state." + parent.id, type: "internal" };
  const body = doneData(state);
  if (body.has) event.data = body.content === undefined ? revive(body.data) : body.literal;
  enqueue(event);
  const grandparent = parent.parent;
  if (grandparent !== null && grandparent.kind === PARALLEL && grandparent.states.every(inFinal)) {
    enqueue({ name: "done.state." + grandparent.id, type: "internal" });
  }
}

function inFinal(state) {
  if (state.kind === COMPOUND) return state.states.some((s) => s.kind === FINAL && active[s.index] === 1);
  return state.kind === PARALLEL && state.states.every(inFinal);
}

// Params that cannot be evaluated are left out (5.7); content that cannot leaves the event empty.
function doneData(state) {
  if (!state.donedata) return { has: false };
  const params = [];
  for (const param of state.donedata.params || []) {
    try {
      params.push([param[0], param[2]()]);
    } catch (error) {
      executionError(error, param[1]);
    }
  }
  try {
    const what = state.donedata.content ? state.donedata.content() : { params };
    const body = payload(what);
    body.literal = what.value;
    return body;
  } catch (error) {
    executionError(error, $scxml.at);
    return { has: false };
  }
}

// ---- data ------------------------------------------------------------------------------------------------------

function define(name, value) {
  Object.defineProperty(globalThis, name, { value, writable: true, enumerable: true, configurable: false });
}

// data: [name, position, block]
function bind(state, data) {
  const name = data[0];
  if (state.index === 0 && session.params !== null && has(session.params, name)) {
    globalThis[name] = session.params[name];
    return;
  }
  if (data[2] < 0) return;
  try {
    state.code(data[2]);
    if (started) registry.walk(name, globalThis[name]);
  } catch (error) {
    globalThis[name] = undefined;
    executionError(error, data[1]);
  }
}

function declareAll() {
  for (const state of states) {
    for (const data of state.data) {
      dataIds.add(data[0]);
      $scxml.declare(data[0]);
    }
  }
}

function bindAtStart() {
  for (const state of states) {
    if (machine.late && state.index > 0) continue;
    bound.add(state);
    for (const data of state.data) bind(state, data);
  }
}

// Variables that scripts made, and the functions below them.
function registerGlobals() {
  for (const name of Object.keys(globalThis)) registry.walk(name, globalThis[name]);
  for (const name of Object.keys(machine.lexical)) registry.walk(name, machine.lexical[name].get());
}

// ---- invoke ----------------------------------------------------------------------------------------------------

function invokePending() {
  if (toInvoke.length === 0) return;
  const entering = toInvoke.sort((a, b) => a.index - b.index);
  toInvoke = [];
  for (const state of entering) {
    for (let index = 0; index < state.invokes.length; index++) startInvoke(state, index);
  }
}

function startInvoke(state, index) {
  const invoke = state.invokes[index];
  try {
    $scxml.at = invoke.at;
    const what = invoke.arguments();
    let id = what.id;
    if (id === undefined) id = state.id + "." + ++serial;
    if (what.idlocation) what.idlocation(id);
    const body = payload({ params: what.params });
    const content = what.text === undefined ? plain(what.value) : what.text;
    invoked.push({ id, state, index });
    effect(["Invoke", id, what.type === undefined ? "scxml" : String(what.type), what.src || "",
            content === undefined ? null : content, body.has ? body.data : null, invoke.autoforward]);
  } catch (error) {
    executionError(error, invoke.at);
  }
}

function offer(event) {
  for (const entry of invoked) {
    const invoke = entry.state.invokes[entry.index];
    if (entry.id === event.invokeid) run(entry.state, invoke.finalize);
    if (invoke.autoforward) effect(["Forward", entry.id]);
  }
}

// ---- steps -----------------------------------------------------------------------------------------------------

function setEvent(event) {
  const made = {
    name: event.name,
    type: event.type,
    sendid: event.sendid,
    origin: event.origin,
    origintype: event.origintype,
    invokeid: event.invokeid,
    data: event.data,
  };
  if (event.raw !== undefined) made.raw = event.raw;
  currentEvent = Object.freeze(made);
}

function settle() {
  for (;;) {
    if (!running) break;
    let transitions = select(null);
    if (transitions.length === 0) {
      if (queueHead < internalQueue.length) {
        const event = internalQueue[queueHead++];
        setEvent(event);
        transitions = select(event.name);
      } else {
        internalQueue = [];
        queueHead = 0;
        invokePending();
        if (internalQueue.length === 0) break;
      }
    }
    if (transitions.length > 0) microstep(transitions);
  }
  if (!running && !finished) exitInterpreter();
}

function exitInterpreter() {
  for (let i = configuration.length - 1; i >= 0; i--) {
    const state = configuration[i];
    runExit(state);
    for (const entry of invoked) if (entry.state === state) effect(["CancelInvoke", entry.id]);
  }
  const body = finalState === null ? { has: false } : doneData(finalState);
  const value = body.content === undefined ? body.data : body.content;
  effect(["Done", value === undefined ? null : value, body.has, body.content !== undefined]);
  invoked = [];
  finished = true;
}

function follow(event) {
  // What is known of interactions is kept for _genesys.ixn.interactions.
  const data = event.data;
  if (data === null || typeof data !== "object" || typeof data.interactionid !== "string") return;
  const id = data.interactionid;
  if (event.name === "interaction.deleted") delete interactions[id];
  else if (event.name.startsWith("interaction.")) {
    if (event.name !== "interaction.added" && !has(interactions, id)) return;
    set(interactions, id, Object.assign(interactions[id] || {}, data));
  }
}

function begin(time) {
  now = time;
  answers = given;
  given = NONE;
  asked = 0;
  pending = null;
  halted = null;
  effects = [];
  trace = [];
  microsteps = 0;
  random = null;
}

function externalStep(event, time) {
  begin(time);
  if (!running) throw new Error("the session is not running");
  stepNumber++;
  follow(event);
  setEvent(event);
  if (event.type === "external" && invoked.length > 0) offer(event);
  const transitions = select(event.name);
  if (transitions.length > 0) microstep(transitions);
  settle();
  return answer();
}

function startStep() {
  if (pending !== null) throw QUERY;
  started = true;
  running = true;
  stepNumber++;
  registerGlobals();
  const initial = { source: states[0], targets: states[0].initial.targets, domain: states[0] };
  enterStates([initial]);
  settle();
  begun();
  return answer();
}

function terminate(_argument, time) {
  begin(time);
  stepNumber++;
  running = false;
  settle();
  return answer();
}

function answer() {
  if (pending !== null) throw QUERY;
  if (halted !== null) throw halted;
  const states = [];
  for (let i = 0; i < configuration.length; i++) states.push(configuration[i].index);
  return toJson([states, effects, trace, finished]);
}

// ---- the session's surroundings ------------------------------------------------------------------------------------

// The same session and step always draw the same numbers.
function draw() {
  if (random === null) random = generator(session.seed, stepNumber);
  return random();
}

// A counter put through the finaliser of MurmurHash3.
function generator(seed, step) {
  let x = (seed ^ Math.imul(step + 1, 0x9e3779b9)) | 0;
  const word = () => {
    x = (x + 0x9e3779b9) | 0;
    let z = x ^ (x >>> 16);
    z = Math.imul(z, 0x85ebca6b);
    z ^= z >>> 13;
    z = Math.imul(z, 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  return () => ((word() >>> 5) * 67108864 + (word() >>> 6)) / 9007199254740992;
}

function furnish() {
  for (const name of ["performance", "queueMicrotask", "WeakRef", "FinalizationRegistry",
                      "SharedArrayBuffer", "Atomics", "$262"]) {
    delete globalThis[name];
  }
  const Real = Date;
  const Fixed = function Date(...parts) {
    if (new.target === undefined) return new Real(now).toString();
    return Reflect.construct(Real, parts.length === 0 ? [now] : parts, new.target);
  };
  Object.defineProperty(Fixed, "length", { value: 7 });
  Fixed.prototype = Real.prototype;
  Object.defineProperty(Real.prototype, "constructor", { value: Fixed, writable: true, configurable: true });
  for (const [name, value] of [["now", () => now], ["parse", Real.parse], ["UTC", Real.UTC]]) {
    Object.defineProperty(Fixed, name, { value, writable: true, configurable: true });
  }
  Object.defineProperty(globalThis, "Date", { value: Fixed, writable: true, configurable: true });
  Object.defineProperty(Math, "random", { value: draw, writable: true, configurable: true });
}

function system(name, get) {
  Object.defineProperty(globalThis, name, { get, enumerable: false, configurable: false });
}

function installSystem() {
  const processors = session.ioprocessors;
  for (const name of Object.keys(processors)) Object.freeze(processors[name]);
  Object.freeze(processors);
  let genesys = null; // made when first used
  system("_event", () => currentEvent);
  system("_sessionid", () => session.id);
  system("_name", () => machine.name);
  system("_ioprocessors", () => processors);
  system("_x", () => session.x);
  system("_data", () => globalThis);
  system("_genesys", () => genesys || (genesys = makeGenesys()));
  Object.defineProperty(globalThis, "In", {
    value: (id) => {
      for (const state of configuration) if (state.id === id) return true;
      return false;
    },
    enumerable: false,
  });
}

function makeGenesys() {
  const made = {};
  for (const root of Object.keys(session.functions)) {
    const module = {};
    for (const name of Object.keys(session.functions[root])) {
      const [kind, short, parameters] = session.functions[root][name];
      module[name] = kind === "query" ? (...args) => ask(short, name, args) : doer(kind, short, name, parameters);
    }
    if (root === "ixn") Object.defineProperty(module, "interactions", { get: () => interactions });
    made[root] = Object.freeze(module);
  }
  return Object.freeze(made);
}

function doer(kind, short, name, parameters) {
  if (kind === "state") return userData;
  return (...args) => {
    const attributes = {};
    parameters.forEach((parameter, i) => {
      if (args[i] !== undefined) attributes[parameter] = plain(args[i]);
    });
    const id = generate("req");
    effect(["Action", short, name, attributes, id, [], $scxml.at]);
    return id;
  };
}

function userData(key, interactionid) {
  const ids = Object.keys(interactions);
  const one = interactions[interactionid === undefined ? ids[0] : interactionid];
  const data = one === undefined || one.udata === undefined ? {} : one.udata;
  return key === undefined ? data : data[key];
}

function ask(module, name, args) {
  if (pending !== null) throw QUERY;
  const index = asked++;
  if (index < answers.length) {
    const given = answers[index];
    if (given.error !== undefined) throw new Error(given.error);
    return revive(given.value === undefined ? undefined : given.value);
  }
  if (!askable) throw new Error(name + " cannot be asked here");
  if (index >= session.limits.queries) {
    throw new Stop("queries", "more than " + session.limits.queries + " questions in one step");
  }
  pending = [index, module, name, plain(args)];
  throw QUERY;
}

// ---- loading, snapshots ---------------------------------------------------------------------------------------------

const NONE = Object.freeze([]);

class State {
  constructor(table) {
    this.index = table.index;
    this.id = table.id;
    this.kind = table.kind;
    this.last = table.last;
    this.parent = null;
    for (const key of ["code", "entry", "exit", "deep", "initial", "transitions", "invokes", "data", "donedata"]) {
      if (table[key] !== undefined) this[key] = table[key];
    }
  }
}
// Defaults stand here once: most states have few of these.
Object.assign(State.prototype, {
  code: null, entry: 0, exit: 0, deep: false, initial: null, transitions: NONE, invokes: NONE, data: NONE,
  donedata: null, states: NONE, histories: NONE, candidates: null, alone: null,
});

function link() {
  const tables = machine.states;
  states = tables.map((table) => new State(table));
  machine.states = null;
  active = new Uint8Array(states.length);
  for (const state of states) {
    const parent = tables[state.index].parent;
    if (parent < 0) continue;
    state.parent = states[parent];
    const list = state.kind === HISTORY ? "histories" : "states";
    if (state.parent[list] === NONE) state.parent[list] = [];
    state.parent[list].push(state);
  }
  for (const state of states) {
    if (state.initial !== null) state.initial.targets = linkTargets(state.initial.targets);
    for (const t of state.transitions) linkTransition(t, state);
  }
}

// Sets of one target are shared by all transitions to it.
function linkTargets(targets) {
  if (targets.length === 0) return NONE;
  if (targets.length > 1) return targets.map((i) => states[i]);
  const target = states[targets[0]];
  if (target.alone === null) target.alone = [target];
  return target.alone;
}

function linkTransition(t, state) {
  t.source = state;
  t.targets = linkTargets(t.targets);
  if (typeof t.domain !== "number") return;
  t.domain = states[t.domain];
  const target = t.targets[0];
  t.direct = t.targets.length === 1 && target.parent === t.domain && (target.kind === ATOMIC || target.kind === FINAL);
}

function boot(argument, time) {
  session = argument;
  now = time;
  furnish();
  machine = session.machine($scxml);
  session.machine = null; // its text is as large as all the tables
  link();
  installSystem();
  declareAll();
}

function globals() {
  return Object.keys(globalThis);
}

function snapshot() {
  const lost = [];
  const root = { data: {}, lexical: {}, event: null, interactions: null };
  const encoder = new Encoder(registry, lost);
  for (const name of globals()) {
    const value = globalThis[name];
    if (typeof value === "function" && registry.paths.get(value) === name && !dataIds.has(name)) continue;
    set(root.data, name, encoder.encode(value, root.data, name, name));
  }
  for (const name of Object.keys(machine.lexical)) {
    const value = machine.lexical[name].get();
    if (typeof value === "function" && registry.paths.get(value) === name) continue;
    set(root.lexical, name, encoder.encode(value, root.lexical, name, name));
  }
  root.event = currentEvent === undefined ? null : eventRecord(encoder, root);
  root.interactions = encoder.encode(interactions, root, "interactions", "interactions");
  return toJson({
    configuration: configuration.map((s) => s.id),
    history: [...historyValue].map(([index, list]) => [states[index].id, list.map((s) => s.id)]),
    bound: machine.late ? [...bound].map((s) => s.id) : [],
    invoked: invoked.map((entry) => [entry.id, entry.state.id, entry.index]),
    running, finished, stepNumber, serial, values: root, lost,
  });
}

function eventRecord(encoder, root) {
  const record = {};
  set(root, "event", record);
  for (const key of Object.keys(currentEvent)) {
    const value = currentEvent[key];
    if (value !== undefined) set(record, key, encoder.encode(value, record, key, "_event." + key));
  }
  return record;
}

// Loaded when needed: nodes (xml.js), restoring (restore.js, into this scope).
let XmlElement = null;
let restoreEarly = null;
let restoreLate = null;

// A direct eval sees all of this scope and so keeps all of it alive; dropped once the session is under way.
let extend = function (text) {
  eval(text);
};

// What was needed to begin is not needed again, and every session would keep it.
function begun() {
  extend = restoreEarly = restoreLate = null;
  operations.boot = operations.bind = operations.start = operations.scriptError = null;
  operations.restoreEarly = operations.restoreLate = null;
}

function hasXml(text) {
  return text.includes('"$xml"');
}

const operations = {
  boot,
  bind(_argument, time) {
    begin(time);
    askable = session.asks;
    if (session.params !== null) session.params = revive(session.params);
    bindAtStart();
  },
  scriptError(argument) {
    if (pending !== null) throw QUERY;
    if (halted !== null) throw halted;
    $scxml.at = argument.at;
    executionError(new Error(argument.message), argument.at);
  },
  start: startStep,
  terminate,
  snapshot,
  given(list) {
    given = list;
  },
  restoreEarly: (kept) => restoreEarly(kept),
  restoreLate: (kept) => restoreLate(kept),
};

return function (operation, text, time, factory) {
  if (operation === "extend") return extend(text);
  if (operation === "xml") {
    if (XmlElement === null) XmlElement = (0, eval)(text);
    return undefined;
  }
  try {
    const argument = text === undefined ? undefined : parseJson(text);
    if (operation === "step") return externalStep(hasXml(text) ? revive(argument) : argument, time);
    if (factory !== undefined) argument.machine = factory;
    return operations[operation](argument, time);
  } catch (error) {
    if (pending !== null) return toJson({ query: pending });
    const stop = error instanceof Stop ? error : halted;
    if (stop !== null) return toJson({ stop: stop.reason, message: stop.message });
    throw error;
  }
};
