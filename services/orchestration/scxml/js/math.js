// Math.random of the platform. A part of the runtime (entry.js): Math is made when it is first named, with 45 names that
// a session would keep, so a document that never writes "Math" has none.

(function (inside) {
"use strict";

Object.defineProperty(Math, "random", { value: inside.draw, writable: true, configurable: true });

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

return generator;
})
