"""What the page computes is what the core computes, in double precision."""

import numpy as np
import pytest

import cymlp
from cymlp import Sequential, losses, trace_page
from cymlp.activations import ACTIVATIONS, ELU, LeakyReLU
from cymlp.constraints import MaxNorm
from cymlp.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    LayerNormalization,
    Residual,
)
from cymlp.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    NAdam,
    RMSprop,
    Rprop,
)
from cymlp.regularizers import L1, L2, ElasticNet

from .nets import RESULT, assert_agrees, worked_trace

WEIGHTS = np.array([1.0, 0.5, 2.0])

LOSSES = [
    losses.SquaredError(),
    losses.AbsoluteError(),
    losses.Huber(0.5),
    losses.LogCosh(),
    losses.Quantile(0.3),
    losses.Quantile((0.1, 0.5, 0.9)),
    losses.Poisson(),
    losses.Gamma(),
    losses.Tweedie(1.3),
    losses.CrossEntropy(0.1, [1, 2, 3]),
    losses.CrossEntropy(),
    losses.BinaryCrossEntropy(0.1),
    losses.Hinge(),
    losses.KLDivergence(),
    losses.Focal(),
]
OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, momentum=0.9, weight_decay=0.1),
    SGD(0.1, momentum=0.9, nesterov=True),
    SGD(0.1, clip_value=0.05),
    SGD(0.1, clip_global_norm=0.2),
    Adam(0.1),
    Adam(0.1, amsgrad=True, weight_decay=0.1),
    Adam(0.1, epsilon=0.1, epsilon_hat=True),
    Adam(0.1, clip_norm=0.1),
    AdamW(0.1),
    NAdam(0.1),
    RMSprop(0.1),
    RMSprop(0.1, momentum=0.5),
    RMSprop(0.1, centered=True),
    RMSprop(0.1, centered=True, momentum=0.5),
    Adagrad(0.1, learning_rate_decay=0.3, initial_accumulator=0.1),
    Adadelta(),
    Lion(0.1, weight_decay=0.1),
    Rprop(),
]


@pytest.fixture(scope="module")
def page(browser):
    """A page whose arithmetic is asked for the numbers of other traces."""
    context = browser.new_context()
    page = context.new_page()
    page.set_content(worked_trace().to_html())
    yield page
    context.close()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def build(rng, layers, loss, optimizer="sgd"):
    net = Sequential(layers, n_inputs=4, random_state=1, dtype="float64")
    net.compile(optimizer=optimizer, loss=loss)
    net.set_weights([w / 2 + 0.1 * rng.random(w.shape) for w in net.get_weights()])
    return net


def targets(rng, loss):
    if loss.name in ("poisson", "gamma", "tweedie"):
        return rng.gamma(2, 1, (3, 3))
    if loss.name == "hinge":
        return rng.choice([-1.0, 1.0], (3, 3))
    if loss.name in ("binary_cross_entropy", "focal"):
        return rng.uniform(0, 1, (3, 3))
    if loss.name in ("cross_entropy", "kl_divergence"):
        return rng.dirichlet(np.ones(3), 3)
    width = 1 if isinstance(loss, losses.Quantile) and loss.levels != 0.3 else 3
    return rng.standard_normal((3, width))


def assert_page_agrees(page, trace):
    """Assert it of a computation from nothing, and of what follows from the core's passes."""
    told = trace_page.describe(trace)
    code = f"(told) => ({RESULT})(compute(modelOf(told)))"
    assert_agrees(page.evaluate(code, told), trace)
    code = f"(told) => ({RESULT})(resultOf(modelOf(told), passesOfCore(told)))"
    assert_agrees(page.evaluate(code, told), trace)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, LeakyReLU(0.2), ELU(0.7)], ids=str)
