"use strict";

// Equations of the selected unit, weight or loss, with the numbers in the place of the letters.
//
// An equation is {left, right}; one with an empty left goes on from the line before. What is
// selected is {kind: "unit", column, unit}, {kind: "edge", layer, from, to} or {kind: "loss"}.

// Terms of a sum that are written out.
const MOST_TERMS = 8;

/** Write a sum: its largest terms {text, value} in their order, and what the rest comes to. */
function writtenSum(terms) {
  const ranked = terms.map((_, i) => i);
  ranked.sort((i, j) => Math.abs(terms[j].value) - Math.abs(terms[i].value));
  const kept = new Set(ranked.slice(0, MOST_TERMS));
  const rest = terms.filter((_, i) => !kept.has(i));
  const parts = terms.filter((_, i) => kept.has(i)).map(({ text }) => text);
  if (rest.length > 0) {
    const total = written(sum(rest.map(({ value }) => value)));
    parts.push(`[${rest.length} more, which come to ${total}]`);
  }
  return parts.join(" + ") || "0";
}

const times = (a, b) => ({ text: `${written(a)} × ${factor(b)}`, value: a * b });

/** Put numbers in the place of letters (or short expressions) of a formula. */
function substituted(formula, values) {
  const keys = Object.keys(values).sort((a, b) => b.length - a.length);
  const escaped = keys.map((key) => key.replace(/[()|\\^$*+?.[\]{}]/g, "\\$&"));
  const pattern = new RegExp(`(?<![\\p{L}])(${escaped.join("|")})(?![\\p{L}\\p{M}(_ᶻ′])`, "gu");
  return formula.replace(pattern, (key) => {
    const value = values[key];
    return typeof value === "string" ? value : factor(value);
  });
}

function lettersOfActivation(z, y, alpha) {
  return {
    z,
    "f(z)": y,
    eᶻ: `e^${factor(z)}`,
    "e⁻ᶻ": `e^(−${factor(z)})`,
    α: alpha,
  };
}

function lettersOfLoss(model, code, out, target, j, row) {
  const { loss } = model;
  const classes = code.includes("binary") ? 2 : out.length;
  const z = out[j];
  const letters = {
    y: z, z, t: target[j], "t′": smoothed(target[j], classes, loss.smoothing ?? 0),
    w: loss.unit?.[j] ?? 1, q: loss.unit?.[j] ?? 1, d: loss.parameter, p: loss.parameter,
    γ: loss.parameter, eᶻ: `e^${factor(z)}`, "e⁻ᶻ": `e^(−${factor(z)})`,
    "sigmoid(z)": `sigmoid(${written(z)})`,
  };
  if (code.startsWith("softmax_")) {
    letters["softmax(z)"] = row[j];
    letters["Σ w t′"] = letters["Σ t"] = sum(target.map((t, k) =>
      (loss.unit?.[k] ?? 1) * smoothed(t, classes, loss.smoothing ?? 0)));
  }
  return letters;
}

/** A formula, then the formula with numbers, then what it comes to. */
function worked(left, formula, letters, number) {
  const lines = [{ left, right: formula }];
  const numbers = substituted(formula, letters);
  if (numbers !== formula) lines.push({ left: "", right: numbers });
  return [...lines, { left: "", right: written(number), isResult: true }];
}

// Forward

function forwardEquations(view, { column, unit }) {
  const { model, result, sample } = view;
  if (column === 0) {
    const number = model.inputs.data[sample * model.inputs.columns + unit];
    return [{ left: nameOfUnit(model, 0, unit), right: written(number), isResult: true }];
  }
  const number = column - 1;
  const layer = model.layers[number];
  const pass = result.layers[number];
  const name = nameOfUnit(model, column, unit);
  const at = (values) => values.data[sample * values.columns + unit];
  const x = rowOf(sourceOf(model, result, layer.source), sample);
  const lines = [];
  if (layer.kind === "dense") {
    lines.push(...sumEquations(view, name, layer, x, unit, at(pass.before)));
  } else if (layer.kind === "residual") {
    lines.push(...residualEquations(view, name, layer, unit, at(pass.before)));
  } else if (layer.kind.endsWith("normalization")) {
    lines.push(...normEquations(view, name, layer, unit, at(pass.before)));
  } else if (layer.activation === "identity") {
    lines.push({ left: name, right: written(at(pass.outputs)), isResult: true });
  }
  if (layer.activation !== "identity" && hasOutputs(view, number)) {
    lines.push(...activationEquations(view, number, unit));
  }
  return lines;
}

