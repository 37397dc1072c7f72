// The only thing the host sees: (operation, text, time, factory) => text.

// Parts of the runtime that most sessions never need are loaded when one does: each a function of what it uses.

let XmlElement = null;

const parts = {
  furnish(make) {
    let made = null; // of _genesys, when first used
    make({
      now: () => now,
      event: () => currentEvent,
      session: () => session,
      machine: () => machine,
      configuration: () => configuration,
      genesys: () => made || (made = makeGenesys()),
    });
    parts.furnish = null;
  },
  math(make) {
    generator = make({ draw });
  },
  xml(make) {
    XmlElement = make();
  },
  send(make) {
    $scxml.send = make({
      has, plain, revive, payload, ask, effect, enqueue, failure, generate,
      session: () => session,
      askable: () => askable,
      invoked: () => invoked,
    });
  },
  genesys(make) {
    makeGenesys = make({
      ask, plain, effect, generate,
      at: () => $scxml.at,
      functions: () => session.functions,
      interactions: () => interactions,
    });
  },
  special(make) {
    Encoder.prototype.special = make({ has, element: () => XmlElement });
  },
  restore(make) {
    Object.assign(operations, make({
      has, set, stopped, call, begin, renew, become,
      declare: $scxml.declare,
      element: () => XmlElement,
      registry: () => registry,
      machine: () => machine,
    }));
  },
};

// What was needed to begin is not needed again, and every session would keep it.
function begun() {
  operations.boot = operations.bind = operations.start = operations.scriptError = null;
  operations.restoreEarly = operations.restoreLate = parts.restore = null;
}

const operations = {
  boot,
  bind(_argument, time) {
    begin(time);
    askable = session.asks;
    if (session.params !== null) session.params = revive(session.params);
    bound.add(0);
    for (const data of machine.data) if (!machine.late || data[0] === 0) bind(data);
  },
  scriptError(argument) {
    if (pending !== null) throw QUERY;
    if (halted !== null) throw halted;
    $scxml.at = argument.at;
    executionError(new Error(argument.message), argument.at);
  },
  start: startStep,
  terminate,
  snapshot,
  given(list) {
    given = list;
  },
};

return function (operation, text, time, factory) {
  if (operation === "part") {
    parts[text](factory);
    return undefined;
  }
  try {
    const argument = text === undefined ? undefined : parseJson(text);
    if (operation === "step") return externalStep(text.includes('"$xml"') ? revive(argument) : argument, time);
    if (factory !== undefined) argument.machine = factory;
    return operations[operation](argument, time);
  } catch (error) {
    if (error === SPECIAL) return error.part;
    if (pending !== null) return toJson({ query: pending });
    const stop = error instanceof Stop ? error : halted;
    if (stop !== null) return toJson({ stop: stop.reason, message: stop.message });
    throw error;
  }
};
