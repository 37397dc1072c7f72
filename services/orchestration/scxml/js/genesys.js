// _genesys. A part of the runtime (entry.js), of documents that mention it.

(function (inside) {
"use strict";

function makeGenesys() {
  const made = {};
  const functions = inside.functions();
  for (const root of Object.keys(functions)) {
    const module = {};
    for (const name of Object.keys(functions[root])) {
      const [kind, short, parameters] = functions[root][name];
      module[name] = kind === "query" ? (...args) => inside.ask(short, name, args) : doer(kind, short, name, parameters);
    }
    if (root === "ixn") Object.defineProperty(module, "interactions", { get: inside.interactions });
    made[root] = Object.freeze(module);
  }
  return Object.freeze(made);
}

function doer(kind, short, name, parameters) {
  if (kind === "state") return userData;
  return (...args) => {
    const attributes = {};
    parameters.forEach((parameter, i) => {
      if (args[i] !== undefined) attributes[parameter] = inside.plain(args[i]);
    });
    const id = inside.generate("req");
    inside.effect(["Action", short, name, attributes, id, [], inside.at()]);
    return id;
  };
}

function userData(key, interactionid) {
  const interactions = inside.interactions();
  const ids = Object.keys(interactions);
  const one = interactions[interactionid === undefined ? ids[0] : interactionid];
  const data = one === undefined || one.udata === undefined ? {} : one.udata;
  return key === undefined ? data : data[key];
}

return makeGenesys;
})
