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
.. [5] A. L. Maas, A. Y. Hannun and A. Y. Ng, "Rectifier nonlinearities improve neural network
       acoustic models", ICML 2013 (leaky ReLU).
.. [6] D.-A. Clevert, T. Unterthiner and S. Hochreiter, "Fast and accurate deep network learning by
       exponential linear units (ELUs)", ICLR 2016, arXiv:1511.07289, equation 15.
.. [7] G. Klambauer, T. Unterthiner, A. Mayr and S. Hochreiter, "Self-normalizing neural networks",
       NeurIPS 2017, arXiv:1706.02515, equations 2 and 14.
.. [8] D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", 2016, arXiv:1606.08415,
       section 2.
.. [9] S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-weighted linear units for neural network function
       approximation in reinforcement learning", Neural Networks 107, 2018, arXiv:1702.03118.
.. [10] D. Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020,
       arXiv:1908.08681, equation 1.
.. [11] C. Dugas, Y. Bengio, F. Belisle, C. Nadeau and R. Garcia, "Incorporating second-order
       functional knowledge for better option pricing", NIPS 2000 (softplus).
.. [12] X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
       networks", AISTATS 2010 (softsign).
.. [13] A. Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244, section 5.2
       (hard sigmoid).
.. [14] M. Abramowitz and I. A. Stegun, *Handbook of Mathematical Functions*, 1964: equations
       26.2.11 and 26.2.14 (normal distribution).
.. [L1] P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics
       35, 1964.
.. [L2] R. Koenker and G. Bassett, "Regression quantiles", Econometrica 46, 1978.
.. [L3] P. McCullagh and J. A. Nelder, *Generalized Linear Models*, Chapman and Hall 1989: the
       likelihoods of table 2.1, up to what does not depend on the mean.
.. [L4] B. Jorgensen, "Exponential dispersion models", Journal of the Royal Statistical Society B
       49, 1987: the unit deviance of power p, halved, up to what does not depend on the mean.
.. [L5] C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016,
       arXiv:1512.00567, section 7 (label smoothing).
.. [L6] C. Cortes and V. Vapnik, "Support-vector networks", Machine Learning 20, 1995.
.. [L7] S. Kullback and R. A. Leibler, "On information and sufficiency", Annals of Mathematical
       Statistics 22, 1951.
.. [L8] T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017, arXiv:1708.02002,
       equation 5, with the targets of torchvision's ``sigmoid_focal_loss``.
.. [O1] S. J. Reddi, S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018.
.. [O2] T. Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016, with the schedule
       of the momentum that PyTorch and Keras have.
.. [O3] G. Hinton, *Neural Networks for Machine Learning*, lecture 6e, 2012; centered and with
       momentum in A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013,
       arXiv:1308.0850, equations 38 to 41, but for epsilon, which stands outside of the root.
.. [O4] J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and
       Stochastic Optimization", JMLR 12, 2011.
.. [O5] M. D. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, arXiv:1212.5701.
.. [O6] X. Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023,
       arXiv:2302.06675, algorithm 2.
.. [O7] C. Igel and M. Huesken, "Improving the Rprop Learning Algorithm", 2000: iRprop-.
.. [O8] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

#: Output activation and loss that are computed together, from the logits.
FUSED = {
    ("softmax", "cross_entropy"): "softmax_cross_entropy",
    ("softmax", "kl_divergence"): "softmax_kl_divergence",
    ("sigmoid", "binary_cross_entropy"): "sigmoid_binary_cross_entropy",
    ("sigmoid", "focal"): "sigmoid_focal",
    ("exponential", "poisson"): "exponential_poisson",
    ("exponential", "gamma"): "exponential_gamma",
    ("exponential", "tweedie"): "exponential_tweedie",
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

_LABEL_LOSSES = ("cross_entropy", "softmax_cross_entropy", "hinge", "focal", "sigmoid_focal")


# ------------------------------------------------------------------------------------------- inputs


def convert(x, dtype, scale=1.0):
    """Return inputs of any kind of number in a dtype, times a scale that is rounded to it."""
    dtype = np.dtype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype) * dtype.type(scale)


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


def leaky_relu(z, alpha):
    """Return y = z where z > 0, else alpha * z; [5]_."""
    return np.where(z > 0, z, z.dtype.type(alpha) * z)


