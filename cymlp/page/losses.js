"use strict";

// Losses: a term for each output, whose sum is the sample's loss, and its derivative.
//
// A loss is told y (or z, where it is computed from weighted sums), the target t, and of the loss
// `o`: epsilon, parameter, smoothing, unit (a number for this output) and units, the number of
// outputs. Formulas and bounds are those of cymlp's kernels.

const FUSED = {
  softmax: { cross_entropy: "softmax_cross_entropy", kl_divergence: "softmax_kl_divergence" },
  sigmoid: { binary_cross_entropy: "sigmoid_binary_cross_entropy", focal: "sigmoid_focal" },
  exponential: {
    poisson: "exponential_poisson",
    gamma: "exponential_gamma",
    tweedie: "exponential_tweedie",
  },
};

const smoothed = (t, classes, smoothing) => (1 - smoothing) * t + smoothing / classes;
const timesLog = (t) => (t > 0 ? t * Math.log(t) : 0);
const bounded = (y, o) => Math.max(y, o.epsilon);

function logCosh(error) {
  const size = Math.abs(error);
  if (size < 1) return Math.log1p(2 * Math.sinh(size / 2) ** 2);
  return size + Math.log1p(Math.exp(-2 * size)) - Math.LN2;
}

/** What the focal loss is made of, given y and 1 − y. */
function focalParts(p, q, t, o) {
  const wrong = t * q + (1 - t) * p;
  const weight = (o.smoothing * t + (1 - o.smoothing) * (1 - t)) * wrong ** o.parameter;
  return { wrong, weight };
}

const within = (x, o) => Math.min(Math.max(x, o.epsilon), 1);

/** Binary cross-entropy from the weighted sum. */
const logisticTerm = (z, t) => Math.max(z, 0) - t * z + Math.log1p(Math.exp(-Math.abs(z)));

/** max(-w e, (1 - w) e) */
const pinball = (e, w) => Math.max(-w * e, (1 - w) * e);

