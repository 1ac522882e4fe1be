"""The working that a trace prints: the hand-worked example's numbers, and what is left out."""

import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import make_net

from cymlp import Sequential
from cymlp._formulas import agree
from cymlp.activations import Activation as OwnActivation
from cymlp.constraints import MaxNorm
from cymlp.layers import Dense, LayerNormalization, Residual
from cymlp.losses import CrossEntropy, Huber
from cymlp.optimizers import SGD, Adam, AdamW, RMSprop
from cymlp.regularizers import L2
from cymlp.setting import WORKED_EXAMPLE, explain_setting

EXAMPLE = json.loads(Path(__file__).with_name("data").joinpath("worked_example.json").read_text())
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def numbers_of(tree):
    if isinstance(tree, dict):
        for name, each in tree.items():
            if name not in ("what", "decimals", "tolerances"):
                yield from numbers_of(each)
    elif isinstance(tree, list):
        for each in tree:
            yield from numbers_of(each)
    elif not isinstance(tree, str):
        yield float(tree)


def numbers_in(text):
    return np.array([float(number) for number in NUMBER.findall(text)])


@pytest.fixture(scope="module")
def example():
    return explain_setting(WORKED_EXAMPLE)


@pytest.mark.parametrize(
    ("part", "relative", "absolute"),
    [
        ("network", 0, 0),
        ("sample", 0, 0),
        ("hand_worked", 2e-4, 0),  # the notes round at each step
        ("exact", 0, 1e-9),
        ("update", 0, 5e-8),
    ],
)
def test_the_worked_example_has_every_number(example, part, relative, absolute):
    shown = numbers_in(example.to_text(digits=12))
    for number in numbers_of(EXAMPLE[part]):
        # One of W1 after the step is printed to six decimals in the notes.
        allowed = 5e-7 if number == -0.099139 else absolute + relative * abs(number)
        assert abs(shown - number).min() <= allowed, number


def test_the_worked_example_reads_as_the_notes(example):
    text = str(example)
    for line in (
        "J2 = 1*(-0.3) + 2*0.4 + 3*(-0.2) + (-0.2) = -0.3",
        "relu(J2) = max(-0.3, 0) = 0",
        "sigmoid(K1) = 1/(1 + exp(0.27)) = 0.432907",
        "L = 1/2*((0.432907 - 1)^2 + (0.608259 - 0)^2) = 0.345787",
        "dL/dsigmoid(K1) = sigmoid(K1) - target = 0.432907 - 1 = -0.567093",
        "sigmoid'(K1) = 0.432907*(1 - 0.432907) = 0.245499",
        "dL/dK1 = dL/dsigmoid(K1)*sigmoid'(K1) = (-0.567093)*0.245499 = -0.13922",
        "dL/dw(J3,K1) = (-0.567093)*0.245499*0.9 = -0.125298",
        "dL/db(K2) = 0.608259*0.23828 = 0.144936",
        "dL/drelu(J2) = (-0.13922)*(-0.1) + 0.144936*0.2 = 0.0429092",
        "w(I2,J1)' = 0.2 - 0.01*(-0.057403) = 0.200574",
    ):
        assert f"  {line}\n" in text, line
    assert "J1 = I1*w(I1,J1) + I2*w(I2,J1) + I3*w(I3,J1) + b(J1) = 1*0.1 + 2*0.2 + 3*(-0.1)" in text


