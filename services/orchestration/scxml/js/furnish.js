// What a session sees around its document: time, system variables. A part of the runtime (entry.js) that runs when a
// context is made and is let go, so that what it took is free for the document.

(function (inside) {
"use strict";

const { now, event, session, machine, configuration, genesys } = inside;

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

const system = (name, get) => Object.defineProperty(globalThis, name, { get, enumerable: false, configurable: false });
system("_event", event);
system("_sessionid", () => session().id);
system("_name", () => machine().name);
system("_ioprocessors", () => session().ioprocessors);
system("_x", () => session().x);
system("_data", () => globalThis);
system("_genesys", genesys);
Object.defineProperty(globalThis, "In", {
  value: (id) => {
    for (const state of configuration()) if (machine().ids[state] === id) return true;
    return false;
  },
  enumerable: false,
});
})