const LOSSES = {
  squared_error: {
    formula: "½ (y − t)²",
    slopeFormula: "y − t",
    term: (y, t) => (y - t) ** 2 / 2,
    slope: (y, t) => y - t,
  },
  absolute_error: {
    formula: "|y − t|",
    slopeFormula: "sign(y − t)",
    term: (y, t) => Math.abs(y - t),
    slope: (y, t) => Math.sign(y - t),
  },
  huber: {
    formula: "½ e² where |e| ≤ d, else d (|e| − d/2), e = y − t",
    slopeFormula: "y − t, within [−d, d]",
    term(y, t, o) {
      const size = Math.abs(y - t);
      return size <= o.parameter ? size ** 2 / 2 : o.parameter * (size - o.parameter / 2);
    },
    slope: (y, t, o) => Math.min(Math.max(y - t, -o.parameter), o.parameter),
  },
  log_cosh: {
    formula: "log cosh(y − t)",
    slopeFormula: "tanh(y − t)",
    term: (y, t) => logCosh(y - t),
    slope: (y, t) => Math.tanh(y - t),
  },
  quantile: {
    formula: "max(q (t − y), (q − 1) (t − y))",
    slopeFormula: "1 − q where y > t, −q where y < t",
    term: (y, t, o) => pinball(y - t, o.unit),
    slope: (y, t, o) => (y > t ? 1 - o.unit : y < t ? -o.unit : 0),
  },
  poisson: {
    formula: "y − t log y",
    slopeFormula: "1 − t / y",
    term: (y, t, o) => bounded(y, o) - t * Math.log(bounded(y, o)),
    slope: (y, t, o) => 1 - t / bounded(y, o),
  },
  gamma: {
    formula: "t / y + log y",
    slopeFormula: "(1 − t / y) / y",
    term: (y, t, o) => t / bounded(y, o) + Math.log(bounded(y, o)),
    slope: (y, t, o) => (1 - t / bounded(y, o)) / bounded(y, o),
  },
  tweedie: {
    formula: "t y¹⁻ᵖ / (p − 1) + y²⁻ᵖ / (2 − p)",
    slopeFormula: "(y²⁻ᵖ − t y¹⁻ᵖ) / y",
    term: (y, t, o) => LOSSES.exponential_tweedie.term(Math.log(bounded(y, o)), t, o),
    slope: (y, t, o) =>
      LOSSES.exponential_tweedie.slope(Math.log(bounded(y, o)), t, o) / bounded(y, o),
  },
  cross_entropy: {
    formula: "−w t′ log y",
    slopeFormula: "−w t′ / y",
    term: (y, t, o) => -o.unit * smoothed(t, o.units, o.smoothing) * Math.log(bounded(y, o)),
    slope: (y, t, o) => (-o.unit * smoothed(t, o.units, o.smoothing)) / bounded(y, o),
  },
  binary_cross_entropy: {
    formula: "−t′ log y − (1 − t′) log(1 − y)",
    slopeFormula: "−t′ / y + (1 − t′) / (1 − y)",
    term(y, t, o) {
      const soft = smoothed(t, 2, o.smoothing);
      return -(soft * Math.log(bounded(y, o)) + (1 - soft) * Math.log(bounded(1 - y, o)));
    },
    slope(y, t, o) {
      const soft = smoothed(t, 2, o.smoothing);
      return -soft / bounded(y, o) + (1 - soft) / bounded(1 - y, o);
    },
  },
  hinge: {
    formula: "max(0, 1 − s y), s = 1 where t > 0, else −1",
    slopeFormula: "−s where the term is greater than 0, else 0",
    term: (y, t) => Math.max(0, 1 - (t > 0 ? y : -y)),
    slope: (y, t) => (1 - (t > 0 ? y : -y) > 0 ? (t > 0 ? -1 : 1) : 0),
  },
  kl_divergence: {
    formula: "t log(t / y)",
    slopeFormula: "−t / y",
    term: (y, t, o) => timesLog(t) - t * Math.log(bounded(y, o)),
    slope: (y, t, o) => -t / bounded(y, o),
  },
  focal: {
    formula: "a u^γ c, c the binary cross-entropy, u = t (1 − y) + (1 − t) y",
    slopeFormula: "a u^γ (γ (1 − 2t) c / u − t / y + (1 − t) / (1 − y))",
    term(y, t, o) {
      const [p, q] = [within(y, o), within(1 - y, o)];
      return -focalParts(p, q, t, o).weight * (t * Math.log(p) + (1 - t) * Math.log(q));
    },
    slope(y, t, o) {
      const [p, q] = [within(y, o), within(1 - y, o)];
      const { wrong, weight } = focalParts(p, q, t, o);
      const entropy = -(t * Math.log(p) + (1 - t) * Math.log(q));
      return weight * ((o.parameter * (1 - 2 * t) * entropy) / wrong - t / p + (1 - t) / q);
    },
  },
  sigmoid_binary_cross_entropy: {
    formula: "max(z, 0) − t′ z + log(1 + e^(−|z|))",
    slopeFormula: "sigmoid(z) − t′",
    term: (z, t, o) => logisticTerm(z, smoothed(t, 2, o.smoothing)),
    slope: (z, t, o) => sigmoid(z) - smoothed(t, 2, o.smoothing),
  },
  sigmoid_focal: {
    formula: "a u^γ c, c the binary cross-entropy, u = t (1 − y) + (1 − t) y",
    slopeFormula: "a u^γ (γ (1 − 2t) c y (1 − y) / u + y − t)",
    term: (z, t, o) => focalParts(sigmoid(z), sigmoid(-z), t, o).weight * logisticTerm(z, t),
    slope(z, t, o) {
      const [p, q] = [sigmoid(z), sigmoid(-z)];
      const { wrong, weight } = focalParts(p, q, t, o);
      const pull = (o.parameter * (1 - 2 * t) * logisticTerm(z, t) * p * q) / wrong;
      return weight * (pull + (1 - t) * p - t * q);
    },
  },
  exponential_poisson: {
    formula: "eᶻ − t z",
    slopeFormula: "eᶻ − t",
    term: (z, t) => Math.exp(z) - t * z,
    slope: (z, t) => Math.exp(z) - t,
  },
  exponential_gamma: {
    formula: "t e⁻ᶻ + z",
    slopeFormula: "1 − t e⁻ᶻ",
    term: (z, t) => t * Math.exp(-z) + z,
    slope: (z, t) => 1 - t * Math.exp(-z),
  },
  exponential_tweedie: {
    formula: "t e^((1 − p) z) / (p − 1) + e^((2 − p) z) / (2 − p)",
    slopeFormula: "e^((2 − p) z) − t e^((1 − p) z)",
    term: (z, t, o) =>
      (t * Math.exp((1 - o.parameter) * z)) / (o.parameter - 1) +
      Math.exp((2 - o.parameter) * z) / (2 - o.parameter),
    slope: (z, t, o) => Math.exp((2 - o.parameter) * z) - t * Math.exp((1 - o.parameter) * z),
  },
  // These two look at all weighted sums of a row: see lossRow.
  softmax_cross_entropy: {
    formula: "−w t′ log softmax(z)",
    slopeFormula: "softmax(z) Σ w t′ − w t′",
  },
  softmax_kl_divergence: {
    formula: "t log(t / softmax(z))",
    slopeFormula: "softmax(z) Σ t − t",
  },
};

/** The name of what is computed: of the loss, or of the loss with the output activation. */
function lossCode(loss, activation) {
  return loss.isFused ? FUSED[activation][loss.name] : loss.name;
}

/** Return the terms and derivatives of a sample's outputs (or weighted sums, where fused). */
function lossRow(code, loss, epsilon, out, target) {
  const terms = new Float64Array(out.length);
  const slopes = new Float64Array(out.length);
  const unit = (j) => loss.unit?.[j] ?? 1;
  if (code.startsWith("softmax_")) {
    const probabilities = new Float64Array(out.length);
    softmaxRow(out, probabilities);
    const largest = Math.max(...out);
    const logSum = Math.log(sum(out.map((z) => Math.exp(z - largest))));
    const weights = target.map((t, j) => unit(j) * smoothed(t, out.length, loss.smoothing));
    const total = sum(weights);
    for (let j = 0; j < out.length; j++) {
      const entropy = code === "softmax_kl_divergence" ? timesLog(target[j]) : 0;
      terms[j] = weights[j] * (logSum - (out[j] - largest)) + entropy;
      slopes[j] = probabilities[j] * total - weights[j];
    }
    return { terms, slopes };
  }
  const { term, slope } = LOSSES[code];
  for (let j = 0; j < out.length; j++) {
    const told = { ...loss, epsilon, unit: unit(j), units: out.length };
    terms[j] = term(out[j], target[j], told);
    slopes[j] = slope(out[j], target[j], told);
  }
  return { terms, slopes };
}
