"""A NumPy twin of every operation of the compiled core: slow, obvious, what the tests trust.

The functions take plain arrays and names, never specs or networks, and need NumPy alone. They
compute in the dtype of what they are given, so that a test can hold a float32 kernel against the
same formula in float64.

Conventions
-----------
Samples are rows. A dense layer has a kernel `W` of shape (inputs, units) and a bias `b` of shape
(units,); a network is the list `[W1, b1, W2, b2, ...]` and a list with one activation name per
layer. `delta` is the derivative of the total loss with respect to the array that it accompanies.

Sources
-------
.. [1] I. Goodfellow, Y. Bengio and A. Courville, *Deep Learning*, MIT Press 2016: sections 6.2
       (output units and their losses), 6.5 (back-propagation), 7.1.1 (L2 penalty), 8.3.2 and 8.3.3
       (momentum, Nesterov).
.. [2] C. M. Bishop, *Pattern Recognition and Machine Learning*, Springer 2006: section 5.3 (error
       back-propagation, equations 5.48 to 5.56) and equation 4.106 (derivative of the softmax).
.. [3] D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015,
       arXiv:1412.6980, Algorithm 1.
.. [4] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
       momentum in deep learning", ICML 2013, in the form that looks ahead by one velocity:
       W -= lr * (g + momentum * v).
.. [5] S. J. Reddi, S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018.
.. [6] T. Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016, with the schedule
       of the momentum that PyTorch and Keras have.
.. [7] G. Hinton, *Neural Networks for Machine Learning*, lecture 6e, 2012; centered and with
       momentum in A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013,
       arXiv:1308.0850, equations 38 to 41, but for epsilon, which stands outside of the root.
.. [8] J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and
       Stochastic Optimization", JMLR 12, 2011.
.. [9] M. D. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, arXiv:1212.5701.
.. [10] X. Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023,
       arXiv:2302.06675, algorithm 2.
.. [11] C. Igel and M. Huesken, "Improving the Rprop Learning Algorithm", 2000: iRprop-.
.. [12] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
"""

import numpy as np

#: Output activation and loss that are computed together, from the logits.
FUSED = {
    ("softmax", "cross_entropy"): "softmax_cross_entropy",
    ("sigmoid", "binary_cross_entropy"): "sigmoid_binary_cross_entropy",
}

#: Optimizer name -> number of slot arrays (velocity; first and second moment) per parameter array.
N_SLOTS = {
    "gradient": 1,
    "accumulate": 1,
    "sgd": 0,
    "momentum": 1,
    "nesterov": 1,
    "adam": 2,
    "amsgrad": 3,
    "nadam": 2,
    "rmsprop": 1,
    "rmsprop_momentum": 2,
    "centered_rmsprop": 2,
    "centered_rmsprop_momentum": 3,
    "adagrad": 1,
    "adadelta": 2,
    "lion": 1,
    "rprop": 2,
}

_LABEL_LOSSES = ("cross_entropy", "softmax_cross_entropy")


# -------------------------------------------------------------------------------------- activations


def identity(z):
    """Return y = z."""
    return z.copy()


def relu(z):
    """Return y = max(z, 0), [1]_ section 6.3.1."""
    return np.where(z > 0, z, z.dtype.type(0))


def sigmoid(z):
    """Return y = 1 / (1 + exp(-z)); exp sees negative numbers only, so nothing overflows."""
    decay = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + decay), decay / (1 + decay))


def tanh(z):
    """Return y = tanh(z)."""
    return np.tanh(z)


def softmax(z):
    """Return y_j = exp(z_j - m) / sum_k exp(z_k - m) by row, m = max_k z_k; [1]_ section 4.1."""
    with np.errstate(over="ignore"):  # -max - max is -inf, whose exp is 0, as it should be
        powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def relu_backward(y, delta):
    """Return dL/dz = dL/dy where y > 0, else 0: at z = 0 the derivative is taken as 0."""
    return np.where(y > 0, delta, delta.dtype.type(0))


def sigmoid_backward(y, delta):
    """Return dL/dz = dL/dy * y * (1 - y)."""
    return delta * y * (1 - y)


def tanh_backward(y, delta):
    """Return dL/dz = dL/dy * (1 - y**2)."""
    return delta * (1 - y) * (1 + y)


