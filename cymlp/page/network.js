"use strict";

// The network: forward, loss, backward, averages and the step, as cymlp's core has them.
//
// A model is what can be edited (samples, parameters, learning rate) and what the layers are. What
// is computed of it is apart: `forward` and `backward` return passes, `parameterResults` goes on
// from passes to gradients and steps. Where the core's passes came with the page, they are used
// until the first edit.

/** Make a model of what the page was told. */
function modelOf(told) {
  return {
    ...told,
    inputs: unpackMatrix(told.inputs),
    targets: unpackMatrix(told.targets),
    sampleWeight: unpack(told.sampleWeight)?.data ?? null,
    layers: told.layers.map((layer) => ({
      ...layer,
      units: layer.activationValues.shape[1],
      parameters: Object.fromEntries(
        Object.entries(layer.parameters).map(([name, parameter]) => [
          name,
          {
            ...parameter,
            ...unpack(parameter.value),
            given: unpack(parameter.gradient)?.data ?? null,
            slots: Object.values(parameter.state).map((packed) => unpack(packed).data),
          },
        ]),
      ),
    })),
  };
}

/** Return the passes that the core made. */
function passesOfCore(told) {
  const outputs = told.layers.map((layer) => unpackMatrix(layer.activationValues));
  const inputs = unpackMatrix(told.inputs);
  return {
    layers: told.layers.map((layer, i) => {
      const isActivation = layer.kind === "activation";
      const below = layer.source < 0 ? inputs : outputs[layer.source];
      return {
        before: unpackMatrix(layer.preActivation) ?? (isActivation ? below : outputs[i]),
        outputs: outputs[i],
        slopes: unpackMatrix(layer.slope),
        gradient: unpackMatrix(layer.activationGradient),
        delta: unpackMatrix(layer.delta),
      };
    }),
    losses: unpack(told.losses)?.data ?? null,
    inputGradient: unpackMatrix(told.inputGradient),
  };
}

/** The matrix that a layer reads. */
function sourceOf(model, passes, source) {
  return source < 0 ? model.inputs : passes.layers[source].outputs;
}

/** x W, plus b if there is one. */
function product(x, kernel, bias) {
  const units = kernel.shape[1];
  const out = matrix(x.rows, units);
  for (let i = 0; i < x.rows; i++) {
    const row = rowOf(out, i);
    for (let k = 0; k < x.columns; k++) {
      const input = x.data[i * x.columns + k];
      if (input === 0) continue;
      for (let j = 0; j < units; j++) row[j] += input * kernel.data[k * units + j];
    }
    if (bias) for (let j = 0; j < units; j++) row[j] += bias.data[j];
  }
  return out;
}

/** Add delta W' to a matrix: what the inputs of a product get of its derivatives. */
function addBackward(to, delta, kernel) {
  const units = delta.columns;
  for (let i = 0; i < to.rows; i++) {
    for (let k = 0; k < to.columns; k++) {
      let total = 0;
      for (let j = 0; j < units; j++) {
        total += delta.data[i * units + j] * kernel.data[k * units + j];
      }
      to.data[i * to.columns + k] += total;
    }
  }
}

function add(to, from) {
  for (let k = 0; k < to.data.length; k++) to.data[k] += from.data[k];
}

// Normalizations

/** (x − mean) / deviation, by row (layers) or with the moving averages (batches). */
function normalized(layer, x) {
  const normal = matrix(x.rows, x.columns);
  const deviations = matrix(x.rows, x.columns);
  for (let i = 0; i < x.rows; i++) {
    const row = rowOf(x, i);
    const mean = sum(row) / row.length;
    const variance = sum(row.map((number) => (number - mean) ** 2)) / row.length;
    for (let j = 0; j < row.length; j++) {
      const byBatch = layer.kind === "batch_normalization";
      const centre = byBatch ? layer.parameters.moving_mean.data[j] : mean;
      const spread = byBatch ? layer.parameters.moving_variance.data[j] : variance;
      const place = i * x.columns + j;
      deviations.data[place] = Math.sqrt(spread + layer.epsilon);
      normal.data[place] = (row[j] - centre) / deviations.data[place];
    }
  }
  return { normal, deviations };
}

function normalize(layer, x) {
  const { normal } = normalized(layer, x);
  const { gamma, beta } = layer.parameters;
  for (let k = 0; k < normal.data.length; k++) {
    const j = k % x.columns;
    normal.data[k] = (gamma?.data[j] ?? 1) * normal.data[k] + (beta?.data[j] ?? 0);
  }
  return normal;
}

