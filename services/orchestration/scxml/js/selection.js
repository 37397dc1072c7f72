// Selecting transitions (recommendation 3.13 and appendix D).

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
  let known = candidatesOf.get(state);
  if (known === undefined || known.size > 64) candidatesOf.set(state, (known = new Map()));
  let found = known.get(name);
  if (found !== undefined) return found;
  found = [];
  for (let s = state; s >= 0; s = machine.parent[s]) {
    for (let t = machine.first[s]; t < machine.first[s + 1]; t++) {
      const events = machine.events[t];
      if (name === null ? events === null : events !== null && matches(events, name)) found.push(t);
    }
  }
  known.set(name, found);
  return found;
}

function select(name) {
  const enabled = [];
  for (let i = 0; i < configuration.length; i++) {
    const state = configuration[i];
    if (machine.kind[state] !== ATOMIC && machine.kind[state] !== FINAL) continue;
    const list = candidates(state, name);
    for (let k = 0; k < list.length; k++) {
      const t = list[k];
      if (machine.cond[t] < 0 || holds(t)) {
        if (!enabled.includes(t)) enabled.push(t);
        break;
      }
    }
  }
  return enabled.length > 1 ? withoutConflicts(enabled) : enabled;
}

function within(state, ancestor) {
  return state > ancestor && state <= machine.last[ancestor];
}

function withoutConflicts(enabled) {
  let kept = [];
  for (const t1 of enabled) {
    const d1 = domain(t1);
    const dropped = [];
    let preempted = false;
    for (const t2 of kept) {
      const d2 = domain(t2);
      if (d1 === ABSENT || d2 === ABSENT || !(d1 === d2 || within(d1, d2) || within(d2, d1))) continue;
      if (within(machine.source[t1], machine.source[t2])) {
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

// The state whose active descendants a transition exits; ABSENT without a target. A target that is a history
// leaves it to run time.
function domain(t) {
  if (machine.domain[t] !== OPEN) return machine.domain[t];
  const found = effectiveTargets(t);
  const source = machine.source[t];
  if (machine.internal.includes(t) && machine.kind[source] === COMPOUND && found.every((s) => within(s, source))) return source;
  for (let s = machine.parent[source]; s >= 0; s = machine.parent[s]) {
    if (machine.kind[s] === COMPOUND && found.every((target) => within(target, s))) return s;
  }
  return 0;
}

function targets(t) {
  const target = machine.target[t];
  if (target >= 0) return [target];
  return target === ABSENT ? NONE : machine.targets[t];
}

function effectiveTargets(t) {
  const found = [];
  for (const s of targets(t)) {
    if (machine.kind[s] !== HISTORY) found.push(s);
    else found.push(...(historyValue.get(s) || effectiveTargets(machine.first[s])));
  }
  return found;
}

// Children that are no history, in document order.
function regions(state) {
  const found = [];
  for (let s = state + 1; s <= machine.last[state]; s = machine.last[s] + 1) if (machine.kind[s] !== HISTORY) found.push(s);
  return found;
}
