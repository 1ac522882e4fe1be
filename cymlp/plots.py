"""Pictures: networks, and of a training run loss curves, confusions and what it got wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    from cymlp._network_plot import plot_network
except ImportError as error:
    raise ImportError(
        'cymlp.plots needs matplotlib; install it with: pip install "cymlp[plot]"'
    ) from error

from cymlp._plot_style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    RED,
    axes_or_new,
    set_heading,
    set_plain_frame,
)

__all__ = ["plot_confusion", "plot_demo", "plot_history", "plot_mistakes", "plot_network"]

_COLOURS = (BLUE, ORANGE, "#16a34a", "#9333ea", "#0891b2", "#db2777")
_RIGHT_CELLS = LinearSegmentedColormap.from_list("right", ["#ffffff", "#bfdbfe", "#60a5fa"])
_WRONG_CELLS = LinearSegmentedColormap.from_list("wrong", ["#fef2f2", "#fca5a5", "#ef4444"])
_WORST_SHARE = 0.1  # the red of one error among ten; paler below, so that few errors look few

_CAPTION = 0.3  # a gallery tile's caption is this high, the image being 1


def plot_history(
    history: Any,
    ax: Axes | None = None,
    *,
    key: str | Sequence[str] = "loss",
    labels: tuple[str, str] = ("training", "validation"),
) -> Axes:
    """Draw values' curves over the epochs, and their validation curves where there are any.

    Parameters
    ----------
    history : History or mapping of str to sequence of float
        What `fit` returned, or its `history`: a list per value, one number per epoch. A NaN between
        numbers is an epoch without one.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new pyplot figure is made.
    key : str or sequence of str, default="loss"
        The values to draw, each with ``"val_" + key``; `history` must have one of the two.
    labels : tuple of two str, default=("training", "validation")
        What the legend calls the two curves of a value.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If `history` has no `key`, or there are none.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from cymlp.plots import plot_history
    >>> ax = plot_history({"loss": [0.9, 0.4, 0.3]}, Figure().subplots())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('epoch', 'loss')
    """
    values: Mapping[str, Sequence[float]] = getattr(history, "history", history)
    keys = [key] if isinstance(key, str) else list(key)
    if not keys:
        raise ValueError("key: expected at least one name, got none")
    for name in keys:
        if name not in values and f"val_{name}" not in values:
            known = ", ".join(map(repr, values)) or "nothing"
            raise ValueError(f"key: expected one of the history's values ({known}), got {name!r}")
    first = next(iter(getattr(history, "epoch", ())), 0) + 1
    ax = axes_or_new(ax)
    drawn = 0
    for i, name in enumerate(keys):
        # A single value's two curves differ in colour, several values in colour from each other.
        colours = (BLUE, ORANGE) if len(keys) == 1 else (_COLOURS[i % len(_COLOURS)],) * 2
        for kind, (prefix, style) in enumerate((("", "-"), ("val_", "--"))):
            if prefix + name not in values:
                continue
            curve = np.asarray(values[prefix + name], dtype=float)
            epochs = np.arange(first, first + len(curve))
            epochs, curve = epochs[~np.isnan(curve)], curve[~np.isnan(curve)]
            title = name.replace("_", " ")
            label = labels[kind] if len(keys) == 1 else f"{title}, {labels[kind]}"
            # Few epochs are few facts: show where they are. A single one would draw no line at all.
            marker = "o" if len(curve) <= 12 else ""
            ax.plot(epochs, curve, color=colours[kind], linestyle=style, linewidth=2, label=label,
                    marker=marker, markersize=5)  # fmt: skip
            drawn += 1
    ax.set_xlabel("epoch")
    ax.set_ylabel(keys[0].replace("_", " ") if len(keys) == 1 else "")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    set_plain_frame(ax)
    ax.grid(axis="y", which="major", color=FAINT, linewidth=0.8)
    if drawn > 1:
        # Several values leave no corner free: theirs stands above the curves.
        above: dict[str, Any] = {
            "loc": "lower left",
            "bbox_to_anchor": (0, 1),
            "ncols": min(len(keys), 3),
        }
        ax.legend(frameon=False, labelcolor=INK, **(above if len(keys) > 1 else {}))
    return ax


def plot_confusion(
    matrix: ArrayLike, ax: Axes | None = None, *, labels: Sequence[object] | None = None
) -> Axes:
    """Draw a confusion matrix: blue what is right, red what is wrong, each on its own scale.

    Parameters
    ----------
    matrix : array-like of shape (n_classes, n_classes), integers
        How often the class of the row was taken for that of the column, as
        `sklearn.metrics.confusion_matrix` counts.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new pyplot figure is made.
    labels : sequence of length n_classes, optional
        The classes' names; by default 0, 1, 2, ...

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If `matrix` is not square, or `labels` differ from it in number.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from cymlp.plots import plot_confusion
    >>> ax = plot_confusion([[50, 2], [1, 47]], Figure().subplots(), labels=["no", "yes"])
    >>> sorted(text.get_text() for text in ax.texts)
    ['1', '2', '47', '50']
    """
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(f"matrix: expected shape (n_classes, n_classes), got {counts.shape}")
    n_classes = len(counts)
    names = [str(name) for name in (range(n_classes) if labels is None else labels)]
    if len(names) != n_classes:
        raise ValueError(f"labels: expected {n_classes}, one per class, got {len(names)}")
    ax = axes_or_new(ax)

    right = np.eye(n_classes, dtype=bool)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    worst = max(shares[~right].max(initial=0.0), _WORST_SHARE)
    colours = np.where(
        right[:, :, None], _RIGHT_CELLS(shares), _WRONG_CELLS(np.sqrt(shares / worst))
    )
    colours[~right & (counts == 0)] = (1.0, 1.0, 1.0, 1.0)
    ax.imshow(colours)

    size = 9.0 if n_classes <= 12 else 6.0
    for row, column in np.argwhere(counts):
        ax.text(
            column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=size,
            color=INK, fontweight="bold" if row == column else "normal",
        )  # fmt: skip
    ax.set_xticks(range(n_classes), names)
    ax.set_yticks(range(n_classes), names)
    edges = np.arange(n_classes + 1) - 0.5
    ax.set_xticks(edges, minor=True)
    ax.set_yticks(edges, minor=True)
    ax.grid(which="minor", color=FAINT, linewidth=0.8)
    ax.tick_params(which="both", length=0, colors=INK)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("predicted", color=INK)
    ax.set_ylabel("true", color=INK)
    return ax


def plot_mistakes(
    images: ArrayLike,
    y_true: ArrayLike,
    y_pred: ArrayLike,
    ax: Axes | None = None,
    *,
    n_columns: int = 10,
) -> Axes:
    """Draw images side by side, each with what was said of it and what it is.

    Parameters
    ----------
    images : array-like of shape (n, height, width)
        The images, the greatest value being ink. They are drawn in the given order.
    y_true, y_pred : array-like of shape (n,)
        What each image is, and what the network said.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new pyplot figure is made.
    n_columns : int, default=10
        How many images stand in a row.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or `n_columns` is less than 1.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from cymlp.plots import plot_mistakes
    >>> ax = plot_mistakes(np.eye(8)[None], [1], [7], Figure().subplots())
    >>> [text.get_text() for text in ax.texts]
    ['7', ' not 1']
    """
    pictures, truths, answers = np.asarray(images), np.asarray(y_true), np.asarray(y_pred)
    if pictures.ndim != 3:
        raise ValueError(f"images: expected shape (n, height, width), got {pictures.shape}")
    for name, values in (("y_true", truths), ("y_pred", answers)):
        if values.shape != pictures.shape[:1]:
            expected = f"{name}: expected shape {pictures.shape[:1]}, one entry per image"
            raise ValueError(f"{expected}, got {values.shape}")
    if n_columns < 1:
        raise ValueError(f"n_columns: expected at least 1, got {n_columns}")
    ax = axes_or_new(ax)
    ax.set_axis_off()

    gap = 0.06
    for index, picture in enumerate(pictures):
        row, column = divmod(index, n_columns)
        left, right = column + gap, column + 1 - gap
        top = row * (1 + _CAPTION) + gap
        bottom = top + 1 - 2 * gap
        ax.imshow(picture, cmap="gray_r", extent=(left, right, bottom, top))
        ax.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=FAINT)
        )
        # The two texts meet left of the middle, so that together they stand under it.
        middle = ((left + right) / 2, bottom + _CAPTION / 2 + gap / 2)
        for text, side, colour, size, weight in (
            (f"{answers[index]}", "right", RED, 12, "bold"),
            (f" not {truths[index]}", "left", MUTED, 9, "normal"),
        ):
            ax.annotate(
                text, middle, (-10, 0), textcoords="offset points", ha=side, va="center_baseline",
                color=colour, fontsize=size, fontweight=weight,
            )  # fmt: skip
    n_rows = max(-(-len(pictures) // n_columns), 1)
    # imshow narrowed the limits to its last image and fixed the aspect: set both for the whole.
    ax.set_aspect("equal")
    ax.set_xlim(0, n_columns)
    ax.set_ylim(n_rows * (1 + _CAPTION), 0)
    return ax


def plot_demo(
    history: Any,
    images: ArrayLike,
    y_true: ArrayLike,
    y_pred: ArrayLike,
    confidence: ArrayLike,
    *,
    title: str,
    labels: Sequence[object] | None = None,
) -> Figure:
    """Compose the one picture of a trained classifier: losses, confusions and mistakes.

    Parameters
    ----------
    history : History or mapping of str to sequence of float
        What `fit` returned, with ``loss`` and, of the test set, ``val_loss``.
    images : array-like of shape (n, height, width)
        The test images.
    y_true, y_pred : array-like of shape (n,), integers from 0 to n_classes - 1
        The test labels and the classes predicted.
    confidence : array-like of shape (n,)
        The probability that the network gave to each predicted class. The surest mistakes are
        shown first.
    title : str
        The headline.
    labels : sequence of length n_classes, optional
        The classes' names; by default 0, 1, 2, ...

    Returns
    -------
    matplotlib.figure.Figure
        The figure, not registered with pyplot: ``figure.savefig(path)`` writes it.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.plots import plot_demo
    >>> figure = plot_demo({"loss": [0.9, 0.2], "val_loss": [0.8, 0.3]}, np.zeros((3, 8, 8)),
    ...                    [0, 1, 1], [0, 1, 0], [0.9, 0.8, 0.6], title="Two of three")
    >>> len(figure.axes)
    3
    """
    pictures, truths, answers = np.asarray(images), np.asarray(y_true), np.asarray(y_pred)
    wrong = np.flatnonzero(truths != answers)
    wrong = wrong[np.argsort(-np.asarray(confidence)[wrong], kind="stable")]
    n_columns = 10 if len(wrong) <= 20 else 14
    shown = wrong[: 3 * n_columns]
    n_rows = -(-len(shown) // n_columns)

    width, top_height = 12.6, 5.6
    heights = [top_height]
    if n_rows:
        heights.append(n_rows * (width - 0.4) / n_columns * (1 + _CAPTION) + 0.5)
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1)
    figure = Figure(figsize=(width, sum(heights)), dpi=150, layout=layout)
    figure.suptitle(title, fontsize=17, fontweight="bold", color=INK)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    loss_ax, matrix_ax = parts[0].subplots(1, 2, width_ratios=[1.15, 1])

    plot_history(history, loss_ax, labels=("training", "test"))
    losses = np.concatenate([line.get_ydata() for line in loss_ax.lines])
    losses = losses[np.isfinite(losses)]
    logarithmic = losses.size > 0 and losses.min() > 0 and losses.max() > 20 * losses.min()
    if logarithmic:
        loss_ax.set_yscale("log")
        loss_ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        loss_ax.yaxis.set_minor_locator(NullLocator())
        loss_ax.yaxis.set_major_formatter("{x:g}")
    else:
        loss_ax.set_ylim(bottom=0)
    set_heading(loss_ax, "Loss per epoch" + (", log scale" if logarithmic else ""))

    n_classes = int(max(truths.max(), answers.max())) + 1 if labels is None else len(labels)
    matrix = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(matrix, (truths, answers), 1)
    plot_confusion(matrix, matrix_ax, labels=labels)
    heading = f"What it said of the {len(truths):,} test images"
    set_heading(matrix_ax, heading if n_rows else f"{heading}: all right")
    if not n_rows:
        return figure

    gallery_ax = parts[1].subplots()
    names = np.arange(n_classes) if labels is None else np.asarray(labels)
    plot_mistakes(
        pictures[shown], names[truths[shown]], names[answers[shown]], gallery_ax,
        n_columns=n_columns,
    )  # fmt: skip
    count = f"The {len(wrong)}" if len(shown) == len(wrong) else f"{len(shown)} of {len(wrong):,}"
    set_heading(gallery_ax, f"{count} it got wrong, those it was surest of first")
    return figure