def elu(z, alpha):
    """Return y = z where z > 0, else alpha * (exp(z) - 1); [6]_."""
    return np.where(z > 0, z, z.dtype.type(alpha) * np.expm1(np.minimum(z, 0)))


def _selu_constants(dtype):
    """Return scale and alpha, [7]_ equation 14."""
    return dtype.type("1.0507009873554804934193349852946"), dtype.type(
        "1.6732632423543772848170429916717"
    )


def selu(z):
    """Return y = scale * elu(z, alpha), with the constants of [7]_."""
    scale, alpha = _selu_constants(z.dtype)
    return scale * elu(z, alpha)


def _normal(x):
    """Return the standard normal density and the probability above x, [14]_, for x >= 0.

    Near zero by 26.2.11, Q(x) = 1/2 - phi(x) * (x + x**3/3 + x**5/(3*5) + ...), beyond it by
    26.2.14, Q(x) = phi(x) / (x + 1/(x + 2/(x + 3/(x + ...)))): both to the dtype's precision.
    """
    x = np.minimum(x, 200)  # where the density is zero in any dtype
    density = np.exp(-x * x / 2) / np.sqrt(8 * np.arctan(x.dtype.type(1)))
    near, beyond = np.minimum(x, 2), np.maximum(x, 2)
    term = series = near
    for n in range(1, 45):
        term = term * near * near / (2 * n + 1)
        series = series + term
    fraction = beyond
    for n in range(150, 0, -1):
        fraction = beyond + n / fraction
    return density, np.where(x > 2, density / fraction, 0.5 - density * series)


def gelu(z):
    """Return y = z * Phi(z), Phi the standard normal distribution function; [8]_."""
    _, above = _normal(np.abs(z))
    return np.where(z < 0, z * above, z - z * above)


def _gelu_gate(z):
    """Return 2 * sqrt(2 / pi) * (z + 0.044715 * z**3) and its derivative."""
    z = np.clip(z, -100, 100)  # the sigmoid has long been 0 or 1
    root, cubic = np.sqrt(2 / np.arctan(z.dtype.type(1))), z.dtype.type("0.044715")
    return root * (z + cubic * z**3), root * (1 + 3 * cubic * z**2)


def gelu_tanh(z):
    """Return y = z/2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))), [8]_.

    Written with 1/2 * (1 + tanh(v)) = sigmoid(2 * v), in which nothing cancels.
    """
    return z * sigmoid(_gelu_gate(z)[0])


def silu(z):
    """Return y = z * sigmoid(z), [9]_."""
    return z * sigmoid(z)


def mish(z):
    """Return y = z * tanh(softplus(z)), [10]_."""
    return z * np.tanh(softplus(z))


def softplus(z):
    """Return y = log(1 + exp(z)) as max(z, 0) + log(1 + exp(-abs(z))), [11]_."""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def softsign(z):
    """Return y = z / (1 + abs(z)), [12]_."""
    return z / (1 + np.abs(z))


def hard_sigmoid(z):
    """Return y = min(max(z + 3, 0), 6) / 6, [13]_."""
    return np.clip(z + 3, 0, 6) / 6


def exponential(z):
    """Return y = exp(z)."""
    return np.exp(z)


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


def leaky_relu_backward(y, delta, alpha):
    """Return dL/dz = dL/dy where y > 0, else dL/dy * alpha."""
    return np.where(y > 0, delta, y.dtype.type(alpha) * delta)


def elu_backward(y, delta, alpha):
    """Return dL/dz = dL/dy where y > 0, else dL/dy * (y + alpha): the sum is alpha * exp(z)."""
    return np.where(y > 0, delta, delta * (y + y.dtype.type(alpha)))


def selu_backward(y, delta):
    """Return dL/dz = dL/dy * scale where y > 0, else dL/dy * (y + scale * alpha)."""
    scale, alpha = _selu_constants(y.dtype)
    return np.where(y > 0, scale * delta, delta * (y + scale * alpha))


def gelu_backward(z, delta):
    """Return dL/dz = dL/dy * (Phi(z) + z * phi(z)), phi the density."""
    density, above = _normal(np.abs(z))
    return delta * (np.where(z < 0, above, 1 - above) + np.clip(z, -200, 200) * density)


