// The session written down between two steps; the tagged encoding is in values.js.

function globals() {
  return Object.keys(globalThis);
}

function snapshot() {
  const id = (state) => machine.ids[state];
  const lost = [];
  const root = { data: {}, lexical: {}, event: null, interactions: null };
  const encoder = new Encoder(registry, lost);
  for (const name of globals()) {
    const value = globalThis[name];
    if (typeof value === "function" && registry.paths.get(value) === name && !dataIds.has(name)) continue;
    set(root.data, name, encoder.encode(value, root.data, name, ""));
  }
  for (const name of Object.keys(machine.lexical)) {
    const value = machine.lexical[name].get();
    if (typeof value === "function" && registry.paths.get(value) === name) continue;
    set(root.lexical, name, encoder.encode(value, root.lexical, name, ""));
  }
  root.event = currentEvent === undefined ? null : eventRecord(encoder, root);
  root.interactions = encoder.encode(interactions, root, "interactions", "");
  return toJson({
    configuration: configuration.map(id),
    history: [...historyValue].map(([state, list]) => [id(state), list.map(id)]),
    bound: machine.late ? [...bound].map(id) : [],
    invoked: invoked.map((entry) => [entry.id, id(entry.state), entry.index]),
    running, finished, stepNumber, serial, values: root, lost,
  });
}

function eventRecord(encoder, root) {
  const record = {};
  set(root, "event", record);
  for (const key of Object.keys(currentEvent)) {
    const value = currentEvent[key];
    if (value !== undefined) set(record, key, encoder.encode(value, record, key, "_event"));
  }
  return record;
}
