"""The working of one sample: forward through a trace's layers, and backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp._formulas import (
    activation_formula,
    agree,
    is_error,
    loss_formula,
    slope_formula,
)
from cymlp._notation import Notation
from cymlp._render import Line, Section
from cymlp._symbols import Symbols, heading
from cymlp.layers import Activation, Dense, Dropout, Residual

if TYPE_CHECKING:
    from cymlp.trace import LayerTrace, ParameterTrace, Trace

__all__ = ["Pass"]


class Pass:
    """A sample on its way there and back."""

    def __init__(self, trace: Trace, write: Notation, symbols: Symbols, sample: int) -> None:
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
            section = Section(heading(layer), 2)
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
        if "kernel" in layer.parameters:  # the projection
            w = layer.parameters["kernel"].value[:, j]
            added = write.total(beside * w, lambda i: write.product(beside[i], w[i]))
        else:
            added = write.factor(beside[j])
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
            section = Section(heading(layer), 2)
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
        if y.shape != t.shape or not is_error(
            self.trace.loss_function, self.trace.is_fused, y[j], t[j]
        ):
            return []
        if not agree(float(y[j]) - float(t[j]), float(found), y[j], t[j]):
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
