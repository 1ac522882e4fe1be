"use strict";

// Equations of parameters: a sample's gradient, the average over the batch, the step. And which
// equations there are for what is selected at a step.

/** The parameters of what is selected: {layer, name, place, symbol}. */
function parametersOf(model, selection) {
  if (selection.kind === "edge") {
    const { layer, from, to } = selection;
    return [{ layer, name: "kernel", place: from * model.layers[layer].units + to, symbol: "w" }];
  }
  if (selection.kind !== "unit" || selection.column === 0) return [];
  const layer = selection.column - 1;
  const symbols = { bias: "b", gamma: "γ", beta: "β" };
  return Object.entries(symbols)
    .filter(([name]) => name in model.layers[layer].parameters)
    .map(([name, symbol]) => ({ layer, name, place: selection.unit, symbol }));
}

/** A sample's derivative by a parameter, as the chain of its factors. */
function gradientEquations({ model, result, sample }, { layer, name, place, symbol }) {
  const parts = gradientFactors(model, result, layer, name, sample, place);
  const { gradient, slopes } = result.layers[layer];
  const at = (values) => values.data[sample * values.columns + parts.unit];
  const input = { kernel: "x", gamma: "x̂" }[name];
  const left = `∂L/∂${symbol}`;
  const last = input === undefined ? "" : ` × ${factor(parts.multiplied)}`;
  const lines = [];
  if (gradient !== null && slopes !== null && model.layers[layer].kind === "dense") {
    lines.push({ left, right: `∂L/∂y × f′(z)${input ? ` × ${input}` : ""}` });
    lines.push({ left: "", right: `${written(at(gradient))} × ${factor(at(slopes))}${last}` });
  } else {
    lines.push({ left, right: `δ${input ? ` × ${input}` : ""}` });
    if (input) lines.push({ left: "", right: `${written(parts.delta)}${last}` });
  }
  lines.push({ left: "", right: written(parts.delta * parts.multiplied), isResult: true });
  return lines;
}

function averageEquations({ model, result }, { layer, name, place, symbol }) {
  const parameter = model.layers[layer].parameters[name];
  const results = result.parameters[layer][name];
  const shares = sharesOf(model);
  const terms = [...shares].map((share, i) => {
    const { delta, multiplied } = gradientFactors(model, result, layer, name, i, place);
    return times(share, delta * multiplied);
  });
  const left = `average of ∂L/∂${symbol}`;
  const lines = [];
  if (terms.length > 1) lines.push({ left, right: writtenSum(terms) });
  lines.push({
    left: lines.length > 0 ? "" : left, right: written(results.average[place]), isResult: true,
  });
  if (parameter.given !== null) {
    lines.push({ left: "g", right: `${written(results.gradient[place])}, as given` });
    return lines;
  }
  const { l1, l2 } = penaltyOf(model, parameter);
  const w = parameter.data[place];
  const penalties = [];
  if (l1 > 0) penalties.push(`${written(l1)} sign(${written(w)})`);
  if (l2 > 0) penalties.push(`${written(l2)} × ${factor(w)}`);
  if (penalties.length > 0) {
    const parts = [written(results.average[place]), ...penalties];
    lines.push({ left: "g", right: parts.join(" + ") });
    lines.push({ left: "", right: written(results.gradient[place]), isResult: true });
  }
  return lines;
}

function updateEquations({ model, result }, { layer, name, place, symbol }) {
  const parameter = model.layers[layer].parameters[name];
  const results = result.parameters[layer][name];
  const old = parameter.data[place];
  if (!parameter.isTrainable) {
    return [{ left: `${symbol}′`, right: `${written(old)}: it is not trained` }];
  }
  const lines = [];
  const o = stepSettings(model, model.layers[layer]);
  const slots = parameter.slots.map((slot) => slot[place]);
  const g = results.gradient[place];
  stepOne(o, g, results.scale, old, slots, (left, formula, letters, number) => {
    const named = formula.replace(/(?<!\p{L})w(?!\p{L})/gu, symbol);
    const of = { ...letters, [symbol]: letters.w };
    if (letters.w === undefined) delete of[symbol];
    lines.push(...worked(left.replace("w", symbol), named, of, number));
  });
  if (name === "kernel" && model.layers[layer].maxNorm > 0) {
    const updated = written(results.updated[place]);
    const text = `${updated}, with its unit's weights within their largest norm`;
    lines.push({ left: "", right: text });
  }
  return lines;
}

// Of what is selected

/** What is selected, in words. */
function titleOf({ model }, selection) {
  if (selection.kind === "loss") return "Loss";
  if (selection.kind === "unit") {
    const { column, unit } = selection;
    const place = column === 0 ? "an input" : `in ${model.layers[column - 1].where}`;
    return `${nameOfUnit(model, column, unit)}, ${place}`;
  }
  const { layer, from, to } = selection;
  const source = nameOfUnit(model, model.layers[layer].source + 1, from, true);
  return `Weight from ${source} to ${nameOfUnit(model, layer + 1, to)}`;
}

function edgeForwardEquations({ model, result, sample }, { layer, from, to }) {
  const { source, units, parameters } = model.layers[layer];
  const x = rowOf(sourceOf(model, result, source), sample)[from];
  const w = parameters.kernel.data[from * units + to];
  const name = nameOfUnit(model, source + 1, from, true);
  return [
    { left: "w", right: written(w) },
    { left: `${name} × w`, right: times(x, w).text },
    { left: "", right: `${written(x * w)}, a term of ${nameOfUnit(model, layer + 1, to)}`,
      isResult: true },
  ];
}

/** Return the equations of what is selected, at the current step. */
function equationsOf(view, selection) {
  const { phase, kind } = view.steps[view.step];
  const isUnit = selection.kind === "unit";
  const isOutput = isUnit && selection.column === view.model.layers.length;
  if (selection.kind === "loss") {
    return isKnown(view, "loss") ? lossEquations(view, selection) : later("The loss");
  }
  const parameters = parametersOf(view.model, selection);
  if (phase === "average" || phase === "update") {
    if (parameters.length === 0) return [{ left: "", right: "No parameter: nothing to change." }];
    const make = phase === "average" ? averageEquations : updateEquations;
    return parameters.flatMap((parameter) => make(view, parameter));
  }
  const layer = isUnit ? selection.column - 1 : selection.layer;
  if (phase === "backward" && (isUnit || isKnown(view, "gradients", layer))) {
    const lines = isUnit ? backwardEquations(view, selection) : [];
    if (isKnown(view, "gradients", layer)) {
      lines.push(...parameters.flatMap((parameter) => gradientEquations(view, parameter)));
    }
    return lines.length > 0 ? lines : later("Its derivative");
  }
  if (!isUnit) return edgeForwardEquations(view, selection);
  if (kind === "loss" && isOutput) return lossEquations(view, selection);
  const lines = layer < 0 || hasOutputs(view, layer) || isKnown(view, "sums", layer)
    ? forwardEquations(view, selection) : [];
  return lines.length > 0 ? lines : later("Its value");
}

const later = (what) => [{ left: "", right: `${what} comes in a later step.` }];
