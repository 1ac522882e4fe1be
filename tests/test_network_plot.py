"""Pictures of networks: what is drawn, on the given axes, without pyplot, whatever the weights."""

import io
import sys
import warnings

import numpy as np
import pytest
from test_layers import STACKS, make

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.collections import LineCollection  # noqa: E402
from matplotlib.colors import to_rgba  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch  # noqa: E402

from cymlp import Sequential  # noqa: E402
from cymlp.layers import (  # noqa: E402
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    LayerNormalization,
    Residual,
)
from cymlp.plots import plot_network  # noqa: E402


@pytest.fixture(autouse=True)
def no_warnings():
    """A glyph that the font lacks or a layout that does not fit is a warning: none may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.fixture
def ax():
    return Figure().subplots()


def parts(ax, kind):
    return [patch for patch in ax.patches if isinstance(patch, kind)]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def draw(ax):
    ax.figure.savefig(io.BytesIO(), format="png", dpi=40)


def small(**options):
    stack = [Dense(3, "tanh"), BatchNormalization(), Dropout(0.25), Dense(2, "softmax")]
    return Sequential(stack, n_inputs=4, random_state=0, **options)


# ------------------------------------------------------------------------------------- unit by unit


def test_units_are_circles_and_weights_lines(ax):
    net = small()
    assert net.plot(ax) is ax
    assert texts(ax) == [
        "inputs\n4",
        "dense\n3\ntanh\nbatch norm\ndropout 0.25",
        "dense\n2\nsoftmax",
    ]
    circles = np.array([circle.get_center() for circle in parts(ax, Circle)])
    places, counts = np.unique(circles[:, 0], return_counts=True)
    assert list(counts) == [4, 3, 2]
    by_name = dict(zip(net.parameter_names(), net.get_weights(), strict=True))
    for i, lines in enumerate(ax.collections):
        kernel = by_name[f"layers[{3 * i}].kernel"]
        segments = np.array(lines.get_segments())
        assert len(segments) == kernel.size
        left, right = (circles[circles[:, 0] == places[i + side]] for side in (0, 1))
        for (start, end), value in zip(segments, lines.get_array(), strict=True):
            source = np.flatnonzero((left == start).all(axis=1))
            target = np.flatnonzero((right == end).all(axis=1))
            assert value == kernel[source, target]
        order = abs(lines.get_array())
        assert (np.diff(order) >= 0).all() and (np.diff(lines.get_linewidths()) >= 0).all()
    draw(ax)


def test_colours_tell_signs_and_sizes_apart(ax):
    net = Sequential([Dense(1)], n_inputs=3, random_state=0)
    net.set_weights([[[2.0], [-2.0], [0.0]], [1.0]])
    net.plot(ax)
    draw(ax)
    zero, positive, negative = ax.collections[0].get_colors()[
        [list(ax.collections[0].get_array()).index(value) for value in (0.0, 2.0, -2.0)]
    ]
    assert positive[2] > 0.9 and positive[2] > positive[0] + 0.5  # blue
    assert negative[0] > 0.9 and negative[0] > negative[2] + 0.5  # orange
    assert np.ptp(zero[:3]) < 0.05
    thinnest, *_, thickest = ax.collections[0].get_linewidths()
    assert thinnest < 1 < 3 < thickest
    assert ax.collections[0].get_clim() == (-2, 2)
    inputs, unit = parts(ax, Circle)[:3], parts(ax, Circle)[3]
    assert {circle.get_facecolor() for circle in inputs} == {to_rgba("white")}
    assert unit.get_facecolor()[2] > unit.get_facecolor()[0]  # a positive bias
    bar = next(other for other in ax.figure.axes if other is not ax)
    assert bar.get_ylabel() == "lines: weight\ncircles: bias"
    assert bar.get_ylim() == (-2, 2)


def test_without_biases_circles_are_white(ax):
    Sequential([Dense(2, use_bias=False)], n_inputs=2).plot(ax)
    assert {circle.get_facecolor() for circle in parts(ax, Circle)} == {to_rgba("white")}


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf, 1e300, 1e-320])
def test_any_weights(ax, value):
    net = Sequential([Dense(2), Dense(1)], n_inputs=2, dtype="float64", random_state=0)
    for op, name in ((0, "kernel"), (1, "bias")):
        array = net._network.get(op, name)
        array[...] = value
        net._network.set(op, name, array)
    net.plot(ax)
    draw(ax)
    lowest, highest = ax.collections[0].get_clim()
    assert -np.inf < lowest < 0 < highest < np.inf
    widths = np.concatenate([lines.get_linewidths() for lines in ax.collections])
    assert np.isfinite(widths).all()


def test_circles_do_not_overlap_and_fill_no_more_than_the_axes(ax):
    net = Sequential([Dense(16, "hard_sigmoid")] * 6, n_inputs=16, random_state=0)
    net.plot(ax)
    draw(ax)
    circles = parts(ax, Circle)
    assert len(circles) == 7 * 16
    places = np.array([circle.get_center() for circle in circles])
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert apart[apart > 0].min() > 2 * circles[0].get_radius()
    assert ax.get_aspect() == 1
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < places[:, 0].min() < places[:, 0].max() < right
    assert bottom < places[:, 1].min() < places[:, 1].max() < top


@pytest.mark.parametrize("size", [(2, 1.5), (4, 3), (10, 4), (4, 12)])
def test_labels_stand_apart(size):
    """Below each other's columns; text of three points is the least, and needs some room."""
    figure = Figure(figsize=size)
    ax = figure.subplots()
    small().plot(ax)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for a, b in zip(boxes, boxes[1:], strict=False))
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)


# ---------------------------------------------------------------------------------- layer by layer


