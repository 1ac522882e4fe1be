"""Bad input is one clear error that names the argument, and leaves the network as it was."""

import copy
import dataclasses

import numpy as np
import pytest
from conftest import assert_bitwise_equal, assert_unchanged_by, make_net, unaligned

import cymlp
from cymlp import DivergenceWarning, Sequential
from cymlp.activations import Softmax
from cymlp.initializers import GlorotUniform
from cymlp.layers import Dense
from cymlp.losses import CrossEntropy
from cymlp.optimizers import SGD, Adam
from cymlp.regularizers import L2

N_INPUTS, N_CLASSES = 4, 3
X = np.random.default_rng(0).standard_normal((6, N_INPUTS))
LABELS = np.array([0, 1, 2, 0, 1, 2])
ROWS = np.eye(N_CLASSES)[LABELS]
BAD = (ValueError, TypeError)


def raises(match):
    return pytest.raises(BAD, match=match)


def assert_one_error(info):
    """Assert that no second traceback hangs on the error: what a user sees is one message."""
    error = info.value
    assert error.__context__ is None or error.__suppress_context__, repr(error.__context__)
    assert error.__cause__ is None or not isinstance(error.__cause__, BAD)


def classifier(dtype="float64"):
    """Return a net in the middle of its training, so that there is a state to lose."""
    net = make_net(
        N_INPUTS,
        [(5, "relu"), (N_CLASSES, "softmax")],
        loss="cross_entropy",
        optimizer="adam",
        metrics=["accuracy"],
        dtype=dtype,
    )
    net.fit(X, LABELS, batch_size=2, verbose=0)
    return net


def with_value(array, value):
    array = np.array(array, dtype=np.result_type(array, type(value)))
    array[1, 2 % array.shape[1]] = value
    return array


#: What X must not be.
BAD_X = {
    "one dimension": X[0],
    "three dimensions": X[None],
    "a number": 3.0,
    "nothing": None,
    "too narrow": X[:, :3],
    "too wide": np.hstack([X, X]),
    "no samples": X[:0],
    "no columns": X[:, :0],
    "NaN": with_value(X, np.nan),
    "infinity": with_value(X, np.inf),
    "minus infinity": with_value(X, -np.inf),
    "overflows float32": with_value(X, 1e300),
    "strings": X.astype(str),
    "text": "X",
    "objects": np.full(X.shape, object()),
    "complex": X.astype(complex),
    "dates": np.zeros(X.shape, dtype="datetime64[s]"),
    "ragged": [[1.0, 2.0, 3.0, 4.0], [1.0]],
    "dict": {"a": 1},
    "masked": np.ma.masked_greater(X, 0.5),
    "object array of strings": X.astype(str).astype(object),
}
#: What y must not be, with cross-entropy over three classes.
BAD_Y = {
    "a number": 1,
    "too few": LABELS[:5],
    "too many": np.tile(LABELS, 2),
    "too few rows": ROWS[:5],
    "none at all": LABELS[:0],
    "None": None,
    "negative label": LABELS - 1,
    "label out of range": LABELS + 1,
    "huge label": LABELS + 2**40,
    "label that is no integer": LABELS + 0.5,
    "label NaN": np.where(LABELS == 1, np.nan, LABELS),
    "too narrow": ROWS[:, :2],
    "too wide": np.hstack([ROWS, ROWS]),
    "three dimensions": ROWS[None],
    "NaN": with_value(ROWS, np.nan),
    "infinity": with_value(ROWS, np.inf),
    "negative probability": with_value(ROWS, -0.5),
    "strings": LABELS.astype(str),
    "complex": ROWS.astype(complex),
    "objects": np.full(LABELS.shape, object()),
}
BAD_SAMPLE_WEIGHT = {
    "too few": np.ones(5),
    "two dimensions": np.ones((6, 1)),
    "negative": np.array([1, 1, -1, 1, 1, 1.0]),
    "NaN": np.array([1, 1, np.nan, 1, 1, 1.0]),
    "infinity": np.array([1, 1, np.inf, 1, 1, 1.0]),
    "all zero": np.zeros(6),
    "strings": np.array(["a"] * 6),
    "complex": np.ones(6, dtype=complex),
}

