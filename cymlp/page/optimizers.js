"use strict";

// Optimizers: what a parameter and what is kept of it become, given its gradient.
//
// Each takes its settings `o` (with `rate` and the number of the step), the gradient g, the
// parameter w and its slots, and returns by how much w falls with the new slots. `show(symbol,
// formula, letters, number)` is told of every number on the way, for the equations; letters are the
// numbers that the formula's letters stand for. A pass over an array goes without: what stands in
// the parentheses of `show?.()` is then not even made.

const average = (beta, old, now) => beta * old + (1 - beta) * now;

/** Adam's epsilon; beside the root of the uncorrected moment, as Keras has it, where so told. */
function adamEpsilon(o) {
  return o.epsilon_hat > 0 ? o.epsilon_hat / Math.sqrt(1 - o.beta_2 ** o.step) : o.epsilon;
}

/** NAdam's momentum at a step. */
const nadamMomentum = (o, step) => o.beta_1 * (1 - 0.96 ** (step * o.momentum_decay) / 2);

function nadamFactors(o) {
  let product = 1;
  for (let step = 1; step <= o.step; step++) product *= nadamMomentum(o, step);
  const next = nadamMomentum(o, o.step + 1);
  return { ofM: next / (1 - product * next), ofG: (1 - nadamMomentum(o, o.step)) / (1 - product) };
}

function adamLike(o, g, w, slots, show, { keepsLargest = false, isNesterov = false } = {}) {
  const m = average(o.beta_1, slots[0], g);
  const v = average(o.beta_2, slots[1], g * g);
  const largest = keepsLargest ? Math.max(slots[2], v) : v;
  show?.("m", "β₁ × m + (1 − β₁) × g", { "β₁": o.beta_1, m: slots[0], g }, m);
  show?.("v", "β₂ × v + (1 − β₂) × g²", { "β₂": o.beta_2, v: slots[1], g }, v);
  if (keepsLargest) show?.("v_max", "max(v_max, v)", { v_max: slots[2], v }, largest);
  let direction = m / (1 - o.beta_1 ** o.step);
  if (isNesterov) {
    const { ofM, ofG } = nadamFactors(o);
    direction = ofM * m + ofG * g;
    show?.("m̂", "c × m + d × g", { c: ofM, m, d: ofG, g }, direction);
  } else {
    show?.("m̂", "m / (1 − β₁^t)", { m, "β₁": o.beta_1, t: o.step }, direction);
  }
  const corrected = largest / (1 - o.beta_2 ** o.step);
  const ofV = { v: largest, "β₂": o.beta_2, t: o.step };
  show?.("v̂", "v / (1 − β₂^t)", ofV, corrected);
  const epsilon = adamEpsilon(o);
  const change = (o.rate * direction) / (Math.sqrt(corrected) + epsilon);
  const letters = { η: o.rate, "m̂": direction, "v̂": corrected, ε: epsilon };
  show?.("Δ", "η × m̂ / (√v̂ + ε)", letters, change);
  return { change, slots: keepsLargest ? [m, v, largest] : [m, v] };
}

function rmspropLike(o, g, slots, show, { isCentered, hasMomentum }) {
  const v = average(o.beta_2, slots[0], g * g);
  const fresh = [v];
  let variance = v;
  show?.("v", "ρ × v + (1 − ρ) × g²", { ρ: o.beta_2, v: slots[0], g }, v);
  if (isCentered) {
    const m = average(o.beta_2, slots[1], g);
    fresh.push(m);
    variance = Math.max(v - m * m, 0);
    show?.("m", "ρ × m + (1 − ρ) × g", { ρ: o.beta_2, m: slots[1], g }, m);
    show?.("s", "v − m²", { v, m }, variance);
  }
  let direction = g / (Math.sqrt(variance) + o.epsilon);
  const s = isCentered ? "s" : "v";
  show?.("d", `g / (√${s} + ε)`, { g, [s]: variance, ε: o.epsilon }, direction);
  if (hasMomentum) {
    const letters = { μ: o.momentum, r: slots[fresh.length], d: direction };
    direction = o.momentum * slots[fresh.length] + direction;
    fresh.push(direction);
    show?.("r", "μ × r + d", letters, direction);
  }
  const r = hasMomentum ? "r" : "d";
  show?.("Δ", `η × ${r}`, { η: o.rate, [r]: direction }, o.rate * direction);
  return { change: o.rate * direction, slots: fresh };
}

