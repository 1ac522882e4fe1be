"""What the docstrings of both estimators say alike."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent
from typing import TypeVar

_Class = TypeVar("_Class", bound=type)

_PARAMETERS = """\
hidden_layer_sizes : int or array-like of int, default=(100,)
    Number of units in each hidden layer; ``()`` for none.
activation : str, activation or list of them, default='relu'
    Activation of the hidden layers, or a list with one for each: 'identity', 'logistic',
    'tanh', 'relu', any other name of `cymlp.activations`, or an instance.
{loss}\
solver : str or Optimizer, default='adam'
    How the weights are updated: 'lbfgs', 'sgd', 'adam', another name of `cymlp.optimizers`, or
    an instance, which has its own learning rate. 'adamw' and 'nadam' go by `beta_1`, `beta_2`
    and `epsilon`, too; whatever else they have stands at its default. 'lbfgs' takes all samples
    at once, in at most `max_iter` iterations, until no element of the gradient exceeds `tol`.
alpha : float, default=0.0001
    Strength of the L2 penalty ``alpha / 2 * sum(W**2)``, divided by the number of samples in
    the batch (the sum of their weights). Of `layers`, which may have penalties of their own, it
    does not touch the kernels.
batch_size : int or 'auto', default='auto'
    Samples per update; 'auto' is ``min(200, n_samples)``.
learning_rate : str or Schedule, default='constant'
    With solver='sgd', 'invscaling' sets it to ``learning_rate_init / (t_ + 1)**power_t`` after
    each epoch, and 'adaptive' divides it by 5 where training would stop, down to 1e-6; other
    solvers take both for 'constant'. The names of `cymlp.schedules` stand for a schedule from
    `learning_rate_init` over all of `max_iter` epochs ('step_decay': a tenth after each third,
    'exponential_decay': down to a hundredth, 'cosine_decay_restarts': three cycles of 1, 2 and 4
    sevenths); an instance, for itself.
learning_rate_init : float, default=0.001
    Step size.
power_t : float, default=0.5
    Exponent of learning_rate='invscaling'.
max_iter : int, default=200
    Largest number of epochs. Reaching it raises a `ConvergenceWarning`.
shuffle : bool, default=True
    Whether every epoch visits the samples in a new order.
random_state : int, RandomState instance or None, default=None
    Decides initial weights, the held-out split and the order of samples, all of them drawn as
    scikit-learn does, and then dropout.
tol : float, default=1e-4
    What the loss (with `early_stopping`, the validation score) must improve by to count.
verbose : bool, int or 'progress', default=False
    Whether to print the loss of every epoch; 'progress' shows a progress bar instead.
warm_start : bool, default=False
    Whether `fit` starts from the weights of the previous `fit`.
momentum : float, default=0.9
    Momentum in [0, 1], for solver='sgd'.
nesterovs_momentum : bool, default=True
    Whether momentum is Nesterov's, for solver='sgd' and momentum > 0.
early_stopping : bool, default=False
    Whether to hold out `validation_fraction` of the samples{stratified}, stop when their score
    no longer improves, and keep the weights of the best epoch.
validation_fraction : float, default=0.1
    Share of the samples held out by `early_stopping`, unless `fit` is given an `eval_set`.
beta_1, beta_2 : float, default=0.9 and 0.999
    Decay rates of Adam's first and second moment, in [0, 1).
epsilon : float, default=1e-8
    Added to the root in the denominator of Adam's step, ahead of its correction.
n_iter_no_change : int or inf, default=10
    Training stops after more than this many epochs in a row that improve by less than `tol`.
max_fun : int, default=15000
    Largest number of evaluations of the loss, for solver='lbfgs'.
{own}\
layers : list of Layer, default=None
    The hidden layers, of `cymlp.layers`, instead of those that `hidden_layer_sizes`,
    `activation`, `normalization` and `dropout` describe; the output layer comes behind them.
n_layers, width : int, default=None
    Number of hidden layers and of units in each, as scalars for a search; where one of them is
    given, they take the place of `hidden_layer_sizes`, the other one being 1 or 100.
normalization : {{'batch', 'layer'}}, default=None
    What comes between the weighted sums of a hidden layer and its activation.
dropout : float, default=0.0
    Share of each hidden layer's outputs that is dropped in training, in [0, 1).
scoring : str, callable or None, default=None
    How held-out samples are scored: None for {score}, 'loss' for the negative loss, the name of
    one of scikit-learn's scorers, or a function of ``(estimator, X, y)``.
callbacks : list of Callback, default=None
    Of `cymlp.callbacks`: called between epochs, with `network_` for a model.
n_jobs : int, default=None
    Number of threads; -1 for one on each core. None: those of `cymlp.get_num_threads`, which
    obey threadpoolctl. They change no result.
"""

_ATTRIBUTES = """\
coefs_, intercepts_ : lists of ndarray
    Kernel (inputs, units) and bias (units,) of each dense layer, as read-only copies. Assign a
    list to change them.
loss_ : float
    Loss of the last epoch, the L2 penalty included.{loss_note}
best_loss_ : float or None
    Smallest loss of any epoch; None with `early_stopping`.
loss_curve_ : list of float
    Loss of each epoch.
validation_scores_ : list of float or None
    Score of the held-out samples after each epoch: see `scoring`. None without any.
validation_loss_curve_ : list of float or None
    Their loss, without the penalty.
best_validation_score_ : float or None
    Largest of `validation_scores_`.
n_iter_ : int
    Epochs of the last call.
t_ : int
    Training samples seen so far; 0 with solver='lbfgs'.
n_layers_, n_outputs_ : int
    Number of dense layers and the input; units of the output layer.
out_activation_ : str
    Activation of the output layer.
network_ : Sequential
    The network itself.
n_features_in_ : int
    Number of features seen during `fit`.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Names of the features, where `X` has string names for all of them.
"""

_NOTES = """\
The estimator is a drop-in for scikit-learn's of the same name: given the same `random_state`, both
begin with the same weights, see the same batches and come to the same weights but for rounding.
`docs/scikit-learn.md` says what is the same, what is better and what differs.

Results do not depend on the number of threads. Under ``n_jobs`` of a search, joblib has its
processes share the cores; in its threads, fits that find the cores taken go on with one thread
each.
"""


def documented(**words: str) -> Callable[[_Class], _Class]:
    """Return a decorator that fills a class's docstring in.

    Parameters
    ----------
    **words : str
        For the fields of the texts above.
    """

    def fill(cls: _Class) -> _Class:
        texts = {"PARAMETERS": _PARAMETERS, "ATTRIBUTES": _ATTRIBUTES, "NOTES": _NOTES}
        for name, text in texts.items():
            filled = indent(text.format(**words), " " * 4)
            cls.__doc__ = (cls.__doc__ or "").replace(f"    %({name})s\n", filled)
        return cls

    return fill
