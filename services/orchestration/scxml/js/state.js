// What a session is made of while it runs, and how it ends a step early. The files of this folder are
// evaluated together as one function scope, in the order of engine.py.

const COMPOUND = 1; // state kinds; see compiler.py
const PARALLEL = 2;
const ATOMIC = 3;
const FINAL = 4;
const HISTORY = 5;

const NONE = Object.freeze([]);
const ABSENT = -1; // no state, transition or block
const OPEN = -2; // a domain that only run time can tell

// What the document compiled to. Columns of states: kind, parent, last (descendant), entry, exit, after (blocks of code:
// [entry, exit) run on entry, [exit, after) on exit), first (transition; the next state's first ends them), initial.
// Columns of transitions, behind which stand initial elements: source, target, domain, cond, run, at.
let machine = null;

let candidatesOf = new Map(); // state -> event name -> transitions
let session = null; // {id, name, ioprocessors, seed, limits, functions}
let now = 0;
let random = null;

let configuration = []; // active states in document order
let active = new Uint8Array(0);
let historyValue = new Map(); // history state index -> states
let bound = new Set(); // states whose late data is bound
let invoked = []; // {id, state, index}
let running = false;
let started = false;
let stepNumber = 0;
let serial = 0; // of generated ids

let internalQueue = [];
let queueHead = 0;
let currentEvent = undefined;
let toInvoke = [];
let effects = [];
let trace = [];
let microsteps = 0;
let finalState = null;
let finished = false;

let answers = [];
let given = []; // answers for the step that follows
let asked = 0;
let pending = null;
let askable = false;

let registry = new Registry();
let dataIds = new Set();
let interactions = {};

// Thrown to end the step. Code of the application may catch it; the answer of the step does not change.
class Stop {
  constructor(reason, message) {
    this.reason = reason;
    this.message = message;
    halted = this;
  }
}
let halted = null;
const QUERY = new Stop("query", "");

// Errors: those of the document become events, those of the platform end the step.

function stopped(error) {
  if (error instanceof Stop) return true;
  if (error instanceof InternalError) return true; // out of memory
  if (error === null) return exhausted(); // out of memory even for the error
  return error instanceof RangeError && error.message === "Maximum call stack size exceeded";
}

function exhausted() {
  try {
    return new Array(1024).fill(0).length === 0;
  } catch (error) {
    return true;
  }
}

function executionError(error, at) {
  if (pending !== null) throw QUERY;
  if (stopped(error)) throw error;
  const place = position(at);
  const message = error instanceof Error ? error.name + ": " + error.message : describe(error);
  const data = { message, line: Number(place[1]), column: Number(place[2]), element: place[3] };
  if (place[4]) data.file = place[4];
  const known = error !== null && typeof error === "object";
  const event = { name: (known && error.scxmlEvent) || "error.execution", type: "platform", data };
  if (known && error.scxmlSendid) event.sendid = error.scxmlSendid;
  enqueue(event);
}

// One string for all positions: an array a position would cost a session more than its data.
function position(at) {
  return /^(\d+):(\d+) (\S*) ?(.*)$/.exec(machine.positions.split("\n")[at + 1]) || ["", 0, 0, "", ""];
}

function failure(message, event, sendid) {
  const error = new Error(message);
  error.scxmlEvent = event;
  error.scxmlSendid = sendid;
  return error;
}

function enqueue(event) {
  if (internalQueue.length - queueHead >= session.limits.internal_events) {
    throw new Stop("queue", "more than " + session.limits.internal_events + " internal events waiting");
  }
  internalQueue.push(event);
}

function effect(value) {
  if (effects.length >= session.limits.effects) {
    throw new Stop("effects", "more than " + session.limits.effects + " effects in one step");
  }
  effects.push(value);
}

function describe(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return value.name + ": " + value.message;
  const text = typeof value === "object" ? toJson(value) : undefined;
  return text === undefined ? String(value) : text;
}

// Sixteen blocks of code are one function (tables.py).
function call(block) {
  return machine.code[block >> 4](block);
}

function run(block) {
  if (block < 0) return;
  try {
    call(block);
  } catch (error) {
    executionError(error, $scxml.at);
  }
}

function holds(t) {
  try {
    return !!call(machine.cond[t]);
  } catch (error) {
    executionError(error, machine.at[t]);
    return false;
  }
}

function runEntry(state) {
  for (let block = machine.entry[state]; block < machine.exit[state]; block++) run(block);
}

function runExit(state) {
  for (let block = machine.exit[state]; block < machine.after[state]; block++) run(block);
}