const OPTIMIZERS = {
  sgd(o, g, w, slots, show) {
    show?.("Δ", "η × g", { η: o.rate, g }, o.rate * g);
    return { change: o.rate * g, slots: [] };
  },
  momentum(o, g, w, slots, show) {
    const velocity = o.momentum * slots[0] + g;
    show?.("v", "μ × v + g", { μ: o.momentum, v: slots[0], g }, velocity);
    show?.("Δ", "η × v", { η: o.rate, v: velocity }, o.rate * velocity);
    return { change: o.rate * velocity, slots: [velocity] };
  },
  nesterov(o, g, w, slots, show) {
    const velocity = o.momentum * slots[0] + g;
    const direction = g + o.momentum * velocity;
    show?.("v", "μ × v + g", { μ: o.momentum, v: slots[0], g }, velocity);
    show?.("d", "g + μ × v", { g, μ: o.momentum, v: velocity }, direction);
    show?.("Δ", "η × d", { η: o.rate, d: direction }, o.rate * direction);
    return { change: o.rate * direction, slots: [velocity] };
  },
  adam: (o, g, w, slots, show) => adamLike(o, g, w, slots, show),
  amsgrad: (o, g, w, slots, show) => adamLike(o, g, w, slots, show, { keepsLargest: true }),
  nadam: (o, g, w, slots, show) => adamLike(o, g, w, slots, show, { isNesterov: true }),
  rmsprop: (o, g, w, slots, show) => rmspropLike(o, g, slots, show, {}),
  rmsprop_momentum: (o, g, w, slots, show) => rmspropLike(o, g, slots, show, { hasMomentum: true }),
  centered_rmsprop: (o, g, w, slots, show) => rmspropLike(o, g, slots, show, { isCentered: true }),
  centered_rmsprop_momentum: (o, g, w, slots, show) =>
    rmspropLike(o, g, slots, show, { isCentered: true, hasMomentum: true }),
  adagrad(o, g, w, slots, show) {
    const total = slots[0] + g * g;
    const change = (o.rate * g) / (Math.sqrt(total) + o.epsilon);
    show?.("s", "s + g²", { s: slots[0], g }, total);
    show?.("Δ", "η × g / (√s + ε)", { η: o.rate, g, s: total, ε: o.epsilon }, change);
    return { change, slots: [total] };
  },
  adadelta(o, g, w, slots, show) {
    const v = average(o.beta_2, slots[0], g * g);
    const direction = (Math.sqrt(slots[1] + o.epsilon) / Math.sqrt(v + o.epsilon)) * g;
    const u = average(o.beta_2, slots[1], direction * direction);
    show?.("v", "ρ × v + (1 − ρ) × g²", { ρ: o.beta_2, v: slots[0], g }, v);
    show?.("d", "√(u + ε) / √(v + ε) × g", { u: slots[1], v, ε: o.epsilon, g }, direction);
    show?.("u", "ρ × u + (1 − ρ) × d²", { ρ: o.beta_2, u: slots[1], d: direction }, u);
    show?.("Δ", "η × d", { η: o.rate, d: direction }, o.rate * direction);
    return { change: o.rate * direction, slots: [v, u] };
  },
  lion(o, g, w, slots, show) {
    const direction = Math.sign(average(o.beta_1, slots[0], g));
    show?.("d", "sign(β₁ × m + (1 − β₁) × g)", { "β₁": o.beta_1, m: slots[0], g }, direction);
    show?.("Δ", "η × d", { η: o.rate, d: direction }, o.rate * direction);
    return { change: o.rate * direction, slots: [average(o.beta_2, slots[0], g)] };
  },
  rprop(o, g, w, slots, show) {
    const turn = Math.sign(g) * Math.sign(slots[0]);
    const growth = turn > 0 ? o.eta_plus : turn < 0 ? o.eta_minus : 1;
    const size = Math.min(Math.max(slots[1] * growth, o.smallest_step), o.largest_step);
    const used = turn < 0 ? 0 : g;
    show?.("s", "s × c, within its bounds", { s: slots[1], c: growth }, size);
    show?.("Δ", "sign(g) × s", { g: used, s: size }, Math.sign(used) * size);
    return { change: Math.sign(used) * size, slots: [used, size] };
  },
};

/** The settings of a step: those of the optimizer, with its learning rate for some layer. */
function stepSettings(model, layer) {
  const o = model.optimizer;
  const decay = 1 + (model.step - 1) * (o.rate_decay ?? 0);
  return { ...o, step: model.step, rate: ((model.learningRate ?? 0) * layer.rateFactor) / decay };
}

/** Take a step with one number; the gradient has its penalties, `scale` is what clipping makes. */
function stepOne(o, gradient, scale, w, slots, show = null) {
  let g = scale * gradient;
  if (scale !== 1) show?.("g", "c × g, the norm clipped", { c: scale, g: gradient }, g);
  if (o.clip_value !== undefined) {
    const clipped = Math.min(Math.max(g, -o.clip_value), o.clip_value);
    show?.("g", "g within ±c", { g, c: o.clip_value }, clipped);
    g = clipped;
  }
  if (o.weight_decay > 0) {
    const decayed = g + o.weight_decay * w;
    show?.("g", "g + λ × w", { g, λ: o.weight_decay, w }, decayed);
    g = decayed;
  }
  const { change, slots: fresh } = OPTIMIZERS[o.code](o, g, w, slots, show);
  let kept = w;
  if (o.decoupled_decay > 0) {
    kept = w - o.rate * o.decoupled_decay * w;
    show?.("w", "w − η × λ × w", { w, η: o.rate, λ: o.decoupled_decay }, kept);
  }
  const updated = kept - change;
  show?.("w′", "w − Δ", { w: kept, Δ: change }, updated);
  return { updated, slots: fresh };
}