function sumEquations(view, name, { source, units, parameters }, x, unit, total) {
  const { kernel, bias } = parameters;
  const terms = [...x].map((input, k) => times(input, kernel.data[k * units + unit]));
  if (bias) terms.push({ text: factor(bias.data[unit]), value: bias.data[unit] });
  const names = [...x].map((_, k) => `${nameOfUnit(view.model, source + 1, k, true)} w${
    subscript(k + 1)}`);
  if (bias) names.push("b");
  const lines = names.length <= 5 ? [{ left: name, right: names.join(" + ") }] : [];
  lines.push({ left: lines.length > 0 ? "" : name, right: writtenSum(terms) });
  return [...lines, { left: "", right: written(total), isResult: true }];
}

const subscript = (number) => [...String(number)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]).join("");

function activationEquations(view, number, unit) {
  const { model, result, sample } = view;
  const layer = model.layers[number];
  const pass = result.layers[number];
  const at = (values) => values.data[sample * values.columns + unit];
  const left = nameOfUnit(model, number + 1, unit, true);
  const [z, y] = [at(pass.before), at(pass.outputs)];
  if (layer.activation === "softmax") {
    const powers = [...rowOf(pass.before, sample)].map((each) => ({
      text: `e^${factor(each, 4)}`, value: Math.exp(each),
    }));
    return [
      { left, right: SOFTMAX_FORMULA },
      { left: "", right: `e^${factor(z, 4)} / (${writtenSum(powers)})` },
      { left: "", right: written(y), isResult: true },
    ];
  }
  const formula = ACTIVATIONS[layer.activation]?.formula;
  if (formula === undefined) {
    return [{ left, right: `f(${written(z)})` }, { left: "", right: written(y), isResult: true }];
  }
  return worked(left, formula, lettersOfActivation(z, y, layer.alpha), y);
}

function residualEquations({ model, result, sample }, name, layer, unit, total) {
  const made = rowOf(sourceOf(model, result, layer.source), sample)[unit];
  const added = rowOf(sourceOf(model, result, layer.added), sample);
  const { kernel } = layer.parameters;
  const terms = kernel
    ? [...added].map((input, k) => times(input, kernel.data[k * layer.units + unit]))
    : [{ text: factor(added[unit]), value: added[unit] }];
  return [
    { left: name, right: `${written(made)} + ${writtenSum(terms)}` },
    { left: "", right: written(total), isResult: true },
  ];
}

function normEquations({ model, result, sample }, name, layer, unit, total) {
  const x = sourceOf(model, result, layer.source);
  const { normal, deviations } = normalized(layer, x);
  const place = sample * x.columns + unit;
  const mean = x.data[place] - normal.data[place] * deviations.data[place];
  const gamma = layer.parameters.gamma?.data[unit] ?? 1;
  const beta = layer.parameters.beta?.data[unit] ?? 0;
  const [value, deviation] = [written(x.data[place]), written(deviations.data[place])];
  return [
    { left: name, right: "γ (x − mean) / √(variance + ε) + β" },
    { left: "", right: `${written(gamma)} × (${value} − ${factor(mean)}) / ${deviation} + ${
      factor(beta)}` },
    { left: "", right: written(total), isResult: true },
  ];
}

// Loss

function lossParts({ model, result, sample }) {
  const last = result.layers.at(-1);
  const activation = model.layers.at(-1).activation;
  const code = lossCode(model.loss, activation);
  const out = rowOf(model.loss.isFused ? last.before : last.outputs, sample);
  const target = rowOf(model.targets, sample);
  // Of a loss of somebody's own the page knows no terms.
  const row = Object.hasOwn(LOSSES, code)
    ? lossRow(code, model.loss, model.epsilon, out, target) : null;
  return { code, out, target, row, outputs: rowOf(last.outputs, sample) };
}

function lossEquations(view, selection) {
  const { model, result, sample } = view;
  const { code, out, target, row, outputs } = lossParts(view);
  const total = result.losses[sample];
  if (row === null) return [{ left: "L", right: written(total), isResult: true }];
  if (selection.kind === "unit" && selection.column === model.layers.length) {
    const letters = lettersOfLoss(model, code, out, target, selection.unit, outputs);
    const name = nameOfUnit(model, selection.column, selection.unit, true);
    return worked(`term of ${name}`, LOSSES[code].formula, letters, row.terms[selection.unit]);
  }
  const terms = [...row.terms].map((value) => ({ text: factor(value), value }));
  const lines = [
    { left: "L", right: writtenSum(terms) },
    { left: "", right: written(total), isResult: true },
  ];
  if (model.inputs.rows > 1 || result.penalty > 0) {
    const shares = sharesOf(model);
    const each = [...result.losses].map((loss, i) => times(shares[i], loss));
    const penalty = result.penalty > 0 ? ` + ${written(result.penalty)} (penalties)` : "";
    lines.push({ left: "batch", right: writtenSum(each) + penalty });
    lines.push({ left: "", right: written(result.loss), isResult: true });
  }
  return lines;
}

