"""Gradients against central finite differences of the evaluated loss, in float64."""

import itertools

import numpy as np
import pytest
from conftest import make_net, random_target, random_weights

from cymlp import _reference as reference
from cymlp import losses

ACTIVATIONS = ("identity", "relu", "sigmoid", "tanh", "softmax")
LOSSES = tuple(losses.LOSSES)
#: Losses with a kink, and losses that are undefined for some outputs.
KINKED = ("absolute_error", "huber", "quantile", "hinge")
BOUNDED = ("poisson", "gamma", "tweedie", "cross_entropy", "binary_cross_entropy", "kl_divergence")
BOUNDED += ("focal",)
N_SAMPLES, N_INPUTS = 5, 4
WIDTHS = (3, 5, 4)

#: A central difference errs by h**2/6 times a third derivative and by eps/h times the loss: with
#: this h about 1e-10 and 1e-11 of numbers near one.
H = 1e-5
TOLERANCE = {"rtol": 1e-7, "atol": 1e-8}


def name_of(loss):
    """Return the name of a loss that is given by its name or as a spec."""
    return loss if isinstance(loss, str) else loss.name


def told_of(loss, n_outputs):
    """Return what the reference is told of a loss."""
    spec = losses.LOSSES[loss]() if isinstance(loss, str) else loss
    values = vars(spec)
    told = {"smoothing": values.get("label_smoothing", values.get("alpha", 0.0))}
    told["parameter"] = next((values[k] for k in ("delta", "power", "gamma") if k in values), 0.0)
    told["unit"] = values.get("class_weight")
    if "levels" in values:
        told["unit"] = np.broadcast_to(values["levels"], n_outputs)
    return told


def clear_of_kinks(loss, weights, activations, X, target):
    """Whether steps of H cross no kink of a loss."""
    if name_of(loss) not in KINKED:
        return True
    error = reference.layer_outputs(X, weights, activations)[-1] - target
    if name_of(loss) == "hinge":
        error = np.where(target > 0, error, error + 2 * target)  # y - s, the distance to s y = 1
    size = np.abs(error)
    at_delta = np.abs(size - loss.delta if isinstance(loss, losses.Huber) else size - 1)
    return size.min() > 1e-3 and (name_of(loss) != "huber" or at_delta.min() > 1e-3)


def away_from_kinks(seed, activations, loss):
    """Draw inputs and weights that make the loss smooth for steps of H around them.

    ReLU's pre-activations stay clear of zero, and outputs that enter a logarithm unfused stay
    within (0.05, 0.95) where the activation alone does not see to that.
    """
    units = [*WIDTHS[: len(activations) - 1], 3]
    bounded = name_of(loss) not in BOUNDED or activations[-1] in ("sigmoid", "softmax")
    for attempt in itertools.count():
        assert attempt < 1000, "no smooth case was found"
        rng = np.random.default_rng([seed, attempt])
        X = rng.standard_normal((N_SAMPLES, N_INPUTS))
        weights = random_weights(rng, N_INPUTS, units, scale=0.7)
        if not bounded:
            weights[-2] *= 0.15
            weights[-1] = rng.uniform(0.4, 0.6, units[-1])
        outputs = reference.layer_outputs(X, weights, activations)
        inputs = [X, *outputs[:-1]]
        logits = [x @ W + b for x, W, b in zip(inputs, weights[::2], weights[1::2], strict=True)]
        clear = all(
            np.abs(z).min() > 1e-3
            for z, name in zip(logits, activations, strict=True)
            if name == "relu"
        )
        alive = all(
            np.count_nonzero(y) > 2
            for y, name in zip(outputs, activations, strict=True)
            if name == "relu"
        )
        if clear and alive and (bounded or (outputs[-1].min() > 0.05 and outputs[-1].max() < 0.95)):
            return rng, X, weights, units


def numerical_gradients(net, X, target, sample_weight):
    """Differentiate net.evaluate(...)["loss"] with respect to every single parameter."""
    weights = net.get_weights()
    gradients = [np.empty_like(w) for w in weights]
    for w, gradient in zip(weights, gradients, strict=True):
        for place in np.ndindex(w.shape):
            value = w[place]
            losses = []
            for step in (H, -H):
                w[place] = value + step
                net.set_weights(weights)
                losses.append(net.evaluate(X, target, sample_weight=sample_weight)["loss"])
            w[place] = value
            gradient[place] = (losses[0] - losses[1]) / (2 * H)
    net.set_weights(weights)
    return gradients