function addNormalizeBackward(to, layer, x, delta) {
  const { normal, deviations } = normalized(layer, x);
  const { gamma } = layer.parameters;
  for (let i = 0; i < x.rows; i++) {
    const scaled = rowOf(delta, i).map((number, j) => number * (gamma?.data[j] ?? 1));
    const row = rowOf(normal, i);
    let [mean, dot] = [0, 0];
    if (layer.kind === "layer_normalization") {
      // Mean and variance depend on the inputs, too.
      mean = sum(scaled) / scaled.length;
      dot = sum(scaled.map((number, j) => number * row[j])) / scaled.length;
    }
    for (let j = 0; j < scaled.length; j++) {
      const place = i * x.columns + j;
      to.data[place] += (scaled[j] - mean - row[j] * dot) / deviations.data[place];
    }
  }
}

// Passes

function forward(model) {
  const passes = { layers: [], losses: null, inputGradient: null };
  for (const layer of model.layers) {
    const x = sourceOf(model, passes, layer.source);
    const { kernel, bias } = layer.parameters;
    let before = x;
    if (layer.kind === "dense") {
      before = product(x, kernel, bias);
    } else if (layer.kind === "residual") {
      const added = sourceOf(model, passes, layer.added);
      before = matrix(x.rows, x.columns, x.data.slice());
      add(before, kernel ? product(added, kernel) : added);
    } else if (layer.kind.endsWith("normalization")) {
      before = normalize(layer, x);
    }
    const isLinear = layer.activation === "identity";
    const outputs = isLinear ? before : activate(layer.activation, layer.alpha, before);
    const slopes = isLinear ? null : slopesOf(layer.activation, layer.alpha, before);
    passes.layers.push({ before, outputs, slopes, gradient: null, delta: null });
  }
  return passes;
}

/** The terms of the loss and their derivatives, of every sample. */
function lossRows(model, passes) {
  const last = passes.layers.at(-1);
  const code = lossCode(model.loss, model.layers.at(-1).activation);
  const out = model.loss.isFused ? last.before : last.outputs;
  const rows = [];
  for (let i = 0; i < out.rows; i++) {
    const [row, target] = [rowOf(out, i), rowOf(model.targets, i)];
    rows.push(lossRow(code, model.loss, model.epsilon, row, target));
  }
  return rows;
}

/** Fill in losses, derivatives and deltas, from the last layer to the inputs. */
function backward(model, passes) {
  const rows = lossRows(model, passes);
  passes.losses = Float64Array.from(rows, ({ terms }) => sum(terms));
  const empty = ({ rows: n, columns }) => matrix(n, columns);
  const gradients = passes.layers.map(({ outputs }) => empty(outputs));
  passes.inputGradient = empty(model.inputs);
  const ofSource = (source) => (source < 0 ? passes.inputGradient : gradients[source]);
  rows.forEach(({ slopes }, i) => rowOf(gradients.at(-1), i).set(slopes));

  for (let number = model.layers.length - 1; number >= 0; number--) {
    const layer = model.layers[number];
    const pass = passes.layers[number];
    const isFused = model.loss.isFused && number === model.layers.length - 1;
    pass.gradient = isFused ? null : gradients[number];
    pass.delta = gradients[number];
    if (!isFused && layer.activation !== "identity") {
      pass.delta = activateBackward(pass.slopes, pass.outputs, gradients[number]);
    }
    const below = ofSource(layer.source);
    const { kernel } = layer.parameters;
    if (layer.kind === "dense") {
      addBackward(below, pass.delta, kernel);
    } else if (layer.kind === "residual") {
      add(below, pass.delta);
      if (kernel) addBackward(ofSource(layer.added), pass.delta, kernel);
      else add(ofSource(layer.added), pass.delta);
    } else if (layer.kind.endsWith("normalization")) {
      addNormalizeBackward(below, layer, sourceOf(model, passes, layer.source), pass.delta);
    } else {
      add(below, pass.delta);
    }
  }
  return passes;
}

// Gradients by the parameters

/** Each sample's share of the batch's average. */
function sharesOf(model) {
  const weights = model.sampleWeight ?? new Float64Array(model.inputs.rows).fill(1);
  const total = sum(weights);
  return weights.map((weight) => (total > 0 ? weight / total : 0));
}

/**
 * The two numbers whose product is a sample's derivative by a parameter: its delta, and what the
 * parameter multiplies.
 */
function gradientFactors(model, passes, number, name, sample, place) {
  const layer = model.layers[number];
  const { delta } = passes.layers[number];
  const unit = name === "kernel" ? place % layer.units : place;
  let multiplied = 1;
  if (name === "kernel") {
    const x = sourceOf(model, passes, layer.kind === "residual" ? layer.added : layer.source);
    multiplied = x.data[sample * x.columns + Math.floor(place / layer.units)];
  } else if (name === "gamma") {
    const { normal } = normalized(layer, sourceOf(model, passes, layer.source));
    multiplied = normal.data[sample * normal.columns + place];
  }
  return { delta: delta.data[sample * delta.columns + unit], multiplied, unit };
}