def gelu_tanh_backward(z, delta):
    """Return dL/dz = dL/dy * (s + z * s * (1 - s) * v'(z)), s = sigmoid(v(z))."""
    gate, slope = _gelu_gate(z)
    return delta * (sigmoid(gate) + z * sigmoid(gate) * sigmoid(-gate) * slope)


def silu_backward(z, delta):
    """Return dL/dz = dL/dy * s * (1 + z * (1 - s)), s = sigmoid(z)."""
    return delta * sigmoid(z) * (1 + z * sigmoid(-z))


def mish_backward(z, delta):
    """Return dL/dz = dL/dy * (t + z * sigmoid(z) * (1 - t**2)), t = tanh(softplus(z))."""
    t = np.tanh(softplus(z))
    return delta * (t + z * sigmoid(z) * (1 - t) * (1 + t))


def softplus_backward(y, delta):
    """Return dL/dz = dL/dy * (1 - exp(-y)), which is the sigmoid of z."""
    return delta * -np.expm1(-y)


def softsign_backward(y, delta):
    """Return dL/dz = dL/dy * (1 - abs(y))**2."""
    return delta * (1 - np.abs(y)) ** 2


def hard_sigmoid_backward(y, delta):
    """Return dL/dz = dL/dy / 6 where 0 < y < 1, else 0."""
    return np.where((y > 0) & (y < 1), delta / 6, delta.dtype.type(0))


def exponential_backward(y, delta):
    """Return dL/dz = dL/dy * y."""
    return delta * y


_ACTIVATE: dict[str, Callable[..., Any]] = {
    "identity": identity,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softmax": softmax,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "mish": mish,
    "softplus": softplus,
    "softsign": softsign,
    "hard_sigmoid": hard_sigmoid,
    "exponential": exponential,
}
_ACTIVATE_BACKWARD: dict[str, Callable[..., Any]] = {
    "identity": lambda y, delta: delta.copy(),
    "relu": relu_backward,
    "sigmoid": sigmoid_backward,
    "tanh": tanh_backward,
    "softmax": softmax_backward,
    "leaky_relu": leaky_relu_backward,
    "elu": elu_backward,
    "selu": selu_backward,
    "gelu": gelu_backward,
    "gelu_tanh": gelu_tanh_backward,
    "silu": silu_backward,
    "mish": mish_backward,
    "softplus": softplus_backward,
    "softsign": softsign_backward,
    "hard_sigmoid": hard_sigmoid_backward,
    "exponential": exponential_backward,
}
_WITH_ALPHA = ("leaky_relu", "elu")
_KEEPS_Z = ("gelu", "gelu_tanh", "silu", "mish")


def keeps_z(name):
    """Return whether an activation's derivative is a function of z that its output does not tell.

    Examples
    --------
    >>> keeps_z("silu"), keeps_z("tanh")
    (True, False)
    """
    return name in _KEEPS_Z


def activate(name, z, alpha=0.0):
    """Apply an activation to pre-activations.

    Parameters
    ----------
    name : str
        One of the functions above.
    z : ndarray of shape (samples, units), float
    alpha : float, default=0.0
        The parameter of leaky_relu and elu.

    Returns
    -------
    ndarray of shape (samples, units), dtype of `z`

    Examples
    --------
    >>> import numpy as np
    >>> activate("leaky_relu", np.array([[-1.0, 2.0]]), alpha=0.5)
    array([[-0.5,  2. ]])
    """
    return _ACTIVATE[name](z, *[alpha] * (name in _WITH_ALPHA))


