// The compiled tables as columns: a state is its number in document order, a transition its row.

const NONE = Object.freeze([]);

function link() {
  const { states, transitions } = machine;
  kindOf = column(states.kind);
  parentOf = column(states.parent);
  lastOf = column(states.last);
  entryOf = column(states.entry);
  exitOf = column(states.exit);
  afterOf = column(states.after);
  firstOf = column(states.first);
  initialOf = column(states.initial);
  sourceOf = column(transitions.source);
  targetOf = column(transitions.target);
  domainOf = column(transitions.domain);
  condOf = column(transitions.cond);
  runOf = column(transitions.run);
  atOf = column(transitions.at);
  machine.states = machine.transitions = null; // several times the size of the columns
  active = new Uint8Array(kindOf.length);
}

function column(numbers) {
  return Int32Array.from(numbers);
}

// Children that are no history, in document order.
function regions(state) {
  const found = [];
  for (let s = state + 1; s <= lastOf[state]; s = lastOf[s] + 1) if (kindOf[s] !== HISTORY) found.push(s);
  return found;
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
