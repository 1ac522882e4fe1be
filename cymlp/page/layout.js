"use strict";

// Which units are drawn, and where. Columns are counted from the inputs: column 0 are the inputs,
// column i + 1 is layer i. Of a wide one those units are drawn that matter most to the next layer.

const MOST_UNITS = { wide: 12, narrow: 5 };
const NARROW = 560; // pixels: below it, layers stand below each other

const columnWidth = (model, column) =>
  column === 0 ? model.inputs.columns : model.layers[column - 1].units;

/** How much each unit of a column contributes to its readers, for a sample. */
function contributions(model, result, sample, column) {
  const values = column === 0 ? model.inputs : result.layers[column - 1].outputs;
  const sizes = rowOf(values, sample).map(Math.abs);
  const weights = new Float64Array(sizes.length);
  for (const layer of model.layers) {
    const source = layer.kind === "residual" ? layer.added : layer.source;
    const { kernel } = layer.parameters;
    if (source !== column - 1 || !kernel) continue;
    kernel.data.forEach((w, place) => (weights[Math.floor(place / layer.units)] += Math.abs(w)));
  }
  const isRead = weights.some((weight) => weight > 0);
  return isRead ? sizes.map((size, k) => size * weights[k]) : sizes;
}

/** Choose the units to draw of every column; `chosen` has those that the reader chose. */
function chooseUnits(view, chosen, isNarrow) {
  const { model, result, sample } = view;
  const most = isNarrow ? MOST_UNITS.narrow : MOST_UNITS.wide;
  const shown = [];
  for (let column = 0; column <= model.layers.length; column++) {
    const width = columnWidth(model, column);
    const source = column > 0 ? model.layers[column - 1].source + 1 : -1;
    const isOneToOne = column > 0 && model.layers[column - 1].kind !== "dense";
    if (chosen.has(column)) shown.push(chosen.get(column));
    else if (isOneToOne && columnWidth(model, source) === width) shown.push(shown[source]);
    else if (width <= most) shown.push([...Array(width).keys()]);
    else {
      const sizes = contributions(model, result, sample, column);
      const ranked = [...Array(width).keys()].sort((i, j) => sizes[j] - sizes[i]);
      shown.push(ranked.slice(0, most).sort((i, j) => i - j));
    }
  }
  return shown;
}

/** Read which units to show, such as "1-4, 7"; {units} or {message}. Units are counted from 1. */
function readUnits(text, width) {
  const units = new Set();
  for (const part of text.split(",")) {
    const match = part.trim().match(/^(\d+)(?:\s*[-–]\s*(\d+))?$/);
    const [from, to] = match ? [Number(match[1]), Number(match[2] ?? match[1])] : [0, 0];
    if (!match || from < 1 || to > width || from > to) {
      const expected = `Must be numbers from 1 to ${width}, such as 1-4, 7`;
      return { message: `${expected}; got “${text.trim()}”` };
    }
    for (let unit = from; unit <= to && units.size <= 40; unit++) units.add(unit - 1);
  }
  if (units.size > 40) return { message: "At most 40 units can be shown" };
  return { units: [...units].sort((i, j) => i - j) };
}

/** Write units as `readUnits` reads them. */
function writtenUnits(units) {
  const ranges = [];
  for (const unit of units) {
    const last = ranges.at(-1);
    if (last && last[1] === unit - 1) last[1] = unit;
    else ranges.push([unit, unit]);
  }
  const parts = ranges.map(([from, to]) =>
    from === to ? `${from + 1}` : `${from + 1}-${to + 1}`);
  return parts.join(", ");
}

/** Return sizes and places: {width, height, radius, isNarrow, at(column, slot), loss, spacing}. */
function layoutOf(shown, available, hasLoss) {
  const isNarrow = available < NARROW;
  const tallest = Math.max(...shown.map((units) => units.length));
  const clamp = (number, low, high) => Math.min(Math.max(number, low), high);
  if (isNarrow) {
    const width = Math.max(available, tallest * 62);
    const spacing = Math.min(width / tallest, 120);
    const radius = clamp(spacing * 0.38, 20, 30);
    const gap = 132;
    const columns = shown.length + (hasLoss ? 1 : 0);
    const height = 56 + (columns - 1) * gap + 60;
    const at = (column, slot) => {
      const count = shown[column]?.length ?? 1;
      return { x: width / 2 + (slot - (count - 1) / 2) * spacing, y: 56 + column * gap };
    };
    return { width, height, radius, spacing, isNarrow, at, gap };
  }
  const spacing = clamp(620 / tallest, 62, 118);
  const radius = clamp(spacing * (spacing < 80 ? 0.41 : 0.34), 21, 31);
  const ofLoss = hasLoss ? 108 : 0;
  const margins = (hasLoss ? 84 : 88) + ofLoss;
  const gaps = shown.length - 1;
  const gap = clamp((available - margins) / gaps, 120, 300);
  const width = Math.max(margins + gap * gaps, available);
  const left = 44 + (width - margins - gap * gaps) / 2;
  const height = tallest * spacing + 64;
  const at = (column, slot) => {
    const count = shown[column]?.length ?? 1;
    const y = height / 2 + 2 + (slot - (count - 1) / 2) * spacing;
    return { x: left + gap * Math.min(column, gaps) + (column > gaps ? ofLoss : 0), y };
  };
  return { width, height, radius, spacing, isNarrow, at, gap };
}