// Backward

/** What flows back into a unit from the layers that read it, as terms of a sum. */
function backwardTerms({ model, result, sample }, column, unit) {
  const terms = [];
  model.layers.forEach((reader, number) => {
    const delta = rowOf(result.layers[number].delta, sample);
    const { kernel } = reader.parameters;
    const isSource = reader.source === column - 1;
    const isAdded = reader.kind === "residual" && reader.added === column - 1;
    const readsByWeights = (isSource && reader.kind === "dense") || (isAdded && kernel);
    if (readsByWeights) {
      delta.forEach((d, k) => terms.push(times(d, kernel.data[unit * reader.units + k])));
    } else if (isSource && reader.kind.endsWith("normalization")) {
      const through = matrix(model.inputs.rows, delta.length);
      const x = sourceOf(model, result, reader.source);
      addNormalizeBackward(through, reader, x, result.layers[number].delta);
      const value = rowOf(through, sample)[unit];
      terms.push({ text: `${factor(value)} (through ${reader.where})`, value });
    }
    if ((isSource && !readsByWeights && !reader.kind.endsWith("normalization")) ||
        (isAdded && !kernel)) {
      terms.push({ text: factor(delta[unit]), value: delta[unit] });
    }
  });
  return terms;
}

function backwardEquations(view, { column, unit }) {
  const { model, result, sample } = view;
  const at = (values) => values.data[sample * values.columns + unit];
  const output = nameOfUnit(model, column, unit, true);
  if (column === 0) {
    if (!isKnown(view, "inputGradient")) return [];
    return [
      { left: `∂L/∂${output}`, right: writtenSum(backwardTerms(view, 0, unit)) },
      { left: "", right: written(at(result.inputGradient)), isResult: true },
    ];
  }
  const number = column - 1;
  if (!isKnown(view, "deltas", number)) return [];
  const layer = model.layers[number];
  const pass = result.layers[number];
  const delta = `δ(${nameOfUnit(model, column, unit)})`;
  const isLast = number === model.layers.length - 1;
  const lines = [];
  if (isLast) {
    const { code, out, target, row, outputs } = lossParts(view);
    const left = model.loss.isFused ? delta : `∂L/∂${output}`;
    const number = at(model.loss.isFused ? pass.delta : pass.gradient);
    if (row === null) lines.push({ left, right: written(number), isResult: true });
    else {
      const letters = lettersOfLoss(model, code, out, target, unit, outputs);
      lines.push(...worked(left, LOSSES[code].slopeFormula, letters, number));
    }
    if (model.loss.isFused) return lines;
  } else {
    lines.push({ left: `∂L/∂${output}`, right: writtenSum(backwardTerms(view, column, unit)) });
    lines.push({ left: "", right: written(at(pass.gradient)), isResult: true });
  }
  return [...lines, ...slopeEquations(view, layer, pass, unit, delta, at)];
}

function slopeEquations(view, layer, pass, unit, delta, at) {
  if (layer.activation === "identity") {
    return [{ left: delta, right: `${written(at(pass.delta))}, the same: there is no activation` }];
  }
  if (pass.slopes === null) {
    // Of a softmax every output depends on every weighted sum.
    const y = rowOf(pass.outputs, view.sample);
    const g = rowOf(pass.gradient, view.sample);
    const mixed = writtenSum([...y].map((number, k) => times(g[k], number)));
    return [
      { left: delta, right: "y (∂L/∂y − Σ ∂L/∂yₖ yₖ)" },
      { left: "", right: `${written(y[unit])} × (${written(g[unit])} − (${mixed}))` },
      { left: "", right: written(at(pass.delta)), isResult: true },
    ];
  }
  const formula = ACTIVATIONS[layer.activation]?.slopeFormula ?? "f′(z)";
  const letters = lettersOfActivation(at(pass.before), at(pass.outputs), layer.alpha);
  return [
    ...worked("f′(z)", formula, letters, at(pass.slopes)),
    { left: delta, right: times(at(pass.gradient), at(pass.slopes)).text },
    { left: "", right: written(at(pass.delta)), isResult: true },
  ];
}
