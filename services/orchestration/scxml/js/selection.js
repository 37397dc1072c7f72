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
  if (state.candidates === null || state.candidates.size > 64) state.candidates = new Map();
  let found = state.candidates.get(name);
  if (found !== undefined) return found;
  found = [];
  for (let s = state; s !== null; s = s.parent) {
    for (const t of s.transitions) {
      if (name === null ? t.events === null : t.events !== null && matches(t.events, name)) found.push(t);
    }
  }
  state.candidates.set(name, found);
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