def softmax_backward(y, delta):
    """Return dL/dz = J' dL/dy by row, J = diag(y) - y y' the full Jacobian; [2]_ 4.106."""
    out = np.empty_like(delta)
    for row, (y_row, delta_row) in enumerate(zip(y, delta, strict=True)):
        jacobian = np.diag(y_row) - np.outer(y_row, y_row)
        out[row] = jacobian.T @ delta_row
    return out


_ACTIVATE = {
    "identity": identity,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softmax": softmax,
}
_ACTIVATE_BACKWARD = {
    "identity": lambda y, delta: delta.copy(),
    "relu": relu_backward,
    "sigmoid": sigmoid_backward,
    "tanh": tanh_backward,
    "softmax": softmax_backward,
}


def activate(name, z):
    """Apply an activation to pre-activations.

    Parameters
    ----------
    name : {"identity", "relu", "sigmoid", "tanh", "softmax"}
    z : ndarray of shape (samples, units), float

    Returns
    -------
    ndarray of shape (samples, units), dtype of `z`

    Examples
    --------
    >>> import numpy as np
    >>> activate("relu", np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """
    return _ACTIVATE[name](z)


def activate_backward(name, y, delta):
    """Turn dL/dy into dL/dz, given the activation's output.

    Parameters
    ----------
    name : {"identity", "relu", "sigmoid", "tanh", "softmax"}
    y, delta : ndarray of shape (samples, units), float
        What `activate` returned, and the derivative of the loss with respect to it.

    Returns
    -------
    ndarray of shape (samples, units), dtype of `delta`

    Examples
    --------
    >>> import numpy as np
    >>> activate_backward("sigmoid", np.array([[0.5]]), np.array([[2.0]]))
    array([[0.5]])
    """
    return _ACTIVATE_BACKWARD[name](y, delta)


# ------------------------------------------------------------------------------------------- losses


