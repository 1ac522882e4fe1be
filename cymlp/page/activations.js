"use strict";

// Activations: y = f(z) with its derivative, each by the formula of cymlp's kernels.
//
// `formula` and `slopeFormula` are how the page writes them. Softmax, which looks at a whole row,
// is apart from the others.

function sigmoid(z) {
  const decay = Math.exp(-Math.abs(z)); // at most 1: nothing overflows
  return z >= 0 ? 1 / (1 + decay) : decay / (1 + decay);
}

function softplus(z) {
  return Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
}

/** The standard normal density at x >= 0 and the probability above it, to double precision. */
function normalTail(x) {
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (x <= 2) {
    // Abramowitz and Stegun 26.2.11
    let term = x;
    let series = x;
    for (let n = 1; n < 45; n++) {
      term = (term * x * x) / (2 * n + 1);
      series += term;
    }
    return { density, above: 0.5 - density * series };
  }
  let fraction = x; // 26.2.14
  for (let n = 150; n > 0; n--) fraction = x + n / fraction;
  return { density, above: density / fraction };
}

const SELU_SCALE = 1.0507009873554805;
const SELU_ALPHA = 1.6732632423543772;
const GELU_ROOT = 2 * Math.sqrt(2 / Math.PI);

function geluGate(z) {
  const bounded = Math.min(Math.max(z, -100), 100); // the sigmoid has long been 0 or 1
  return {
    gate: GELU_ROOT * (bounded + 0.044715 * bounded ** 3),
    slope: GELU_ROOT * (1 + 3 * 0.044715 * bounded ** 2),
  };
}

const ACTIVATIONS = {
  identity: { value: (z) => z, slope: () => 1, formula: "z", slopeFormula: "1" },
  relu: {
    value: (z) => (z > 0 ? z : z !== z ? z : 0),
    slope: (z) => (z > 0 ? 1 : 0),
    formula: "max(z, 0)",
    slopeFormula: "1 where z > 0, else 0",
  },
  leaky_relu: {
    value: (z, alpha) => (z > 0 ? z : alpha * z),
    slope: (z, alpha) => (z > 0 ? 1 : alpha),
    formula: "z where z > 0, else α z",
    slopeFormula: "1 where z > 0, else α",
  },
  elu: {
    value: (z, alpha) => (z > 0 ? z : alpha * Math.expm1(z)),
    slope: (z, alpha) => (z > 0 ? 1 : alpha * Math.exp(z)),
    formula: "z where z > 0, else α (eᶻ − 1)",
    slopeFormula: "1 where z > 0, else α eᶻ",
  },
  selu: {
    value: (z) => SELU_SCALE * (z > 0 ? z : SELU_ALPHA * Math.expm1(z)),
    slope: (z) => SELU_SCALE * (z > 0 ? 1 : SELU_ALPHA * Math.exp(z)),
    formula: "1.0507 z where z > 0, else 1.75810 (eᶻ − 1)",
    slopeFormula: "1.0507 where z > 0, else 1.75810 eᶻ",
  },
  gelu: {
    value(z) {
      const { above } = normalTail(Math.min(Math.abs(z), 200));
      return z < 0 ? z * above : z - z * above;
    },
    slope(z) {
      const x = Math.min(Math.abs(z), 200);
      const { density, above } = normalTail(x);
      return (z < 0 ? above : 1 - above) + Math.sign(z) * x * density;
    },
    formula: "z Φ(z), Φ the normal distribution",
    slopeFormula: "Φ(z) + z φ(z)",
  },
  gelu_tanh: {
    value: (z) => z * sigmoid(geluGate(z).gate),
    slope(z) {
      const { gate, slope } = geluGate(z);
      return sigmoid(gate) + z * sigmoid(gate) * sigmoid(-gate) * slope;
    },
    formula: "z/2 (1 + tanh(√(2/π) (z + 0.044715 z³)))",
    slopeFormula: "s + z s (1 − s) v′(z), s = sigmoid(v(z))",
  },
  silu: {
    value: (z) => z * sigmoid(z),
    slope: (z) => sigmoid(z) * (1 + z * sigmoid(-z)),
    formula: "z / (1 + e⁻ᶻ)",
    slopeFormula: "s (1 + z (1 − s)), s = sigmoid(z)",
  },
  mish: {
    value: (z) => z * Math.tanh(softplus(z)),
    slope(z) {
      const t = Math.tanh(softplus(z));
      return t + z * sigmoid(z) * (1 - t) * (1 + t);
    },
    formula: "z tanh(log(1 + eᶻ))",
    slopeFormula: "t + z sigmoid(z) (1 − t²), t = tanh(log(1 + eᶻ))",
  },
  softplus: {
    value: softplus,
    slope: sigmoid,
    formula: "log(1 + eᶻ)",
    slopeFormula: "1 / (1 + e⁻ᶻ)",
  },
  sigmoid: {
    value: sigmoid,
    slope: (z) => sigmoid(z) * sigmoid(-z),
    formula: "1 / (1 + e⁻ᶻ)",
    slopeFormula: "f(z) (1 − f(z))",
  },
  hard_sigmoid: {
    value: (z) => Math.min(Math.max(z + 3, 0), 6) / 6,
    slope: (z) => (z > -3 && z < 3 ? 1 / 6 : 0),
    formula: "min(max(z + 3, 0), 6) / 6",
    slopeFormula: "1/6 where −3 < z < 3, else 0",
  },
  tanh: {
    value: Math.tanh,
    slope: (z) => (1 - Math.tanh(z)) * (1 + Math.tanh(z)),
    formula: "tanh(z)",
    slopeFormula: "1 − f(z)²",
  },
  softsign: {
    value: (z) => z / (1 + Math.abs(z)),
    slope: (z) => (1 / (1 + Math.abs(z))) ** 2,
    formula: "z / (1 + |z|)",
    slopeFormula: "1 / (1 + |z|)²",
  },
  exponential: { value: Math.exp, slope: Math.exp, formula: "eᶻ", slopeFormula: "eᶻ" },
};

