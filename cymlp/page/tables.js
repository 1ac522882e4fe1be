"use strict";

// Fields for numbers, and all numbers as tables: for those who edit, hear or print them.

function html(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

let fieldCount = 0;

/** What somebody has typed of a number so far: no error yet. */
const isUnfinished = (text) => /^\s*[-−+]?\d*\.?\d*(e[-+]?\d*)?\s*$/i.test(text);

/**
 * A field for a number. `get` returns the number, `set` takes a new one; a label that is hidden is
 * for those who hear it. What cannot be read changes nothing and is said below the field.
 */
function numberField({ label, isHidden = false, get, set, range, dtype, isFixed = false }) {
  const id = `field-${++fieldCount}`;
  const input = html("input", {
    id, type: "text", inputMode: "decimal", autocomplete: "off", spellcheck: false,
    disabled: isFixed, size: 9,
  });
  const message = html("span", { id: `${id}-message`, className: "message", role: "alert" });
  const show = (text) => {
    message.textContent = text;
    if (text) input.setAttribute("aria-describedby", message.id);
    else input.removeAttribute("aria-describedby");
    input.setAttribute("aria-invalid", String(Boolean(text)));
  };
  const refresh = () => {
    if (document.activeElement === input && input.getAttribute("aria-invalid") !== "true") return;
    input.value = exact(get(), dtype);
    show("");
  };
  const read = (isDone) => {
    const { number, message: wrong } = readNumber(input.value, range);
    if (wrong !== undefined) {
      if (isDone || !isUnfinished(input.value)) show(wrong);
      return;
    }
    show("");
    if (number !== get()) set(number);
  };
  input.addEventListener("input", () => read(false));
  input.addEventListener("change", () => read(true));
  const name = html("label", { htmlFor: id, className: isHidden ? "unseen" : "" }, label);
  const element = html("span", { className: "field" }, name, input, message);
  input.value = exact(get(), dtype);
  return { element, refresh };
}

/** A field for a number in an array. */
function arrayField(view, label, array, place, options = {}) {
  return numberField({
    label,
    get: () => array[place],
    set(number) {
      array[place] = number;
      view.onEdit();
    },
    dtype: view.model.dtype,
    isFixed: view.model.whyFixed !== null,
    ...options,
  });
}

/** A table whose cells are text, or fields {element, refresh}, or functions that return text. */
function table(view, caption, head, rows) {
  const cell = (content, name) => {
    const isHeader = name === "th" && content !== "";
    const element = isHeader ? html("th", { scope: "col" }) : html("td");
    if (typeof content === "function") {
      view.refreshers.push(() => (element.textContent = content()));
    } else if (content.element) {
      view.refreshers.push(content.refresh);
      element.append(content.element);
    } else element.textContent = content;
    return element;
  };
  const body = rows.map(([first, ...rest]) =>
    html("tr", {}, html("th", { scope: "row" }, first), ...rest.map((each) => cell(each, "td"))));
  return html("div", { className: "scroll", role: "region", "aria-label": caption },
    html("table", {}, html("caption", {}, caption),
      html("thead", {}, html("tr", {}, ...head.map((each) => cell(each, "th")))),
      html("tbody", {}, ...body)));
}

/** Build all tables; view.refreshers gets what brings them up to date. */
function buildTables(view, shown, container, chooseShown) {
  container.replaceChildren();
  view.refreshers = [];
  container.append(sampleTables(view, shown, chooseShown));
  view.model.layers.forEach((_, number) => container.append(
    layerTables(view, number, shown, chooseShown)));
  for (const refresh of view.refreshers) refresh();
  letScroll(container);
}

/** Tables that are wider than their place can be scrolled by keys: Tab comes to them. */
function letScroll(container) {
  for (const place of container.querySelectorAll(".scroll")) {
    if (place.scrollWidth > place.clientWidth) place.setAttribute("tabindex", "0");
    else place.removeAttribute("tabindex");
  }
}

const rowWritten = (values, view, unit) => () =>
  values() ? written(rowOf(values(), view.sample)[unit]) : "";

/** A part that can be closed; whether it was is kept where it is built anew. */
function section(view, title, isOpen, ...content) {
  const details = html("details", { open: view.openSections.get(title) ?? isOpen },
    html("summary", {}, title), html("div", { className: "tables" }, ...content));
  details.addEventListener("toggle", () => {
    view.openSections.set(title, details.open);
    letScroll(details);
  });
  return details;
}

function sampleTables(view, shown, chooseShown) {
  const { model, sample } = view;
  const start = sample * model.inputs.columns;
  const inputs = shown[0].map((unit) => [
    model.inputNames[unit],
    arrayField(view, `Input ${model.inputNames[unit]}`, model.inputs.data, start + unit,
      { isHidden: true }),
    rowWritten(() => view.result.inputGradient, view, unit),
  ]);
  const content = [table(view, "Inputs", ["input", "value", "∂L/∂input"], inputs)];
  if (model.targets !== null) {
    const last = model.layers.length;
    const targets = shown[last].map((unit) => [
      nameOfUnit(model, last, unit, true),
      arrayField(view, `Target of ${nameOfUnit(model, last, unit)}`, model.targets.data,
        sample * model.targets.columns + unit, { isHidden: true, range: model.loss.range }),
      rowWritten(() => view.result.layers.at(-1).outputs, view, unit),
    ]);
    content.push(table(view, "Targets", ["output", "target", "is"], targets));
    const losses = [...Array(model.inputs.rows).keys()].map((i) => [
      `sample ${i + 1}`,
      () => written(view.result.losses[i]),
      model.sampleWeight === null ? "1" : arrayField(view, `Weight of sample ${i + 1}`,
        model.sampleWeight, i, { isHidden: true, range: "[0, inf)" }),
    ]);
    losses.push(["penalties", () => written(view.result.penalty), ""],
      ["batch", () => written(view.result.loss), ""]);
    content.push(table(view, "Losses", ["", "loss", "weight"], losses));
  }
  return section(view, "Inputs, targets and loss", true, ...unitsField(view, 0, shown, chooseShown),
    ...content);
}

function layerTables(view, number, shown, chooseShown) {
  const { model } = view;
  const layer = model.layers[number];
  const pass = () => view.result.layers[number];
  const rows = shown[number + 1].map((unit) => [
    nameOfUnit(model, number + 1, unit),
    ...["before", "outputs", "slopes", "gradient", "delta"].map((what) =>
      rowWritten(() => pass()[what], view, unit)),
  ]);
  const content = [table(view, `Units of ${layer.where}`,
    ["unit", "z", "y", "f′(z)", "∂L/∂y", "δ = ∂L/∂z"], rows)];
  for (const name of Object.keys(layer.parameters)) {
    content.push(...parameterTables(view, number, name, shown));
  }
  return section(view, `${layer.where}: ${layer.kind.replace("_", " ")}`, layer.units * 3 < 200,
    ...unitsField(view, number + 1, shown, chooseShown), ...content);
}

/** Tables of a parameter before, its gradients, and after. A kernel has inputs as rows. */
function parameterTables(view, number, name, shown) {
  const { model } = view;
  const layer = model.layers[number];
  const { data, path } = layer.parameters[name];
  const isKernel = name === "kernel";
  const source = (layer.kind === "residual" ? layer.added : layer.source) + 1;
  const units = shown[number + 1];
  const heads = ["", ...units.map((unit) => nameOfUnit(model, number + 1, unit))];
  const froms = isKernel ? shown[source] : [0];
  const rowName = (from) => (isKernel ? nameOfUnit(model, source, from, true) : name);
  const grid = (caption, cellOf) => table(view, caption, heads, froms.map((from) => [
    rowName(from),
    ...units.map((unit) => cellOf(isKernel ? from * layer.units + unit : unit, from, unit)),
  ]));
  const label = (from, unit) => isKernel
    ? `Weight from ${rowName(from)} to ${nameOfUnit(model, number + 1, unit)}`
    : `${name} of ${nameOfUnit(model, number + 1, unit)}`;
  const tables = [grid(path, (place, from, unit) =>
    arrayField(view, label(from, unit), data, place, {
      isHidden: true, range: name === "moving_variance" ? "[0, inf)" : "any",
    }))];
  if (model.targets === null || !hasGradient(name)) return tables;
  const results = (what) => (place) => () => {
    const numbers = view.result.parameters[number][name][what];
    return numbers ? written(numbers[place]) : "";
  };
  if (model.inputs.rows > 1) {
    tables.push(grid(`${path}: gradient of this sample`, (place) => () => {
      const parts = gradientFactors(model, view.result, number, name, view.sample, place);
      return written(parts.delta * parts.multiplied);
    }));
  }
  tables.push(grid(`${path}: gradient`, results("gradient")));
  if (model.optimizer !== null) tables.push(grid(`${path}: after the step`, results("updated")));
  return tables;
}

/** Where a column is wide: a field for the units that are shown. */
function unitsField(view, column, shown, chooseShown) {
  const width = columnWidth(view.model, column);
  if (width <= MOST_UNITS.narrow) return [];
  const id = `units-${column}`;
  const input = html("input", { id, type: "text", value: writtenUnits(shown[column]), size: 20 });
  const message = html("span", { id: `${id}-message`, className: "message", role: "alert" });
  const largest = html("button", { type: "button" }, "Largest contributions");
  largest.addEventListener("click", () => chooseShown(column, null));
  input.addEventListener("change", () => {
    const { units, message: wrong } = readUnits(input.value, width);
    message.textContent = wrong ?? "";
    input.setAttribute("aria-invalid", String(wrong !== undefined));
    if (wrong === undefined) chooseShown(column, units);
  });
  return [html("p", { className: "field units" },
    html("label", { htmlFor: id }, `Shown of ${width}:`), input, largest, message)];
}
