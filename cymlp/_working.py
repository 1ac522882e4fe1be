"""The working of a trace: sections of equations with their numbers, in any notation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp._formulas import (
    activation_formula,
    agree,
    loss_formula,
    slope_formula,
    step_formulas,
)
from cymlp._notation import Notation
from cymlp.layers import Activation, Dense, Dropout, Residual

if TYPE_CHECKING:
    from cymlp.trace import LayerTrace, ParameterTrace, Trace

__all__ = ["Section", "working"]

#: A string is a sentence; a list has the sides of an equation, from left to right.
Line = str | list[str]


@dataclass
class Section:
    """A heading and what stands below it.

    Attributes
    ----------
    title : str
    level : int
        1 or 2; sections of level 2 are parts of the one of level 1 before them.
    lines : list of Line
    """

    title: str
    level: int = 1
    lines: list[Line] = field(default_factory=list)


def working(trace: Trace, notation: Notation) -> Iterator[Section]:
    """Yield the sections of a trace's working: forward and backward, average, update."""
    symbols = _Symbols(trace, notation)
    yield _network(trace)
    for sample in range(len(trace)):
        pass_ = _Pass(trace, notation, symbols, sample)
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
    section.lines.append(f"{_counted(trace.inputs.shape[1], 'input')}, {trace.inputs.dtype}.")
    section.lines += [f"{_heading(layer)}." for layer in trace.layers]
    if trace.loss_function is not None:
        section.lines.append(f"Loss: {_in_full(trace.loss_function)}.")
    if trace.optimizer is not None:
        section.lines.append(f"Optimizer: {_in_full(trace.optimizer)}.")
    return section


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _heading(layer: LayerTrace) -> str:
    kind = layer.layer.name.replace("_", " ")
    function = "" if layer.function is None else f", {layer.function.name}"
    return f"{layer.where}: {kind}, {_counted(layer.n_units, 'unit')}{function}"


def _in_full(spec: Any) -> str:
    """Return a description with its defaults, but for what is off."""
    settings = ((f.name, getattr(spec, f.name)) for f in fields(spec))
    arguments = (f"{k}={v!r}" for k, v in settings if v is not None and v is not False and v != 0)
    return f"{type(spec).__name__}({', '.join(arguments)})"


class _Symbols:
    """What inputs, units, outputs and parameters of a trace are called."""

    def __init__(self, trace: Trace, write: Notation) -> None:
        self.trace, self.write = trace, write

    def unit(self, number: int, j: int) -> str:
        """Write what a unit has before its activation; of number -1 an input."""
        if number < 0:
            return self.write.name(self.trace.input_names[j])
        layer = self.trace.layers[number]
        if isinstance(layer.layer, (Dense, Residual)):
            return self.write.name(layer.names[j])
        below = self.output(layer.source, j)
        if isinstance(layer.layer, (Activation, Dropout)):
            return below
        return self.write.call("norm", below)

    def output(self, number: int, j: int) -> str:
        """Write a unit's output."""
        function = None if number < 0 else self.trace.layers[number].function
        unit = self.unit(number, j)
        return unit if function is None else self.write.call(function.name, unit)

    def neuron(self, number: int, j: int) -> str:
        """Write the input or neuron that an output comes from, for its weights' names."""
        while number >= 0 and not isinstance(self.trace.layers[number].layer, (Dense, Residual)):
            number = self.trace.layers[number].source
        return self.unit(number, j)

    def parameter(self, number: int, name: str, place: tuple[int, ...]) -> str:
        """Write one number of a parameter."""
        layer, neuron = self.trace.layers[number], self.neuron(number, place[-1])
        if len(place) == 2:
            return self.write.weight(self.neuron(layer.kernel_source, place[0]), neuron)
        return self.write.parameter("b" if name == "bias" else name, neuron)

    def rest_of(self, array: np.ndarray, shown: Any, what: str) -> Iterator[str]:
        """Say what is left out of a list of numbers, if anything is."""
        left = array.astype(float)
        n_shown = left[shown].size
        left[shown] = 0
        if n_shown < left.size:
            total = self.write.number(math.fsum(left.ravel()))
            yield f"{left.size - n_shown:,} more of {what}, in sum {total}."