def activate_backward(name, kept, delta, alpha=0.0):
    """Turn dL/dy into dL/dz, given what the activation keeps.

    Parameters
    ----------
    name : str
        One of the functions above.
    kept, delta : ndarray of shape (samples, units), float
        What `activate` returned or, where `keeps_z`, what it was given; and the derivative of the
        loss with respect to what it returned.
    alpha : float, default=0.0
        As `activate` had it.

    Returns
    -------
    ndarray of shape (samples, units), dtype of `delta`

    Examples
    --------
    >>> import numpy as np
    >>> activate_backward("sigmoid", np.array([[0.5]]), np.array([[2.0]]))
    array([[0.5]])
    """
    return _ACTIVATE_BACKWARD[name](kept, delta, *[alpha] * (name in _WITH_ALPHA))


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
        Loss. A 1-d target of a loss over classes holds labels, and becomes one-hot, unless there is
        one output.
    target : array_like of shape (samples, units) or (samples,)
    out : ndarray of shape (samples, units)

    Returns
    -------
    ndarray of shape (samples, units), dtype of `out`
    """
    target = np.asarray(target)
    over_classes = "cross_entropy" in name or out.shape[1] > 1
    if target.ndim == 1 and name in _LABEL_LOSSES and over_classes:
        return one_hot(target, out.shape[1], out.dtype)
    return target.reshape(out.shape).astype(out.dtype)


def _smoothed(t, n_classes, smoothing):
    """Return (1 - smoothing) * t + smoothing / n_classes, [L5]_."""
    return (1 - smoothing) * t + smoothing / n_classes


def _log_cosh(e):
    """Return log((exp(e) + exp(-e)) / 2); near zero from cosh e = 1 + 2 sinh(e / 2)**2."""
    size = np.abs(e)
    near_zero = np.log1p(2 * np.sinh(np.minimum(size, 1) / 2) ** 2)
    beyond = size + np.log1p(np.exp(-2 * size)) - np.log(e.dtype.type(2))
    return np.where(size < 1, near_zero, beyond)


def _times_log(t):
    """Return t * log(t), 0 at 0."""
    return t * np.log(np.where(t > 0, t, 1))


def _focal_parts(name, out, t, eps, gamma, alpha):
    """Return the factor a_j u_j**gamma, u_j itself, and y_j and 1 - y_j, of the focal loss."""
    if name == "sigmoid_focal":
        p, q = sigmoid(out), sigmoid(-out)
    else:
        p, q = np.clip(out, eps, 1), np.clip(1 - out, eps, 1)
    wrong = t * q + (1 - t) * p
    return (alpha * t + (1 - alpha) * (1 - t)) * wrong**gamma, wrong, p, q


def _tweedie_parts(z, t, power):
    """Return t * m**(1 - power) and m**(2 - power) for m = exp(z)."""
    return t * np.exp((1 - power) * z), np.exp((2 - power) * z)


def loss_values(name, out, target, eps=None, *, parameter=0.0, smoothing=0.0, unit=None):
    """Return the loss of every sample, shape (samples,).

    Parameters
    ----------
    name : str
        With e_j = y_j - t_j, m_j = max(y_j, eps), s_j = 1 where t_j > 0, else -1, t'_j the smoothed
        targets, w_j = `unit`:

        - ``"squared_error"``: 1/2 sum_j e_j**2
        - ``"absolute_error"``: sum_j abs(e_j)
        - ``"huber"``: sum_j of e_j**2 / 2 where abs(e_j) <= d, else d (abs(e_j) - d/2), [L1]_;
          d is the parameter
        - ``"log_cosh"``: sum_j log(cosh(e_j))
        - ``"quantile"``: sum_j max(-w_j e_j, (1 - w_j) e_j), [L2]_
        - ``"poisson"``: sum_j m_j - t_j log(m_j), [L3]_
        - ``"gamma"``: sum_j t_j / m_j + log(m_j), [L3]_
        - ``"tweedie"``: sum_j -t_j m_j**(1-p) / (1-p) + m_j**(2-p) / (2-p), [L4]_; p is the
          parameter
        - ``"cross_entropy"``: -sum_j w_j t'_j log(m_j), [1]_ section 6.2.2.3
        - ``"binary_cross_entropy"``: -sum_j [t'_j log(m_j) + (1 - t'_j) log(max(1 - y_j, eps))]
        - ``"hinge"``: sum_j max(0, 1 - s_j y_j), [L6]_
        - ``"kl_divergence"``: sum_j t_j log(t_j / m_j), [L7]_
        - ``"focal"``: sum_j a_j u_j**gamma c_j, [L8]_, c_j a term of the binary cross-entropy,
          u_j = t_j (1 - y_j) + (1 - t_j) y_j and a_j = alpha t_j + (1 - alpha) (1 - t_j), with y_j
          and 1 - y_j within [eps, 1]; gamma is the parameter, alpha the smoothing
        - ``"softmax_cross_entropy"``, from logits: -sum_j w_j t'_j (z_j - log sum_k exp z_k)
        - ``"softmax_kl_divergence"``, from logits: the former less the entropy -sum_j t_j log t_j
        - ``"sigmoid_binary_cross_entropy"``, from logits:
          sum_j [max(z_j, 0) - t'_j z_j + log(1 + exp(-abs(z_j)))],
          which for targets of 0 and 1 is softplus((1 - 2t) z), [1]_ equation 6.26
        - ``"sigmoid_focal"``, ``"exponential_poisson"``, ``"exponential_gamma"``,
          ``"exponential_tweedie"``: of y = sigmoid(z) and m = exp(z), with no bounds
    out : ndarray of shape (samples, units), float
        Activations y, or z for those that are named after an activation.
    target : array_like of shape (samples, units), or (samples,)
        Labels where 1-d and the loss is one over classes.
    eps : float, default=None
        Lower bound of means and probabilities; None means ``numpy.finfo(out.dtype).eps``.
    parameter, smoothing : float, default=0.0
    unit : ndarray of shape (units,), default=None
        What each loss is told; None for `unit` means ones.

    Examples
    --------
    >>> import numpy as np
    >>> loss_values("squared_error", np.array([[1.0, 3.0]]), [[0.0, 1.0]])
    array([2.5])
    """
    eps = np.finfo(out.dtype).eps if eps is None else eps
    t = dense_target(name, target, out)
    w = np.ones_like(out) if unit is None else np.asarray(unit, out.dtype)
    m = np.maximum(out, eps)
    error = out - t
    if name == "squared_error":
        return (error**2).sum(axis=1) / 2
    if name == "absolute_error":
        return np.abs(error).sum(axis=1)
    if name == "huber":
        size = np.abs(error)
        outside = parameter * (size - parameter / 2)
        return np.where(size <= parameter, error**2 / 2, outside).sum(axis=1)
    if name == "log_cosh":
        return _log_cosh(error).sum(axis=1)
    if name == "quantile":
        return np.maximum(-w * error, (1 - w) * error).sum(axis=1)
    if name == "poisson":
        return (m - t * np.log(m)).sum(axis=1)
    if name == "gamma":
        return (t / m + np.log(m)).sum(axis=1)
    if name in ("tweedie", "exponential_tweedie"):
        z = np.log(m) if name == "tweedie" else out
        of_target, rest = _tweedie_parts(z, t, parameter)
        return (of_target / (parameter - 1) + rest / (2 - parameter)).sum(axis=1)
    if name == "cross_entropy":
        return -(w * _smoothed(t, out.shape[1], smoothing) * np.log(m)).sum(axis=1)
    if name == "binary_cross_entropy":
        t = _smoothed(t, 2, smoothing)
        return -(t * np.log(m) + (1 - t) * np.log(np.maximum(1 - out, eps))).sum(axis=1)
    if name == "hinge":
        return np.maximum(0, 1 - np.where(t > 0, out, -out)).sum(axis=1)
    if name == "kl_divergence":
        return (_times_log(t) - t * np.log(m)).sum(axis=1)
    if name == "focal":
        factor, _, p, q = _focal_parts(name, out, t, eps, parameter, smoothing)
        return -(factor * (t * np.log(p) + (1 - t) * np.log(q))).sum(axis=1)
    if name in ("softmax_cross_entropy", "softmax_kl_divergence"):
        shifted = out - out.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        entropy = -_times_log(t).sum(axis=1) if name == "softmax_kl_divergence" else 0
        weighted = w * _smoothed(t, out.shape[1], smoothing)
        return (weighted * (log_sum - shifted)).sum(axis=1) - entropy
    if name in ("sigmoid_binary_cross_entropy", "sigmoid_focal"):
        factor = 1
        if name == "sigmoid_focal":
            factor = _focal_parts(name, out, t, eps, parameter, smoothing)[0]
        else:
            t = _smoothed(t, 2, smoothing)
        terms = np.maximum(out, 0) - t * out + np.log1p(np.exp(-np.abs(out)))
        return (factor * terms).sum(axis=1)
    if name == "exponential_poisson":
        return (np.exp(out) - t * out).sum(axis=1)
    if name == "exponential_gamma":
        return (t * np.exp(-out) + out).sum(axis=1)
    raise KeyError(name)


def loss_deltas(name, out, target, eps=None, *, parameter=0.0, smoothing=0.0, unit=None):
    """Return the derivative of every sample's loss with respect to `out`, shape (samples, units).

    Parameters as in `loss_values`. The derivatives, in the same order:

    - e_j
    - the sign of e_j, 0 at 0
    - e_j within [-d, d]
    - tanh(e_j)
    - 1 - w_j where e_j > 0, -w_j where it is less, 0 at 0
    - 1 - t_j / m_j
    - (1 - t_j / m_j) / m_j
    - (m_j**(2-p) - t_j m_j**(1-p)) / m_j
    - -w_j t'_j / m_j
    - -t'_j / m_j + (1 - t'_j) / max(1 - y_j, eps)
    - -s_j where the term is greater than 0, else 0
    - -t_j / m_j
    - a_j u_j**gamma (gamma (1 - 2t_j) c_j / u_j - t_j / y_j + (1 - t_j) / (1 - y_j))
    - softmax(z)_j * sum_k w_k t'_k - w_j t'_j, [2]_ equation 4.109
    - the same
    - sigmoid(z_j) - t'_j
    - with y = sigmoid(z): a_j u_j**gamma (gamma (1 - 2t_j) c_j y_j (1 - y_j) / u_j + y_j - t_j)
    - m_j - t_j; 1 - t_j / m_j; m_j**(2-p) - t_j m_j**(1-p)

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
    w = np.ones_like(out) if unit is None else np.asarray(unit, out.dtype)
    m = np.maximum(out, eps)
    error = out - t
    if name == "squared_error":
        return error
    if name == "absolute_error":
        return np.sign(error)
    if name == "huber":
        return np.clip(error, -parameter, parameter)
    if name == "log_cosh":
        return np.tanh(error)
    if name == "quantile":
        return np.where(error > 0, 1 - w, np.where(error < 0, -w, 0))
    if name == "poisson":
        return 1 - t / m
    if name == "gamma":
        return (1 - t / m) / m
    if name in ("tweedie", "exponential_tweedie"):
        z = np.log(m) if name == "tweedie" else out
        of_target, rest = _tweedie_parts(z, t, parameter)
        return (rest - of_target) / (m if name == "tweedie" else 1)
    if name == "cross_entropy":
        return -w * _smoothed(t, out.shape[1], smoothing) / m
    if name == "binary_cross_entropy":
        t = _smoothed(t, 2, smoothing)
        return -t / m + (1 - t) / np.maximum(1 - out, eps)
    if name == "hinge":
        sign = np.where(t > 0, out.dtype.type(1), out.dtype.type(-1))
        return np.where(1 - sign * out > 0, -sign, 0)
    if name == "kl_divergence":
        return -t / m
    if name in ("focal", "sigmoid_focal"):
        factor, wrong, p, q = _focal_parts(name, out, t, eps, parameter, smoothing)
        if name == "focal":
            entropy = -(t * np.log(p) + (1 - t) * np.log(q))
            return factor * (parameter * (1 - 2 * t) * entropy / wrong - t / p + (1 - t) / q)
        entropy = np.maximum(out, 0) - t * out + np.log1p(np.exp(-np.abs(out)))
        return factor * (parameter * (1 - 2 * t) * entropy * p * q / wrong + (1 - t) * p - t * q)
    if name in ("softmax_cross_entropy", "softmax_kl_divergence"):
        weighted = w * _smoothed(t, out.shape[1], smoothing)
        return softmax(out) * weighted.sum(axis=1, keepdims=True) - weighted
    if name == "sigmoid_binary_cross_entropy":
        return sigmoid(out) - _smoothed(t, 2, smoothing)
    if name == "exponential_poisson":
        return np.exp(out) - t
    if name == "exponential_gamma":
        return 1 - t * np.exp(-out)
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
    x,
    target,
    weights,
    activations,
    loss,
    *,
    sample_weight=None,
    l2=None,
    eps=None,
    loss_settings=None,
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
    loss : str
        One of those of `loss_values` that read activations. Computed from the logits where `FUSED`
        lists the pair of output activation and loss.
    sample_weight : array_like of shape (samples,), default=None
        None means ones. Where all are zero, so is the average.
    l2 : sequence, default=None
        See `l2_factors`.
    eps : float, default=None
        See `loss_values`.
    loss_settings : dict, default=None
        Keyword arguments of `loss_values`.

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

    told = loss_settings or {}
    value = float(scale @ loss_values(fused or loss, outputs[-1], target, eps, **told))
    delta = scale[:, None] * loss_deltas(fused or loss, outputs[-1], target, eps, **told)
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
    """Return what NAdam multiplies the first moment and the gradient by, [O2]_.

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
    epsilon_hat=0.0,
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
    [O8]_. Then, with lr the learning rate and avg(b, a) = b * a + (1 - b) * g:

    - ``"gradient"``: W stays; the slot becomes the gradient with its penalties
    - ``"accumulate"``: W stays; the slot grows by g alone, the penalties being in it already
    - ``"sgd"``: W -= lr * g
    - ``"momentum"``: v = momentum * v + g; W -= lr * v, [1]_ section 8.3.2
    - ``"nesterov"``: v likewise; W -= lr * (g + momentum * v), [4]_
    - ``"adam"``: m = avg(beta_1, m); v = beta_2 * v + (1 - beta_2) * g**2;
      W -= lr * (m / (1 - beta_1**step)) / (sqrt(v / (1 - beta_2**step)) + epsilon), [3]_; with
      an epsilon_hat, epsilon is epsilon_hat / sqrt(1 - beta_2**step)
    - ``"amsgrad"``: the same with the largest v so far, the third slot, for v, [O1]_
    - ``"nadam"``: with `nadam_factors` of m and g for m / (1 - beta_1**step), [O2]_
    - ``"rmsprop"``: v as Adam's; W -= lr * g / (sqrt(v) + epsilon), [O3]_
    - ``"rmsprop_momentum"``: b = momentum * b + g / (sqrt(v) + epsilon); W -= lr * b
    - ``"centered_rmsprop"``: m = avg(beta_2, m), and v - m**2, not below 0, for v
    - ``"centered_rmsprop_momentum"``: both; the slots are v, m, b
    - ``"adagrad"``: s += g**2; W -= lr * g / (sqrt(s) + epsilon), [O4]_
    - ``"adadelta"``: v as Adam's; d = sqrt(u + epsilon) / sqrt(v + epsilon) * g;
      u = beta_2 * u + (1 - beta_2) * d**2; W -= lr * d, [O5]_
    - ``"lion"``: W -= lr * sign(avg(beta_1, m)); m = avg(beta_2, m), [O6]_
    - ``"rprop"``: a size is multiplied by eta_plus where g and the last one have the same sign, by
      eta_minus where they have not, and bounded; g = 0 in the second case;
      W -= sign(g) * size, [O7]_; the slots are g and size

    Parameters
    ----------
    name : str
        One of `N_SLOTS`.
    g, w : ndarray
        Gradient and parameter, of the same shape.
    slots : sequence of ndarray
        ``N_SLOTS[name]`` arrays of that shape, zeros before the first step.
    learning_rate, momentum, beta_1, beta_2, epsilon, epsilon_hat : float, default=0.0
    momentum_decay, eta_minus, eta_plus, smallest_step, largest_step : float, default=0.0
    decoupled_decay : float, default=0.0
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
        if epsilon_hat > 0:
            epsilon = epsilon_hat / np.sqrt(1 - beta_2**step)
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

    Among at most 2**16 samples, a number chooses two: by its low half, then by its high half.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(shuffled(5, np.random.default_rng(0)).tolist())
    [0, 1, 2, 3, 4]
    """
    order = np.arange(n)
    raw = iter(rng.bit_generator.random_raw(n).tolist())
    halves: list[int] = []
    for last in range(n - 1, 0, -1):
        if last >= 2**16:
            chosen = next(raw) * (last + 1) >> 64
        else:
            if not halves:
                number = next(raw)
                halves = [number % 2**32, number >> 32]
            chosen = halves.pop(0) * (last + 1) >> 32
        order[[chosen, last]] = order[[last, chosen]]
    return order


def epoch_loss(losses, batch_weights):
    """Return an epoch's loss: the batches' losses averaged by their samples (or their weights)."""
    return float(np.average(losses, weights=batch_weights))
