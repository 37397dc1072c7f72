// The compiled tables linked with each other.

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
