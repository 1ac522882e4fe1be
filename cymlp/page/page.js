"use strict";

// The page: what is shown, and what the reader does about it.

const byId = (id) => document.getElementById(id);
const told = JSON.parse(byId("data").textContent);

const view = {
  model: modelOf(told),
  result: null,
  steps: [],
  step: 0,
  sample: 0,
  isEdited: false,
  refreshers: [],
  openSections: new Map(),
  onEdit: recompute,
};
const chosenUnits = new Map();
let shown = [];
let drawing = null;
let builtWidth = 0; // of its place, when it was drawn
let selection = null; // by click or focus
let hovered = null; // shown instead, as long as the pointer is over it
let learningRate = null;
let editing = [];

// Computing

function useCore() {
  view.result = resultOf(view.model, passesOfCore(told));
  if (told.batchLoss !== null) {
    view.result.loss = told.batchLoss;
    view.result.penalty = told.penalty;
  }
  view.isEdited = false;
}

/** After an edit: everything anew. */
function recompute() {
  view.result = compute(view.model);
  view.isEdited = true;
  refresh();
}

function reset() {
  view.model = modelOf(told);
  useCore();
  rebuild();
  showLearningRate();
  byId("first").focus();
}

// Showing

/** Bring everything up to date, and build nothing. */
function refresh() {
  const { model } = view;
  const step = view.steps[view.step];
  byId("step-title").textContent = `${step.label} (${view.step + 1} of ${view.steps.length})`;
  byId("narration").textContent = step.text;
  byId("steps").querySelectorAll("button").forEach((button, i) => {
    if (i === view.step) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  });
  byId("first").disabled = byId("previous").disabled = view.step === 0;
  byId("last").disabled = byId("next").disabled = view.step === view.steps.length - 1;
  const digits = model.dtype === "float32" ? "single" : "double";
  byId("origin").textContent = view.isEdited
    ? "Recomputed here, in double precision, with your changes."
    : `Numbers from cymlp, in ${digits} precision.`;
  byId("origin").dataset.edited = view.isEdited;
  byId("reset").disabled = !view.isEdited;
  byId("legend").textContent = legendOf(step);
  for (const update of view.refreshers) update();
  for (const field of editing) field.refresh();
  learningRate?.refresh();
  showSelection();
}

/** Show what is selected, or what the pointer is over. */
function showSelection() {
  const current = hovered ?? selection;
  paintNetwork(drawing, view, current);
  showEquations(current);
  if (view.model.imageShape) {
    paintPixels(view, current?.kind === "unit" && current.column === 0 ? current.unit : null);
  }
}

function legendOf({ phase, kind, label }) {
  const lines = {
    gradients: `weights, of ${label.split(":")[0]} the loss's derivatives by them`,
    average: "gradients of the batch",
    update: "the new weights",
  }[kind] ?? "weights";
  const circles = phase === "forward" || phase === "loss"
    ? "values" : "derivatives of the loss by what comes before the activation, where known";
  return `Circles: ${circles}. Lines: ${lines}; as thick as the weights are large, blue where ` +
    "positive and orange where negative.";
}

function showEquations(current) {
  const container = byId("equations");
  container.replaceChildren();
  if (current === null) return;
  container.append(html("h3", {}, titleOf(view, current)));
  for (const { left, right, isResult } of equationsOf(view, current)) {
    container.append(html("p", { className: isResult ? "line result" : "line" },
      html("span", { className: "left" }, left),
      html("span", { className: "equals" }, left || isResult ? " = " : right ? " = " : ""),
      html("span", { className: "right" }, right)));
  }
}

