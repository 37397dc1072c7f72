// What a session sees around its document: time, randomness, system variables, _genesys.

// The same session and step always draw the same numbers.
function draw() {
  if (random === null) random = generator(session.seed, stepNumber);
  return random();
}

// A counter put through the finaliser of MurmurHash3.
function generator(seed, step) {
  let x = (seed ^ Math.imul(step + 1, 0x9e3779b9)) | 0;
  const word = () => {
    x = (x + 0x9e3779b9) | 0;
    let z = x ^ (x >>> 16);
    z = Math.imul(z, 0x85ebca6b);
    z ^= z >>> 13;
    z = Math.imul(z, 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  return () => ((word() >>> 5) * 67108864 + (word() >>> 6)) / 9007199254740992;
}

function furnish() {
  for (const name of ["performance", "queueMicrotask", "WeakRef", "FinalizationRegistry",
                      "SharedArrayBuffer", "Atomics", "$262"]) {
    delete globalThis[name];
  }
  const Real = Date;
  const Fixed = function Date(...parts) {
    if (new.target === undefined) return new Real(now).toString();
    return Reflect.construct(Real, parts.length === 0 ? [now] : parts, new.target);
  };
  Object.defineProperty(Fixed, "length", { value: 7 });
  Fixed.prototype = Real.prototype;
  Object.defineProperty(Real.prototype, "constructor", { value: Fixed, writable: true, configurable: true });
  for (const [name, value] of [["now", () => now], ["parse", Real.parse], ["UTC", Real.UTC]]) {
    Object.defineProperty(Fixed, name, { value, writable: true, configurable: true });
  }
  Object.defineProperty(globalThis, "Date", { value: Fixed, writable: true, configurable: true });
  // Made when first named, with 45 names that a session would keep. A document that never writes "Math" has none.
  if (session.math) Object.defineProperty(Math, "random", { value: draw, writable: true, configurable: true });
  else delete globalThis.Math;
}

function system(name, get) {
  Object.defineProperty(globalThis, name, { get, enumerable: false, configurable: false });
}

function installSystem() {
  const processors = session.ioprocessors;
  for (const name of Object.keys(processors)) Object.freeze(processors[name]);
  Object.freeze(processors);
  let genesys = null; // made when first used
  system("_event", () => currentEvent);
  system("_sessionid", () => session.id);
  system("_name", () => machine.name);
  system("_ioprocessors", () => processors);
  system("_x", () => session.x);
  system("_data", () => globalThis);
  system("_genesys", () => genesys || (genesys = makeGenesys()));
  Object.defineProperty(globalThis, "In", {
    value: (id) => {
      for (const state of configuration) if (machine.ids[state] === id) return true;
      return false;
    },
    enumerable: false,
  });
}

// Of a document that mentions it; see genesys.js.
let makeGenesys = () => Object.freeze({});

function ask(module, name, args) {
  if (pending !== null) throw QUERY;
  const index = asked++;
  if (index < answers.length) {
    const given = answers[index];
    if (given.error !== undefined) throw new Error(given.error);
    return revive(given.value === undefined ? undefined : given.value);
  }
  if (!askable) throw new Error(name + " cannot be asked here");
  if (index >= session.limits.queries) {
    throw new Stop("queries", "more than " + session.limits.queries + " questions in one step");
  }
  pending = [index, module, name, plain(args)];
  throw QUERY;
}
