"""cymlp.plots: what is drawn, on the given axes, without pyplot, whatever the numbers."""

import io
import sys
import warnings

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402

from cymlp.plots import plot_confusion, plot_demo, plot_history, plot_mistakes  # noqa: E402

HISTORY = {
    "loss": [0.9, 0.4, 0.3],
    "accuracy": [0.6, 0.8, 0.9],
    "val_loss": [0.8, 0.5, 0.4],
    "val_accuracy": [0.7, 0.75, 0.85],
}


@pytest.fixture(autouse=True)
def no_warnings():
    """A glyph that the font lacks or a layout that does not fit is a warning: none may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.fixture
def ax():
    return Figure().subplots()


def drawn(figure):
    """Render a figure and return its pixels."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    buffer.seek(0)
    image = matplotlib.image.imread(buffer, format="png")
    assert image[..., :3].std() > 0.01  # not an empty sheet
    return image


def texts(ax):
    return [text.get_text() for text in ax.texts]


# --------------------------------------------------------------------------- plot_history


def test_history_draws_both_curves_over_epochs_from_one(ax):
    assert plot_history(HISTORY, ax) is ax
    training, validation = ax.lines
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(training.get_ydata(), HISTORY["loss"])
    np.testing.assert_array_equal(validation.get_ydata(), HISTORY["val_loss"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training", "validation"]
    assert training.get_color() != validation.get_color()
    drawn(ax.figure)


def test_history_takes_an_object_with_history(ax):
    class Result:
        history = {"loss": [3.0, 2.0]}

    plot_history(Result(), ax)
    assert len(ax.lines) == 1 and ax.get_legend() is None


def test_history_of_another_value(ax):
    plot_history(HISTORY, ax, key="accuracy", labels=("seen", "unseen"))
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), HISTORY["val_accuracy"])
    assert ax.get_ylabel() == "accuracy"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["seen", "unseen"]


def test_history_of_several_values_hides_no_curve(ax):
    plot_history(HISTORY, ax, key=["loss", "accuracy"])
    ax.figure.canvas.draw()
    assert len(ax.lines) == len(ax.get_legend().get_texts()) == 4
    assert not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())
    assert ax.get_legend().get_window_extent().y1 <= ax.figure.bbox.y1


@pytest.mark.parametrize("values", [[0.5], [], [1.0, np.nan, 2.0], [np.inf, 1.0], [1.0] * 500])
def test_history_of_any_length_and_value(ax, values):
    plot_history({"loss": values}, ax)
    drawn(ax.figure)


def test_history_of_one_epoch_is_visible(ax):
    plot_history({"loss": [0.5]}, ax)
    assert ax.lines[0].get_marker() == "o"


def test_history_ticks_are_whole_epochs(ax):
    plot_history({"loss": [3.0, 2.0]}, ax)
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks and all(float(tick).is_integer() for tick in ticks)


@pytest.mark.parametrize("history, known", [(HISTORY, "'loss', 'accuracy'"), ({}, "nothing")])
def test_history_without_the_key(ax, history, known):
    with pytest.raises(ValueError, match=f"key: expected .*{known}.*, got 'mae'"):
        plot_history(history, ax, key="mae")


# --------------------------------------------------------------------------- plot_confusion


def test_confusion_writes_every_count_but_zeros(ax):
    assert plot_confusion([[50, 2, 0], [0, 47, 1], [3, 0, 40]], ax, labels="abc") is ax
    assert sorted(texts(ax)) == ["1", "2", "3", "40", "47", "50"]
    where = {text.get_text(): text.get_position() for text in ax.texts}
    assert where["2"] == (1, 0)  # x is what was predicted, y what was true
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    drawn(ax.figure)


def test_confusion_right_is_blue_and_wrong_is_red(ax):
    plot_confusion([[9, 1], [0, 10]], ax)
    colours = np.asarray(ax.images[0].get_array())
    red, blue = colours[..., 0], colours[..., 2]
    assert blue[0, 0] > red[0, 0] and blue[1, 1] > red[1, 1]
    assert red[0, 1] > blue[0, 1]
    assert (colours[1, 0] == 1).all()


@pytest.mark.parametrize(
    "matrix",
    [[[0]], [[5]], np.zeros((10, 10), int), np.ones((30, 30), int), [[0, 5], [5, 0]]],
    ids=["one class, no sample", "one class", "no samples", "30 classes", "all wrong"],
)
def test_confusion_of_any_matrix(ax, matrix):
    plot_confusion(matrix, ax)
    ax.figure.savefig(io.BytesIO())


@pytest.mark.parametrize("matrix", [[1, 2], [[1, 2, 3], [4, 5, 6]], [[[1]]], np.zeros((0, 0))])
def test_confusion_must_be_square(ax, matrix):
    with pytest.raises(ValueError, match=r"matrix: expected shape \(n_classes, n_classes\), got"):
        plot_confusion(matrix, ax)


def test_confusion_labels_must_fit(ax):
    with pytest.raises(ValueError, match="labels: expected 2, one per class, got 3"):
        plot_confusion([[1, 2], [3, 4]], ax, labels="abc")


# --------------------------------------------------------------------------- plot_mistakes