@pytest.mark.parametrize(
    ("stack", "n_inputs", "is_small"),
    [
        ([Dense(16)], 16, True),
        ([Dense(17)], 16, False),
        ([Dense(16)], 17, False),
        ([Dense(2)] * 6, 2, True),
        ([Dense(2)] * 7, 2, False),
        ([Residual([Dense(2)])], 2, False),
    ],
)
def test_what_is_small(ax, stack, n_inputs, is_small):
    Sequential(stack, n_inputs=n_inputs).plot(ax)
    assert bool(parts(ax, Circle)) == bool(ax.collections) == is_small
    assert bool(parts(ax, FancyBboxPatch)) != is_small
    assert len(ax.figure.axes) == 1 + is_small  # a colour bar where there are colours


def test_layers_are_blocks(ax):
    stack = [
        Dense(1200, "relu"),
        Dropout(0.5),
        Dense(30),
        LayerNormalization(),
        Activation("gelu"),
        Dense(10, "softmax"),
    ]
    plot_network(Sequential(stack, n_inputs=784), ax)
    assert len(parts(ax, FancyBboxPatch)) == 7
    assert len(parts(ax, FancyArrowPatch)) == 6
    rows = list(zip(texts(ax)[::2], texts(ax)[1::2], strict=True))
    assert rows == [
        ("inputs", "784"),
        ("dense, relu", "784 → 1,200"),
        ("dropout 0.5", "1,200"),
        ("dense", "1,200 → 30"),
        ("layer norm", "30"),
        ("gelu", "30"),
        ("dense, softmax", "30 → 10"),
    ]
    low, high = ax.get_ylim()
    assert low > high  # the inputs at the top
    draw(ax)


def ends(arrow):
    """Return the heights at which an arrow starts and ends, as whole blocks, and how far out."""
    points = arrow._path_original.vertices
    return round(points[0, 1]), round(points[-1, 1]), points[:, 0].max()


def test_residual_connections_are_arcs(ax):
    inner = Residual([Dense(30, "relu")])
    stack = [Dense(20), Residual([LayerNormalization(), inner, Dense(20)]), Residual([Dense(20)])]
    Sequential(stack, n_inputs=20).plot(ax)
    rows = list(zip(texts(ax)[::2], texts(ax)[1::2], strict=True))
    assert [title for title, _ in rows] == [
        "inputs", "dense", "layer norm", "dense, relu", "add, projected", "dense", "add", "dense",
        "add",
    ]  # fmt: skip
    assert rows[4] == ("add, projected", "20 → 30") and rows[6] == ("add", "20")
    blocks = len(parts(ax, FancyBboxPatch))
    arrows = parts(ax, FancyArrowPatch)
    straight, arcs = arrows[: blocks - 1], arrows[blocks - 1 :]
    assert [ends(arc)[:2] for arc in arcs] == [(2, 4), (1, 6), (6, 8)]
    of_inner, of_outer, of_last = (ends(arc)[2] for arc in arcs)
    assert of_outer > of_inner == of_last > max(ends(arrow)[2] for arrow in straight)
    assert ax.get_xlim()[1] > np.mean([of_outer, of_inner])
    draw(ax)
    right = ax.get_window_extent().x1
    assert all(arrow.get_window_extent().x1 <= right for arrow in arrows)


@pytest.mark.parametrize("size", [(3, 3), (8, 3), (3, 8)])
def test_text_stays_in_its_block(size):
    figure = Figure(figsize=size)
    ax = figure.subplots()
    stack = [Dense(1000, "hard_sigmoid"), Residual([Dense(12345, "gelu_tanh")])] * 3
    Sequential([*stack, Dense(5)], n_inputs=40).plot(ax)
    figure.canvas.draw()
    boxes = [patch.get_window_extent() for patch in parts(ax, FancyBboxPatch)]
    for title, shape, box in zip(ax.texts[::2], ax.texts[1::2], boxes, strict=True):
        title, shape = title.get_window_extent(), shape.get_window_extent()
        assert box.x0 < title.x0 < title.x1 < shape.x0 < shape.x1 < box.x1
        assert title.height < 1.2 * box.height


# ---------------------------------------------------------------------------------------- whichever


@pytest.mark.parametrize("name", STACKS)
def test_every_layer_can_be_drawn(ax, name):
    net, *_ = make(STACKS[name])
    before = [w.copy() for w in net.get_weights()]
    net.plot(ax)
    draw(ax)
    for w, w_before in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(w, w_before)


def test_a_net_that_is_not_built(ax):
    with pytest.raises(ValueError, match="plot needs a built network"):
        Sequential([Dense(3)]).plot(ax)
    assert not ax.patches and not ax.texts and ax.axison


def test_pyplot_is_used_only_where_no_axes_are_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    small().plot(Figure().subplots())
    with pytest.raises(ImportError):
        small().plot()


def test_a_new_figure_is_as_large_as_the_network_needs():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    large = [Dense(100) for _ in range(12)]
    figures = []
    for net in (small(), Sequential(large[:2], n_inputs=9), Sequential(large, n_inputs=9)):
        before = pyplot.get_fignums()
        ax = net.plot()
        assert ax.figure.number not in before
        draw(ax)
        figures.append(ax.figure.get_size_inches())
        pyplot.close(ax.figure)
    assert figures[2][1] > figures[1][1] + 4


def test_within_a_part_of_a_figure():
    figure = Figure(layout="constrained")
    left, right = figure.subfigures(1, 2)
    small().plot(left.subplots())
    Sequential([Dense(100)], n_inputs=9).plot(right.subplots())
    figure.savefig(io.BytesIO(), dpi=40)
    assert isinstance(left.axes[0].collections[0], LineCollection)
