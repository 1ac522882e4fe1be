"""NumPy twins of layers and of stacks of them: slow, obvious, what the tests trust.

A layer is a dict: its kind, the name that its spec has, and what the kind wants,

- dense: kernel, bias (or none), activation, alpha
- activation: activation, alpha
- dropout: dropped, the share of dropped inputs in 65536ths, and number, of its random numbers
- batch_normalization: gamma and beta (or none of them), moving_mean, moving_variance, epsilon,
  momentum
- layer_normalization: gamma and beta (or none of them), epsilon
- residual: layers, projection (a kernel, or None)

Parameters are listed in the order in which a network returns them: as in the lists above, layer by
layer, those of a residual's layers before its projection.

Sources
-------
.. [1] S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training by
       reducing internal covariate shift", ICML 2015: algorithms 1 and 2, section 3 (derivatives).
.. [2] J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016, arXiv:1607.06450:
       equation 4.
.. [3] N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
       JMLR 15, 2014: section 10 (scaled while training).
.. [4] K. He et al., "Deep residual learning for image recognition", CVPR 2016: equations 1 and 2.
"""

import numpy as np

from cymlp._reference import activate, activate_backward, keeps_z


def normalize(x, mean, variance, epsilon):
    """Return (x - mean) / sqrt(variance + epsilon), [1]_ algorithm 1."""
    return (x - mean) / np.sqrt(variance + epsilon)


def normalize_backward(normal, delta, variance, epsilon, axis):
    """Return dL/dx where mean and variance were those of x over an axis; [1]_ section 3.

    Parameters
    ----------
    normal : ndarray
        What `normalize` returned.
    delta : ndarray
        dL/dnormal.
    """
    mean = delta.mean(axis, keepdims=True)
    dot = (delta * normal).mean(axis, keepdims=True)
    return (delta - mean - normal * dot) / np.sqrt(variance + epsilon)


def dropout_factors(shape, dropped, number, key, first_row=0, dtype="float64"):
    """Return what dropout multiplies rows with: 0, or 65536 / (65536 - dropped); [3]_.

    Parameters
    ----------
    shape : (int, int)
        Rows and units.
    dropped : int
        Of 65536 numbers that many are dropped.
    number : int
        Of the layer among those with dropout.
    key : tuple of int
        Of the step's numbers.
    first_row : int, default=0
        Place of the first row in its batch.

    Examples
    --------
    >>> factors = dropout_factors((100, 100), 32768, 0, (1, 2))
    >>> sorted(set(factors.ravel().tolist())), bool(abs(factors.mean() - 1) < 0.05)
    ([0.0, 2.0], True)
    """
    factors = np.empty(shape, dtype)
    for row in range(shape[0]):
        bits = np.random.Philox(
            counter=[0, first_row + row, number, 0], key=np.array(key, np.uint64)
        )
        numbers = bits.random_raw(-(-shape[1] // 4)).astype("<u8").view("<u2")[: shape[1]]
        factors[row] = np.where(numbers < dropped, 0, 65536 / (65536 - dropped))
    return factors


def forward(layers, x, *, training=False, key=(0, 0)):
    """Take rows through a stack of layers.

    Parameters
    ----------
    layers : list of dict
    x : ndarray of shape (samples, inputs), float
    training : bool, default=False
        With dropout and the moments of the batch; otherwise without, and with moving averages.
    key : tuple of int, default=(0, 0)
        Of the step's random numbers.

    Returns
    -------
    y : ndarray of shape (samples, outputs)
    tape : list
        What `backward` wants.

    Examples
    --------
    >>> norm = {"kind": "layer_normalization", "gamma": 2.0, "beta": 1.0, "epsilon": 0.0}
    >>> forward([norm], np.array([[1.0, 3.0]]))[0]
    array([[-1.,  3.]])
    """
    tape = []
    for layer in layers:
        kind, before = layer["kind"], x
        if kind == "dense":
            z = x @ layer["kernel"] + layer.get("bias", 0)
            x, kept = _activate(layer, z)
        elif kind == "activation":
            x, kept = _activate(layer, x)
        elif kind == "dropout":
            kept = np.ones_like(x)
            if training:
                kept = dropout_factors(x.shape, layer["dropped"], layer["number"], key)
            x = x * kept
        elif kind == "residual":
            y, kept = forward(layer["layers"], x, training=training, key=key)
            projection = layer["projection"]
            x = y + (x if projection is None else x @ projection)
        else:
            by_row = kind == "layer_normalization"
            mean, variance = x.mean(int(by_row), keepdims=True), x.var(int(by_row), keepdims=True)
            if not (training or by_row):
                mean, variance = layer["moving_mean"], layer["moving_variance"]
            normal = normalize(x, mean, variance, layer["epsilon"])
            kept = (normal, mean, variance)
            x = layer.get("gamma", 1) * normal + layer.get("beta", 0)
        tape.append((layer, before, kept))
    return x, tape


def _activate(layer, z):
    name, alpha = layer["activation"], layer.get("alpha", 0.0)
    y = activate(name, z, alpha)
    return y, z if keeps_z(name) else y


def backward(tape, delta, *, training=False):
    """Return dL/dx and the gradients of all parameters, given dL/dy.

    Parameters
    ----------
    tape : list
        Of `forward`.
    delta : ndarray of shape (samples, outputs)
    training : bool, default=False
        As in `forward`.

    Returns
    -------
    delta : ndarray of shape (samples, inputs)
    gradients : list of ndarray
        In the order of the parameters; zeros for moving averages.
    """
    gradients: list[np.ndarray] = []
    for layer, x, kept in reversed(tape):
        kind = layer["kind"]
        if kind in ("dense", "activation"):
            delta = activate_backward(layer["activation"], kept, delta, layer.get("alpha", 0.0))
        if kind == "dense":
            of_bias = [delta.sum(axis=0)] if "bias" in layer else []
            gradients = [x.T @ delta, *of_bias, *gradients]
            delta = delta @ layer["kernel"].T
        elif kind == "dropout":
            delta = delta * kept
        elif kind == "residual":
            of_projection = []
            below, inner = backward(kept, delta, training=training)
            if layer["projection"] is not None:
                of_projection = [x.T @ delta]
                delta = delta @ layer["projection"].T
            gradients = [*inner, *of_projection, *gradients]
            delta = delta + below
        elif kind != "activation":
            normal, mean, variance = kept
            own = [(delta * normal).sum(axis=0)] if "gamma" in layer else []
            own += [delta.sum(axis=0)] if "beta" in layer else []
            if kind == "batch_normalization":
                own += [np.zeros_like(layer["moving_mean"]), np.zeros_like(layer["moving_mean"])]
            gradients = own + gradients
            delta = delta * layer.get("gamma", 1)
            if training or kind == "layer_normalization":
                axis = 1 if kind == "layer_normalization" else 0
                delta = normalize_backward(normal, delta, variance, layer["epsilon"], axis)
            else:
                delta = delta / np.sqrt(variance + layer["epsilon"])
    return delta, gradients


def moving_averages(tape):
    """Return the moving averages after a training step, in the order of the parameters.

    The variance is the unbiased one, [1]_ algorithm 2.
    """
    averages = []
    for layer, x, kept in tape:
        if layer["kind"] == "residual":
            averages += moving_averages(kept)
        if layer["kind"] == "batch_normalization":
            _, mean, variance = kept
            unbiased = variance * len(x) / max(len(x) - 1, 1)
            m = layer["momentum"]
            averages.append(m * layer["moving_mean"] + (1 - m) * mean[0])
            averages.append(m * layer["moving_variance"] + (1 - m) * unbiased[0])
    return averages