def test_mistakes_say_what_was_said_and_what_is(ax):
    images = np.random.default_rng(0).random((5, 8, 8))
    assert plot_mistakes(images, [1, 2, 3, 4, 5], [7, 8, 9, 0, 6], ax, n_columns=2) is ax
    assert texts(ax) == ["7", " not 1", "8", " not 2", "9", " not 3", "0", " not 4", "6", " not 5"]
    assert len(ax.images) == 5
    for image, expected in zip(ax.images, images, strict=True):
        np.testing.assert_array_equal(image.get_array(), expected)
    drawn(ax.figure)


def test_mistakes_are_laid_out_in_rows_without_overlap(ax):
    plot_mistakes(np.ones((5, 4, 4)), np.zeros(5, int), np.ones(5, int), ax, n_columns=2)
    boxes = [image.get_extent() for image in ax.images]
    for i, (left, right, bottom, top) in enumerate(boxes):
        assert i % 2 < left < right < i % 2 + 1 and top < bottom
        for other_left, other_right, other_bottom, other_top in boxes[:i]:
            assert (
                left >= other_right
                or right <= other_left
                or top >= other_bottom
                or bottom <= other_top
            )
    assert ax.get_xlim() == (0, 2)
    low, high = ax.get_ylim()
    assert high == 0 and low > boxes[-1][2]


def test_no_mistakes(ax):
    plot_mistakes(np.zeros((0, 8, 8)), [], [], ax)
    assert not ax.images and not ax.texts


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.zeros((2, 64)), [0, 1], [1, 0]), r"images: expected shape \(n, height, width\)"),
        ((np.zeros((2, 8, 8)), [0], [1, 0]), r"y_true: expected shape \(2,\).*, got \(1,\)"),
        ((np.zeros((2, 8, 8)), [0, 1], [1]), r"y_pred: expected shape \(2,\).*, got \(1,\)"),
    ],
)
def test_mistakes_shapes_are_checked(ax, arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_mistakes(*arguments, ax)


def test_mistakes_columns_are_checked(ax):
    with pytest.raises(ValueError, match="n_columns: expected at least 1, got 0"):
        plot_mistakes(np.zeros((1, 8, 8)), [0], [1], ax, n_columns=0)


# --------------------------------------------------------------------------- plot_demo


def demo(n, n_wrong, history=HISTORY, side=8, **options):
    rng = np.random.default_rng(1)
    truths = np.arange(n) % 10
    answers = truths.copy()
    answers[:n_wrong] = (answers[:n_wrong] + 3) % 10
    return plot_demo(
        history, rng.random((n, side, side)), truths, answers, np.linspace(0.2, 1, n), title="T",
        **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "n_wrong, n_shown", [(1, 1), (10, 10), (11, 11), (20, 20), (21, 21), (60, 42)]
)
def test_demo_shows_the_surest_mistakes(n_wrong, n_shown):
    figure = demo(100, n_wrong)
    loss_ax, matrix_ax, gallery_ax = figure.axes
    assert len(gallery_ax.images) == n_shown
    # The confidence grows with the index: the last of the wrong ones comes first.
    assert texts(gallery_ax)[:2] == [f"{(n_wrong + 2) % 10}", f" not {(n_wrong - 1) % 10}"]
    expected = f"The {n_wrong} it got" if n_wrong <= 42 else "42 of 60 it got"
    assert gallery_ax.get_title(loc="left").startswith(expected)
    assert matrix_ax.get_title(loc="left") == "What it said of the 100 test images"
    assert len(loss_ax.lines) == 2
    drawn(figure)


def test_demo_without_mistakes_has_no_gallery():
    figure = demo(40, 0)
    assert len(figure.axes) == 2
    assert figure.axes[1].get_title(loc="left").endswith(": all right")
    drawn(figure)


def test_demo_with_nothing_right():
    drawn(demo(50, 50))


@pytest.mark.parametrize(
    "loss, scale",
    [
        ([1.0, 0.2, 0.01], "log"),
        ([0.5, 0.2, 0.1], "linear"),
        ([1.0, 0.2, 0.0], "linear"),
        ([0.5], "linear"),
        ([np.nan, np.nan], "linear"),
        ([np.inf, 1.0], "linear"),
    ],
)
def test_demo_scale_follows_the_losses(loss, scale):
    figure = demo(20, 2, history={"loss": loss, "val_loss": loss})
    assert figure.axes[0].get_yscale() == scale
    assert ("log scale" in figure.axes[0].get_title(loc="left")) == (scale == "log")
    drawn(figure)


def test_demo_of_large_images_and_named_classes():
    names = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", *"fghij"]
    figure = demo(30, 3, side=28, labels=names)
    assert {"Pullover", " not Coat", "Dress"} & set(texts(figure.axes[2])) or texts(figure.axes[2])
    assert texts(figure.axes[2])[1].removeprefix(" not ") in names
    drawn(figure)


# --------------------------------------------------------------------------- matplotlib's state


def test_pyplot_is_used_only_where_no_axes_are_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    plot_history(HISTORY, Figure().subplots())
    drawn(demo(20, 2))
    with pytest.raises(ImportError):
        plot_history(HISTORY)


def test_new_axes_by_default():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    for ax in (
        plot_history(HISTORY),
        plot_confusion([[1, 0], [0, 1]]),
        plot_mistakes(np.ones((1, 8, 8)), [1], [2]),
    ):
        assert ax.figure.number not in before
        pyplot.close(ax.figure)


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "cymlp.plots")
    with pytest.raises(ImportError, match=r'pip install "cymlp\[plot\]"'):
        import cymlp.plots  # noqa: F401