const SOFTMAX_FORMULA = "eᶻ / Σ eᶻ over the layer";

/** Put the softmax of a row into another one. */
function softmaxRow(z, y) {
  let largest = -Infinity;
  for (const number of z) largest = Math.max(largest, number);
  for (let j = 0; j < z.length; j++) y[j] = Math.exp(z[j] - largest);
  const total = sum(y);
  for (let j = 0; j < z.length; j++) y[j] /= total;
}

/** Return an activation of every row. */
function activate(name, alpha, before) {
  const after = matrix(before.rows, before.columns);
  if (name === "softmax") {
    for (let i = 0; i < before.rows; i++) softmaxRow(rowOf(before, i), rowOf(after, i));
  } else {
    const { value } = ACTIVATIONS[name];
    for (let k = 0; k < after.data.length; k++) after.data[k] = value(before.data[k], alpha);
  }
  return after;
}

/** Return the derivatives f'(z); null for softmax, which has a matrix of them. */
function slopesOf(name, alpha, before) {
  if (name === "softmax") return null;
  const slopes = matrix(before.rows, before.columns);
  const { slope } = ACTIVATIONS[name];
  for (let k = 0; k < slopes.data.length; k++) slopes.data[k] = slope(before.data[k], alpha);
  return slopes;
}

/** Turn dL/dy into dL/dz. */
function activateBackward(slopes, after, gradient) {
  const delta = matrix(after.rows, after.columns);
  if (slopes !== null) {
    for (let k = 0; k < delta.data.length; k++) {
      delta.data[k] = gradient.data[k] * slopes.data[k];
    }
    return delta;
  }
  for (let i = 0; i < after.rows; i++) {
    const [y, g, d] = [rowOf(after, i), rowOf(gradient, i), rowOf(delta, i)];
    const dot = sum(y.map((number, j) => number * g[j]));
    for (let j = 0; j < d.length; j++) d[j] = y[j] * (g[j] - dot);
  }
  return delta;
}

/** Return a row of a matrix as a view of it. */
function rowOf({ columns, data }, i) {
  return data.subarray(i * columns, (i + 1) * columns);
}
