// Exiting and entering states (appendix D), data that is bound on the way (5.3).

function microstep(transitions) {
  if (++microsteps > session.limits.microsteps) {
    throw new Stop("microsteps", "more than " + session.limits.microsteps + " microsteps in one step");
  }
  if (transitions.length === 1 && isDirect(transitions[0])) {
    directStep(transitions[0]);
    return;
  }
  for (const t of transitions) trace.push(t);
  exitStates(transitions);
  for (const t of transitions) run(machine.run[t]);
  enterStates(transitions);
}

// The common case: one transition, to one atomic state that is a child of the domain.
function isDirect(t) {
  const target = machine.target[t];
  return target >= 0 && machine.parent[target] === machine.domain[t] && (machine.kind[target] === ATOMIC || machine.kind[target] === FINAL);
}

function directStep(t) {
  const d = machine.domain[t];
  trace.push(t);
  let end = configuration.length;
  while (configuration[end - 1] > machine.last[d]) end--;
  let begin = end;
  while (begin > 0 && configuration[begin - 1] > d) begin--;
  for (let i = begin; i < end; i++) recordHistories(configuration[i]);
  for (let i = end - 1; i >= begin; i--) leave(configuration[i]);
  run(machine.run[t]);
  enter(machine.target[t], null);
}

function exitStates(transitions) {
  const leaving = [];
  for (const t of transitions) {
    const d = domain(t);
    if (d === ABSENT) continue;
    for (const s of configuration) if (within(s, d) && !leaving.includes(s)) leaving.push(s);
  }
  if (transitions.length > 1) leaving.sort((a, b) => a - b);
  for (const s of leaving) recordHistories(s);
  for (let i = leaving.length - 1; i >= 0; i--) leave(leaving[i]);
}

function recordHistories(state) {
  const histories = machine.histories[state];
  if (histories === undefined) return;
  for (const h of histories) {
    const keep = machine.deep.includes(h)
      ? (s) => within(s, state) && (machine.kind[s] === ATOMIC || machine.kind[s] === FINAL)
      : (s) => machine.parent[s] === state;
    historyValue.set(h, configuration.filter(keep));
  }
}

function leave(state) {
  runExit(state);
  if (machine.invokes[state] !== undefined) {
    for (const entry of invoked) if (entry.state === state) effect(["CancelInvoke", entry.id]);
    invoked = invoked.filter((entry) => entry.state !== state);
    toInvoke = toInvoke.filter((s) => s !== state);
  }
  configuration.splice(configuration.indexOf(state), 1);
  active[state] = 0;
}

function enterStates(transitions) {
  const entry = { marked: new Set(), defaults: new Set(), contents: new Map() };
  for (const t of transitions) {
    if (machine.target[t] === ABSENT) continue;
    for (const s of targets(t)) addDescendants(s, entry);
    const ancestor = domain(t);
    for (const s of effectiveTargets(t)) addAncestors(s, ancestor, entry);
  }
  const entering = [...entry.marked];
  if (entering.length > 1) entering.sort((a, b) => a - b);
  for (const s of entering) enter(s, entry);
}

function addDescendants(state, entry) {
  if (machine.kind[state] === HISTORY) {
    const parent = machine.parent[state];
    const kept = historyValue.get(state);
    if (kept === undefined) entry.contents.set(parent, state);
    const list = kept || targets(machine.first[state]);
    for (const s of list) addDescendants(s, entry);
    for (const s of list) addAncestors(s, parent, entry);
    return;
  }
  entry.marked.add(state);
  if (machine.kind[state] === COMPOUND) {
    entry.defaults.add(state);
    const list = targets(machine.initial[state]);
    for (const s of list) addDescendants(s, entry);
    for (const s of list) addAncestors(s, state, entry);
  } else if (machine.kind[state] === PARALLEL) {
    addRegions(state, entry);
  }
}

function addAncestors(state, ancestor, entry) {
  for (let s = machine.parent[state]; s > 0 && s !== ancestor; s = machine.parent[s]) {
    entry.marked.add(s);
    if (machine.kind[s] === PARALLEL) addRegions(s, entry);
  }
}

function addRegions(parallel, entry) {
  for (const child of regions(parallel)) {
    let entered = false;
    for (const s of entry.marked) if (within(s, child)) entered = true;
    if (!entered) addDescendants(child, entry);
  }
}

function enter(state, entry) {
  insert(state);
  if (machine.invokes[state] !== undefined) toInvoke.push(state);
  if (machine.late && !bound.has(state)) {
    bound.add(state);
    for (const data of machine.data) if (data[0] === state) bind(data);
  }
  runEntry(state);
  if (entry !== null && entry.defaults.has(state)) run(machine.run[machine.initial[state]]);
  if (entry !== null && entry.contents.has(state)) run(machine.run[machine.first[entry.contents.get(state)]]);
  if (machine.kind[state] === FINAL) entered(state);
}

function insert(state) {
  let i = configuration.length;
  while (i > 0 && configuration[i - 1] > state) i--;
  configuration.splice(i, 0, state);
  active[state] = 1;
}

function entered(state) {
  const parent = machine.parent[state];
  if (parent === 0) {
    running = false;
    finalState = state;
    return;
  }
  const event = { name: "done.state." + machine.ids[parent], type: "internal" };
  const body = doneData(state);
  if (body.has) event.data = body.content === undefined ? revive(body.data) : body.literal;
  enqueue(event);
  const grandparent = machine.parent[parent];
  if (grandparent >= 0 && machine.kind[grandparent] === PARALLEL && regions(grandparent).every(inFinal)) {
    enqueue({ name: "done.state." + machine.ids[grandparent], type: "internal" });
  }
}

function inFinal(state) {
  if (machine.kind[state] === COMPOUND) return regions(state).some((s) => machine.kind[s] === FINAL && active[s] === 1);
  return machine.kind[state] === PARALLEL && regions(state).every(inFinal);
}

// Params that cannot be evaluated are left out (5.7); content that cannot leaves the event empty.
function doneData(state) {
  const donedata = machine.donedata[state];
  if (donedata === undefined) return { has: false };
  const params = [];
  for (const param of donedata.params || []) {
    try {
      params.push([param[0], param[2]()]);
    } catch (error) {
      executionError(error, param[1]);
    }
  }
  try {
    const what = donedata.content ? donedata.content() : { params };
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

// data: [state, name, position, block]
function bind(data) {
  const [state, name, at, block] = data;
  if (state === 0 && session.params !== null && has(session.params, name)) {
    globalThis[name] = session.params[name];
    return;
  }
  if (block < 0) return;
  try {
    call(block);
    if (started) registry.walk(name, globalThis[name]);
  } catch (error) {
    globalThis[name] = undefined;
    executionError(error, at);
  }
}

// Variables that scripts made, and the functions below them.
function registerGlobals() {
  for (const name of Object.keys(globalThis)) registry.walk(name, globalThis[name]);
  for (const name of Object.keys(machine.lexical)) registry.walk(name, machine.lexical[name].get());
}