def test_every_equation_of_numbers_holds(example):
    """Whatever is on both sides of an equals sign and has numbers alone is calculated anew."""
    rng = np.random.default_rng(0)
    net = make_net(4, [(3, "tanh"), (3, "relu"), (2, "sigmoid")], optimizer=SGD(0.1, momentum=0.9))
    X, y = rng.standard_normal((3, 4)), rng.random((3, 2))
    net.train_on_batch(X, y)
    count = 0
    words = {"exp": np.exp, "max": max, "sqrt": np.sqrt, "tanh": np.tanh, "log": np.log}
    for trace in (example, net.explain(X, y), net.explain(X, y, [1.0, 0.5, 2.0])):
        text = re.sub(r"\n {6,}", " ", trace.to_text(digits=15))
        for line in text.splitlines():
            sides = [side.strip() for side in line.split(" = ")][1:]
            plain = [
                s for s in sides if not re.search(r"[A-Za-z_']", re.sub("|".join(words), "", s))
            ]
            values = [eval(s.replace("^", "**"), {"__builtins__": {}}, words) for s in plain]
            for a, b in zip(values[:-1], values[1:], strict=True):
                assert a == pytest.approx(b, rel=1e-9, abs=1e-12), line
                count += 1
    assert count > 300


def test_what_is_left_out_is_summed_up():
    rng = np.random.default_rng(0)
    net = Sequential([Dense(40, activation="relu"), Dense(3)], n_inputs=50, random_state=0)
    net.compile("sgd", "squared_error")
    trace = net.explain(rng.standard_normal(50), rng.standard_normal(3))
    text = trace.to_text(most=5)
    assert "[45 more: " in text and "35 more of the outputs, in sum " in text
    assert "45 more of the inputs, in sum " in text
    line = next(line for line in text.splitlines() if "more of the outputs" in line)
    left = float(line.rstrip(".").split("in sum ")[1])
    shown = {int(n) for n in re.findall(r"^  relu\(J(\d+)\) = ", text, re.MULTILINE)}
    assert len(shown) == 5
    a = trace.layers[0].activation[0]
    assert left == pytest.approx(sum(a[j] for j in range(40) if j + 1 not in shown), rel=1e-4)
    sizes = abs(trace.layers[0].delta[0])
    assert min(sizes[j - 1] for j in shown) >= np.sort(sizes)[-5]
    long = trace.to_text(most=50)
    assert " more" not in long
    assert max(map(len, text.splitlines())) <= 100


def test_several_samples_are_averaged():
    net = make_net(2, [(1, "identity")], l2=[(0.5, False)], weights=[[[2.0], [-1.0]], [0.5]])
    X, y = [[1.0, 0.0], [0.0, 1.0]], [[0.5], [0.0]]
    text = net.explain(X, y).to_text()
    assert "Sample 1: forward" in text and "Sample 2: backward" in text
    assert "L = (2 + 0.125)/2 + 1.25 = 2.3125" in text
    assert "dL/dw(I1,J1) = (2 + 0)/2 + 1 = 2" in text
    weighted = net.explain(X, y, [1.0, 3.0]).to_text()
    assert "L = (1*2 + 3*0.125)/4 + 1.25 = 1.84375" in weighted


def test_a_formula_that_is_not_the_cores_is_left_away():
    net = make_net(2, [(3, "softmax")], loss=CrossEntropy(label_smoothing=0.2))
    text = net.explain([1.0, 2.0], 1).to_text()
    assert "L = cross_entropy(outputs, targets) = " in text
    assert "- target" not in text
    clipped = make_net(2, [(1, "identity")], optimizer=SGD(0.1, clip_value=1e-3))
    text = clipped.explain([1.0, 2.0], 9.0).to_text()
    assert "learning_rate*" not in text and " + 0.0001 = " in text


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (SGD(0.1), "w(I1,J1) - learning_rate*dL/dw(I1,J1)"),
        (SGD(0.1, momentum=0.9), "momentum*velocity(w(I1,J1)) + dL/dw(I1,J1)"),
        (SGD(0.1, momentum=0.9, nesterov=True), "(dL/dw(I1,J1) + momentum*velocity(w(I1,J1))')"),
        (Adam(0.1), "m_hat/(sqrt(v_hat) + epsilon)"),
        (AdamW(0.1, weight_decay=0.0), "m_hat/(sqrt(v_hat) + epsilon)"),
        (RMSprop(0.1), "v(w(I1,J1))' = "),
        (AdamW(0.1, weight_decay=0.5), "m(w(I1,J1))' = "),
    ],
    ids=repr,
)
def test_rules_of_optimizers(optimizer, expected):
    net = make_net(2, [(2, "identity")], optimizer=optimizer)
    X, y = [[1.0, -2.0]], [[3.0, 0.0]]
    net.train_on_batch(X, y)
    text = net.explain(X, y).to_text()
    assert expected in re.sub(r"\n +", " ", text)


