// Exiting and entering states (appendix D), data that is bound on the way (5.3).

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

// Data

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
