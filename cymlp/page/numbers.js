"use strict";

// Numbers: how they come, how they are written, how they are read from a field.

/** A matrix by rows, in double precision. */
function matrix(rows, columns, data = new Float64Array(rows * columns)) {
  return { rows, columns, data };
}

/** Unpack an array: little-endian numbers in base64, or one number that all of them are. */
function unpack(packed) {
  if (packed === null) return null;
  const count = packed.shape.reduce((product, length) => product * length, 1);
  let data;
  if ("fill" in packed) {
    data = new Float64Array(count).fill(packed.fill);
  } else {
    const bytes = Uint8Array.from(atob(packed.f4 ?? packed.f8), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    data = Float64Array.from({ length: count }, (_, i) =>
      "f4" in packed ? view.getFloat32(4 * i, true) : view.getFloat64(8 * i, true),
    );
  }
  return { shape: packed.shape, data };
}

/** Unpack a two-dimensional array. */
function unpackMatrix(packed) {
  if (packed === null) return null;
  const { shape, data } = unpack(packed);
  return matrix(shape[0], shape[1], data);
}

function sum(numbers) {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}

/** Write a number for reading: a few significant digits, a true minus sign. */
function written(number, digits = 6) {
  if (number === null || number === undefined) return "";
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  const short = Number(number.toPrecision(digits));
  const [mantissa, exponent] = short.toString().split("e");
  const size = Math.abs(short);
  let text = mantissa;
  if (exponent !== undefined || (size !== 0 && (size < 1e-4 || size >= 1e7))) {
    const [digitsOf, power] = short.toExponential().split("e");
    text = `${digitsOf}×10${superscript(Number(power))}`;
  }
  return text.replace("-", "−");
}

function superscript(number) {
  return [...String(number)].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign])).join("");
}

/** Write a number as a factor: in parentheses if it is negative or has a power of ten. */
function factor(number, digits) {
  const text = written(number, digits);
  return number < 0 || text.includes("×") ? `(${text})` : text;
}

/** Write a number as in a field: all its digits, so that reading gives the number back. */
function exact(number, dtype) {
  if (dtype !== "float32") return String(number);
  // The shortest decimal that is the same number in single precision.
  for (let digits = 6; digits < 10; digits++) {
    const text = String(Number(number.toPrecision(digits)));
    if (Math.fround(Number(text)) === Math.fround(number)) return text;
  }
  return String(number);
}

const RANGES = {
  any: [() => true, ""],
  "[-1, 1]": [(x) => x >= -1 && x <= 1, " from −1 to 1"],
  "[0, 1]": [(x) => x >= 0 && x <= 1, " from 0 to 1"],
  "[0, inf)": [(x) => x >= 0, " of at least 0"],
  "(0, inf)": [(x) => x > 0, " greater than 0"],
};

/** Read a number from text: {number}, or {message} that says what is wrong. */
function readNumber(text, range = "any") {
  const plain = text.trim().replace("−", "-");
  const number = plain === "" ? NaN : Number(plain);
  const [isWithin, phrase] = RANGES[range];
  if (Number.isFinite(number) && isWithin(number)) return { number };
  return { message: `Must be a finite number${phrase}, got “${text.trim()}”` };
}