def test_numbers_that_are_not_finite_are_written():
    net = make_net(1, [(1, "exponential")])
    net.set_weights([[[800.0]], [0.0]])
    assert "exponential(J1) = exponential(800) = inf" in net.explain([1.0]).to_text()
    assert r"\infty" in net.explain([1.0]).to_latex()


def test_formulas_agree_within_rounding_alone():
    assert agree(1.0, 1.000001) and agree(0.0, 0.0) and agree(0.0, 1e-7, 1.0, -1.0)
    assert not agree(1.0, 1.001) and not agree(float("nan"), 1.0) and not agree(0.0, 1e-10)


def test_what_is_left_out_of_a_squared_error_is_twice_its_loss():
    net = make_net(1, [(12, "identity")], weights=[np.zeros((1, 12)), np.arange(1.0, 13)])
    text = net.explain([1.0], [np.zeros(12)]).to_text(most=2)
    assert "L = 1/2*((11 - 0)^2 + (12 - 0)^2 + [10 more: 385]) = 325" in text


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (AdamW(1e-4, weight_decay=0.01), {}),
        (SGD(1e-4, weight_decay=1e-3), {}),
        (SGD(1e-5), {"learning_rate_multiplier": 0.1}),
        (SGD(1e-5), {"kernel_constraint": MaxNorm(9.0)}),
        (SGD(1e-6, clip_norm=0.1), {}),
        (SGD(1e-6, clip_value=1e-5), {}),
        (SGD(1e-6, clip_global_norm=0.1), {}),
    ],
    ids=repr,
)
def test_a_step_beside_a_large_weight_has_no_formula_that_is_not_its_own(optimizer, settings):
    net = Sequential([Dense(1, **settings)], n_inputs=1, dtype="float64", random_state=0)
    net.set_weights([[[5.0]], [0.0]])
    net.compile(optimizer, "squared_error")
    text = net.explain([1.0], [2.0]).to_text()
    assert "learning_rate*" not in text and "w(I1,J1)' = 5 + " in text


def test_epsilon_hat_is_added_to_what_is_not_corrected():
    net = make_net(1, [(1, "identity")], weights=[[[5.0]], [0.0]])
    net.compile(Adam(0.1, epsilon=1e-3, epsilon_hat=True), "squared_error")
    text = re.sub(r"\n +", " ", net.explain([1.0], [5.002]).to_text())
    assert "m_hat/(sqrt(v_hat) + epsilon/(sqrt(1 - beta_2^1)))" in text
    assert "5 - 0.1*(-0.002)/(sqrt(4e-06) + 0.001/(sqrt(1 - 0.999^1))) = 5.00595" in text


@pytest.mark.parametrize(
    ("loss", "output", "target"),
    [
        ("absolute_error", 3.0, 2.0),
        ("hinge", 0.0, 1.0),
        ("log_cosh", 2.0, 2.0),
        (Huber(0.5), 3.0, 2.5),
    ],
    ids=str,
)
def test_only_an_error_is_called_one(loss, output, target):
    net = make_net(1, [(1, "identity")], loss=loss, weights=[[[0.0]], [output]])
    assert "- target" not in net.explain([1.0], [target]).to_text()


def test_smoothed_labels_have_no_error():
    net = make_net(1, [(3, "softmax")], loss=CrossEntropy(label_smoothing=1e-6))
    assert "- target" not in net.explain([1.0], 1).to_text()


