// What a session asks of its surroundings: random numbers, _genesys.

// The same session and step always draw the same numbers.
function draw() {
  if (random === null) random = generator(session.seed, stepNumber);
  return random();
}

// Of a document that mentions it; see genesys.js.
let makeGenesys = () => Object.freeze({});
let generator = null; // see math.js

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
