// One macrostep a call: an event in, the macrostep, invocations; the end of a session.

function invokePending() {
  if (toInvoke.length === 0) return;
  const entering = toInvoke.sort((a, b) => a - b);
  toInvoke = [];
  for (const state of entering) {
    for (let index = 0; index < machine.invokes[state].length; index++) startInvoke(state, index);
  }
}

function startInvoke(state, index) {
  const invoke = machine.invokes[state][index];
  try {
    $scxml.at = invoke.at;
    const what = invoke.arguments();
    let id = what.id;
    if (id === undefined) id = machine.ids[state] + "." + ++serial;
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
    const invoke = machine.invokes[entry.state][entry.index];
    if (entry.id === event.invokeid) run(invoke.finalize);
    if (invoke.autoforward) effect(["Forward", entry.id]);
  }
}

// Steps

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

function boot(setup, time) {
  session = setup;
  now = time;
  for (const name of Object.keys(session.ioprocessors)) Object.freeze(session.ioprocessors[name]);
  Object.freeze(session.ioprocessors);
  if (!session.math) delete globalThis.Math;
  machine = session.machine($scxml);
  session.machine = null; // its text is as large as all the tables
  columns();
  active = new Uint8Array(machine.kind.length);
  for (const data of machine.data) {
    dataIds.add(data[1]);
    $scxml.declare(data[1]);
  }
}

// A state is its number in document order, a transition its row: a column of numbers, in one buffer, for each property.
function columns() {
  let at = 0;
  const place = (table, numbers) => {
    for (const name of Object.keys(table)) {
      const list = table[name];
      for (let i = 0; i < list.length; i++) numbers[at + i] = list[i];
      machine[name] = numbers.subarray(at, (at += list.length));
    }
  };
  const { states, transitions } = machine;
  const numbers = new Int32Array(8 * states.kind.length + 6 * transitions.source.length);
  place(states, numbers);
  place(transitions, numbers);
  machine.states = machine.transitions = null;
}

function startStep() {
  if (pending !== null) throw QUERY;
  started = true;
  running = true;
  stepNumber++;
  registerGlobals();
  enterStates([machine.initial[0]]);
  settle();
  begun();
  return answer();
}

// What scripts did while a session was restored is thrown away; their functions are declared.
function renew() {
  effects = [];
  internalQueue = [];
  queueHead = 0;
  interactions = {};
  registry = new Registry();
  registerGlobals();
  return registry;
}

// The session is where its record says.
function become(kept, event, known) {
  const state = (id) => machine.ids.indexOf(id);
  if (event !== null) setEvent(event);
  interactions = known;
  configuration = kept.configuration.map(state);
  for (const s of configuration) active[s] = 1;
  historyValue = new Map(kept.history.map(([id, list]) => [state(id), list.map(state)]));
  bound = new Set(kept.bound.map(state));
  invoked = kept.invoked.map(([id, name, index]) => ({ id, state: state(name), index }));
  running = kept.running;
  finished = kept.finished;
  started = true;
  stepNumber = kept.stepNumber;
  serial = kept.serial;
  askable = session.asks;
  begun();
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
  if (effects.length === 0 && configuration.length < 16 && trace.length < 16) {
    // Most steps; short enough to stay one plain string.
    return "[[" + configuration.join() + "],[],[" + trace.join() + "]," + finished + "]";
  }
  return toJson([configuration, effects, trace, finished]);
}
