"""Formulas of activations, losses and optimizers with their numbers written out.

Each is calculated here as well, and is None where it does not give the compiled core's number, or
where settings say that it is not what the core did: of a loss with smoothed labels or of a step
with clipped gradients there is the result alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cymlp._notation import Notation

__all__ = [
    "Move",
    "activation_formula",
    "agree",
    "is_error",
    "loss_formula",
    "slope_formula",
    "step_formulas",
]


def agree(value: float, found: float, *terms: float) -> bool:
    """Whether a formula gives a number, to what float32 rounds of the terms that it sums up."""
    size = max(map(abs, (value, found)))
    return abs(value - found) <= 1e-5 * size + 4e-7 * max(map(abs, terms), default=0.0)


def activation_formula(
    write: Notation, name: str, z: np.ndarray, j: int, found: float
) -> str | None:
    """Write the activation of weighted sum j of a layer."""
    text, value = None, math.nan
    if name == "relu":
        text, value = write.call("max", f"{write.number(z[j])}, 0"), max(z[j], 0.0)
    elif name == "sigmoid":
        text = write.quotient("1", f"1 + {write.call('exp', write.number(-z[j]))}")
        value = 1 / (1 + math.exp(min(-z[j], 700.0)))
    elif name == "softmax" and len(z) <= write.most and z.max() < 700:
        powers = np.exp(z)
        below = write.total(powers, lambda k: write.call("exp", write.number(z[k])))
        text = write.quotient(write.call("exp", write.number(z[j])), below)
        value = powers[j] / powers.sum() if powers.sum() > 0 else math.nan
    return text if agree(value, found) else None


def slope_formula(write: Notation, name: str, y: float, found: float) -> str | None:
    """Write the derivative of an activation by its output y."""
    text, value = None, math.nan
    if name == "sigmoid":
        text = f"{write.factor(y)}{write.times}(1 - {write.number(y)})"
        value = y * (1 - y)
    elif name == "tanh":
        text, value = f"1 - {write.power(write.factor(y), '2')}", 1 - y * y
    return text if agree(value, found) else None


def loss_formula(
    write: Notation, name: str, y: np.ndarray, t: np.ndarray, found: float
) -> str | None:
    """Write a sample's loss by its outputs y and targets t, as a sum over the outputs."""
    if name not in _LOSSES or y.shape != t.shape:
        return None
    values_of, term = _LOSSES[name]
    with np.errstate(all="ignore"):
        values = values_of(y, t)
    if not np.isfinite(values).all() or not agree(values.sum(), found):
        return None
    if name == "squared_error":
        return write.half(write.total(2 * values, lambda j: term(write, y[j], t[j])))
    if name == "cross_entropy":  # classes of target 0 have no part in it
        there = np.flatnonzero(t)
        return write.total(values[there], lambda k: term(write, y[there[k]], t[there[k]]))
    return write.total(values, lambda j: term(write, y[j], t[j]))


_Term = Callable[[Notation, float, float], str]
_Values = Callable[[np.ndarray, np.ndarray], Any]


def _log_cosh(write: Notation, y: float, t: float) -> str:
    return write.call("log", write.call("cosh", write.difference(y, t)))


def _poisson(write: Notation, y: float, t: float) -> str:
    log = write.call("log", write.number(y))
    return f"{write.number(y)} - {write.factor(t)}{write.times}{log}"


def _cross_entropy(write: Notation, y: float, t: float) -> str:
    return f"{write.factor(-t)}{write.times}{write.call('log', write.number(y))}"


def _binary_cross_entropy(write: Notation, y: float, t: float) -> str:
    log = write.call("log", f"1 - {write.number(y)}")
    return f"{_cross_entropy(write, y, t)} - (1 - {write.number(t)}){write.times}{log}"


def _hinge(write: Notation, y: float, t: float) -> str:
    sign = "-" if t > 0 else "+"
    return write.call("max", f"0, 1 {sign} {write.factor(y)}")