/** The average over the batch of the derivatives by an array. */
function averageOf(model, passes, number, name) {
  const layer = model.layers[number];
  const parameter = layer.parameters[name];
  const { delta } = passes.layers[number];
  const result = new Float64Array(parameter.data.length);
  const shares = sharesOf(model);
  const x = sourceOf(model, passes, layer.kind === "residual" ? layer.added : layer.source);
  const multiplied = name === "gamma" ? normalized(layer, x).normal : x;
  for (let i = 0; i < delta.rows; i++) {
    for (let j = 0; j < delta.columns; j++) {
      const scaled = shares[i] * delta.data[i * delta.columns + j];
      if (name === "kernel") {
        for (let k = 0; k < x.columns; k++) {
          result[k * delta.columns + j] += scaled * x.data[i * x.columns + k];
        }
      } else {
        result[j] += scaled * (name === "gamma" ? multiplied.data[i * delta.columns + j] : 1);
      }
    }
  }
  return result;
}

/** l1 and l2 of an array's penalty, divided by the batch's weight where it is one per batch. */
function penaltyOf(model, parameter) {
  const [l1, l2, isPerBatch] = parameter.penalty;
  const weight = model.sampleWeight ? sum(model.sampleWeight) : model.inputs.rows;
  return { l1, l2: isPerBatch ? (weight > 0 ? l2 / weight : 0) : l2 };
}

const hasGradient = (name) => !name.startsWith("moving");

/** Of every parameter its average, gradient, and what the step makes of it. */
function parameterResults(model, passes) {
  const results = model.layers.map((layer, number) => {
    const result = {};
    for (const [name, parameter] of Object.entries(layer.parameters)) {
      result[name] = { average: null, gradient: null, updated: null };
      if (passes.losses === null || !hasGradient(name)) continue;
      const average = averageOf(model, passes, number, name);
      const { l1, l2 } = penaltyOf(model, parameter);
      const own = average.map((g, k) => {
        const w = parameter.data[k];
        return g + l1 * Math.sign(w) + l2 * w;
      });
      result[name] = { average, gradient: parameter.given ?? own, updated: null };
    }
    return result;
  });
  if (model.optimizer !== null) takeStep(model, results);
  return results;
}

const normOf = (numbers) => Math.sqrt(numbers.reduce((total, each) => total + each * each, 0));

function takeStep(model, results) {
  const arrays = model.layers.flatMap((layer, number) =>
    Object.entries(layer.parameters).map(([name, parameter]) => ({
      layer, name, parameter, result: results[number][name],
    })),
  );
  const moving = arrays.filter(({ parameter }) => parameter.isTrainable);
  const { clip_norm: each = Infinity, clip_global_norm: all = Infinity } = model.optimizer;
  const global = normOf(moving.map(({ result }) => normOf(result.gradient)));
  const ofAll = all < Infinity ? Math.min(1, all / (global + 1e-6)) : 1;
  for (const { parameter, result } of arrays) result.updated = parameter.data;
  for (const { layer, name, parameter, result } of moving) {
    const o = stepSettings(model, layer);
    const norm = normOf(result.gradient);
    result.scale = norm <= each ? ofAll : each / norm;
    result.updated = parameter.data.map((w, k) => {
      const slots = parameter.slots.map((slot) => slot[k]);
      return stepOne(o, result.gradient[k], result.scale, w, slots).updated;
    });
    if (name === "kernel" && layer.maxNorm > 0) bringBack(result.updated, layer);
  }
}

/** Scale each unit's weights to the largest norm that they may have. */
function bringBack(kernel, { units, maxNorm }) {
  for (let j = 0; j < units; j++) {
    const norm = normOf(kernel.filter((_, k) => k % units === j));
    if (norm <= maxNorm) continue;
    for (let k = j; k < kernel.length; k += units) kernel[k] *= maxNorm / norm;
  }
}

/** All that follows from passes: what the page shows. */
function resultOf(model, passes) {
  let penalty = 0;
  for (const layer of model.layers) {
    for (const parameter of Object.values(layer.parameters)) {
      const { l1, l2 } = penaltyOf(model, parameter);
      if (l1 > 0) penalty += l1 * parameter.data.reduce((total, w) => total + Math.abs(w), 0);
      if (l2 > 0) penalty += (l2 / 2) * parameter.data.reduce((total, w) => total + w * w, 0);
    }
  }
  const shares = sharesOf(model);
  const loss =
    passes.losses === null ? null : sum(passes.losses.map((each, i) => shares[i] * each)) + penalty;
  return { ...passes, parameters: parameterResults(model, passes), penalty, loss };
}

/** Compute everything of a model anew. */
function compute(model) {
  const passes = forward(model);
  if (model.targets !== null && model.loss !== null) backward(model, passes);
  return resultOf(model, passes);
}
