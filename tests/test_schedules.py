"""Learning-rate schedules: the compiled evaluation against the specs, and those against PyTorch."""

import copy
import math
import pickle

import numpy as np
import pytest
from conftest import assert_bitwise_equal, make_net

from cymlp import schedules
from cymlp._lower import lower_schedule
from cymlp._steps import SCHEDULES, scheduled
from cymlp.optimizers import SGD, Adam, Rprop
from cymlp.schedules import (
    Constant,
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseScaling,
    OneCycle,
    PolynomialDecay,
    Schedule,
    StepDecay,
    Warmup,
)

ALL = [
    Constant(0.3),
    StepDecay(0.3, step_size=7),
    StepDecay(0.3, step_size=1, gamma=1.01),
    ExponentialDecay(0.3, decay_steps=10, decay_rate=0.5),
    PolynomialDecay(0.3, decay_steps=20),
    PolynomialDecay(0.3, decay_steps=20, end_learning_rate=0.4, power=2.5),
    InverseScaling(0.3),
    InverseScaling(0.3, power=0.0),
    CosineDecay(0.3, decay_steps=20),
    CosineDecay(0.3, decay_steps=20, end_learning_rate=0.01),
    CosineDecayRestarts(0.3, first_decay_steps=7),
    CosineDecayRestarts(0.3, first_decay_steps=5, t_mul=2, end_learning_rate=0.01),
    CosineDecayRestarts(0.3, first_decay_steps=5, m_mul=0.7, end_learning_rate=0.1),
    CosineDecayRestarts(0.3, first_decay_steps=1, t_mul=3, m_mul=0.9),
    OneCycle(0.3, total_steps=40),
    OneCycle(0.3, total_steps=40, pct_start=0.0),
    OneCycle(0.3, total_steps=2, pct_start=0.99, div_factor=1, final_div_factor=1),
]
ALL += [Warmup(6, schedule, start_factor=0.2) for schedule in [0.3, *ALL[::2]]]
STEPS = [*range(80), 10**4, 10**9]


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_the_core_computes_what_the_spec_says(schedule):
    fields = lower_schedule(schedule)
    actual = [scheduled(fields, step) for step in STEPS]
    np.testing.assert_allclose(actual, [schedule(step) for step in STEPS], rtol=1e-13, atol=0)


def test_every_schedule_is_covered():
    kinds = {getattr(schedules, name) for name in schedules.__all__} - {Schedule}
    assert {type(schedule) for schedule in ALL} == kinds
    assert set(SCHEDULES) == {kind.name for kind in kinds - {Warmup}}