#: By the loss's name: its values for each output, and how one of them is written.
_LOSSES: dict[str, tuple[_Values, _Term]] = {
    "squared_error": (
        lambda y, t: (y - t) ** 2 / 2,
        lambda write, y, t: write.power(f"({write.difference(y, t)})", "2"),
    ),
    "absolute_error": (
        lambda y, t: abs(y - t),
        lambda write, y, t: write.absolute(write.difference(y, t)),
    ),
    "log_cosh": (lambda y, t: np.log(np.cosh(y - t)), _log_cosh),
    "poisson": (lambda y, t: y - t * np.log(y), _poisson),
    "cross_entropy": (lambda y, t: np.where(t == 0, 0, -t * np.log(y)), _cross_entropy),
    "binary_cross_entropy": (
        lambda y, t: -t * np.log(y) - (1 - t) * np.log(1 - y),
        _binary_cross_entropy,
    ),
    "hinge": (lambda y, t: np.maximum(0, 1 - np.where(t > 0, 1, -1) * y), _hinge),
}


def is_error(loss: Any, is_fused: bool, y: float, t: float) -> bool:
    """Whether the derivative of a loss is output less target.

    Of the squared error that is so by the output; of a loss that is computed from the weighted sums
    of its output activation, by these.
    """
    if loss.name == "huber":
        return abs(y - t) < loss.delta
    if not is_fused:
        return bool(loss.name == "squared_error")
    smoothed = getattr(loss, "label_smoothing", 0) != 0
    weighted = getattr(loss, "class_weight", None) is not None
    known = ("poisson", "kl_divergence", "cross_entropy", "binary_cross_entropy")
    return loss.name in known and not (smoothed or weighted)


# Optimizers


class Move(NamedTuple):
    """What a step does to one weight.

    Attributes
    ----------
    symbol : str
        The weight's.
    w, updated : float
        The weight before and, by the core, after the step.
    gradient : float
    state : dict of str to (float, float)
        What the optimizer keeps of it, before and after.
    rate : float
        The learning rate.
    step : int
        The step's number, from 1.
    """

    symbol: str
    w: float
    updated: float
    gradient: float
    state: dict[str, tuple[float, float]]
    rate: float
    step: int


def step_formulas(
    write: Notation, optimizer: Any, move: Move, *, is_plain: bool, with_symbols: bool
) -> list[list[str]] | None:
    """Write a move as equations, of which the last one is that of the weight.

    Parameters
    ----------
    write : Notation
    optimizer : Optimizer
    move : Move
    is_plain : bool
        Whether the layer changes nothing of the step.
    with_symbols : bool
        Whether each equation is written in symbols, too.
    """
    shaping = ("weight_decay", "clip_value", "clip_norm", "clip_global_norm")
    if not is_plain or any(getattr(optimizer, name, None) for name in shaping):
        return None
    rule: Callable[[Notation, Any, Move], _Rule | None]
    if optimizer.name == "sgd":
        rule = _velocity_rule if move.state else _gradient_rule
    elif optimizer.name in ("adam", "adamw") and "v_max" not in move.state:
        rule = _adam_rule
    else:
        return None
    found = rule(write, optimizer, move)
    # The change is what a rule says: beside a large weight any small one would do.
    if found is None or not agree(found[0] - move.w, move.updated - move.w, move.w):
        return None
    lines = [*found[1]]
    lines[-1].append(write.number(move.updated))
    return lines if with_symbols else [[line[0], *line[-2:]] for line in lines]


#: What a rule makes of a weight, and its equations but for the last one's result.
_Rule = tuple[float, list[list[str]]]


def _gradient_rule(write: Notation, optimizer: Any, move: Move) -> _Rule:
    symbol, w, g, rate = move.symbol, move.w, move.gradient, move.rate
    symbols = f"{symbol} - {write.symbol('learning_rate')}{write.times}{write.derivative(symbol)}"
    numbers = f"{write.number(w)} - {write.product(rate, g)}"
    return w - rate * g, [[write.updated(symbol), symbols, numbers]]