/** Fields for what is selected. */
function showEditing() {
  const container = byId("editing");
  container.replaceChildren();
  editing = [];
  const { model, sample } = view;
  if (model.whyFixed !== null) {
    container.append(html("p", { className: "fixed" }, model.whyFixed));
    return;
  }
  if (selection === null || selection.kind === "loss") return;
  const add = (field) => editing.push(field) && container.append(field.element);
  for (const { layer, name, place } of parametersOf(model, selection)) {
    const label = { kernel: "Weight", bias: "Bias", gamma: "γ", beta: "β" }[name];
    add(arrayField(view, label, model.layers[layer].parameters[name].data, place));
  }
  if (selection.kind !== "unit") return;
  const { column, unit } = selection;
  if (column === 0) {
    add(arrayField(view, "Input", model.inputs.data, sample * model.inputs.columns + unit));
  } else if (column === model.layers.length && model.targets !== null) {
    const place = sample * model.targets.columns + unit;
    add(arrayField(view, "Target", model.targets.data, place, { range: model.loss.range }));
  }
}

function showLearningRate() {
  const container = byId("learning-rate");
  container.replaceChildren();
  const { model } = view;
  if (model.learningRate === null || model.optimizer?.code === "rprop") return;
  learningRate = numberField({
    label: "Learning rate",
    get: () => view.model.learningRate,
    set(number) {
      view.model.learningRate = number;
      recompute();
    },
    range: "(0, inf)",
    isFixed: model.whyFixed !== null,
  });
  container.append(learningRate.element);
}

/** Build drawing and tables, for what units are shown and how wide the page is. */
function rebuild() {
  const container = byId("drawing");
  const focused = document.activeElement?.closest?.("[role=option]");
  const focusedKey = focused && [...(drawing?.parts ?? [])].find(([, { element }]) =>
    element === focused)?.[0];
  builtWidth = container.clientWidth;
  const available = Math.max(builtWidth, 280);
  shown = chooseUnits(view, chosenUnits, available < NARROW);
  const layout = layoutOf(shown, available, view.model.targets !== null);
  drawing = drawNetwork(view, shown, layout);
  container.replaceChildren(drawing.root);
  if (selection !== null && !drawing.parts.has(keyOf(selection))) selection = null;
  buildTables(view, shown, byId("tables"), chooseShown);
  byId("pixels").hidden = !view.model.imageShape;
  if (selection === null) selectForStep();
  showEditing();
  refresh();
  if (focusedKey) drawing.parts.get(focusedKey)?.element.focus();
}

function chooseShown(column, units) {
  if (units === null) chosenUnits.delete(column);
  else chosenUnits.set(column, units);
  rebuild();
  byId(`units-${column}`)?.focus();
}

// What the reader does

function goTo(step) {
  view.step = Math.min(Math.max(step, 0), view.steps.length - 1);
  const { kind, layer } = view.steps[view.step];
  if (kind === "inputGradient") byId("show-gradient").checked = true;
  if (!document.activeElement?.closest("#drawing")) selectForStep();
  refresh();
  const list = byId("steps");
  const button = list.querySelector("[aria-current]");
  list.scrollTop = button.offsetTop - list.clientHeight / 2;
  // A deep network is wider than its place.
  const container = byId("drawing");
  const column = kind === "loss" ? shown.length : layer + 1;
  container.scrollLeft = drawing.layout.at(column, 0).x - container.clientWidth / 2;
}

/** Select what a step is about: the first unit of its layer, unless it is that layer already. */
function selectForStep() {
  const { kind, layer } = view.steps[view.step];
  let wanted = { kind: "unit", column: layer + 1, unit: shown[layer + 1][0] };
  if (kind === "loss") wanted = { kind: "loss" };
  if (kind === "average" || kind === "update" || kind === "gradients") {
    const number = kind === "gradients" ? layer : view.model.layers.findIndex((each) =>
      each.kind === "dense");
    const each = view.model.layers[number];
    if (selection?.kind === "edge" && (kind !== "gradients" || selection.layer === number)) return;
    wanted = { kind: "unit", column: number + 1, unit: shown[number + 1][0] };
    if (each?.kind === "dense") {
      wanted = { kind: "edge", layer: number, from: shown[each.source + 1][0], to: wanted.unit };
    }
    if (number < 0) return;
  } else if (selection?.kind === "unit" && selection.column === wanted.column) return;
  select(wanted);
}

function select(wanted) {
  selection = wanted;
  hovered = null;
  const part = drawing.parts.get(keyOf(wanted));
  if (part) takeTabStop(part.element);
  showEditing();
}