#: The methods that take X alone, X and y, and these with sample_weight.
WITH_X = {
    "predict": lambda net, X: net.predict(X),
    "layer_outputs": lambda net, X: net.layer_outputs(X),
    "fit": lambda net, X: net.fit(X, LABELS, verbose=0),
    "evaluate": lambda net, X: net.evaluate(X, LABELS),
    "train_on_batch": lambda net, X: net.train_on_batch(X, LABELS),
    "gradients": lambda net, X: net.gradients(X, LABELS),
}
WITH_Y = {
    "fit": lambda net, y, **w: net.fit(X, y, verbose=0, **w),
    "evaluate": lambda net, y, **w: net.evaluate(X, y, **w),
    "train_on_batch": lambda net, y, **w: net.train_on_batch(X, y, **w),
    "gradients": lambda net, y, **w: net.gradients(X, y, **w),
}


def rejects(action, match, dtype="float64"):
    """Assert that the action raises one clear error and leaves a half-trained net unchanged."""

    def attempt():
        with raises(match) as info:
            action(net)
        assert_one_error(info)

    net = classifier(dtype)
    assert_unchanged_by(net, attempt, X, LABELS)


@pytest.mark.parametrize("case", BAD_X)
@pytest.mark.parametrize("method", WITH_X)
def test_bad_X(method, case):
    dtype = "float32" if case == "overflows float32" else "float64"
    # Too few samples to go with y may be said of either.
    match = r"\b[Xy]\b" if case in ("no samples", "a number", "ragged") else r"\bX\b"
    rejects(lambda net: WITH_X[method](net, BAD_X[case]), match, dtype)


@pytest.mark.parametrize("case", BAD_Y)
@pytest.mark.parametrize("method", WITH_Y)
def test_bad_y(method, case):
    rejects(lambda net: WITH_Y[method](net, BAD_Y[case]), r"\by\b")


@pytest.mark.parametrize("case", BAD_SAMPLE_WEIGHT)
@pytest.mark.parametrize("method", WITH_Y)
def test_bad_sample_weight(method, case):
    rejects(
        lambda net: WITH_Y[method](net, LABELS, sample_weight=BAD_SAMPLE_WEIGHT[case]),
        "sample_weight",
    )


@pytest.mark.parametrize(
    "y", [np.full((6, 3), 1.5), np.full((6, 3), -0.1), np.ones(6), np.ones((6, 2))],
    ids=["above one", "below zero", "one dimension", "too narrow"],
)  # fmt: skip
def test_bad_binary_targets(y):
    net = make_net(N_INPUTS, [(3, "sigmoid")], loss="binary_cross_entropy")
    attempt = WITH_Y["train_on_batch"]

    def action():
        with raises(r"\by\b"):
            attempt(net, y)

    assert_unchanged_by(net, action, X, ROWS)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": -1}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"epochs": "many"}, "epochs"),
        ({"epochs": None}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": -32}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"batch_size": "32"}, "batch_size"),
        ({"shuffle": "yes"}, "shuffle"),
        ({"verbose": "loud"}, "verbose"),
        ({"verbose": 3}, "verbose"),
        ({"validation_data": X}, "validation_data"),
        ({"validation_data": (X,)}, "validation_data"),
        ({"validation_data": (X, LABELS, LABELS, LABELS)}, "validation_data"),
        ({"validation_data": (X[:, :2], LABELS)}, "validation_data"),
        ({"validation_data": (X, LABELS[:3])}, "validation_data"),
        ({"validation_data": (X, LABELS + 1)}, "validation_data"),
        ({"validation_data": (with_value(X, np.nan), LABELS)}, "validation_data"),
    ],
    ids=str,
)
def test_bad_fit_options(options, match):
    rejects(lambda net: net.fit(X, LABELS, **{"verbose": 0, **options}), match)


WITH_N_THREADS = {
    "predict": lambda net, n: net.predict(X, n_threads=n),
    "layer_outputs": lambda net, n: net.layer_outputs(X, n_threads=n),
    "fit": lambda net, n: net.fit(X, LABELS, verbose=0, n_threads=n),
    "evaluate": lambda net, n: net.evaluate(X, LABELS, n_threads=n),
    "train_on_batch": lambda net, n: net.train_on_batch(X, LABELS, n_threads=n),
    "gradients": lambda net, n: net.gradients(X, LABELS, n_threads=n),
}


