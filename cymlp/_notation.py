"""How an equation is written: as plain text, and in LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np

__all__ = ["Latex", "Notation", "escaped", "sum_of"]

_LATEX_SPECIAL = {
    "\\": r"\backslash ",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "^": r"\hat{\ }",
    "~": r"\sim ",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    " ": r"\ ",
}


def escaped(text: str) -> str:
    """Return text for the ordinary mode of LaTeX."""
    special = {c: rf"\{c}" for c in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(character, character) for character in text)


def sum_of(values: np.ndarray) -> float:
    """Return a sum that is rounded once; one that overflows, or of what is not finite, as it is."""
    try:
        return math.fsum(values.ravel())
    except (OverflowError, ValueError):
        with np.errstate(all="ignore"):
            return float(values.sum())


class Notation:
    """The words of equations; this one writes plain text.

    Parameters
    ----------
    digits : int
        Significant digits of every number.
    most : int
        Terms of a sum that are written out: those that contribute most.
    """

    times = "*"

    def __init__(self, digits: int, most: int) -> None:
        self._digits, self.most = digits, most

    # Numbers, products and sums

    def number(self, value: float) -> str:
        """Write a number; one that rounds to -0 has no sign."""
        text = f"{float(value):.{self._digits}g}"
        return "0" if text == "-0" else text

    def factor(self, value: float) -> str:
        """Write a number as part of a product or sum, in brackets if it has a sign."""
        text = self.number(value)
        return f"({text})" if text.startswith("-") else text

    def product(self, *factors: float) -> str:
        """Write a product of numbers."""
        return self.times.join(map(self.factor, factors))

    def difference(self, a: float, b: float) -> str:
        """Write one number less another."""
        return f"{self.number(a)} - {self.factor(b)}"

    def largest(self, values: np.ndarray) -> list[int]:
        """Return the places of the largest numbers, as many as are written out, in their order."""
        if len(values) <= self.most:
            return list(range(len(values)))
        sizes = np.nan_to_num(np.abs(values), nan=np.inf)
        return sorted(np.argsort(-sizes, kind="stable")[: self.most].tolist())

    def total(self, values: np.ndarray, term: Callable[[int], str]) -> str:
        """Write a sum by its largest terms, and what the others sum to."""
        shown = self.largest(values)
        terms = [term(i) for i in shown]
        if len(shown) < len(values):
            left = np.delete(values.astype(float), shown)
            terms.append(self.rest(len(left), sum_of(left)))
        return " + ".join(terms)

    # Symbols

    def name(self, name: str) -> str:
        """Write what an input or unit is called."""
        return name

    def call(self, function: str, argument: str) -> str:
        """Write a function of something."""
        return f"{function}({argument})"

    def slope(self, function: str, argument: str) -> str:
        """Write the derivative of a function, at something."""
        return f"{function}'({argument})"

    def weight(self, source: str, unit: str) -> str:
        """Write the weight from an input, or a unit's output, to a unit."""
        return f"w({source},{unit})"

    def parameter(self, name: str, unit: str) -> str:
        """Write a parameter that each unit has one of, such as its bias b."""
        return f"{name}({unit})"

    def derivative(self, of: str) -> str:
        """Write the loss's derivative by something."""
        return f"dL/d{of}"

    def updated(self, symbol: str) -> str:
        """Write what a step makes of something."""
        return f"{symbol}'"

    def corrected(self, name: str) -> str:
        """Write an average that is corrected for its start."""
        return f"{name}_hat"

    def quotient(self, above: str, below: str) -> str:
        """Write a fraction; each side may be a sum."""
        above, below = (f"({side})" if " " in side else side for side in (above, below))
        return f"{above}/{below}"

    def power(self, base: str, exponent: str) -> str:
        """Write a power."""
        return f"{base}^{exponent}"

    def root(self, of: str) -> str:
        """Write a square root."""
        return f"sqrt({of})"

    def absolute(self, of: str) -> str:
        """Write an absolute value."""
        return f"|{of}|"

    def half(self, of: str) -> str:
        """Write half of a sum."""
        return f"1/2*({of})"

    def rest(self, count: int, total: float) -> str:
        """Write the terms of a sum that are left out: how many, and what they sum to."""
        return f"[{count:,}\xa0more:\xa0{self.number(total)}]"  # lines do not break there

    def symbol(self, name: str) -> str:
        """Write a symbol of one word, such as learning_rate."""
        return name


