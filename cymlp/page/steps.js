"use strict";

// The computation as a list of steps, and what is known after each of them.

const DOES_NOTHING = "In prediction dropout does nothing: the values pass.";

const FORWARD_TEXT = {
  dense: "Each unit adds up its inputs, each times its weight, and its bias.",
  activation: "The activation function, of each value.",
  dropout: DOES_NOTHING,
  batch_normalization:
    "Each value less its moving average, divided by its moving deviation; times γ, plus β.",
  layer_normalization:
    "Each value less the layer's mean, divided by its standard deviation; times γ, plus β.",
  residual: "What the layers inside have made, plus what went into them.",
};

/** Return the steps: {phase, kind, layer, label, text}. */
function stepsOf(model) {
  const steps = [];
  const add = (phase, kind, layer, label, text) => steps.push({ phase, kind, layer, label, text });
  add("forward", "inputs", -1, "Inputs", "What the network is given.");
  model.layers.forEach((layer, i) => {
    const { where, kind, activation } = layer;
    if (kind === "dense") add("forward", "sums", i, `${where}: weighted sums`, FORWARD_TEXT.dense);
    if (kind === "dense" && activation === "identity") return;
    const name = kind === "dense" || kind === "activation" ? activation : kind.replace("_", " ");
    const text = kind === "dense" ? FORWARD_TEXT.activation : FORWARD_TEXT[kind];
    add("forward", "outputs", i, `${where}: ${name}`, text);
  });
  if (model.targets === null) return steps;

  add("loss", "loss", -1, "Loss", `How far the outputs are from the targets: ${
    model.loss.name.replaceAll("_", " ")}, a term for each output.`);
  [...model.layers.keys()].reverse().forEach((i) => {
    const { where, parameters } = model.layers[i];
    const isLast = i === model.layers.length - 1;
    add("backward", "deltas", i, `${where}: deltas`, isLast
      ? "How the loss changes with each weighted sum of the output layer."
      : "What flows back from the units that read this layer, times the activation's slope.");
    if (Object.keys(parameters).some(hasGradient)) {
      add("backward", "gradients", i, `${where}: gradients`,
        "How the loss changes with each weight: the delta of its unit times its input.");
    }
  });
  add("backward", "inputGradient", -1, "Inputs: gradient",
    `How the loss changes with each input${model.imageShape ? ": over the image" : ""}.`);
  const names = model.layers.flatMap(({ parameters }) => Object.keys(parameters));
  if (!names.some(hasGradient)) return steps;
  add("average", "average", -1, "Average over the batch",
    model.inputs.rows === 1
      ? "With a single sample, the average is its own gradient; penalties are added here."
      : "The gradients of all samples, averaged; penalties are added here.");
  if (model.optimizer !== null) {
    const name = model.optimizerName.replace(/\(\)$/, "");
    add("update", "update", -1, "Update", `Step ${model.step} of ${name}.`);
  }
  return steps;
}

/** Tell whether a kind of numbers of a layer is known at the current step. */
function isKnown(view, kind, layer = -1) {
  const at = view.steps.findIndex((step) => step.kind === kind && step.layer === layer);
  return at >= 0 && at <= view.step;
}

/** Tell whether a layer's outputs are known: of one without an activation they are its sums. */
function hasOutputs(view, layer) {
  const { kind, activation } = view.model.layers[layer];
  const isLinear = kind === "dense" && activation === "identity";
  return isKnown(view, isLinear ? "sums" : "outputs", layer);
}

/** What is drawn in a unit at the current step: {number, what, isFaint}. */
function shownOfUnit(view, column, unit) {
  const { model, result, sample } = view;
  const { phase } = view.steps[view.step];
  const at = (values) => values.data[sample * values.columns + unit];
  if (column === 0) {
    if (isKnown(view, "inputGradient")) {
      return { number: at(result.inputGradient), what: "gradient" };
    }
    return { number: at(model.inputs), what: "input", isFaint: phase === "backward" };
  }
  const layer = column - 1;
  const pass = result.layers[layer];
  if (isKnown(view, "deltas", layer)) return { number: at(pass.delta), what: "delta" };
  if (hasOutputs(view, layer)) {
    return { number: at(pass.outputs), what: "output", isFaint: phase === "backward" };
  }
  if (isKnown(view, "sums", layer)) return { number: at(pass.before), what: "weighted sum" };
  return { number: null, what: "not computed yet", isFaint: true };
}

/** What is written on an edge at the current step: {number, what}. */
function shownOfEdge(view, { layer, from, to }) {
  const { model, result, sample } = view;
  const { kernel } = model.layers[layer].parameters;
  const place = from * model.layers[layer].units + to;
  const { kind, layer: number } = view.steps[view.step];
  const results = result.parameters[layer].kernel;
  if (kind === "update") return { number: results.updated[place], what: "new weight" };
  if (kind === "average") return { number: results.gradient[place], what: "average gradient" };
  if (kind === "gradients" && layer === number) {
    const parts = gradientFactors(model, result, layer, "kernel", sample, place);
    return { number: parts.delta * parts.multiplied, what: "gradient" };
  }
  return { number: kernel.data[place], what: "weight" };
}

/** What a unit is called: a name of inputs, of weighted sums, or of outputs. */
function nameOfUnit(model, column, unit, isOutput = false) {
  if (column === 0) return model.inputNames[unit];
  const { names, outputNames } = model.layers[column - 1];
  return (isOutput ? outputNames ?? names : names)[unit];
}
