"use strict";

// The network as SVG. `drawNetwork` builds it; `paintNetwork` shows the numbers of a step in it and
// touches nothing else, so that focus stays where it is.
//
// Each column's units and each layer's weights are a list box of their own: Tab goes from one to
// the next, the up and down keys go through it. Left and right are always the steps.

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

const shortened = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

/** Whether units stand so near that names go into the circles. */
const isCompact = ({ spacing, isNarrow }) => !isNarrow && spacing < 80;

const keyOf = (selection) => Object.values(selection).join(":");

/** Build the drawing; returns {root, parts}, parts by the keys of what can be selected. */
function drawNetwork(view, shown, layout) {
  const { model } = view;
  const root = svg("svg", {
    width: layout.width, height: layout.height, viewBox: `0 0 ${layout.width} ${layout.height}`,
    role: "group", "aria-label": "The network",
    class: layout.isNarrow ? "narrow" : isCompact(layout) ? "compact" : "",
  });
  const drawing = { root, parts: new Map(), layout, shown };
  const columns = model.layers.length + 1;
  for (let column = 1; column < columns; column++) drawEdges(drawing, view, column);
  if (model.targets !== null) drawLossLines(drawing, columns);
  for (let column = 0; column < columns; column++) drawUnits(drawing, view, column);
  if (model.targets !== null) drawLoss(drawing, columns);
  return drawing;
}

function listBox(drawing, label) {
  const group = svg("g", { role: "listbox", "aria-label": label });
  drawing.root.append(group);
  return group;
}

function addPart(drawing, group, selection, element) {
  element.setAttribute("role", "option");
  element.setAttribute("aria-selected", "false");
  element.setAttribute("tabindex", group.childElementCount === 0 ? "0" : "-1");
  group.append(element);
  const part = { selection, element, label: null };
  drawing.parts.set(keyOf(selection), part);
  return part;
}

function drawEdges(drawing, { model }, column) {
  const { layout, shown } = drawing;
  const layer = model.layers[column - 1];
  const source = layer.source + 1;
  if (layer.kind !== "dense") {
    shown[column].forEach((unit, slot) => {
      const from = shown[source].indexOf(unit);
      if (from < 0) return;
      drawing.root.append(line(layout.at(source, from), layout.at(column, slot), "pass"));
    });
    if (layer.kind === "residual") drawSkip(drawing, layer.added + 1, column);
    return;
  }
  const group = listBox(drawing, `Weights of ${layer.where}`);
  const labels = svg("g", { "aria-hidden": "true" });
  shown[column].forEach((to, slot) => {
    shown[source].forEach((from, fromSlot) => {
      const selection = { kind: "edge", layer: column - 1, from, to };
      const [a, b] = [layout.at(source, fromSlot), layout.at(column, slot)];
      const element = svg("g", { class: "edge" });
      element.append(line(a, b, "reach"), line(a, b, "stroke"));
      const label = svg("text");
      const share = labelShare(layout, shown[column].length, slot);
      label.setAttribute("x", a.x + share * (b.x - a.x));
      label.setAttribute("y", a.y + share * (b.y - a.y) + 4);
      labels.append(label);
      addPart(drawing, group, selection, element).label = label;
    });
  });
  drawing.root.append(labels); // above all lines
}

/** Where along an edge a label is free of the circle. */
const nearestLabel = ({ gap, radius }) => (radius + 22) / gap;

/** How far along an edge its label stands: such that labels of a column are evenly apart. */
function labelShare({ gap, radius, isNarrow }, targets, slot) {
  const nearest = nearestLabel({ gap, radius });
  if (isNarrow) return nearest + 0.04 + 0.13 * (slot % 3);
  return Math.max(1 / (targets + 1), nearest);
}