def _velocity_rule(write: Notation, optimizer: Any, move: Move) -> _Rule | None:
    """Sutskever et al. 2013; Nesterov's looks ahead by one velocity."""
    symbol, w, g, rate = move.symbol, move.w, move.gradient, move.rate
    momentum, (v, v_new) = float(optimizer.momentum), move.state["velocity"]
    if not agree(momentum * v + g, v_new, v, g):
        return None
    mu, velocity = write.symbol("momentum"), write.parameter("velocity", symbol)
    by, eta = write.derivative(symbol), write.symbol("learning_rate")
    new_velocity = write.updated(velocity)
    lines = [
        [
            new_velocity,
            f"{mu}{write.times}{velocity} + {by}",
            f"{write.product(momentum, v)} + {write.factor(g)}",
            write.number(v_new),
        ]
    ]
    if optimizer.nesterov:
        moved = f"({by} + {mu}{write.times}{new_velocity})"
        numbers = f"({write.number(g)} + {write.product(momentum, v_new)})"
        value = w - rate * (g + momentum * v_new)
    else:
        moved, numbers, value = new_velocity, write.factor(v_new), w - rate * v_new
    lines.append(
        [
            write.updated(symbol),
            f"{symbol} - {eta}{write.times}{moved}",
            f"{write.number(w)} - {write.factor(rate)}{write.times}{numbers}",
        ]
    )
    return value, lines


def _adam_rule(write: Notation, optimizer: Any, move: Move) -> _Rule | None:
    """Kingma and Ba 2015, algorithm 1; an epsilon_hat is added before v is corrected."""
    symbol, w, g, rate, step = move.symbol, move.w, move.gradient, move.rate, move.step
    lines, corrected = [], []
    by = write.derivative(symbol)
    for name, power, beta in (("m", 1, float(optimizer.beta_1)), ("v", 2, float(optimizer.beta_2))):
        old, new = move.state[name]
        if not agree(beta * old + (1 - beta) * g**power, new, old):
            return None
        is_square = power == 2
        gradient = write.power(write.factor(g), "2") if is_square else write.factor(g)
        average, b = write.parameter(name, symbol), write.symbol(f"beta_{power}")
        lines.append(
            [
                write.updated(average),
                f"{b}{write.times}{average} + (1 - {b}){write.times}"
                + (write.power(f"({by})", "2") if is_square else by),
                f"{write.product(beta, old)} + (1 - {write.number(beta)}){write.times}{gradient}",
                write.number(new),
            ]
        )
        corrected.append(new / (1 - beta**step))
        correction = f"1 - {write.power(write.number(beta), str(step))}"
        lines.append(
            [
                write.corrected(name),
                write.quotient(write.updated(average), f"1 - {write.power(b, str(step))}"),
                write.quotient(write.number(new), correction),
                write.number(corrected[-1]),
            ]
        )
    m_hat, v_hat = corrected
    epsilon, beta = float(optimizer.epsilon), float(optimizer.beta_2)
    named, numbered, added = write.symbol("epsilon"), write.number(epsilon), epsilon
    if optimizer.epsilon_hat:
        added = epsilon / math.sqrt(1 - beta**step)
        powers = [write.power(b, str(step)) for b in (write.symbol("beta_2"), write.number(beta))]
        named = write.quotient(named, write.root(f"1 - {powers[0]}"))
        numbered = write.quotient(numbered, write.root(f"1 - {powers[1]}"))
    below = f"{write.root(write.number(v_hat))} + {numbered}"
    symbols = write.quotient(write.corrected("m"), f"{write.root(write.corrected('v'))} + {named}")
    lines.append(
        [
            write.updated(symbol),
            f"{symbol} - {write.symbol('learning_rate')}{write.times}{symbols}",
            f"{write.number(w)} - {write.factor(rate)}{write.times}"
            + write.quotient(write.factor(m_hat), below),
        ]
    )
    return w - rate * m_hat / (math.sqrt(v_hat) + added), lines