def test_activations(page, rng, activation):
    layers = [Dense(5, activation), Activation(activation), Dense(3, activation)]
    net = build(rng, layers, "squared_error")
    X, y = rng.standard_normal((3, 4)), rng.standard_normal((3, 3))
    assert_page_agrees(page, cymlp.explain(net, X, y))


@pytest.mark.parametrize("output", ["identity", "sigmoid", "softmax", "exponential"])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_losses(page, rng, loss, output):
    net = build(rng, [Dense(5, "tanh"), Dense(3, output)], loss)
    X = rng.standard_normal((3, 4))
    assert_page_agrees(page, cymlp.explain(net, X, targets(rng, loss), WEIGHTS))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_layers_penalties_and_optimizers(page, rng, optimizer):
    """In the first step and in the third, when there is something in the optimizer's state."""
    first = Dense(
        5,
        "tanh",
        kernel_regularizer=L2(0.1, per_batch=True),
        bias_regularizer=L1(0.05),
        kernel_constraint=MaxNorm(0.9),
        learning_rate_multiplier=0.5,
    )
    layers = [
        first,
        BatchNormalization(),
        Residual([Dense(6, "relu", trainable=False), Dropout(0.5)]),
        LayerNormalization(scale=False),
        Residual([Dense(6, kernel_regularizer=ElasticNet(0.1, 0.2)), Activation("gelu")]),
        BatchNormalization(trainable=False),
        Dense(3),
        Activation("softmax"),
    ]
    net = build(rng, layers, "cross_entropy", optimizer)
    X, y = rng.standard_normal((3, 4)), rng.dirichlet(np.ones(3), 3)
    assert_page_agrees(page, cymlp.explain(net, X, y, WEIGHTS))
    for _ in range(2):
        net.train_on_batch(X, y)
    assert_page_agrees(page, cymlp.explain(net, X, y, WEIGHTS))


def test_given_gradients(page, rng):
    net = build(rng, [Dense(3, "tanh")], "squared_error")
    given = [rng.standard_normal(w.shape) for w in net.get_weights()]
    X, y = rng.standard_normal((2, 4)), rng.standard_normal((2, 3))
    assert_page_agrees(page, cymlp.explain(net, X, y, gradients=given))


def test_layers_without_parameters(page, rng):
    net = build(rng, [Activation("tanh"), Dense(1, use_bias=False)], "squared_error")
    assert_page_agrees(page, cymlp.explain(net, rng.standard_normal(4), [1.0]))


def test_edits(page, rng):
    """Every number that can be edited, all at once."""
    layers = [
        Dense(5, "silu", kernel_regularizer=L2(0.1)),
        LayerNormalization(),
        Dense(3, "softmax"),
    ]
    net = build(rng, layers, "cross_entropy", Adam(0.1))
    X, y = rng.standard_normal((3, 4)), rng.dirichlet(np.ones(3), 3)
    net.train_on_batch(X, y)
    told = trace_page.describe(cymlp.explain(net, X, y, WEIGHTS))

    weights = [w + rng.standard_normal(w.shape) for w in net.get_weights()]
    X, y, new = rng.standard_normal((3, 4)), rng.dirichlet(np.ones(3), 3), np.array([3.0, 1.0, 0.0])
    net.set_weights(weights)
    net.learning_rate = 0.3
    code = f"""([told, weights, X, y, sampleWeight]) => {{
      const model = modelOf(told);
      const arrays = model.layers.flatMap(({{ parameters }}) => Object.values(parameters));
      arrays.forEach(({{ data }}, i) => data.set(weights[i]));
      model.inputs.data.set(X);
      model.targets.data.set(y);
      model.sampleWeight.set(sampleWeight);
      model.learningRate = 0.3;
      return ({RESULT})(compute(model));
    }}"""
    flat = [w.ravel().tolist() for w in weights]
    edits = [told, flat, X.ravel().tolist(), y.ravel().tolist(), new.tolist()]
    assert_agrees(page.evaluate(code, edits), cymlp.explain(net, X, y, new))