@pytest.mark.parametrize("n_threads", [0, -1, 1025, 10**30, True, 2.0, "2", [2]])
@pytest.mark.parametrize("method", WITH_N_THREADS)
def test_bad_n_threads(method, n_threads):
    match = r"^n_threads must be an integer of at least 1 and at most 1024, or None, got "
    rejects(lambda net: WITH_N_THREADS[method](net, n_threads), match)


@pytest.mark.parametrize("n_threads", [1, np.int64(2), 1024, None])
@pytest.mark.parametrize("method", WITH_N_THREADS)
def test_good_n_threads(method, n_threads):
    WITH_N_THREADS[method](classifier(), n_threads)


WEIGHTS = [w.copy() for w in classifier().get_weights()]
BAD_WEIGHTS = {
    "too few": WEIGHTS[:3],
    "too many": [*WEIGHTS, WEIGHTS[0]],
    "none": [],
    "None": None,
    "a number": 3,
    "transposed": [WEIGHTS[0].T, *WEIGHTS[1:]],
    "bias of two dimensions": [WEIGHTS[0], WEIGHTS[1][None], *WEIGHTS[2:]],
    "last one too long": [*WEIGHTS[:3], np.ones(N_CLASSES + 1)],
    "last one NaN": [*WEIGHTS[:3], np.full(N_CLASSES, np.nan)],
    "last one infinite": [*WEIGHTS[:3], np.full(N_CLASSES, np.inf)],
    "last one strings": [*WEIGHTS[:3], np.array(["a"] * N_CLASSES)],
    "last one complex": [*WEIGHTS[:3], np.ones(N_CLASSES, dtype=complex)],
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights(case):
    rejects(lambda net: net.set_weights(BAD_WEIGHTS[case]), "weights")


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_gradients(case):
    rejects(lambda net: net.apply_gradients(BAD_WEIGHTS[case]), "grad")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"optimizer": "adamx"}, r"optimizer(?s:.*)(adam|sgd)"),
        ({"loss": "hinges"}, r"loss(?s:.*)squared_error"),
        ({"metrics": ["f2"]}, r"metrics?(?s:.*)accuracy"),
        ({"optimizer": CrossEntropy()}, "optimizer"),
        ({"optimizer": None}, "optimizer"),
        ({"optimizer": Adam}, "optimizer"),
        ({"loss": Adam()}, "loss"),
        ({"loss": 3}, "loss"),
        ({"metrics": 3}, "metrics"),
        ({"metrics": [3]}, "metrics"),
    ],
    ids=str,
)
def test_bad_compile(options, match):
    """A failed compile leaves the compiled state from before."""
    rejects(lambda net: net.compile(**options), match)


@pytest.mark.parametrize("n_inputs", [0, -1, 2.5, "4", 5, None])
def test_bad_build(n_inputs):
    """Zero and negative widths, what is no integer, and another width than the net has."""
    rejects(lambda net: net.build(n_inputs), "n_inputs")


def test_unknown_names_list_the_known_ones():
    cases = {
        "activation": (lambda: Dense(3, activation="swoosh"), "identity relu sigmoid tanh softmax"),
        "initializer": (
            lambda: Dense(3, kernel_initializer="twos"),
            "glorot_uniform he_uniform zeros",
        ),
        "loss": (
            lambda: classifier().compile(loss="mse"),
            "squared_error huber cross_entropy binary_cross_entropy focal",
        ),
        "optimizer": (
            lambda: classifier().compile(optimizer="ftrl"),
            "sgd adam adamw nadam rmsprop adagrad adadelta lion rprop lbfgs",
        ),
    }
    for what, (action, known) in cases.items():
        with raises(what) as info:
            action()
        assert_one_error(info)
        for name in known.split():
            assert name in str(info.value), (what, name)