class _Pass:
    """A sample on its way there and back."""

    def __init__(self, trace: Trace, write: Notation, symbols: _Symbols, sample: int) -> None:
        self.trace, self.write, self.symbols, self.sample = trace, write, symbols, sample
        self.prefix = f"Sample {sample + 1}: " if len(trace) > 1 else ""
        self.readers: list[list[int]] = [[] for _ in trace.layers]
        for number, layer in enumerate(trace.layers):
            for source in (layer.source, layer.added):
                if source is not None and source >= 0:
                    self.readers[source].append(number)
        # The units of each layer that are written out: those that matter most to this sample.
        sizes = [layer.activation if layer.delta is None else layer.delta for layer in trace.layers]
        self.shown = [write.largest(size[sample]) for size in sizes]

    def outputs(self, number: int) -> np.ndarray:
        """Return the sample's outputs of a layer; of number -1 its inputs."""
        trace = self.trace
        return (trace.inputs if number < 0 else trace.layers[number].activation)[self.sample]

    # Forward

    def forward(self) -> Iterator[Section]:
        write, symbols = self.write, self.symbols
        section = Section(f"{self.prefix}forward".capitalize())
        x = self.outputs(-1)
        shown = write.largest(x)
        section.lines += [[symbols.unit(-1, i), write.number(x[i])] for i in shown]
        section.lines += symbols.rest_of(x, shown, "the inputs")
        yield section
        for number, layer in enumerate(self.trace.layers):
            section = Section(_heading(layer), 2)
            if isinstance(layer.layer, Dropout):
                section.lines.append("Nothing is dropped in prediction.")
            else:
                for j in self.shown[number]:
                    section.lines += self.unit_forward(number, layer, j)
                a = self.outputs(number)
                section.lines += symbols.rest_of(a, self.shown[number], "the outputs")
            yield section
        if self.trace.losses is not None:
            yield Section("Loss", 2, [["L", *self.loss()]])

    def unit_forward(self, number: int, layer: LayerTrace, j: int) -> Iterator[list[str]]:
        write, unit = self.write, self.symbols.unit(number, j)
        z = layer.pre_activation[self.sample]
        if isinstance(layer.layer, Dense):
            yield [unit, *self.weighted_sum(number, layer, j), write.number(z[j])]
        elif isinstance(layer.layer, Residual):
            yield [unit, self.residual(layer, j), write.number(z[j])]
        elif not isinstance(layer.layer, Activation):
            yield [unit, self.normalized(layer, j), write.number(z[j])]
        if layer.function is not None:
            name, a = layer.function.name, float(layer.activation[self.sample, j])
            formula = activation_formula(write, name, z.astype(float), j, a)
            if formula is None:
                formula = write.call(name, write.number(z[j]))
            yield [self.symbols.output(number, j), formula, write.number(a)]

    def weighted_sum(self, number: int, layer: LayerTrace, j: int) -> list[str]:
        """Write a weighted sum: of the first unit that is shown in symbols, too."""
        write, symbols = self.write, self.symbols
        x, w = self.outputs(layer.source), layer.parameters["kernel"].value[:, j]

        def symbol(i: int) -> str:
            weight = symbols.parameter(number, "kernel", (i, j))
            return f"{symbols.output(layer.source, i)}{write.times}{weight}"

        in_symbols = write.total(x * w, symbol)
        in_numbers = write.total(x * w, lambda i: write.product(x[i], w[i]))
        if "bias" in layer.parameters:
            in_symbols += f" + {symbols.parameter(number, 'bias', (j,))}"
            in_numbers += f" + {write.factor(layer.parameters['bias'].value[j])}"
        return [in_symbols, in_numbers] if j == self.shown[number][0] else [in_numbers]

    def residual(self, layer: LayerTrace, j: int) -> str:
        write = self.write
        below, beside = self.outputs(layer.source), self.outputs(layer.kernel_source)
        added = write.factor(beside[j]) if not layer.parameters else None
        if added is None:
            w = layer.parameters["kernel"].value[:, j]
            added = write.total(beside * w, lambda i: write.product(beside[i], w[i]))
        return f"{write.number(below[j])} + {added}"

    def normalized(self, layer: LayerTrace, j: int) -> str:
        write, x = self.write, self.outputs(layer.source).astype(float)
        have = {name: parameter.value for name, parameter in layer.parameters.items()}
        mean, variance = x.mean(), x.var()
        if "moving_mean" in have:
            mean, variance = have["moving_mean"][j], have["moving_variance"][j]
        epsilon: float = getattr(layer.layer, "epsilon", 0.0)
        below = write.root(f"{write.number(variance)} + {write.number(epsilon)}")
        text = write.quotient(write.difference(x[j], mean), below)
        if "gamma" in have:
            text = f"{write.factor(have['gamma'][j])}{write.times}{text}"
        return f"{text} + {write.factor(have['beta'][j])}" if "beta" in have else text

    def loss(self) -> list[str]:
        trace, write = self.trace, self.write
        assert trace.losses is not None and trace.targets is not None
        assert trace.loss_function is not None
        found, name = float(trace.losses[self.sample]), trace.loss_function.name
        y, t = self.outputs(len(trace.layers) - 1), trace.targets[self.sample]
        formula = loss_formula(write, name, y.astype(float), t.astype(float), found)
        return [formula or write.call(name, "outputs, targets"), write.number(found)]

    # Backward

    def backward(self) -> Iterator[Section]:
        yield Section(f"{self.prefix}backward".capitalize())
        for number in reversed(range(len(self.trace.layers))):
            layer = self.trace.layers[number]
            assert layer.delta is not None
            section = Section(_heading(layer), 2)
            for j in self.shown[number]:
                section.lines += self.unit_backward(number, layer, j)
            section.lines += self.symbols.rest_of(
                layer.delta[self.sample], self.shown[number], "the derivatives by units"
            )
            for parameter in layer.parameters.values():
                section.lines += self.gradients(number, layer, parameter)
            yield section
        yield Section("Inputs", 2, [*self.by_inputs()])

    def unit_backward(self, number: int, layer: LayerTrace, j: int) -> Iterator[list[str]]:
        """Write derivatives: by a unit's output, of its activation, by its weighted sum."""
        write, symbols = self.write, self.symbols
        assert layer.delta is not None
        unit, output = symbols.unit(number, j), symbols.output(number, j)
        by_unit, by_output = write.derivative(unit), write.derivative(output)
        delta = layer.delta[self.sample, j]
        if layer.activation_gradient is None:
            yield [by_unit, *self.error(number, j, delta), write.number(delta)]
            return
        g = layer.activation_gradient[self.sample]
        how = self.handed_down(number, j) if self.readers[number] else self.error(number, j, g[j])
        yield [by_output, *how, write.number(g[j])]
        if layer.function is None:
            return
        if layer.slope is None:  # softmax: every output depends on every weighted sum
            y = layer.activation[self.sample]
            inner = write.total(g * y, lambda k: write.product(g[k], y[k]))
            text = f"{write.factor(y[j])}{write.times}({write.number(g[j])} - ({inner}))"
            yield [by_unit, text, write.number(delta)]
            return
        slope = layer.slope[self.sample, j]
        formula = slope_formula(
            write, layer.function.name, float(layer.activation[self.sample, j]), float(slope)
        )
        of_function = write.slope(layer.function.name, unit)
        yield [of_function, *([formula] if formula else []), write.number(slope)]
        in_symbols = f"{by_output}{write.times}{of_function}"
        yield [by_unit, in_symbols, write.product(g[j], slope), write.number(delta)]

    def error(self, number: int, j: int, found: float) -> list[str]:
        """Write a derivative of the loss as output less target, where that is what it is."""
        write = self.write
        assert self.trace.targets is not None
        y, t = self.outputs(number), self.trace.targets[self.sample]
        if y.shape != t.shape or not agree(float(y[j]) - float(t[j]), float(found)):
            return []
        in_symbols = f"{self.symbols.output(number, j)} - {write.symbol('target')}"
        return [in_symbols, write.difference(y[j], t[j])]

    def handed_down(self, number: int, j: int) -> list[str]:
        """Write the derivative by an output by what its only reader makes of it."""
        if len(self.readers[number]) > 1:
            return []
        above = self.readers[number][0]
        reader = self.trace.layers[above]
        if isinstance(reader.layer, Dense):
            return self.sum_over_units(above, reader, j, with_symbols=j == self.shown[number][0])
        by = self.write.derivative(self.symbols.unit(above, j))
        if isinstance(reader.layer, Residual):
            return [by]
        return []

    def sum_over_units(
        self, number: int, layer: LayerTrace, i: int, *, with_symbols: bool
    ) -> list[str]:
        """Write the derivative by an input of a dense layer."""
        write, symbols = self.write, self.symbols
        assert layer.delta is not None
        d, w = layer.delta[self.sample], layer.parameters["kernel"].value[i]

        def symbol(j: int) -> str:
            weight = symbols.parameter(number, "kernel", (i, j))
            return f"{write.derivative(symbols.unit(number, j))}{write.times}{weight}"

        in_numbers = write.total(d * w, lambda j: write.product(d[j], w[j]))
        return [write.total(d * w, symbol), in_numbers] if with_symbols else [in_numbers]

    def gradients(
        self, number: int, layer: LayerTrace, parameter: ParameterTrace
    ) -> Iterator[Line]:
        """Write the derivatives by a layer's parameters, each as the chain of its factors."""
        if parameter.gradient_per_sample is None:
            return
        write, symbols = self.write, self.symbols
        found, units = parameter.gradient_per_sample[self.sample], self.shown[number]
        x = self.outputs(layer.kernel_source)
        inputs = write.largest(x) if found.ndim == 2 else [-1]
        for j in units:
            in_symbols, in_numbers = self.chain(number, layer, j)
            for i in inputs:
                place = (i, j) if found.ndim == 2 else (j,)
                sides = [in_symbols, in_numbers]
                if found.ndim == 2:
                    sides[0] += f"{write.times}{symbols.output(layer.kernel_source, i)}"
                    sides[1] += f"{write.times}{write.factor(x[i])}"
                elif parameter.name == "gamma":
                    sides = []
                if (i, j) != (inputs[0], units[0]):
                    sides = sides[1:]
                value = write.number(found[place])
                if sides and sides[-1] in (value, write.factor(found[place])):
                    sides = sides[:-1]
                by = write.derivative(symbols.parameter(number, parameter.name, place))
                yield [by, *sides, value]
        shown: Any = np.ix_(inputs, units) if found.ndim == 2 else units
        yield from symbols.rest_of(found, shown, f"the derivatives by the {parameter.name}")

    def chain(self, number: int, layer: LayerTrace, j: int) -> tuple[str, str]:
        """Write what the derivatives by all of a unit's parameters have in common."""
        write, unit = self.write, self.symbols.unit(number, j)
        assert layer.delta is not None
        g, slope = layer.activation_gradient, layer.slope
        if g is None or slope is None or layer.function is None:
            return write.derivative(unit), write.factor(layer.delta[self.sample, j])
        by_output = write.derivative(self.symbols.output(number, j))
        in_symbols = f"{by_output}{write.times}{write.slope(layer.function.name, unit)}"
        return in_symbols, write.product(g[self.sample, j], slope[self.sample, j])

    def by_inputs(self) -> Iterator[Line]:
        assert self.trace.input_gradient is not None
        found = self.trace.input_gradient[self.sample]
        numbered = enumerate(self.trace.layers)
        readers = [(k, layer) for k, layer in numbered if -1 in (layer.source, layer.added)]
        shown = self.write.largest(found)
        for i in shown:
            how: list[str] = []
            if len(readers) == 1 and isinstance(readers[0][1].layer, Dense):
                how = self.sum_over_units(*readers[0], i, with_symbols=i == shown[0])
            by = self.write.derivative(self.symbols.unit(-1, i))
            yield [by, *how, self.write.number(found[i])]
        yield from self.symbols.rest_of(found, shown, "the derivatives by inputs")


class _Batch:
    """What all samples together lead to."""

    def __init__(self, trace: Trace, write: Notation, symbols: _Symbols) -> None:
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
        section = Section(f"Average over the batch of {_counted(len(trace), 'sample')}")
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
            lines = step_formulas(
                write, trace.optimizer, symbol, w, g, state, trace.learning_rate, trace.step, after,
                with_symbols=with_symbols,
            )  # fmt: skip
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