def torch_rates(make, n_steps):
    """Return the rates of the steps that a scheduler of PyTorch sets."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


TORCH = {
    "step": (StepDecay(0.3, 7), lambda m, o: m.StepLR(o, 7), 30),
    "exponential": (
        ExponentialDecay(0.3, decay_steps=1, decay_rate=0.9),
        lambda m, o: m.ExponentialLR(o, 0.9),
        30,
    ),
    "polynomial": (
        PolynomialDecay(0.3, decay_steps=20, power=2.0),
        lambda m, o: m.PolynomialLR(o, total_iters=20, power=2.0),
        30,
    ),
    "inverse scaling": (
        InverseScaling(0.3),
        lambda m, o: m.LambdaLR(o, lambda step: 1 / (step + 1) ** 0.5),
        30,
    ),
    "cosine": (
        CosineDecay(0.3, 25, end_learning_rate=0.01),
        lambda m, o: m.CosineAnnealingLR(o, 25, eta_min=0.01),
        26,
    ),
    "restarts": (
        CosineDecayRestarts(0.3, 5, t_mul=2, end_learning_rate=0.01),
        lambda m, o: m.CosineAnnealingWarmRestarts(o, 5, T_mult=2, eta_min=0.01),
        60,
    ),
    "equal restarts": (
        CosineDecayRestarts(0.3, 5),
        lambda m, o: m.CosineAnnealingWarmRestarts(o, 5),
        30,
    ),
    "one cycle": (OneCycle(0.3, 30), lambda m, o: m.OneCycleLR(o, 0.3, total_steps=30), 29),
    "warmup": (
        Warmup(6, CosineDecay(0.3, 25), start_factor=0.1),
        lambda m, o: m.SequentialLR(
            o,
            [m.LinearLR(o, start_factor=0.1, total_iters=6), m.CosineAnnealingLR(o, 25)],
            milestones=[6],
        ),
        30,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", TORCH)
def test_schedules_are_pytorchs(case):
    schedule, make, n_steps = TORCH[case]
    expected = torch_rates(make, n_steps)
    np.testing.assert_allclose(
        [schedule(step) for step in range(n_steps)], expected, rtol=1e-10, atol=1e-15
    )


# -------------------------------------------------------------------------------------- in training


def problem(n_samples=50):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_samples, 3)), rng.standard_normal((n_samples, 2))


def net_with(optimizer, dtype="float64"):
    return make_net(3, [(4, "tanh"), (2, "identity")], optimizer=optimizer, dtype=dtype)


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_each_step_has_the_rate_of_its_number(kind, batch_size, isa):
    """Against a network whose constant rate is set before each step."""
    X, y = problem()
    schedule = Warmup(5, CosineDecay(0.1, 200), start_factor=0.5)
    net, other = net_with(kind(schedule)), net_with(kind(0.5))
    net.fit(X, y, epochs=2, batch_size=batch_size, shuffle=False, verbose=0)
    step = 0
    for _ in range(2):
        for first in range(0, len(X), batch_size):
            other.learning_rate = schedule(step)
            other.train_on_batch(X[first : first + batch_size], y[first : first + batch_size])
            step += 1
    assert net.learning_rate == schedule(step)
    for a, b in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("optimizer", [SGD(StepDecay(0.1, 3)), Adam(Warmup(9, OneCycle(0.1, 30)))])
def test_resumed_training_goes_on_with_the_schedule(optimizer, dtype):
    X, y = problem()
    whole, parts = net_with(optimizer, dtype), net_with(optimizer, dtype)
    whole.fit(X, y, epochs=4, batch_size=10, verbose=0)
    parts.fit(X, y, epochs=1, batch_size=10, verbose=0)
    parts = pickle.loads(pickle.dumps(parts))
    parts.fit(X, y, epochs=1, batch_size=10, verbose=0)
    parts = copy.deepcopy(parts)
    parts.fit(X, y, epochs=2, batch_size=10, verbose=0)
    assert_bitwise_equal(parts.get_weights(), whole.get_weights())


def test_apply_gradients_follows_the_schedule():
    net = net_with(SGD(StepDecay(1.0, 1, gamma=0.5)))
    ones = [np.ones_like(w) for w in net.get_weights()]
    before = net.get_weights()
    for _ in range(3):
        net.apply_gradients(ones)
    for a, b in zip(net.get_weights(), before, strict=True):
        np.testing.assert_allclose(a, b - 1.75, rtol=1e-12)


@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize("batch_size", [1, 10])
def test_a_rate_that_is_set_holds_from_the_next_step_on(kind, batch_size):
    X, y = problem()
    net = net_with(kind(0.1))
    net.fit(X, y, batch_size=batch_size, verbose=0)
    assert net.learning_rate == 0.1
    net.learning_rate = 0.025
    assert net.learning_rate == 0.025
    assert net.optimizer == kind(0.025)
    kept = pickle.loads(pickle.dumps(net))
    assert kept.learning_rate == 0.025
    # What the rate alone does: a step from the same state is that much shorter.
    weights, quick = net.get_weights(), copy.deepcopy(net)
    quick.learning_rate = 0.05
    for other in (net, kept, quick):
        other.train_on_batch(X[:5], y[:5])
    assert_bitwise_equal(net.get_weights(), kept.get_weights())
    for w, a, b in zip(weights, net.get_weights(), quick.get_weights(), strict=True):
        np.testing.assert_allclose(2 * (a - w), b - w, rtol=1e-6, atol=1e-12)


def test_a_rate_set_before_the_network_is_built():
    X, y = problem()
    net, other = (make_net(3, [(2, "identity")], optimizer=SGD(rate)) for rate in (0.5, 0.1))
    net.learning_rate = 0.1
    net.train_on_batch(X, y)
    other.train_on_batch(X, y)
    assert_bitwise_equal(net.get_weights(), other.get_weights())


def test_learning_rate_errors():
    net = net_with("sgd")
    for bad, error in (
        (0, ValueError),
        (-1.0, ValueError),
        (math.nan, ValueError),
        ("1", TypeError),
    ):
        with pytest.raises(error, match="learning_rate"):
            net.learning_rate = bad
    assert net.learning_rate == 0.01
    for optimizer, match in (
        (SGD(Constant(0.1)), "schedule"),
        (Rprop(), "Rprop"),
        ("lbfgs", "LBFGS"),
    ):
        net = net_with(optimizer)
        with pytest.raises(ValueError, match=match):
            net.learning_rate = 0.1


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("create", "match"),
    [
        (lambda: Constant(0), "learning_rate"),
        (lambda: StepDecay(-1, 3), "learning_rate"),
        (lambda: StepDecay(0.1, 0), "step_size"),
        (lambda: StepDecay(0.1, 2.5), "step_size"),
        (lambda: StepDecay(0.1, 2, gamma=0), "gamma"),
        (lambda: ExponentialDecay(0.1, 0, 0.5), "decay_steps"),
        (lambda: ExponentialDecay(0.1, 5, -0.5), "decay_rate"),
        (lambda: ExponentialDecay("fast", 5, 0.5), "learning_rate"),
        (lambda: PolynomialDecay(0.1, 5, power=0), "power"),
        (lambda: PolynomialDecay(0.1, 5, end_learning_rate=-1), "end_learning_rate"),
        (lambda: PolynomialDecay(0.1, True), "decay_steps"),
        (lambda: InverseScaling(0.1, power=-1), "power"),
        (lambda: InverseScaling(math.inf), "learning_rate"),
        (lambda: CosineDecay(0.1, -5), "decay_steps"),
        (lambda: CosineDecay(0.1, 5, end_learning_rate=math.nan), "end_learning_rate"),
        (lambda: CosineDecayRestarts(0.1, 0), "first_decay_steps"),
        (lambda: CosineDecayRestarts(0.1, 5, t_mul=1.5), "t_mul"),
        (lambda: CosineDecayRestarts(0.1, 5, m_mul=0), "m_mul"),
        (lambda: CosineDecayRestarts(0.1, 5, m_mul=1.1), "m_mul"),
        (lambda: OneCycle(0.0, 10), "max_learning_rate"),
        (lambda: OneCycle(0.1, 1), "total_steps"),
        (lambda: OneCycle(0.1, 10, pct_start=1), "pct_start"),
        (lambda: OneCycle(0.1, 10, div_factor=0.5), "div_factor"),
        (lambda: OneCycle(0.1, 10, final_div_factor=0), "final_div_factor"),
        (lambda: Warmup(0, 0.1), "steps"),
        (lambda: Warmup(5, Warmup(5, 0.1)), "schedule"),
        (lambda: Warmup(5, -0.1), "schedule"),
        (lambda: Warmup(5, "cosine"), "schedule"),
        (lambda: Warmup(5, CosineDecay), "schedule"),
        (lambda: Warmup(5, 0.1, start_factor=2), "start_factor"),
        (lambda: SGD("cosine"), "learning_rate must be .* a schedule"),
        (lambda: Adam(CosineDecay), "learning_rate must be an instance"),
    ],
)
def test_bad_schedules(create, match):
    with pytest.raises((ValueError, TypeError), match=match):
        create()