@pytest.mark.parametrize(
    ("create", "match"),
    [
        (lambda: Dense(0), "units"),
        (lambda: Dense(-3), "units"),
        (lambda: Dense(2.5), "units"),
        (lambda: Dense("3"), "units"),
        (lambda: Dense(True), "units"),
        (lambda: Dense(None), "units"),
        (lambda: Dense(3, activation=3), "activation"),
        (lambda: Dense(3, activation=Softmax), "activation"),
        (lambda: Dense(3, activation=Adam()), "activation"),
        (lambda: Dense(3, kernel_initializer=Adam()), "kernel_initializer"),
        (lambda: Dense(3, bias_initializer=1.0), "bias_initializer"),
        (lambda: Dense(3, kernel_regularizer="strong"), "kernel_regularizer"),
        (lambda: Dense(3, kernel_regularizer=Adam()), "kernel_regularizer"),
        (lambda: SGD(learning_rate=0), "learning_rate"),
        (lambda: SGD(learning_rate=-0.1), "learning_rate"),
        (lambda: SGD(learning_rate=float("nan")), "learning_rate"),
        (lambda: SGD(learning_rate=float("inf")), "learning_rate"),
        (lambda: SGD(learning_rate="fast"), "learning_rate"),
        (lambda: SGD(momentum=-0.1), "momentum"),
        (lambda: SGD(momentum=1.01), "momentum"),
        (lambda: SGD(momentum=0.9, nesterov="yes"), "nesterov"),
        (lambda: Adam(learning_rate=0), "learning_rate"),
        (lambda: Adam(beta_1=1.0), "beta_1"),
        (lambda: Adam(beta_1=-0.1), "beta_1"),
        (lambda: Adam(beta_2=1.5), "beta_2"),
        (lambda: Adam(epsilon=0), "epsilon"),
        (lambda: Adam(epsilon=-1e-8), "epsilon"),
        (lambda: L2(strength=-1), "strength"),
        (lambda: L2(strength=float("nan")), "strength"),
        (lambda: L2(strength="much"), "strength"),
        (lambda: GlorotUniform(gain=0), "gain"),
        (lambda: GlorotUniform(gain=-1), "gain"),
        (lambda: Sequential([]), "layers"),
        (lambda: Sequential(None), "layers"),
        (lambda: Sequential(Dense(3)), "layers"),
        (lambda: Sequential([Dense]), "layers"),
        (lambda: Sequential([3]), "layers"),
        (lambda: Sequential([Dense(3)], n_inputs=0), "n_inputs"),
        (lambda: Sequential([Dense(3)], n_inputs=-1), "n_inputs"),
        (lambda: Sequential([Dense(3)], n_inputs=2.5), "n_inputs"),
        (lambda: Sequential([Dense(3)], n_inputs="4"), "n_inputs"),
        (lambda: Sequential([Dense(3)], dtype="float16"), r"dtype(?s:.*)float32"),
        (lambda: Sequential([Dense(3)], dtype="int32"), "dtype"),
        (lambda: Sequential([Dense(3)], dtype="complex64"), "dtype"),
        (lambda: Sequential([Dense(3)], dtype="real"), "dtype"),
        (lambda: Sequential([Dense(3)], random_state=-1), "random_state"),
        (lambda: Sequential([Dense(3)], random_state=0.5), "random_state"),
        (lambda: Sequential([Dense(3)], random_state="seed"), "random_state"),
        (lambda: cymlp.set_num_threads(0), r"\bn\b"),
        (lambda: cymlp.set_num_threads(-2), r"\bn\b"),
        (lambda: cymlp.set_num_threads(1.5), r"\bn\b"),
        (lambda: cymlp.set_num_threads("two"), r"\bn\b"),
    ],
)  # fmt: skip
def test_bad_specs(create, match):
    with raises(match) as info:
        create()
    assert_one_error(info)


