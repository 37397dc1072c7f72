// What a session sees around its document, and the document's tables. A part of the runtime (entry.js) that is loaded
// behind the rest and let go when the session is under way, so that what it took is free again.

(function (inside) {
"use strict";

function furnish() {
  const now = inside.now;
  for (const name of ["performance", "queueMicrotask", "WeakRef", "FinalizationRegistry",
                      "SharedArrayBuffer", "Atomics", "$262"]) {
    delete globalThis[name];
  }
  const Real = Date;
  const Fixed = function Date(...parts) {
    if (new.target === undefined) return new Real(now()).toString();
    return Reflect.construct(Real, parts.length === 0 ? [now()] : parts, new.target);
  };
  Object.defineProperty(Fixed, "length", { value: 7 });
  Fixed.prototype = Real.prototype;
  Object.defineProperty(Real.prototype, "constructor", { value: Fixed, writable: true, configurable: true });
  for (const [name, value] of [["now", () => now()], ["parse", Real.parse], ["UTC", Real.UTC]]) {
    Object.defineProperty(Fixed, name, { value, writable: true, configurable: true });
  }
  Object.defineProperty(globalThis, "Date", { value: Fixed, writable: true, configurable: true });
}

function system(name, get) {
  Object.defineProperty(globalThis, name, { get, enumerable: false, configurable: false });
}

function installSystem(session, machine) {
  const { event, configuration, genesys } = inside;
  const processors = session.ioprocessors;
  for (const name of Object.keys(processors)) Object.freeze(processors[name]);
  Object.freeze(processors);
  system("_event", event);
  system("_sessionid", () => session.id);
  system("_name", () => machine.name);
  system("_ioprocessors", () => processors);
  system("_x", () => session.x);
  system("_data", () => globalThis);
  system("_genesys", genesys);
  Object.defineProperty(globalThis, "In", {
    value: (id) => {
      for (const state of configuration()) if (machine.ids[state] === id) return true;
      return false;
    },
    enumerable: false,
  });
}

// A state is its number in document order, a transition its row: a column of numbers for each of their properties.
function columns(machine) {
  for (const table of [machine.states, machine.transitions]) {
    for (const name of Object.keys(table)) machine[name] = Int32Array.from(table[name]);
  }
  machine.states = machine.transitions = null;
}

return function boot(session, time) {
  inside.open(session, time);
  furnish();
  if (!session.math) delete globalThis.Math;
  const machine = session.machine(inside.$scxml);
  session.machine = null; // its text is as large as all the tables
  columns(machine);
  inside.link(machine);
  installSystem(session, machine);
};
})