function partOf(target) {
  const element = target.closest?.("[role=option]");
  if (!element) return null;
  return [...drawing.parts.values()].find((part) => part.element === element) ?? null;
}

function listenToDrawing() {
  const container = byId("drawing");
  container.addEventListener("focusin", (event) => {
    const part = partOf(event.target);
    if (part === null) return;
    select(part.selection);
    showSelection();
  });
  container.addEventListener("click", (event) => partOf(event.target)?.element.focus());
  container.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const part = partOf(event.target);
    if ((part?.selection ?? null) === hovered) return;
    hovered = part?.selection ?? null;
    showSelection();
  });
  container.addEventListener("pointerleave", () => {
    hovered = null;
    showSelection();
  });
  container.addEventListener("keydown", (event) => {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const part = partOf(event.target);
    if (by === undefined || part === null || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    moveFocus(drawing, part.element, by);
  });
}

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, select, textarea, .scroll")) return;
    const steps = {
      ArrowLeft: view.step - 1, ArrowRight: view.step + 1, Home: 0, End: view.steps.length - 1,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    goTo(steps[event.key]);
  });
}

function listenToButtons() {
  byId("first").addEventListener("click", () => goTo(0));
  byId("previous").addEventListener("click", () => goTo(view.step - 1));
  byId("next").addEventListener("click", () => goTo(view.step + 1));
  byId("last").addEventListener("click", () => goTo(view.steps.length - 1));
  byId("reset").addEventListener("click", reset);
  byId("show-gradient").addEventListener("change", refresh);
  byId("sample").addEventListener("change", (event) => {
    view.sample = Number(event.target.value);
    rebuild();
  });
  byId("theme").addEventListener("click", () => {
    const themes = ["auto", "light", "dark"];
    const old = document.documentElement.dataset.theme ?? "auto";
    const theme = themes[(themes.indexOf(old) + 1) % themes.length];
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = `Theme: ${theme}`;
    refresh();
  });
}

function listenToWindow() {
  // The first drawing may itself have made the page so long that a scroll bar narrows it.
  new ResizeObserver(() => {
    if (byId("drawing").clientWidth !== builtWidth) rebuild();
  }).observe(byId("drawing"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  // Paper has no way to open what is closed.
  let before = new Map();
  addEventListener("beforeprint", () => {
    before = new Map([...document.querySelectorAll("details")].map((details) =>
      [details.querySelector("summary").textContent, details.open]));
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  addEventListener("afterprint", () => {
    view.openSections = before;
    rebuild();
  });
}

function start() {
  const { model } = view;
  byId("title").textContent = told.title;
  const widths = [model.inputs.columns, ...model.layers.filter(({ kind }) => kind === "dense")
    .map(({ units }) => units)];
  const parts = [`A ${widths.join("-")} network`];
  if (model.loss !== null) parts.push(model.loss.name.replaceAll("_", " "));
  if (model.optimizerName !== null) parts.push(model.optimizerName.replace(/\(\)$/, ""));
  byId("summary").textContent = parts.join(", ");
  const wide = Math.max(...[...Array(model.layers.length + 1).keys()].map((column) =>
    columnWidth(model, column)));
  byId("numbers-text").textContent = wide > MOST_UNITS.narrow
    ? "Of wide layers, the units that are drawn above; choose others in the fields below." : "";
  byId("sample-choice").hidden = model.inputs.rows === 1;
  byId("sample").append(...[...Array(model.inputs.rows).keys()].map((i) =>
    html("option", { value: String(i) }, String(i + 1))));
  useCore();
  view.steps = stepsOf(model);
  view.steps.forEach(({ phase, label }, i) => {
    const button = html("button", { type: "button" }, label);
    button.addEventListener("click", () => goTo(i));
    byId("steps").append(html("li", { className: phase }, button));
  });
  showLearningRate();
  rebuild();
  listenToDrawing();
  listenToKeys();
  listenToButtons();
  listenToWindow();
}

start();