def one_hot(labels, n_classes, dtype="float64"):
    """Return rows with a one in the column that the label names, shape (samples, n_classes).

    Examples
    --------
    >>> one_hot([1, 0], 3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    return np.eye(n_classes, dtype=dtype)[np.asarray(labels)]


def dense_target(name, target, out):
    """Bring a target to the shape and dtype of the output that it is compared with.

    Parameters
    ----------
    name : str
        Loss. For the two cross-entropies over classes a 1-d target holds labels, and becomes
        one-hot.
    target : array_like of shape (samples, units) or (samples,)
    out : ndarray of shape (samples, units)

    Returns
    -------
    ndarray of shape (samples, units), dtype of `out`
    """
    target = np.asarray(target)
    if target.ndim == 1 and name in _LABEL_LOSSES:
        return one_hot(target, out.shape[1], out.dtype)
    return target.reshape(out.shape).astype(out.dtype)


def loss_values(name, out, target, eps=None):
    """Return the loss of every sample, shape (samples,).

    Parameters
    ----------
    name : str
        - ``"squared_error"``: 1/2 sum_j (y_j - t_j)**2
        - ``"cross_entropy"``: -sum_j t_j log(max(y_j, eps)), [1]_ section 6.2.2.3
        - ``"binary_cross_entropy"``:
          -sum_j [t_j log(max(y_j, eps)) + (1 - t_j) log(max(1 - y_j, eps))]
        - ``"softmax_cross_entropy"``, from logits: -sum_j t_j (z_j - log sum_k exp z_k)
        - ``"sigmoid_binary_cross_entropy"``, from logits:
          sum_j [max(z_j, 0) - t_j z_j + log(1 + exp(-abs(z_j)))],
          which for targets of 0 and 1 is softplus((1 - 2t) z), [1]_ equation 6.26
    out : ndarray of shape (samples, units), float
        Activations y, or logits z for the last two.
    target : array_like of shape (samples, units), or (samples,)
        Labels where 1-d and the loss is a cross-entropy over classes.
    eps : float, default=None
        Lower bound of the logarithms' arguments; None means ``numpy.finfo(out.dtype).eps``.

    Examples
    --------
    >>> import numpy as np
    >>> loss_values("squared_error", np.array([[1.0, 3.0]]), [[0.0, 1.0]])
    array([2.5])
    """
    eps = np.finfo(out.dtype).eps if eps is None else eps
    t = dense_target(name, target, out)
    if name == "squared_error":
        return ((out - t) ** 2).sum(axis=1) / 2
    if name == "cross_entropy":
        return -(t * np.log(np.maximum(out, eps))).sum(axis=1)
    if name == "binary_cross_entropy":
        return -(t * np.log(np.maximum(out, eps)) + (1 - t) * np.log(np.maximum(1 - out, eps))).sum(
            axis=1
        )
    if name == "softmax_cross_entropy":
        shifted = out - out.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return (t * (log_sum - shifted)).sum(axis=1)
    if name == "sigmoid_binary_cross_entropy":
        return (np.maximum(out, 0) - t * out + np.log1p(np.exp(-np.abs(out)))).sum(axis=1)
    raise KeyError(name)


def loss_deltas(name, out, target, eps=None):
    """Return the derivative of every sample's loss with respect to `out`, shape (samples, units).

    Parameters as in `loss_values`. The derivatives, in the same order:

    - y_j - t_j
    - -t_j / max(y_j, eps)
    - -t_j / max(y_j, eps) + (1 - t_j) / max(1 - y_j, eps)
    - softmax(z)_j * sum_k t_k - t_j, [2]_ equation 4.109
    - sigmoid(z_j) - t_j

    The bounds are not differentiated: a clipped output still gets the (large, finite) slope that
    pulls it back.

    Examples
    --------
    >>> import numpy as np
    >>> loss_deltas("sigmoid_binary_cross_entropy", np.array([[0.0]]), [[1.0]])
    array([[-0.5]])
    """
    eps = np.finfo(out.dtype).eps if eps is None else eps
    t = dense_target(name, target, out)
    if name == "squared_error":
        return out - t
    if name == "cross_entropy":
        return -t / np.maximum(out, eps)
    if name == "binary_cross_entropy":
        return -t / np.maximum(out, eps) + (1 - t) / np.maximum(1 - out, eps)
    if name == "softmax_cross_entropy":
        return softmax(out) * t.sum(axis=1, keepdims=True) - t
    if name == "sigmoid_binary_cross_entropy":
        return sigmoid(out) - t
    raise KeyError(name)


# -------------------------------------------------------------------------------------- dense layer


def dense_forward(x, kernel, bias, activation):
    """Return activation(x @ W + b), shape (samples, units); [2]_ equations 5.48 and 5.49.

    Examples
    --------
    >>> import numpy as np
    >>> dense_forward(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]), "identity")
    array([[11.5]])
    """
    return activate(activation, x @ kernel + bias)


def dense_propagate(delta, kernel, y_below, activation_below):
    """Return dL/dz of the layer below: (delta @ W.T) through its activation, [2]_ equation 5.56.

    Parameters
    ----------
    delta : ndarray of shape (samples, units)
        dL/dz of this layer.
    kernel : ndarray of shape (inputs, units)
    y_below : ndarray of shape (samples, inputs)
        Output of the layer below.
    activation_below : str
        Its activation.
    """
    return activate_backward(activation_below, y_below, delta @ kernel.T)


def dense_gradient(x, delta):
    """Return dL/dW = x.T @ delta and dL/db, the sum of delta's rows; [2]_ equation 5.53.

    Examples
    --------
    >>> import numpy as np
    >>> dense_gradient(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]))
    (array([[11.]]), array([7.]))
    """
    return x.T @ delta, delta.sum(axis=0)


# ------------------------------------------------------------------------------------------ network


def layer_outputs(x, weights, activations):
    """Return the activations of every layer, arrays of shape (samples, units of the layer).

    Parameters
    ----------
    x : ndarray of shape (samples, inputs)
    weights : list of ndarray
        [W1, b1, W2, b2, ...].
    activations : sequence of str
        One name per layer.
    """
    outputs = []
    for kernel, bias, activation in zip(weights[::2], weights[1::2], activations, strict=True):
        x = dense_forward(x, kernel, bias, activation)
        outputs.append(x)
    return outputs


def l2_factors(l2, n_layers, batch_weight):
    """Return by layer the factor of 1/2 sum(W**2): strength, or per batch strength / batch_weight.

    Parameters
    ----------
    l2 : None or sequence of (None or (float, bool))
        Per layer its (strength, per_batch); None where there is no penalty.
    n_layers : int
    batch_weight : float
        Sum of the sample weights of a batch: their number, where there are none. A batch without
        any weight has no penalty per batch.

    Returns
    -------
    list of float
    """
    if l2 is None:
        return [0.0] * n_layers
    factors = []
    for entry in l2:
        strength, per_batch = entry or (0.0, False)
        if per_batch:
            strength = strength / batch_weight if batch_weight > 0 else 0.0
        factors.append(strength)
    return factors


def loss_and_gradients(
    x, target, weights, activations, loss, *, sample_weight=None, l2=None, eps=None
):
    """Return the loss of a batch and its derivative with respect to every parameter.

    L = sum_i w_i L_i / sum_i w_i + sum over layers of factor/2 * sum(W**2), where the L_i are
    `loss_values` and the factors `l2_factors`; biases are not penalized. The derivatives follow by
    back-propagation, [2]_ section 5.3.1.

    Parameters
    ----------
    x : ndarray of shape (samples, inputs)
    target : array_like of shape (samples, units) or (samples,)
    weights : list of ndarray
        [W1, b1, W2, b2, ...].
    activations : sequence of str
        One name per layer.
    loss : {"squared_error", "cross_entropy", "binary_cross_entropy"}
        Computed from the logits where `FUSED` lists the pair of output activation and loss.
    sample_weight : array_like of shape (samples,), default=None
        None means ones. Where all are zero, so is the average.
    l2 : sequence, default=None
        See `l2_factors`.
    eps : float, default=None
        See `loss_values`.

    Returns
    -------
    loss : float
    gradients : list of ndarray
        [dL/dW1, dL/db1, ...].

    Examples
    --------
    >>> import numpy as np
    >>> one = np.ones((1, 1))
    >>> weights = [2 * one, np.zeros(1)]
    >>> loss_and_gradients(one, one, weights, ["identity"], "squared_error")
    (0.5, [array([[1.]]), array([1.])])
    """
    kernels, n_layers = weights[::2], len(activations)
    scale = np.ones(len(x))
    if sample_weight is not None:
        scale = np.asarray(sample_weight, dtype="float64")
    batch_weight = scale.sum()
    scale = (scale / (batch_weight or 1)).astype(x.dtype)

    fused = FUSED.get((activations[-1], loss))
    forward_activations = list(activations)
    if fused:
        forward_activations[-1] = "identity"
    outputs = layer_outputs(x, weights, forward_activations)

    value = float(scale @ loss_values(fused or loss, outputs[-1], target, eps))
    delta = scale[:, None] * loss_deltas(fused or loss, outputs[-1], target, eps)
    delta = activate_backward(forward_activations[-1], outputs[-1], delta)

    factors = l2_factors(l2, n_layers, batch_weight)
    gradients = [None] * len(weights)
    for layer in reversed(range(n_layers)):
        below = outputs[layer - 1] if layer else x
        d_kernel, d_bias = dense_gradient(below, delta)
        value += factors[layer] / 2 * float((kernels[layer] ** 2).sum())
        gradients[2 * layer] = d_kernel + x.dtype.type(factors[layer]) * kernels[layer]
        gradients[2 * layer + 1] = d_bias
        if layer:
            delta = dense_propagate(delta, kernels[layer], below, activations[layer - 1])
    return value, gradients


# --------------------------------------------------------------------------------------- optimizers


def nadam_factors(beta_1, momentum_decay, step):
    """Return what NAdam multiplies the first moment and the gradient by, [6]_.

    Examples
    --------
    >>> nadam_factors(0.9, 0.0, 1)  # a constant momentum of 0.45
    (0.5642633228840126, 1.0)
    """
    mu = [beta_1 * (1 - 0.96 ** (t * momentum_decay) / 2) for t in range(1, step + 2)]
    of_m = mu[step] / (1 - np.prod(mu))
    of_g = (1 - mu[step - 1]) / (1 - np.prod(mu[:-1]))
    return float(of_m), float(of_g)


def shaped_gradient(
    g, w, *, l2=0.0, l1=0.0, gradient_scale=1.0, clip_value=np.inf, weight_decay=0.0
):
    """Return the gradient that an optimizer sees.

    Penalties first, [1]_ sections 7.1.1 and 7.1.2, with sign(0) = 0; then the scale that clipping
    a norm comes to, the bounds of its elements, and the weight decay.

    Examples
    --------
    >>> import numpy as np
    >>> shaped_gradient(np.array([3.0, 0.0]), np.array([-1.0, 0.0]), l1=0.5, clip_value=2.0)
    array([2., 0.])
    """
    g = gradient_scale * (g + l2 * w + l1 * np.sign(w))
    return np.clip(g, -clip_value, clip_value) + weight_decay * w


def update(
    name,
    g,
    w,
    slots=(),
    *,
    learning_rate=0.0,
    momentum=0.0,
    beta_1=0.0,
    beta_2=0.0,
    epsilon=0.0,
    momentum_decay=0.0,
    eta_minus=0.0,
    eta_plus=0.0,
    smallest_step=0.0,
    largest_step=0.0,
    decoupled_decay=0.0,
    step=1,
    **shape,
):
    """Return a parameter array and its slots after one optimizer step.

    The gradient is `shaped_gradient` first, and W loses lr * decoupled_decay * W beside all that,
    [12]_. Then, with lr the learning rate and avg(b, a) = b * a + (1 - b) * g:

    - ``"gradient"``: W stays; the slot becomes the gradient with its penalties
    - ``"accumulate"``: W stays; the slot grows by g alone, the penalties being in it already
    - ``"sgd"``: W -= lr * g
    - ``"momentum"``: v = momentum * v + g; W -= lr * v, [1]_ section 8.3.2
    - ``"nesterov"``: v likewise; W -= lr * (g + momentum * v), [4]_
    - ``"adam"``: m = avg(beta_1, m); v = beta_2 * v + (1 - beta_2) * g**2;
      W -= lr * (m / (1 - beta_1**step)) / (sqrt(v / (1 - beta_2**step)) + epsilon), [3]_
    - ``"amsgrad"``: the same with the largest v so far, the third slot, for v, [5]_
    - ``"nadam"``: with `nadam_factors` of m and g for m / (1 - beta_1**step), [6]_
    - ``"rmsprop"``: v as Adam's; W -= lr * g / (sqrt(v) + epsilon), [7]_
    - ``"rmsprop_momentum"``: b = momentum * b + g / (sqrt(v) + epsilon); W -= lr * b
    - ``"centered_rmsprop"``: m = avg(beta_2, m), and v - m**2, not below 0, for v
    - ``"centered_rmsprop_momentum"``: both; the slots are v, m, b
    - ``"adagrad"``: s += g**2; W -= lr * g / (sqrt(s) + epsilon), [8]_
    - ``"adadelta"``: v as Adam's; d = sqrt(u + epsilon) / sqrt(v + epsilon) * g;
      u = beta_2 * u + (1 - beta_2) * d**2; W -= lr * d, [9]_
    - ``"lion"``: W -= lr * sign(avg(beta_1, m)); m = avg(beta_2, m), [10]_
    - ``"rprop"``: a size is multiplied by eta_plus where g and the last one have the same sign, by
      eta_minus where they have not, and bounded; g = 0 in the second case;
      W -= sign(g) * size, [11]_; the slots are g and size

    Parameters
    ----------
    name : str
        One of `N_SLOTS`.
    g, w : ndarray
        Gradient and parameter, of the same shape.
    slots : sequence of ndarray
        ``N_SLOTS[name]`` arrays of that shape, zeros before the first step.
    learning_rate, momentum, beta_1, beta_2, epsilon, momentum_decay : float, default=0.0
    eta_minus, eta_plus, smallest_step, largest_step, decoupled_decay : float, default=0.0
    step : int, default=1
        Number of this step, counted from one.
    **shape : float
        What `shaped_gradient` takes.

    Returns
    -------
    w : ndarray
    slots : list of ndarray

    Examples
    --------
    >>> import numpy as np
    >>> update("sgd", np.array([1.0]), np.array([2.0]), learning_rate=0.5)
    (array([1.5]), [])
    """

    def average(beta, a):
        return beta * a + (1 - beta) * g

    def average_of_squares(a):
        return beta_2 * a + (1 - beta_2) * g**2

    if name == "accumulate":
        return w.copy(), [slots[0] + g]
    if name == "gradient":
        penalties = {key: shape[key] for key in ("l2", "l1") if key in shape}
        return w.copy(), [shaped_gradient(g, w, **penalties)]
    g = shaped_gradient(g, w, **shape)
    kept = w - learning_rate * decoupled_decay * w
    if name == "sgd":
        return kept - learning_rate * g, []
    if name in ("momentum", "nesterov"):
        velocity = momentum * slots[0] + g
        direction = velocity if name == "momentum" else g + momentum * velocity
        return kept - learning_rate * direction, [velocity]
    if name in ("adam", "amsgrad", "nadam"):
        m, v = average(beta_1, slots[0]), average_of_squares(slots[1])
        new, largest, direction = [m, v], v, m / (1 - beta_1**step)
        if name == "amsgrad":
            largest = np.maximum(slots[2], v)
            new.append(largest)
        if name == "nadam":
            of_m, of_g = nadam_factors(beta_1, momentum_decay, step)
            direction = of_m * m + of_g * g
        root = np.sqrt(largest / (1 - beta_2**step))
        return kept - learning_rate * direction / (root + epsilon), new
    if "rmsprop" in name:
        new = [average_of_squares(slots[0])]
        variance = new[0]
        if "centered" in name:
            new.append(average(beta_2, slots[1]))
            variance = np.maximum(variance - new[1] ** 2, 0)
        direction = g / (np.sqrt(variance) + epsilon)
        if "momentum" in name:
            direction = momentum * slots[len(new)] + direction
            new.append(direction)
        return kept - learning_rate * direction, new
    if name == "adagrad":
        total = slots[0] + g**2
        return kept - learning_rate * g / (np.sqrt(total) + epsilon), [total]
    if name == "adadelta":
        v = average_of_squares(slots[0])
        direction = np.sqrt(slots[1] + epsilon) / np.sqrt(v + epsilon) * g
        u = beta_2 * slots[1] + (1 - beta_2) * direction**2
        return kept - learning_rate * direction, [v, u]
    if name == "lion":
        direction = np.sign(average(beta_1, slots[0]))
        return kept - learning_rate * direction, [average(beta_2, slots[0])]
    if name == "rprop":
        turn = np.sign(g) * np.sign(slots[0])
        factor = np.where(turn > 0, eta_plus, np.where(turn < 0, eta_minus, 1))
        size = np.clip(slots[1] * factor, smallest_step, largest_step)
        g = np.where(turn < 0, 0, g)
        return kept - np.sign(g) * size, [g, size]
    raise KeyError(name)


def train(weights, activations, loss, batches, optimizer, *, l2=None, eps=None, **hyperparameters):
    """Train on given batches from given weights, one optimizer step per batch.

    Parameters
    ----------
    weights : list of ndarray
        [W1, b1, W2, b2, ...] at the start; not modified.
    activations : sequence of str
        One name per layer.
    loss : str
        See `loss_and_gradients`.
    batches : iterable of (x, target) or (x, target, sample_weight)
    optimizer : str
        See `update`.
    l2 : sequence, default=None
        See `l2_factors`.
    eps : float, default=None
        See `loss_values`.
    **hyperparameters : float
        As `update` takes them.

    Returns
    -------
    weights : list of ndarray
    losses : list of float
        Loss of every batch, before its step.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.ones((1, 1))
    >>> batches = [(one, one), (one, one)]
    >>> start = [2 * one, np.zeros(1)]
    >>> weights, losses = train(
    ...     start, ["identity"], "squared_error", batches, "sgd", learning_rate=0.5
    ... )
    >>> losses
    [0.5, 0.0]
    """
    weights = [np.array(w) for w in weights]
    slots = [[np.zeros_like(w) for _ in range(N_SLOTS[optimizer])] for w in weights]
    losses = []
    for step, (x, target, *sample_weight) in enumerate(batches, start=1):
        value, gradients = loss_and_gradients(
            x,
            target,
            weights,
            activations,
            loss,
            sample_weight=sample_weight[0] if sample_weight else None,
            l2=l2,
            eps=eps,
        )
        losses.append(value)
        for i, gradient in enumerate(gradients):
            weights[i], slots[i] = update(
                optimizer, gradient, weights[i], slots[i], step=step, **hyperparameters
            )
    return weights, losses


def batches_of(x, target, batch_size, sample_weight=None):
    """Yield consecutive batches in the given order; the last one may be smaller.

    Examples
    --------
    >>> import numpy as np
    >>> [len(x) for x, target in batches_of(np.zeros((5, 1)), np.zeros(5), 2)]
    [2, 2, 1]
    """
    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        yield (
            (x[rows], target[rows])
            if sample_weight is None
            else (x[rows], target[rows], sample_weight[rows])
        )


def shuffled(n, rng):
    """Return the order of Fisher and Yates's shuffle, from the raw 64-bit numbers of a generator.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(shuffled(5, np.random.default_rng(0)).tolist())
    [0, 1, 2, 3, 4]
    """
    order = np.arange(n)
    raw = rng.bit_generator.random_raw(n)
    for done in range(n - 1):
        last = n - 1 - done
        chosen = int(raw[done]) * (last + 1) >> 64
        order[[chosen, last]] = order[[last, chosen]]
    return order


def epoch_loss(losses, batch_weights):
    """Return an epoch's loss: the batches' losses averaged by their samples (or their weights)."""
    return float(np.average(losses, weights=batch_weights))
