"use strict";

// Inputs that are pixels, as an image, with the gradient of the loss by the pixels over it.

/** A CSS colour as [red, green, blue]. */
function colourOf(variable) {
  const holder = document.createElement("span");
  holder.style.color = `var(${variable})`;
  document.body.append(holder);
  const numbers = getComputedStyle(holder).color.match(/[\d.]+/g).map(Number);
  holder.remove();
  return numbers;
}

/** Paint the current sample; `pixel` is the number of an input to mark, or null. */
function paintPixels(view, pixel) {
  const { model, result, sample } = view;
  const [height, width] = model.imageShape;
  const values = rowOf(model.inputs, sample);
  const low = Math.min(...values);
  const spread = Math.max(...values) - low || 1;
  const [paper, ink] = [colourOf("--paper"), colourOf("--ink")];
  const [positive, negative] = [colourOf("--blue"), colourOf("--orange")];
  const wanted = document.getElementById("show-gradient");
  const gradient = result.inputGradient && rowOf(result.inputGradient, sample);
  wanted.disabled = gradient === null;
  const largest = gradient ? largestOf(gradient) : 1;
  const scale = Math.max(1, Math.floor(224 / Math.max(height, width)));
  const canvas = document.getElementById("image");
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const context = canvas.getContext("2d");
  values.forEach((value, i) => {
    const share = (value - low) / spread;
    let colour = [0, 1, 2].map((k) => paper[k] + share * (ink[k] - paper[k]));
    if (gradient && wanted.checked) {
      const over = gradient[i] < 0 ? negative : positive;
      const strength = 0.85 * Math.sqrt(Math.abs(gradient[i]) / largest);
      colour = colour.map((part, k) => part + strength * (over[k] - part));
    }
    context.fillStyle = `rgb(${colour.map(Math.round).join(" ")})`;
    context.fillRect((i % width) * scale, Math.floor(i / width) * scale, scale, scale);
  });
  if (pixel !== null) {
    context.strokeStyle = `rgb(${ink[0]} ${ink[1]} ${ink[2]})`;
    context.lineWidth = 2;
    const [x, y] = [(pixel % width) * scale, Math.floor(pixel / width) * scale];
    context.strokeRect(x - 1, y - 1, scale + 2, scale + 2);
  }
  const text = `Inputs as an image of ${height} × ${width} pixels`;
  canvas.setAttribute("aria-label",
    gradient && wanted.checked ? `${text}, the gradient of the loss over it` : text);
  document.getElementById("image-text").textContent = `${text}.`;
  document.getElementById("scale-low").textContent = `−${written(largest, 2)}`;
  document.getElementById("scale-high").textContent = `+${written(largest, 2)}`;
}
