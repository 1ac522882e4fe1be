"""The working of a trace: sections of equations with their numbers, in any notation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp._formulas import Move, step_formulas
from cymlp._notation import Notation
from cymlp._render import Line, Section
from cymlp._symbols import Symbols, counted, heading
from cymlp._working_pass import Pass

if TYPE_CHECKING:
    from cymlp.trace import ParameterTrace, Trace

__all__ = ["working"]


def working(trace: Trace, notation: Notation) -> Iterator[Section]:
    """Yield the sections of a trace's working: forward and backward, average, update."""
    symbols = Symbols(trace, notation)
    yield _network(trace)
    for sample in range(len(trace)):
        pass_ = Pass(trace, notation, symbols, sample)
        yield from pass_.forward()
        if trace.losses is not None:
            yield from pass_.backward()
    if trace.losses is not None:
        batch = _Batch(trace, notation, symbols)
        yield from batch.average()
        if trace.optimizer is not None:
            yield from batch.update()


def _network(trace: Trace) -> Section:
    section = Section("Network")
    section.lines.append(f"{counted(trace.inputs.shape[1], 'input')}, {trace.inputs.dtype}.")
    section.lines += [f"{heading(layer)}." for layer in trace.layers]
    if trace.loss_function is not None:
        section.lines.append(f"Loss: {_in_full(trace.loss_function)}.")
    if trace.optimizer is not None:
        section.lines.append(f"Optimizer: {_in_full(trace.optimizer)}.")
    return section


def _in_full(spec: Any) -> str:
    """Return a description with its defaults, but for what is off."""
    settings = ((f.name, getattr(spec, f.name)) for f in fields(spec))
    arguments = (
        f"{k}={getattr(v, '__name__', repr(v))}"
        for k, v in settings
        if v is not None and v is not False and v != 0
    )
    return f"{type(spec).__name__}({', '.join(arguments)})"


class _Batch:
    """What all samples together lead to."""

    def __init__(self, trace: Trace, write: Notation, symbols: Symbols) -> None:
        self.trace, self.write, self.symbols = trace, write, symbols

    def parameters(self) -> Iterator[tuple[int, ParameterTrace]]:
        for number, layer in enumerate(self.trace.layers):
            for parameter in layer.parameters.values():
                if parameter.gradient is not None:
                    yield number, parameter

    def places(self, array: np.ndarray) -> list[tuple[int, ...]]:
        """Return where the numbers stand that are written out, unit by unit."""
        write = self.write
        if array.ndim == 1:
            return [(j,) for j in write.largest(array)]
        if max(array.shape) <= write.most:
            return [(i, j) for j in range(array.shape[1]) for i in range(array.shape[0])]
        found = (divmod(k, array.shape[1]) for k in write.largest(array.ravel()))
        return sorted(found, key=lambda place: place[::-1])

    def rest_of(self, array: np.ndarray, what: str) -> Iterator[str]:
        shown = tuple(np.array(self.places(array)).T)
        return self.symbols.rest_of(array, shown, what)

    def mean(self, values: np.ndarray) -> str:
        """Write an average over the samples, by their weights where they have any."""
        write, weight = self.write, self.trace.sample_weight
        if weight is None:
            total = write.total(values, lambda b: write.factor(values[b]))
            return write.quotient(total, str(len(values)))
        total = write.total(weight * values, lambda b: write.product(weight[b], values[b]))
        return write.quotient(total, write.number(weight.sum()))

    def average(self) -> Iterator[Section]:
        trace, write = self.trace, self.write
        assert trace.losses is not None and trace.loss is not None
        if len(trace) == 1 and not trace.penalty:
            return  # the averages are the sample's own
        section = Section(f"Average over the batch of {counted(len(trace), 'sample')}")
        sides = [self.mean(trace.losses)]
        if trace.penalty:
            sides[0] += f" + {write.factor(trace.penalty)}"
            section.lines.append("What is added to averages is the penalty of the weights.")
        section.lines.append(["L", *sides, write.number(trace.loss)])
        yield section
        for number, parameter in self.parameters():
            yield Section(parameter.path, 2, [*self.averages(number, parameter)])

    def averages(self, number: int, parameter: ParameterTrace) -> Iterator[Line]:
        write = self.write
        singles, average, gradient = (
            parameter.gradient_per_sample, parameter.average, parameter.gradient
        )  # fmt: skip
        assert singles is not None and average is not None and gradient is not None
        has_penalty = not self.trace.are_gradients_given and not np.array_equal(average, gradient)
        result = gradient if has_penalty else average
        for place in self.places(result):
            text = self.mean(np.array([single[place] for single in singles]))
            if has_penalty:
                text += f" + {write.factor(float(gradient[place]) - float(average[place]))}"
            by = write.derivative(self.symbols.parameter(number, parameter.name, place))
            yield [by, text, write.number(result[place])]
        yield from self.rest_of(result, "the derivatives")

    def update(self) -> Iterator[Section]:
        trace, write = self.trace, self.write
        section = Section(f"Update: step {trace.step:,}")
        section.lines.append(f"{_in_full(trace.optimizer)}.")
        if trace.are_gradients_given:
            section.lines.append("With given gradients, not those of the samples above.")
        if trace.learning_rate is not None:
            rate = write.number(trace.learning_rate)
            section.lines.append([write.symbol("learning_rate"), rate])
        yield section
        for number, parameter in self.parameters():
            section = Section(parameter.path, 2)
            if parameter.is_trainable:
                assert parameter.gradient is not None
                places = self.places(parameter.gradient)
                for place in places:
                    section.lines += self.step(
                        number, parameter, place, with_symbols=place == places[0]
                    )
                section.lines += self.rest_of(parameter.gradient, "the gradients")
            else:
                section.lines.append("Not trainable: it stays as it is.")
            yield section

    def step(
        self, number: int, parameter: ParameterTrace, place: tuple[int, ...], *, with_symbols: bool
    ) -> Iterator[list[str]]:
        write, trace = self.write, self.trace
        assert parameter.gradient is not None and parameter.updated is not None
        symbol = self.symbols.parameter(number, parameter.name, place)
        w, after = float(parameter.value[place]), float(parameter.updated[place])
        g = float(parameter.gradient[place])
        if trace.are_gradients_given:
            yield [write.derivative(symbol), write.number(g)]
        state = {
            name: (float(before[place]), float(new[place]))
            for name, (before, new) in parameter.state.items()
        }
        lines = None
        if trace.learning_rate is not None:
            layer = trace.layers[number].layer
            is_plain = (
                getattr(layer, "learning_rate_multiplier", 1) == 1
                and getattr(layer, "kernel_constraint", None) is None
            )
            move = Move(symbol, w, after, g, state, trace.learning_rate, trace.step)
            lines = step_formulas(
                write, trace.optimizer, move, is_plain=is_plain, with_symbols=with_symbols
            )
        if lines is not None:
            yield from lines
            return
        for name, (before, new) in state.items():
            own = write.parameter(name, symbol)
            yield [own, write.number(before)]
            yield [write.updated(own), write.number(new)]
        yield [
            write.updated(symbol),
            f"{write.number(w)} + {write.factor(after - w)}",
            write.number(after),
        ]
