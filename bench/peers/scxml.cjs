// The document of bench/scxml.py in XState and in SCION: node scxml.cjs <folder with node_modules> < {states, steps, rounds, chunk}
// Prints {"xstate": µs a step, "scion": µs a step}: CPU of this process, best chunk.
"use strict";
const { createRequire } = require("node:module");
const load = createRequire(process.argv[2] + "/package.json");

function xstate(states) {
  const { assign, createActor, createMachine } = load("xstate");
  const table = {};
  for (let i = 0; i < states; i++) {
    table["s" + i] = {
      entry: assign({ count: ({ context }) => context.count + 1 }),
      on: {
        go: {
          guard: ({ event }) => event.n >= 0,
          target: "s" + ((i + 1) % states),
          actions: assign(({ context, event }) => ({
            last: event.n,
            total: context.total + event.n,
            ring: context.ring.with(event.n % 8, event.n),
          })),
        },
      },
    };
  }
  const context = { count: 0, last: 0, total: 0, ring: [0, 0, 0, 0, 0, 0, 0, 0] };
  const machine = createMachine({ context, initial: "main", states: { main: { initial: "s0", states: table } } });
  const actor = createActor(machine);
  actor.start();
  return {
    step: (n) => actor.send({ type: "go", n }),
    count: () => actor.getSnapshot().context.count,
  };
}

function scion(states) {
  const { Statechart } = load("@scion-scxml/core");
  const data = { count: 0, last: 0, total: 0, ring: [0, 0, 0, 0, 0, 0, 0, 0] };
  const children = [];
  for (let i = 0; i < states; i++) {
    children.push({
      id: "s" + i,
      onEntry: () => { data.count++; },
      transitions: [{
        event: "go",
        cond: (event) => event.data.n >= 0,
        target: "s" + ((i + 1) % states),
        onTransition: (event) => {
          data.last = event.data.n;
          data.total += event.data.n;
          data.ring[event.data.n % 8] = event.data.n;
        },
      }],
    });
  }
  // A factory: a plain model is copied through JSON, which loses its functions.
  const chart = new Statechart(() => ({ states: [{ id: "main", states: children }] }));
  chart.start();
  return { step: (n) => chart.gen({ name: "go", data: { n } }), count: () => data.count };
}

function cpu() {
  const used = process.cpuUsage();
  return used.user + used.system;
}

const { states, steps, rounds, chunk } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const result = {};
for (const [name, make] of [["xstate", xstate], ["scion", scion]]) {
  let best = Infinity;
  for (let round = 0; round < rounds; round++) {
    const machine = make(states);
    for (let first = 0; first < steps; first += chunk) {
      const before = cpu();
      for (let n = first; n < first + chunk; n++) machine.step(n);
      best = Math.min(best, (cpu() - before) / chunk);
    }
    if (machine.count() !== steps + 1) throw new Error(name + " entered " + machine.count() + " states");
  }
  result[name] = best;
}
console.log(JSON.stringify(result));