class Latex(Notation):
    """LaTeX, for math mode."""

    times = r" \cdot "

    def number(self, value: float) -> str:
        """Write a number, with a power of ten where it has an exponent."""
        mantissa, _, exponent = super().number(value).partition("e")
        if mantissa.lstrip("-") in ("inf", "nan"):
            return mantissa.replace("inf", r"\infty").replace("nan", r"\mathrm{NaN}")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa

    def name(self, name: str) -> str:
        """Write a name, digits at its end as an index."""
        match = re.fullmatch(r"([A-Za-z]{1,2})(\d+)", name)
        if match:
            return f"{match[1]}_{{{match[2]}}}"
        if not name.isascii():  # which the fonts of math mode do not have
            return rf"\text{{{escaped(name)}}}"
        return rf"\mathrm{{{self._escaped(name)}}}"

    def call(self, function: str, argument: str) -> str:
        """Write a function of something."""
        return rf"{self.symbol(function)}({argument})"

    def slope(self, function: str, argument: str) -> str:
        """Write the derivative of a function, at something."""
        return rf"{self.symbol(function)}'({argument})"

    def weight(self, source: str, unit: str) -> str:
        """Write the weight from an input, or a unit's output, to a unit."""
        return f"w_{{{source},{unit}}}"

    def parameter(self, name: str, unit: str) -> str:
        """Write a parameter that each unit has one of, such as its bias b."""
        return f"{self._short(name)}_{{{unit}}}"

    def derivative(self, of: str) -> str:
        """Write the loss's derivative by something."""
        return rf"\frac{{\partial L}}{{\partial {of}}}"

    def corrected(self, name: str) -> str:
        """Write an average that is corrected for its start."""
        return rf"\hat{{{name}}}"

    def quotient(self, above: str, below: str) -> str:
        """Write a fraction."""
        return rf"\frac{{{above}}}{{{below}}}"

    def power(self, base: str, exponent: str) -> str:
        """Write a power."""
        return f"{base}^{{{exponent}}}"

    def root(self, of: str) -> str:
        """Write a square root."""
        return rf"\sqrt{{{of}}}"

    def half(self, of: str) -> str:
        """Write half of a sum."""
        return rf"\frac{{1}}{{2}} ({of})"

    def rest(self, count: int, total: float) -> str:
        """Write the terms of a sum that are left out: how many, and what they sum to."""
        return rf"[{count}\ \mathrm{{more}}: {self.number(total)}]"

    def symbol(self, name: str) -> str:
        """Write a symbol of one word, such as learning_rate."""
        short = self._short(name)
        return short if short != name or len(name) == 1 else rf"\mathrm{{{self._escaped(name)}}}"

    def _short(self, name: str) -> str:
        greek = {"gamma": r"\gamma", "beta": r"\beta", "learning_rate": r"\eta"}
        greek |= {"beta_1": r"\beta_1", "beta_2": r"\beta_2", "momentum": r"\mu"}
        greek |= {"epsilon": r"\epsilon"}
        functions = {"log", "exp", "max", "tanh", "cosh"}
        if name in functions:
            return rf"\{name} "
        return greek.get(name, name if len(name) == 1 else rf"\mathrm{{{self._escaped(name)}}}")

    def _escaped(self, text: str) -> str:
        return "".join(_LATEX_SPECIAL.get(character, character) for character in text)