def test_sums_that_overflow_are_shown():
    setting = {
        "layers": [{"units": 1}],
        "weights": [[[1.7e308]] * 20, [0.0]],
        "sample": [1.0] * 20,
        "target": [0.0],
        "loss": "squared_error",
        "learning_rate": 0.1,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace = explain_setting(setting)
        for write in (trace.to_text, trace.to_latex, trace.to_markdown, trace.to_html):
            assert "inf" in write() or write == trace.to_html
        net = make_net(1, [(2, "softmax")], weights=[[[-800.0, -900.0]], [0.0, 0.0]])
        assert "softmax(J1) = softmax(-800) = 1" in net.explain([1.0]).to_text()


def test_numpys_scalars_are_settings():
    net = make_net(1, [(1, "identity")], loss=Huber(np.float32(0.5)))
    net.compile(SGD(np.float32(0.5), clip_norm=np.float32(1)), Huber(np.float32(0.5)))
    trace = net.explain([1.0], [2.0])
    assert json.loads(trace.to_json())["learning_rate"] == 0.5
    assert "<!doctype html>" in trace.to_html()


def test_own_functions_are_called_by_their_names():
    def quartic(y_true, y_pred):
        return ((y_pred - y_true) ** 4).sum(axis=1), 4 * (y_pred - y_true) ** 3

    trace = make_net(1, [(1, "identity")], loss=quartic).explain([1.0], [2.0])
    assert "Loss: CustomLoss(function=quartic)." in trace.to_text()


def test_markdown_has_no_markup_but_its_own():
    own = OwnActivation(lambda z: z, lambda z: 1 + 0 * z, name="my<b>_f_*g*")
    text = make_net(1, [(1, own)]).explain([1.0]).to_markdown()
    assert r"my\<b\>\_f\_\*g\*" in text


@pytest.fixture(scope="module")
def traces(example):
    rng = np.random.default_rng(0)
    layers = [
        Dense(4, activation="gelu", kernel_regularizer=L2(0.1)),
        Residual([LayerNormalization(), Dense(5, activation="relu")]),
        Dense(3, activation="softmax"),
    ]
    net = Sequential(layers, n_inputs=30, random_state=0)
    net.compile(Adam(), "cross_entropy")
    names = {"inputs": [f"x_{i} {c}" for i, c in enumerate(r"\{}_^~%&#$<>'\"`|" * 2)][:30]}
    several = net.explain(rng.standard_normal((2, 30)), [0, 2], names=names)
    return [example, several]


def test_markdown(traces):
    for trace in traces:
        text = trace.to_markdown()
        assert text.startswith("## Network\n") and "\n### layers[0]: dense" in text
        for line in text.splitlines():
            assert line.count("$") - line.count(r"\$") in (0, 2), line
    assert r"$\mathrm{relu}(J_{2}) = \max (-0.3, 0) = 0$" in traces[0].to_markdown()


def test_latex_is_math_that_can_be_set(traces):
    mathtext = pytest.importorskip("matplotlib.mathtext")
    parser = mathtext.MathTextParser("agg")
    for trace in traces:
        text = trace.to_latex()
        assert text.startswith("\\documentclass") and text.endswith("\\end{document}\n")
        equations = re.findall(r"^\\working\{(.*)\}$", text, re.MULTILINE)
        assert len(equations) > 50
        plain = [e.replace(r"\backslash ", "").replace(r"\hat{\ }", "") for e in equations]
        for equation in plain[:: max(1, len(plain) // 20)]:
            parser.parse(f"${equation}$")
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles(traces, tmp_path):
    for number, trace in enumerate(traces):
        path = tmp_path / f"{number}.tex"
        path.write_text(trace.to_latex(), encoding="utf-8")
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
        assert "Overfull" not in done.stdout