def check(seed, activations, loss, *, weighted=False, l2=None, labels=False):
    rng, X, weights, units = away_from_kinks(seed, activations, loss)
    target = random_target(rng, name_of(loss), N_SAMPLES, units[-1], labels)
    while not clear_of_kinks(loss, weights, activations, X, target):
        target = random_target(rng, name_of(loss), N_SAMPLES, units[-1], labels)
    sample_weight = rng.uniform(0.2, 2, N_SAMPLES) if weighted else None
    net = make_net(
        N_INPUTS,
        list(zip(units, activations, strict=True)),
        weights=weights,
        loss=loss,
        l2=l2,
    )
    value = net.evaluate(X, target, sample_weight=sample_weight)["loss"]
    gradients = net.gradients(X, target, sample_weight=sample_weight)
    expected_value, expected = reference.loss_and_gradients(
        X,
        target,
        weights,
        activations,
        name_of(loss),
        sample_weight=sample_weight,
        l2=l2,
        loss_settings=told_of(loss, units[-1]),
    )
    assert value == pytest.approx(expected_value, rel=1e-13)
    assert max(np.abs(g).max() for g in gradients) > 1e-4, "a gradient of zeros proves nothing"
    numerical = numerical_gradients(net, X, target, sample_weight)
    for i, (gradient, by_hand, differences) in enumerate(
        zip(gradients, expected, numerical, strict=True)
    ):
        message = f"parameter {i} of {activations}, {loss}"
        np.testing.assert_allclose(gradient, differences, **TOLERANCE, err_msg=message)
        np.testing.assert_allclose(gradient, by_hand, rtol=1e-11, atol=1e-14, err_msg=message)


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("output", ACTIVATIONS)
def test_output_activation_and_loss(isa, output, loss, n_layers):
    hidden = ("tanh", "relu", "sigmoid")[: n_layers - 1]
    check(n_layers, (*hidden, output), loss)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    "loss",
    [
        losses.Huber(delta=0.3),
        losses.Quantile(levels=0.8),
        losses.Tweedie(power=1.2),
        losses.CrossEntropy(label_smoothing=0.2),
        losses.CrossEntropy(label_smoothing=0.1, class_weight=[0.5, 0, 2]),
        losses.BinaryCrossEntropy(label_smoothing=0.3),
        losses.Focal(gamma=0.7, alpha=0.6),
        losses.Focal(gamma=0, alpha=1),
    ],
    ids=str,
)
def test_what_losses_are_told(isa, loss, output):
    check(80, ("tanh", output), loss, weighted=True)


@pytest.mark.parametrize("n_layers", [2, 3, 4])
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_hidden_activation(isa, hidden, n_layers):
    for output, loss in (
        ("softmax", "cross_entropy"),
        ("sigmoid", "binary_cross_entropy"),
        ("identity", "squared_error"),
    ):
        check(10 + n_layers, (*[hidden] * (n_layers - 1), output), loss)


@pytest.mark.parametrize("labels", [False, True], ids=["probabilities", "labels"])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_targets_of_cross_entropy(isa, output, labels):
    check(20, ("tanh", output), "cross_entropy", labels=labels)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("output", ACTIVATIONS)
def test_sample_weights(isa, output, loss):
    check(30, ("tanh", output), loss, weighted=True)


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("per_batch", [False, True], ids=["constant", "per batch"])
def test_l2(isa, per_batch, weighted):
    """Only the layers that ask for it, each with its own strength, and never a bias."""
    for loss, output in (("cross_entropy", "softmax"), ("squared_error", "tanh")):
        check(
            40,
            ("relu", "tanh", output),
            loss,
            l2=[(0.3, per_batch), None, (0.05, not per_batch)],
            weighted=weighted,
        )


def test_one_output_unit(isa):
    """The narrowest output, with targets of one dimension."""
    rng, X, weights, _ = away_from_kinks(50, ("tanh", "sigmoid"), "squared_error")
    weights = [*weights[:2], weights[2][:, :1], weights[3][:1]]
    for loss in ("squared_error", "binary_cross_entropy"):
        net = make_net(N_INPUTS, [(3, "tanh"), (1, "sigmoid")], weights=weights, loss=loss)
        target = rng.uniform(0, 1, N_SAMPLES)
        gradients = net.gradients(X, target)
        numerical = numerical_gradients(net, X, target, None)
        for gradient, differences, column in zip(
            gradients, numerical, net.gradients(X, target[:, None]), strict=True
        ):
            np.testing.assert_allclose(gradient, differences, **TOLERANCE)
            np.testing.assert_array_equal(gradient, column)


def test_gradients_change_nothing(isa, dtype):
    rng = np.random.default_rng(60)
    weights = [w.astype(dtype) for w in random_weights(rng, 3, [4, 2])]
    net = make_net(3, [(4, "relu"), (2, "softmax")], weights=weights, dtype=dtype)
    X, target = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    first = [g.copy() for g in net.gradients(X, target)]
    for again, before in zip(net.gradients(X, target), first, strict=True):
        np.testing.assert_array_equal(again, before)
    for after, before in zip(net.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_float32_is_float64_rounded(isa, output, loss):
    """The same case in both types; float32's share is a few hundred roundings at worst."""
    rng, X, weights, units = away_from_kinks(70, ("tanh", output), loss)
    target = random_target(rng, loss, N_SAMPLES, units[-1])
    X, target = X.astype("float32"), target.astype("float32")
    layers = list(zip(units, ("tanh", output), strict=True))
    weights = [w.astype("float32") for w in weights]
    single, double = (
        make_net(N_INPUTS, layers, weights=weights, loss=loss, dtype=dtype).gradients(X, target)
        for dtype in ("float32", "float64")
    )
    for a, b in zip(single, double, strict=True):
        assert a.dtype == "float32"
        np.testing.assert_allclose(a, b, rtol=0, atol=100 * 2.0**-24 * np.abs(b).max())