function line(a, b, name) {
  return svg("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: name });
}

function drawSkip({ root, layout }, from, to) {
  const [a, b] = [layout.at(from, 0), layout.at(to, 0)];
  const off = layout.radius + 30;
  const path = layout.isNarrow
    ? `M${a.x} ${a.y} C${a.x - off} ${a.y} ${b.x - off} ${b.y} ${b.x} ${b.y}`
    : `M${a.x} ${a.y} C${a.x} ${a.y - off} ${b.x} ${b.y - off} ${b.x} ${b.y}`;
  root.append(svg("path", { d: path, class: "skip-line" }));
}

function drawUnits(drawing, { model }, column) {
  const { layout, shown, root } = drawing;
  const where = column === 0 ? "Inputs" : `Units of ${model.layers[column - 1].where}`;
  const group = listBox(drawing, where);
  const { radius } = layout;
  const letters = isCompact(layout) ? 6 : Math.floor(layout.spacing / 8);
  const hasBias = column > 0 && "bias" in model.layers[column - 1].parameters;
  shown[column].forEach((unit, slot) => {
    const { x, y } = layout.at(column, slot);
    const element = svg("g", { class: "unit", transform: `translate(${x} ${y})` });
    element.append(
      svg("circle", { r: radius }),
      svg("text", { class: "value", y: isCompact(layout) ? 10 : 4.5, "aria-hidden": "true" }),
      svg("text", { class: "name", y: isCompact(layout) ? -4 : -radius - 6, "aria-hidden": "true" },
        shortened(nameOfUnit(model, column, unit), letters)),
    );
    if (hasBias && layout.spacing >= 80) {
      element.append(svg("text", { class: "bias", y: radius + 14, "aria-hidden": "true" }));
    }
    if (column === model.layers.length && model.targets !== null && layout.spacing >= 80) {
      element.append(svg("text", { class: "bias target", "aria-hidden": "true",
        y: radius + (hasBias ? 28 : 14) }));
    }
    addPart(drawing, group, { kind: "unit", column, unit }, element);
  });
  const rest = columnWidth(model, column) - shown[column].length;
  if (rest > 0) {
    const { x, y } = layout.at(column, shown[column].length - 1);
    const place = layout.isNarrow
      ? { x: layout.width / 2, y: y + radius + 30 } : { x, y: y + radius + 22 };
    root.append(svg("text", { ...place, class: "more" }, `… ${rest} more`));
  }
}

function drawLossLines({ root, layout, shown }, column) {
  shown[column - 1].forEach((_, slot) =>
    root.append(line(layout.at(column - 1, slot), layout.at(column, 0), "pass")));
}

function drawLoss(drawing, column) {
  const { x, y } = drawing.layout.at(column, 0);
  const group = listBox(drawing, "Loss");
  const element = svg("g", { class: "unit loss", transform: `translate(${x} ${y})` });
  element.append(
    svg("rect", { x: -38, y: -22, width: 76, height: 44, rx: 8 }),
    svg("text", { class: "value", y: 4.5, "aria-hidden": "true" }),
    svg("text", { class: "name", y: -28, "aria-hidden": "true" }, "loss"),
  );
  addPart(drawing, group, { kind: "loss" }, element);
}

// Painting

/** Show the numbers of the current step, and what is selected. */
function paintNetwork(drawing, view, selection) {
  const scales = view.model.layers.map(({ parameters }) =>
    parameters.kernel ? largestOf(parameters.kernel.data) : 1);
  for (const part of drawing.parts.values()) {
    const { selection: own, element } = part;
    const isSelected = selection !== null && keyOf(own) === keyOf(selection);
    element.setAttribute("aria-selected", String(isSelected));
    if (own.kind === "edge") paintEdge(drawing, view, part, selection, scales[own.layer]);
    else if (own.kind === "loss") paintLoss(view, element);
    else paintUnit(view, own, element, drawing.layout.radius);
  }
  const step = view.steps[view.step];
  drawing.root.dataset.phase = step.phase;
}

function largestOf(numbers) {
  let largest = 0;
  for (const number of numbers) largest = Math.max(largest, Math.abs(number));
  return largest || 1;
}

function paintUnit(view, selection, element, radius) {
  const { column, unit } = selection;
  const { model } = view;
  const step = view.steps[view.step];
  const { number, what, isFaint } = shownOfUnit(view, column, unit);
  element.classList.toggle("faint", Boolean(isFaint));
  element.classList.toggle("current", isCurrentColumn(view, step, column));
  element.classList.toggle("derivative", what === "delta" || what === "gradient");
  const text = element.querySelector(".value");
  text.textContent = number === null ? "·" : written(number, radius < 27 ? 3 : 4);
  const room = (2 * radius - 5) / (0.63 * text.textContent.length);
  text.style.fontSize = `${Math.min(radius < 27 ? 11 : 13, room).toFixed(1)}px`;
  const name = nameOfUnit(model, column, unit);
  let label = number === null ? `${name}, ${what}` : `${name}, ${what} ${written(number)}`;
  const bias = column > 0 ? model.layers[column - 1].parameters.bias : undefined;
  if (bias) {
    const isUpdated = step.kind === "update";
    const results = view.result.parameters[column - 1].bias;
    const shownBias = (isUpdated ? results.updated : bias.data)[unit];
    label += `, ${isUpdated ? "new " : ""}bias ${written(shownBias)}`;
    const place = element.querySelector(".bias");
    if (place) place.textContent = `b${isUpdated ? "′" : ""} ${written(shownBias, 4)}`;
  }
  if (column === model.layers.length && model.targets !== null) {
    const target = model.targets.data[view.sample * model.targets.columns + unit];
    label += `, target ${written(target)}`;
    const place = element.querySelector(".target");
    if (place) place.textContent = `target ${written(target, 4)}`;
  }
  element.setAttribute("aria-label", label);
}

function isCurrentColumn({ model }, step, column) {
  if (step.kind === "inputs" || step.kind === "inputGradient") return column === 0;
  if (step.kind === "loss") return column === model.layers.length;
  return step.layer >= 0 && step.layer === column - 1;
}

function paintLoss(view, element) {
  const known = isKnown(view, "loss");
  const loss = view.result.losses[view.sample];
  element.querySelector(".value").textContent = known ? written(loss, 4) : "·";
  element.classList.toggle("faint", !known);
  element.classList.toggle("current", view.steps[view.step].kind === "loss");
  element.setAttribute("aria-label", known ? `Loss ${written(loss)}` : "Loss, not computed yet");
}

/** Tell whether an edge takes part in the step. */
function isCurrentEdge({ model, steps, step }, { layer }) {
  const { kind, layer: number } = steps[step];
  if (kind === "average" || kind === "update") return true;
  if (kind === "inputGradient") return model.layers[layer].source < 0;
  if (kind === "deltas") return model.layers[layer].source === number;
  return (kind === "sums" || kind === "gradients") && layer === number;
}

/** Tell whether an edge belongs to the selected unit: what comes in, or what flows back. */
function touches(view, { layer, from, to }, selection) {
  if (selection === null) return false;
  if (selection.kind === "edge") {
    return selection.layer === layer && selection.from === from && selection.to === to;
  }
  if (selection.kind !== "unit") return false;
  const { kind, phase } = view.steps[view.step];
  const isBack = phase === "backward" && kind !== "gradients";
  const own = selection.column - 1;
  if (isBack) return view.model.layers[layer].source === own && from === selection.unit;
  return layer === own && to === selection.unit;
}

function hasRoomForLabels(layout, targets) {
  if (layout.isNarrow) return layout.spacing / (targets + 1) >= 36;
  return layout.spacing / (targets + 1) >= 19 && 1 / (targets + 1) >= nearestLabel(layout) - 0.05;
}

const signOf = (number) => (number < 0 ? "negative" : number > 0 ? "positive" : "zero");

function paintEdge({ layout, shown }, view, { selection: own, element, label }, selection, scale) {
  const { number, what } = shownOfEdge(view, own);
  const { kernel } = view.model.layers[own.layer].parameters;
  const weight = kernel.data[own.from * view.model.layers[own.layer].units + own.to];
  const signed = what === "gradient" || what === "average gradient" ? number : weight;
  const isActive = touches(view, own, selection);
  element.setAttribute("class", `edge ${signOf(signed)}`);
  element.classList.toggle("current", isCurrentEdge(view, own));
  element.classList.toggle("active", isActive);
  // Many lines are thin ones, or they would cover each other.
  const count = shown[own.layer + 1].length * shown[view.model.layers[own.layer].source + 1].length;
  const widest = Math.min(5, 1.6 + 30 / count);
  const width = 0.5 + ((widest - 0.5) * Math.min(Math.abs(weight), scale)) / scale;
  element.querySelector(".stroke").setAttribute("stroke-width", width.toFixed(2));
  const isLabelled = isActive || hasRoomForLabels(layout, shown[own.layer + 1].length);
  label.textContent = isLabelled ? written(number, 3) : "";
  label.setAttribute("class", `${element.getAttribute("class")} edge-label`);
  const source = nameOfUnit(view.model, view.model.layers[own.layer].source + 1, own.from, true);
  const to = nameOfUnit(view.model, own.layer + 1, own.to);
  element.setAttribute("aria-label", `${source} to ${to}, ${what} ${written(number)}`);
}

/** Move to another element of the same list box: by one, from a key. */
function moveFocus(drawing, element, by) {
  const group = [...element.parentElement.children];
  const next = group[group.indexOf(element) + by];
  if (next) next.focus();
}

/** Make an element the one of its list box that Tab comes to. */
function takeTabStop(element) {
  for (const other of element.parentElement.children) other.setAttribute("tabindex", "-1");
  element.setAttribute("tabindex", "0");
}
