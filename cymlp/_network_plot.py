"""The picture of a network: units and weights of a small one, a block per layer of any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from cymlp._plot_style import BLUE, FAINT, INK, MUTED, ORANGE, axes_or_new
from cymlp.layers import Activation, Dense, Dropout, Layer, Residual, width_of

if TYPE_CHECKING:
    from cymlp.model import Sequential

# What is drawn unit by unit: beyond it, edges are a blur and circles dots.
_MOST_UNITS = 16
_MOST_LAYERS = 6

# Orange and blue are told apart by all kinds of colour vision. NaN is as dark as text.
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", [ORANGE, "#fdba74", FAINT, "#93c5fd", BLUE]
).with_extremes(bad=INK)
_FILLS = {"dense": "#dbeafe", "inputs": "#ffffff", "residual": "#ffedd5"}
_OTHER_FILL = "#f3f4f6"

_RADIUS = 0.34  # units stand 1 apart
_BLOCK = (5.0, 0.62)  # width and height; blocks stand 1 apart
_BULGE = 0.55  # of a residual connection, per level of those that it encloses


def plot_network(net: Sequential, ax: Axes | None = None) -> Axes:
    """Draw a network.

    One of at most 6 layers, of at most 16 inputs and units each and without residual layers, is
    drawn unit by unit: weights are lines, as thick as they are large, blue where positive and
    orange where negative; circles have the colour of their bias. Of any other network each layer
    is a block, from the inputs at the top to the outputs, with arcs around what residual layers
    add their inputs to.

    Parameters
    ----------
    net : Sequential
        Built.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new pyplot figure is made, as large as the network needs.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        Before the network is built.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> from cymlp.plots import plot_network
    >>> net = Sequential([Dense(3, activation="tanh"), Dense(1)], n_inputs=2, random_state=0)
    >>> ax = plot_network(net, Figure().subplots())
    >>> [text.get_text().split() for text in ax.texts]
    [['inputs', '2'], ['dense', '3', 'tanh'], ['dense', '1']]
    """
    net._require("plot")
    assert net.n_inputs is not None
    columns = _columns_of(net)
    if columns is not None:
        return _draw_units(columns, ax)
    blocks = [_Block("inputs", "inputs", f"{net.n_inputs:,}")]
    arcs: list[_Arc] = []
    _add_blocks(net.layers, net.n_inputs, blocks, arcs)
    return _draw_blocks(blocks, arcs, ax)


# Unit by unit


@dataclass
class _Column:
    """Units that stand above each other; the kernel and bias that lead to them."""

    n_units: int
    lines: list[str]
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None


def _columns_of(net: Sequential) -> list[_Column] | None:
    """Return a small network as the columns of its units; None if it is not small."""
    n_layers = len(net.layers)
    widths = [width_of(net.layers[:i], net.n_inputs) or 0 for i in range(n_layers + 1)]
    if (
        n_layers > _MOST_LAYERS
        or max(widths) > _MOST_UNITS
        or any(isinstance(layer, Residual) for layer in net.layers)
    ):
        return None
    arrays = dict(zip(net.parameter_names(), net.get_weights(), strict=True))
    columns = [_Column(widths[0], ["inputs", str(widths[0])])]
    for i, layer in enumerate(net.layers):
        if isinstance(layer, Dense):
            lines = [layer.name, str(layer.units), *_activation_of(layer)]
            kernel, bias = (arrays.get(f"layers[{i}].{name}") for name in ("kernel", "bias"))
            columns.append(_Column(layer.units, lines, kernel, bias))
        else:  # it changes what the units before it give, one by one or all together
            columns[-1].lines.append(_kind_of(layer))
    return columns


def _draw_units(columns: Sequence[_Column], ax: Axes | None) -> Axes:
    tallest = max(column.n_units for column in columns)
    n_lines = max(len(column.lines) for column in columns)
    gap = max(2.5, 1.4 * (tallest + 2) / len(columns))
    top = (tallest - 1) / 2 + 0.6
    line = max(0.55, 0.04 * (tallest + 3))  # the height of one of text
    width, height = len(columns) * gap, 2 * top + 0.4 + n_lines * line
    inches = 0.36
    size = (inches * width + 1.5, max(inches * height, 2.0))
    ax = axes_or_new(ax, figsize=size, layout="constrained")
    arrays = [a for column in columns for a in (column.kernel, column.bias) if a is not None]
    values = np.concatenate([array.ravel() for array in arrays]).astype(np.float64)
    largest = float(abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0
    colours = ScalarMappable(Normalize(-largest, largest), _SIGNED)
    ax.set_xlim(-gap / 2, width - gap / 2)
    ax.set_ylim(top - height, top)
    ax.set_aspect("equal")
    ax.set_axis_off()
    for i, column in enumerate(columns):
        fills = np.ones((column.n_units, 4))
        if column.bias is not None:
            fills = colours.to_rgba(np.clip(column.bias.astype(np.float64), -largest, largest))
        for y, fill in zip(_heights(column.n_units), fills, strict=True):
            ax.add_patch(
                Circle((i * gap, y), _RADIUS, facecolor=fill, edgecolor=INK, linewidth=1, zorder=3)
            )
        if column.kernel is not None:
            edges = _edges(column.kernel, (i - 1) * gap, i * gap, largest)
            ax.add_collection(edges, autolim=False)
    bar = ax.figure.colorbar(colours, ax=ax, shrink=0.7, pad=0.02)
    bar.set_label("lines: weight\ncircles: bias", color=INK, fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelcolor=INK)
    longest = max(len(text) for column in columns for text in column.lines)
    font = _font_size(ax, gap, longest + 1, line)
    for i, column in enumerate(columns):
        text = "\n".join(column.lines)
        ax.text(i * gap, -top - 0.2, text, ha="center", va="top", fontsize=font, color=INK)
    return ax


def _heights(n_units: int) -> np.ndarray:
    return (n_units - 1) / 2 - np.arange(n_units)


def _edges(kernel: np.ndarray, left: float, right: float, largest: float) -> LineCollection:
    """Return the lines of a kernel, the largest weights in front."""
    n_inputs, n_units = kernel.shape
    weights = np.clip(kernel.ravel().astype(np.float64), -largest, largest)
    ends = np.empty((kernel.size, 2, 2))
    ends[:, 0, 0], ends[:, 1, 0] = left, right
    ends[:, 0, 1] = np.repeat(_heights(n_inputs), n_units)
    ends[:, 1, 1] = np.tile(_heights(n_units), n_inputs)
    order = np.argsort(abs(weights), kind="stable")
    widths = 0.4 + 2.8 * np.nan_to_num(abs(weights), nan=largest) / largest
    return LineCollection(
        list(ends[order]), array=weights[order], cmap=_SIGNED, norm=Normalize(-largest, largest),
        linewidths=widths[order], zorder=1,
    )  # fmt: skip


# Layer by layer


@dataclass
class _Block:
    """A layer: its kind, what it says of itself, and its shape."""

    kind: str
    title: str
    shape: str


@dataclass
class _Arc:
    """A residual connection between two blocks, by their numbers; level: those it encloses."""

    source: int
    target: int
    level: int


def _add_blocks(
    layers: Sequence[Layer], width: int, blocks: list[_Block], arcs: list[_Arc]
) -> tuple[int, int]:
    """Append the blocks of some layers; return their outputs and how deep their arcs are nested."""
    deepest = 0
    for layer in layers:
        top = width_of([layer], width) or 0
        if isinstance(layer, Residual):
            source = len(blocks) - 1
            _, level = _add_blocks(layer.layers, width, blocks, arcs)
            arcs.append(_Arc(source, len(blocks), level))
            if top == width:
                blocks.append(_Block(layer.name, "add", f"{top:,}"))
            else:
                blocks.append(_Block(layer.name, "add, projected", _shape(width, top)))
            deepest = max(deepest, level + 1)
        elif isinstance(layer, Dense):
            title = ", ".join([layer.name, *_activation_of(layer)])
            blocks.append(_Block(layer.name, title, _shape(width, top)))
        else:
            blocks.append(_Block(layer.name, _kind_of(layer), f"{top:,}"))
        width = top
    return width, deepest


def _shape(n_inputs: int, n_outputs: int) -> str:
    return f"{n_inputs:,} \N{RIGHTWARDS ARROW} {n_outputs:,}"


def _draw_blocks(blocks: Sequence[_Block], arcs: Sequence[_Arc], ax: Axes | None) -> Axes:
    width, height = _BLOCK
    n_levels = max((arc.level + 1 for arc in arcs), default=0)
    right = width / 2 + _BULGE * n_levels + 0.15
    left = -width / 2 - 0.15
    size = (max(3.6, 0.72 * (right - left)), max(2.4, 0.5 * len(blocks) + 0.3))
    ax = axes_or_new(ax, figsize=size, layout="constrained")
    ax.set_xlim(left, right)
    ax.set_ylim(len(blocks) - 0.5, -0.5)
    ax.set_axis_off()
    longest = max(len(block.title) + len(block.shape) for block in blocks) + 3
    font = _font_size(ax, width, longest, 0.8 * height)
    for i, block in enumerate(blocks):
        box = (-width / 2, i - height / 2)
        ax.add_patch(
            FancyBboxPatch(
                box, width, height, boxstyle="round,pad=0,rounding_size=0.12",
                facecolor=_FILLS.get(block.kind, _OTHER_FILL), edgecolor=MUTED, linewidth=0.8,
            )
        )  # fmt: skip
        for x, side, text in ((-1, "left", block.title), (1, "right", block.shape)):
            place = (x * (width / 2 - 0.15), i)
            ax.text(*place, text, ha=side, va="center", fontsize=font, color=INK)
        if i:
            _arrow(ax, Path([(0, i - 1 + height / 2), (0, i - height / 2)]), MUTED, font)
    for arc in arcs:
        # It leaves below the middle and comes in above it, so that arcs in a row do not touch.
        start, stop = arc.source + 0.12, arc.target - 0.12
        bulge = _BULGE * (arc.level + 1)
        out = width / 2 + 4 / 3 * bulge  # a cubic curve goes 3/4 of the way to its control points
        points = [(width / 2, start), (out, start), (out, stop), (width / 2, stop)]
        curve = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
        _arrow(ax, Path(points, curve), ORANGE, font)
    return ax


def _arrow(ax: Axes, path: Path, colour: str, head: float) -> None:
    ax.add_patch(
        FancyArrowPatch(
            path=path, arrowstyle="-|>", mutation_scale=head, color=colour, linewidth=1.2,
            shrinkA=0, shrinkB=0,
        )
    )  # fmt: skip


# Text


def _kind_of(layer: Layer) -> str:
    """Return what is written of a layer that is not dense."""
    if isinstance(layer, Activation):
        return layer.activation.name
    if isinstance(layer, Dropout):
        return f"{layer.name} {layer.rate:g}"
    return layer.name.replace("normalization", "norm").replace("_", " ")


def _activation_of(layer: Dense) -> list[str]:
    return [] if layer.activation.name == "identity" else [layer.activation.name]


def _font_size(ax: Axes, width: float, n_characters: int, height: float) -> float:
    """Return the size in points of lines of text that fit a width and height in data's units."""
    box, points = ax.get_window_extent(), 72 / ax.figure.dpi
    across, down = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    unit = np.array([box.width / across, box.height / down]) * points
    if ax.get_aspect() != "auto":
        unit[:] = unit.min()
    size = min(width * unit[0] / (0.62 * n_characters), height * unit[1] / 1.2)
    return float(np.clip(size, 3, 10))