def test_specs_are_frozen():
    for spec, field in (
        (Dense(3), "units"),
        (Adam(), "learning_rate"),
        (L2(strength=1), "strength"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(spec, field, 1)


# ------------------------------------------------------------------------- before build and compile


def unbuilt(compiled):
    net = Sequential([Dense(5, activation="relu"), Dense(3, activation="softmax")], random_state=0)
    if compiled:
        net.compile(optimizer="adam", loss="cross_entropy")
    return net


@pytest.mark.parametrize("method", WITH_Y)
@pytest.mark.parametrize("built", [False, True], ids=["unbuilt", "built"])
def test_before_compile(method, built):
    net = unbuilt(compiled=False)
    if built:
        net.build(N_INPUTS)
    weights = net.get_weights() if built else None
    with raises("compile") as info:
        WITH_Y[method](net, LABELS)
    assert_one_error(info)
    assert net.built is built
    assert net.compiled is False
    if built:
        assert_bitwise_equal(net.get_weights(), weights)


def test_apply_gradients_before_compile():
    net = unbuilt(compiled=False)
    net.build(N_INPUTS)
    with raises("compile"):
        net.apply_gradients(net.get_weights())


@pytest.mark.parametrize(
    "action",
    [
        lambda net: net.predict(X),
        lambda net: net.layer_outputs(X),
        lambda net: net.get_weights(),
        lambda net: net.set_weights(WEIGHTS),
        lambda net: net.evaluate(X, LABELS),
        lambda net: net.gradients(X, LABELS),
        lambda net: net.apply_gradients(WEIGHTS),
    ],
    ids=[
        "predict",
        "layer_outputs",
        "get_weights",
        "set_weights",
        "evaluate",
        "gradients",
        "apply",
    ],
)
def test_before_build(action):
    net = unbuilt(compiled=True)
    with raises("buil[dt]") as info:
        action(net)
    assert_one_error(info)
    assert not net.built


@pytest.mark.parametrize(
    "arguments",
    [
        {"X": with_value(X, np.nan)},
        {"X": X[:0], "y": LABELS[:0]},
        {"y": LABELS[:5]},
        {"y": LABELS + 1},
        {"sample_weight": np.ones(5)},
        {"epochs": 0},
        {"batch_size": 0},
        {"validation_data": (X[:, :2], LABELS)},
    ],
    ids=["NaN", "empty", "lengths", "labels", "weights", "epochs", "batch_size", "validation"],
)
def test_failed_first_fit_builds_nothing(arguments):
    net = unbuilt(compiled=True)
    with raises("|".join(arguments)):
        net.fit(**{"X": X, "y": LABELS, "verbose": 0, **arguments})
    assert not net.built
    assert net.n_inputs is None
    net.fit(X[:, :2], LABELS, verbose=0)  # any width is still possible
    assert net.n_inputs == 2


@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_diverging_training_never_hangs_or_crashes(dtype, activation):
    """Weights that run away overflow to inf and NaN, which is no error of any argument."""
    net = make_net(
        N_INPUTS,
        [(5, activation), (2, "identity")],
        optimizer=SGD(learning_rate=1e30),
        dtype=dtype,
    )
    with pytest.warns(DivergenceWarning):
        history = net.fit(X, X[:, :2], epochs=5, batch_size=2, verbose=0)
    assert not np.isfinite(history.history["loss"][-1])


# ----------------------------------------------------------------------------------------- accepted


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def misaligned(array):
    """Return a copy whose elements stand at addresses that their type forbids."""
    buffer = np.empty(array.nbytes + 1, dtype="uint8")
    copied = buffer[1:].view(array.dtype).reshape(array.shape)
    copied[...] = array
    return copied


#: Ways to hand over the same numbers.
FORMS = {
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "one element off": unaligned,
    "one byte off": misaligned,
    "every third column": lambda a: np.repeat(a, 3, axis=-1)[..., ::3],
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    "broadcast and copied": lambda a: np.broadcast_to(a, (2, *a.shape))[1],
    "masked nowhere": lambda a: np.ma.masked_array(a),
    "float64": lambda a: a.astype("float64") if a.dtype.kind == "f" else a,
    "float16's numbers as long double": lambda a: (
        a.astype(np.longdouble) if a.dtype.kind == "f" else a
    ),
}
QUARTERS = np.random.default_rng(1).integers(-8, 8, (6, N_INPUTS)) / 4  # exact in any float type
WEIGHT_OF_SAMPLE = np.array([1, 2, 0.5, 1, 0.25, 3])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", [LABELS, ROWS], ids=["labels", "rows"])
def test_same_numbers_same_results(dtype, form, target):
    change = FORMS[form]
    net = classifier(dtype)
    other = copy.deepcopy(net)
    given = change(QUARTERS.astype(dtype)), change(target), change(WEIGHT_OF_SAMPLE)
    before = copy.deepcopy(given)
    assert_bitwise_equal(other.predict(given[0]), net.predict(QUARTERS))
    for n, (x, y, w) in ((net, (QUARTERS, target, WEIGHT_OF_SAMPLE)), (other, given)):
        n.fit(x, y, sample_weight=w, batch_size=4, verbose=0, validation_data=(x, y))
        n.train_on_batch(x, y, sample_weight=w)
    assert_bitwise_equal(other.get_weights(), net.get_weights())
    assert other.evaluate(*given) == net.evaluate(QUARTERS, target, WEIGHT_OF_SAMPLE)
    for array, as_it_was in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, as_it_was, err_msg="fit modified its input")


@pytest.mark.parametrize(
    "kind", ["bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint64", "float16"]
)
def test_integer_and_bool_X(dtype, kind):
    net = classifier(dtype)
    numbers = np.array([[0, 1, 1, 0], [1, 1, 0, 0]]).astype(kind)
    assert_bitwise_equal(net.predict(numbers), net.predict(numbers.astype("float64")))


@pytest.mark.parametrize("kind", ["bool", "int8", "uint8", "int64", "uint64", "float32", "float64"])
def test_kinds_of_labels(kind):
    """Whole numbers in any type are labels, as scikit-learn has it."""
    net = classifier()
    labels = (LABELS % 2).astype(kind)
    assert net.evaluate(X, labels) == net.evaluate(X, LABELS % 2)


@pytest.mark.parametrize("form", ["read-only", "Fortran order", "other byte order", "lists"])
def test_forms_of_weights_and_gradients(dtype, form):
    net = classifier(dtype)
    other = copy.deepcopy(net)
    weights = [w.astype(dtype) for w in WEIGHTS]
    for n, change in ((net, np.asarray), (other, FORMS[form])):
        n.set_weights([change(w) for w in weights])
        n.apply_gradients([change(w) for w in weights])
    assert_bitwise_equal(other.get_weights(), net.get_weights())


def test_squared_error_takes_one_dimension_for_one_unit(dtype):
    nets = [make_net(N_INPUTS, [(1, "identity")], dtype=dtype) for _ in range(2)]
    y = X[:, 0]
    for net, target in zip(nets, (y, y[:, None]), strict=True):
        net.fit(X, target, verbose=0)
    assert_bitwise_equal(nets[1].get_weights(), nets[0].get_weights())


def test_integers_of_numpy_are_integers():
    net = make_net(np.int64(N_INPUTS), [(np.int32(3), "softmax")], loss="cross_entropy")
    net.fit(X, LABELS, epochs=np.int64(2), batch_size=np.uint8(2), verbose=0)
    assert net.n_inputs == N_INPUTS
    assert type(net.n_inputs) is int


def test_network_too_large_for_any_memory():
    most = 2**31 - 1
    with pytest.raises(MemoryError, match="bytes"):
        Sequential([Dense(most), Dense(most)], n_inputs=most)
    net = Sequential([Dense(most), Dense(most)])
    with pytest.raises(MemoryError, match="bytes"):
        net.build(most)
    assert not net.built
    assert net.n_inputs is None


def test_absurd_batch_size_is_the_whole_set():
    net = make_net(N_INPUTS, [(N_CLASSES, "softmax")], loss="cross_entropy")
    other = copy.deepcopy(net)
    net.fit(X, LABELS, batch_size=10**30, shuffle=False, verbose=0)
    other.fit(X, LABELS, batch_size=len(X), shuffle=False, verbose=0)
    assert_bitwise_equal(net.get_weights(), other.get_weights())


@pytest.mark.parametrize("labels", [np.array(["a", "b", "c"] * 2), ["a", "b", "c"] * 2])
def test_string_labels_say_what_to_do(labels):
    with pytest.raises(TypeError, match=r"class labels are integers from 0.*return_inverse"):
        classifier().fit(X, labels)


def test_labels_in_a_column_say_what_to_do():
    with pytest.raises(ValueError, match=r"got \(6, 1\); class labels are 1-D: ravel"):
        classifier().fit(X, LABELS[:, None])


def test_epsilon_below_the_dtype():
    net = make_net(N_INPUTS, [(N_CLASSES, "softmax")], dtype="float32")
    with pytest.raises(ValueError, match="epsilon must be at least .* in float32"):
        net.compile(optimizer=Adam(epsilon=1e-39))
    assert net.optimizer.name == "sgd"


@pytest.mark.parametrize("name", ["layers", "dtype", "n_inputs", "n_outputs"])
def test_facts_are_read_only(name):
    with pytest.raises(AttributeError):
        setattr(classifier(), name, None)
