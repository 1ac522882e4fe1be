"""Sequential: a stack of layers that owns its parameters, trains and predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from cymlp import _inference, _validate
from cymlp._batch import Described
from cymlp._inference import Predictor
from cymlp._lbfgs import minimize
from cymlp._lower import check_optimizer, lower_layers, lower_training
from cymlp._random import Purpose, key, stream
from cymlp.data import Samples, prepare
from cymlp.history import History
from cymlp.layers import Dense
from cymlp.losses import LOSSES, Loss
from cymlp.metrics import METRICS, Metric
from cymlp.optimizers import LBFGS, OPTIMIZERS, Optimizer, Rprop
from cymlp.progress import EpochProgress
from cymlp.schedules import Schedule, rate_at

__all__ = ["Predictor", "Sequential"]


class Sequential:
    """A network of layers, one after the other.

    Parameters
    ----------
    layers : sequence of Dense
        From the first hidden layer to the output layer.
    n_inputs : int, optional
        Number of input features. By default it is taken from the first `fit`.
    dtype : {"float32", "float64"}, default="float32"
        Of the parameters and of all computation.
    random_state : None, int, numpy.random.Generator or RandomState, default=None
        Seed of the initial parameters and of shuffling. None draws one.

    Attributes
    ----------
    layers : tuple of Dense
    n_inputs : int or None
        None until the network is built.
    n_outputs : int
        Units of the last layer.
    dtype : numpy.dtype
    built : bool
        Whether the parameters exist.
    compiled : bool
        Whether loss and optimizer are set.
    n_parameters : int
        Number of weights and biases.
    loss, optimizer, metrics
        What `compile` set; None before.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> y = np.array([0, 1, 1, 0])
    >>> net = Sequential([Dense(8, activation="tanh"), Dense(2, activation="softmax")],
    ...                  random_state=0)
    >>> net.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"])
    >>> history = net.fit(X, y, epochs=1000, batch_size=4, verbose=0)
    >>> net.predict(X).argmax(axis=1)
    array([0, 1, 1, 0])
    """

    def __init__(
        self,
        layers: Iterable[Dense],
        *,
        n_inputs: int | None = None,
        dtype: Any = "float32",
        random_state: Any = None,
    ) -> None:
        if isinstance(layers, Dense) or not isinstance(layers, Iterable):
            raise TypeError(f"layers must be a sequence of Dense layers, got {layers!r}")
        self._layers: tuple[Dense, ...] = tuple(layers)
        if not self.layers:
            raise ValueError("layers must have at least one layer, got none")
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Dense):
                raise TypeError(f"layers[{index}] must be a Dense layer, got {layer!r}")
        self._dtype = _validate.dtype("dtype", dtype)
        self._n_inputs: int | None = None
        self.loss: Loss | None = None
        self.optimizer: Optimizer | None = None
        self.metrics: tuple[Metric, ...] = ()
        self._epochs_done = 0
        self._network: Any = None
        if n_inputs is not None:
            n_inputs = _validate.integer("n_inputs", n_inputs, low=1, high=2**31 - 1)
        # Last of all: a generator that is passed in moves on only if everything else is right.
        self._seed = _validate.seed("random_state", random_state)
        if n_inputs is not None:
            self.build(n_inputs)

    def __repr__(self) -> str:
        """Return the sizes and activations."""
        sizes = [str(self.n_inputs or "?")]
        sizes += [f"{layer.units} {layer.activation.name}" for layer in self.layers]
        return f"<Sequential {' - '.join(sizes)}, {self.dtype.name}>"

    @property
    def layers(self) -> tuple[Dense, ...]:
        """The layers, from the first hidden layer to the output layer."""
        return self._layers

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters and of all computation."""
        return self._dtype

    @property
    def n_inputs(self) -> int | None:
        """Number of input features; None until the network is built."""
        return self._n_inputs

    @property
    def n_outputs(self) -> int:
        """Units of the last layer."""
        return self.layers[-1].units

    @property
    def built(self) -> bool:
        """Whether the parameters exist."""
        return self._network is not None

    @property
    def compiled(self) -> bool:
        """Whether loss and optimizer are set."""
        return self.loss is not None

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(math.prod(shape) for shape in self._shapes("n_parameters"))

    def _shapes(self, what: str) -> list[tuple[int, ...]]:
        """Return the shapes of the parameters, kernel and bias in turn."""
        if self.n_inputs is None:
            self._not_built(what)
        shapes: list[tuple[int, ...]] = []
        below = self.n_inputs
        for layer in self.layers:
            shapes += [(below, layer.units), (layer.units,)]
            below = layer.units
        return shapes

    def _not_built(self, what: str) -> NoReturn:
        raise ValueError(
            f"{what} needs a built network: pass n_inputs to Sequential, or call build or fit first"
        )

    def _require(self, what: str, *, compiled: bool = False, built: bool = True) -> None:
        if compiled and not self.compiled:
            raise ValueError(f"{what} needs a loss and an optimizer: call compile(...) first")
        if built and not self.built:
            self._not_built(what)

    # Setting up

    def build(self, n_inputs: int) -> None:
        """Create the parameters and give them their initial values.

        Parameters
        ----------
        n_inputs : int
            Number of input features.

        Raises
        ------
        TypeError, ValueError
            If `n_inputs` is not an integer of at least 1, or the network is built already with
            another number.
        """
        n_inputs = _validate.integer("n_inputs", n_inputs, low=1, high=2**31 - 1)
        if self.built:
            if n_inputs != self.n_inputs:
                raise ValueError(
                    f"n_inputs must be {self.n_inputs}, for which the network is built, got "
                    f"{n_inputs}"
                )
            return
        network = lower_layers(self.layers, n_inputs, self.dtype)
        below = n_inputs
        for index, layer in enumerate(self.layers):
            for name, initializer, purpose, shape in (
                ("kernel", layer.kernel_initializer, Purpose.INITIAL_KERNEL, (below, layer.units)),
                ("bias", layer.bias_initializer, Purpose.INITIAL_BIAS, (layer.units,)),
            ):
                rng = stream(self._seed, purpose, index)
                values = initializer.sample(rng, shape, below, layer.units)
                network.set(index, name, values.astype(self.dtype))
            below = layer.units
        self._lower_training(network)
        self._network = network
        self._n_inputs = n_inputs

    def _lower_training(self, network: Any) -> None:
        if self.loss is not None and self.optimizer is not None:
            lower_training(network, self.layers[-1], self.loss, self.optimizer, self.metrics)

    def compile(
        self,
        optimizer: str | Optimizer = "adam",
        loss: str | Loss = "squared_error",
        metrics: Sequence[str | Metric] | None = (),
    ) -> None:
        """Set how the network is trained; the optimizer starts anew.

        Parameters
        ----------
        optimizer : str or Optimizer, default="adam"
            One of sgd, adam, adamw, nadam, rmsprop, adagrad, adadelta, lion, rprop, lbfgs, or an
            instance such as ``Adam(learning_rate=0.01)``.
        loss : str or Loss, default="squared_error"
            One of squared_error, cross_entropy, binary_cross_entropy, or an instance.
        metrics : sequence of str or Metric, default=()
            What `fit` and `evaluate` report beside the loss: accuracy.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be; the error lists the known names.
        RuntimeError
            If another thread trains the network.
        """
        new_optimizer = _validate.spec("optimizer", optimizer, OPTIMIZERS)
        check_optimizer(new_optimizer, self.dtype)
        new_loss = _validate.spec("loss", loss, LOSSES)
        metrics = () if metrics is None else metrics
        if isinstance(metrics, (str, Metric)) or not isinstance(metrics, Sequence):
            raise TypeError(f"metrics must be a list of names or metrics, got {metrics!r}")
        new_metrics = tuple(
            _validate.spec(f"metrics[{i}]", metric, METRICS) for i, metric in enumerate(metrics)
        )
        if self.built:
            lower_training(self._network, self.layers[-1], new_loss, new_optimizer, new_metrics)
        self.optimizer, self.loss, self.metrics = new_optimizer, new_loss, new_metrics

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step.

        A number assigned to it holds from the next step on, and becomes that of `optimizer`.

        Raises
        ------
        TypeError, ValueError
            Before `compile`; on reading, if the optimizer has no learning rate. On setting, also
            if the optimizer has a schedule, or no use for the rate after the first step (Rprop),
            or if the number is not one greater than 0.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> from cymlp.optimizers import SGD
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> net.compile(optimizer=SGD(learning_rate=0.5), loss="squared_error")
        >>> net.learning_rate /= 2
        >>> net.learning_rate, net.optimizer
        (0.25, SGD(learning_rate=0.25))
        """
        self._require("learning_rate", compiled=True, built=False)
        rate = getattr(self.optimizer, "learning_rate", None)
        if rate is None:
            raise ValueError(f"learning_rate: {self.optimizer!r} has none")
        return rate_at(rate, self._network.iteration if self.built else 0)

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        before = self.learning_rate  # raises where there is none
        optimizer: Any = self.optimizer
        if isinstance(optimizer, Rprop):
            raise ValueError("learning_rate cannot be set: Rprop's is its first step size alone")
        if isinstance(optimizer.learning_rate, Schedule):
            raise ValueError(
                f"learning_rate cannot be set, since a schedule does: {optimizer.learning_rate!r}, "
                f"now at {before:.6g}; compile with a number"
            )
        rate = _validate.real("learning_rate", rate, low=0, closed="neither")
        self.optimizer = replace(optimizer, learning_rate=rate)
        if self.built:
            self._network.set_learning_rate(rate)

    # Samples

    def _prepare(self, X: Any, y: Any, sample_weight: Any = None, within: str = "") -> Samples:
        """Validate samples for training or evaluation, without changing anything."""
        return prepare(
            X,
            y,
            sample_weight,
            loss=self.loss,
            n_inputs=self.n_inputs,
            n_outputs=self.n_outputs,
            dtype=self.dtype,
            within=within,
        )

    def _logs(self, loss: float, accuracy: float) -> dict[str, float]:
        logs = {"loss": loss}
        if self.metrics:
            logs["accuracy"] = accuracy
        return logs

    # Training

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: Any = None,
        shuffle: bool = True,
        sample_weight: Any = None,
        verbose: int | str = "auto",
        n_threads: int | None = None,
    ) -> History:
        """Train for some epochs, each of which visits every sample once.

        A further call goes on where the last one ended: three epochs and then two are, bit for
        bit, the same as five.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs)
            Real numbers. An array of the network's dtype with contiguous rows is not copied.
        y : array-like of shape (samples,) or (samples, n_outputs)
            Targets, as the loss takes them.
        epochs : int, default=1
        batch_size : int, default=32
            Samples per step; the last batch of an epoch may be smaller. `LBFGS` takes all.
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)``, evaluated after each epoch.
        shuffle : bool, default=True
            Whether each epoch visits the samples in a new random order.
        sample_weight : array-like of shape (samples,), optional
            Weights of at least 0 in the average over a batch.
        verbose : {0, 1, 2, "auto"}, default="auto"
            0 is silent, 1 shows a progress bar, 2 prints a line per epoch; "auto" is 1 in a
            terminal and 0 elsewhere.
        n_threads : int, optional
            At most so many threads, from 1 to 1024, whatever `set_num_threads` says. The result
            does not depend on it.

        Returns
        -------
        History

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be, or before `compile`. The network is then as
            it was.
        KeyboardInterrupt
            On Ctrl-C, within 100 ms for all but the widest layers (from about 8192 x 8192). The
            network is then as the last finished batch left it.
        RuntimeError
            If another thread trains the network.
        """
        self._require("fit", compiled=True, built=False)
        epochs = _validate.integer("epochs", epochs, low=1)
        batch_size = _validate.integer("batch_size", batch_size, low=1)
        shuffle = _validate.boolean("shuffle", shuffle)
        threads = _validate.thread_count("n_threads", n_threads)
        samples = self._prepare(X, y, sample_weight)
        batch_size = min(batch_size, len(samples))
        validation = self._prepare_validation(validation_data, samples.n_inputs)
        progress = EpochProgress(epochs, len(samples), verbose)
        self.build(samples.n_inputs)
        described = self._describe(samples)
        tick = progress.update if progress.enabled else None
        # Nobody looks between the epochs: they all are one call.
        at_once = epochs if validation is None and not progress.enabled else 1
        history = History()

        def end_epochs(first: int, logs: list[dict[str, float]]) -> None:
            if validation is not None:
                scores = self._evaluate(validation, threads)
                logs[-1] |= {f"val_{k}": v for k, v in scores.items()}
            progress.end_epoch(logs[-1])
            for done, values in enumerate(logs, first):
                history.record(done, values)

        try:
            if isinstance(self.optimizer, LBFGS):
                self._run_lbfgs(self.optimizer, described, epochs, progress, end_epochs, threads)
                return history
            for epoch in range(0, epochs, at_once):
                progress.start_epoch(epoch)
                logs = self._run_epochs(described, at_once, batch_size, shuffle, tick, threads)
                end_epochs(epoch, logs)
        finally:
            progress.close()
        return history

    def _prepare_validation(self, data: Any, n_inputs: int) -> Samples | None:
        if data is None:
            return None
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise TypeError(
                "validation_data must be (X, y) or (X, y, sample_weight), got "
                f"{type(data).__name__}"
                + (f" of {len(data)}" if isinstance(data, (tuple, list)) else "")
            )
        X, y, sample_weight = data if len(data) == 3 else (*data, None)
        samples = self._prepare(X, y, sample_weight, within="validation_data: ")
        if samples.n_inputs != n_inputs:
            raise ValueError(
                f"validation_data: X must have {n_inputs} columns, as X has, got {samples.n_inputs}"
            )
        return samples

    def _describe(self, samples: Samples) -> Described:
        """Return what the built network trains on."""
        return self._network.describe(samples.x, samples.labels, samples.values, samples.weight)

    def _run_epochs(
        self,
        described: Described,
        n_epochs: int,
        batch_size: int,
        shuffle: bool,
        tick: Callable[[int, dict[str, float]], None] | None = None,
        threads: int = 0,
    ) -> list[dict[str, float]]:
        """Train for some epochs; return the averages of loss and metrics over each."""
        results: list[tuple[float, float]] = []
        report = None
        if tick is not None:

            def report(done: int, loss: float, accuracy: float) -> None:
                tick(done, self._logs(loss, accuracy))

        try:
            self._network.train(
                described,
                batch_size,
                results,
                n_epochs=n_epochs,
                shuffle=key(self._seed, Purpose.SHUFFLE, self._epochs_done) if shuffle else None,
                tick=report,
                n_threads=threads,
            )
        finally:
            self._epochs_done += len(results)
        return [self._logs(*result) for result in results]

    def _run_lbfgs(
        self,
        optimizer: LBFGS,
        described: Described,
        epochs: int,
        progress: EpochProgress,
        end_epochs: Callable[[int, list[dict[str, float]]], None],
        threads: int,
    ) -> None:
        """Train with iterations for epochs."""

        def on_iteration(number: int, loss: float, accuracy: float) -> None:
            self._epochs_done += 1
            end_epochs(number, [self._logs(loss, accuracy)])
            if number + 1 < epochs:
                progress.start_epoch(number + 1)

        progress.start_epoch(0)
        minimize(self._network, described, optimizer, epochs, threads, on_iteration)

    def _require_steps(self, what: str) -> None:
        if isinstance(self.optimizer, LBFGS):
            raise ValueError(f"{what} takes one step, which LBFGS cannot: it needs fit")

    def train_on_batch(
        self, X: Any, y: Any, sample_weight: Any = None, *, n_threads: int | None = None
    ) -> float:
        """Take one optimizer step on a batch.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs)
        y : array-like of shape (samples,) or (samples, n_outputs)
        sample_weight : array-like of shape (samples,), optional
        n_threads : int, optional
            At most so many threads, from 1 to 1024, whatever `set_num_threads` says. The result
            does not depend on it.

        Returns
        -------
        float
            The batch's loss before the step.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be, or before `compile`.
        RuntimeError
            If another thread trains the network.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> net.compile(optimizer="sgd", loss="squared_error")
        >>> net.set_weights([[[2.0]], [0.0]])
        >>> net.train_on_batch([[3.0]], [5.0])
        0.5
        """
        self._require("train_on_batch", compiled=True, built=False)
        self._require_steps("train_on_batch")
        threads = _validate.thread_count("n_threads", n_threads)
        samples = self._prepare(X, y, sample_weight)
        if not self.built:
            self.build(samples.n_inputs)
        results: list[tuple[float, float]] = []
        self._network.train(self._describe(samples), len(samples), results, n_threads=threads)
        return results[0][0]

    def gradients(
        self, X: Any, y: Any, sample_weight: Any = None, *, n_threads: int | None = None
    ) -> list[np.ndarray]:
        """Return the batch-averaged gradients of the loss; nothing moves.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs)
        y : array-like of shape (samples,) or (samples, n_outputs)
        sample_weight : array-like of shape (samples,), optional
        n_threads : int, optional
            At most so many threads, from 1 to 1024, whatever `set_num_threads` says. The result
            does not depend on it.

        Returns
        -------
        list of ndarray
            In the order of `get_weights`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be, before `compile` or before the network is
            built.
        RuntimeError
            If another thread trains the network.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> net.compile(optimizer="sgd", loss="squared_error")
        >>> net.set_weights([[[2.0]], [0.0]])
        >>> net.gradients([[3.0]], [5.0])
        [array([[3.]], dtype=float32), array([1.], dtype=float32)]
        """
        self._require("gradients", compiled=True)
        threads = _validate.thread_count("n_threads", n_threads)
        samples = self._prepare(X, y, sample_weight)
        return self._network.gradients(self._describe(samples), threads)[2]

    def apply_gradients(self, gradients: Sequence[Any]) -> None:
        """Take one optimizer step with given gradients.

        Parameters
        ----------
        gradients : list of array-like
            In the order and of the shapes of `get_weights`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be, before `compile` or before the network is
            built.
        RuntimeError
            If another thread trains the network.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> from cymlp.optimizers import SGD
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> net.compile(optimizer=SGD(learning_rate=0.5), loss="squared_error")
        >>> net.set_weights([[[2.0]], [0.0]])
        >>> net.apply_gradients([[[3.0]], [1.0]])
        >>> net.get_weights()
        [array([[0.5]], dtype=float32), array([-0.5], dtype=float32)]
        """
        self._require("apply_gradients", compiled=True)
        self._require_steps("apply_gradients")
        shapes = self._shapes("apply_gradients")
        self._network.apply_gradients(
            _validate.parameter_list("gradients", gradients, shapes, self.dtype)
        )

    # Inference

    def predict(self, X: Any, *, n_threads: int | None = None) -> np.ndarray:
        """Return the outputs for some samples.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs)
        n_threads : int, optional
            At most so many threads, from 1 to 1024, whatever `set_num_threads` says. The result
            does not depend on it.

        Returns
        -------
        ndarray of shape (samples, n_outputs), of the network's dtype

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be, or before the network is built.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> net.set_weights([[[2.0]], [0.0]])
        >>> net.predict([[3.0], [4.0]])
        array([[6.],
               [8.]], dtype=float32)
        """
        if self._network is None:  # one row takes so little that a call of `_require` would show
            self._not_built("predict")
        threads = 0 if n_threads is None else _validate.thread_count("n_threads", n_threads)
        out = _inference.predict(self._network, X, threads)
        if out is None:
            x = _validate.inputs("X", X, self.dtype, self.n_inputs)
            out = np.empty((len(x), self.n_outputs), self.dtype)
            hidden = [None] * (len(self.layers) - 1)
            _inference.forward(self._network, x, [*hidden, out], threads)
        return out

    def predictor(self, batch_size: int = 1) -> Predictor:
        """Return a function of one batch that predicts in a few hundred nanoseconds.

        Parameters
        ----------
        batch_size : int, default=1
            Rows that a call takes at most.

        Returns
        -------
        Predictor
            ``p(x, out=None)`` gives what `predict` gives, bit for bit, on one thread and from
            memory of its own. Each thread that predicts takes its own. It sees what the network
            learns later.

        Raises
        ------
        TypeError, ValueError
            If `batch_size` is not an integer of at least 1, or before the network is built.

        Examples
        --------
        >>> import numpy as np
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> net.set_weights([[[2.0]], [0.0]])
        >>> predict_one = net.predictor()
        >>> predict_one([3.0])
        array([6.], dtype=float32)
        >>> x, out = np.array([[4.0]], dtype="float32"), np.empty((1, 1), dtype="float32")
        >>> predict_one(x, out=out)
        array([[8.]], dtype=float32)
        """
        self._require("predictor")
        batch_size = _validate.integer("batch_size", batch_size, low=1)
        return Predictor(self._network, batch_size)

    def layer_outputs(self, X: Any, *, n_threads: int | None = None) -> list[np.ndarray]:
        """Return the activations of every layer.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs)
        n_threads : int, optional
            At most so many threads, from 1 to 1024, whatever `set_num_threads` says. The result
            does not depend on it.

        Returns
        -------
        list of ndarray of shape (samples, units)
            One per layer, the last one equal to `predict`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be, or before the network is built.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(2, activation="relu"), Dense(1)], n_inputs=1, random_state=0)
        >>> net.set_weights([[[2.0, -2.0]], [0.0, 0.0], [[1.0], [1.0]], [1.0]])
        >>> net.layer_outputs([[3.0]])
        [array([[6., 0.]], dtype=float32), array([[7.]], dtype=float32)]
        """
        self._require("layer_outputs")
        threads = _validate.thread_count("n_threads", n_threads)
        x = _validate.inputs("X", X, self.dtype, self.n_inputs)
        outputs = [np.empty((len(x), layer.units), self.dtype) for layer in self.layers]
        _inference.forward(self._network, x, outputs, threads)
        return outputs

    def evaluate(
        self, X: Any, y: Any, sample_weight: Any = None, *, n_threads: int | None = None
    ) -> dict[str, float]:
        """Return the loss and the metrics over some samples.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs)
        y : array-like of shape (samples,) or (samples, n_outputs)
        sample_weight : array-like of shape (samples,), optional
        n_threads : int, optional
            At most so many threads, from 1 to 1024, whatever `set_num_threads` says. The result
            does not depend on it.

        Returns
        -------
        dict of str to float
            ``loss``, penalties included, and each metric by its name.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be, before `compile` or before the network is
            built.
        """
        self._require("evaluate", compiled=True)
        threads = _validate.thread_count("n_threads", n_threads)
        return self._evaluate(self._prepare(X, y, sample_weight), threads)

    def _evaluate(self, samples: Samples, threads: int) -> dict[str, float]:
        result = _inference.evaluate(
            self._network, samples.x, samples.labels, samples.values, samples.weight, threads
        )
        return self._logs(*result)

    # Parameters

    def _get(self, *names: str) -> list[np.ndarray]:
        return [self._network.get(i, name) for i in range(len(self.layers)) for name in names]

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the parameters.

        Returns
        -------
        list of ndarray
            ``[kernel, bias, kernel, bias, ...]``, kernels of shape (inputs, units).

        Raises
        ------
        ValueError
            Before the network is built.
        """
        self._require("get_weights")
        return self._get("kernel", "bias")

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrite the parameters; the optimizer's state stays.

        Parameters
        ----------
        weights : list of array-like
            As `get_weights` returns them.

        Raises
        ------
        TypeError, ValueError
            If an array is missing or misshapen, or before the network is built.
        RuntimeError
            If another thread trains the network.
        """
        self._require("set_weights")
        shapes = self._shapes("set_weights")
        self._network.set_all(
            ["kernel", "bias"], _validate.parameter_list("weights", weights, shapes, self.dtype)
        )

    def averaged_weights(self) -> list[np.ndarray]:
        """Return copies of the parameters' moving averages, which an `ema_decay` asks for.

        Returns
        -------
        list of ndarray
            In the order and of the shapes of `get_weights`; before the first step, the parameters.

        Raises
        ------
        ValueError
            Before the network is built, before `compile`, or if the optimizer has no `ema_decay`.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> from cymlp.optimizers import SGD
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> net.compile(optimizer=SGD(learning_rate=1, ema_decay=0.5), loss="squared_error")
        >>> net.set_weights([[[2.0]], [0.0]])
        >>> for _ in range(3):
        ...     net.apply_gradients([[[1.0]], [0.0]])
        >>> net.get_weights()[0], net.averaged_weights()[0]
        (array([[-1.]], dtype=float32), array([[-0.25]], dtype=float32))
        """
        self._require("averaged_weights", compiled=True)
        if getattr(self.optimizer, "ema_decay", None) is None:
            raise ValueError(
                f"averaged_weights needs an optimizer with ema_decay, got {self.optimizer!r}"
            )
        if self._network.iteration == 0:
            return self.get_weights()
        return self._get("kernel_average", "bias_average")

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print a table of the layers with their shapes and numbers of parameters.

        Parameters
        ----------
        print_fn : callable, default=print
            Called with each line.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(128, activation="relu"), Dense(10, activation="softmax")],
        ...                  n_inputs=784)
        >>> net.summary()
        layer  kind   activation  inputs  units  parameters
            0  dense  relu           784    128     100,480
            1  dense  softmax        128     10       1,290
        101,770 parameters, 397.5 KiB in float32
        """
        rows = [("layer", "kind", "activation", "inputs", "units", "parameters")]
        below = self.n_inputs
        for index, layer in enumerate(self.layers):
            count = "?" if below is None else f"{(below + 1) * layer.units:,}"
            inputs = "?" if below is None else str(below)
            rows.append(
                (str(index), layer.name, layer.activation.name, inputs, str(layer.units), count)
            )
            below = layer.units
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                cell.ljust(width) if column in (1, 2) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            print_fn("  ".join(cells))
        if self.built:
            size = self.n_parameters * self.dtype.itemsize / 1024
            print_fn(f"{self.n_parameters:,} parameters, {size:,.1f} KiB in {self.dtype.name}")
        else:
            print_fn("not built: the number of inputs is not known yet")

    # Copies and pickles

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the compiled network, whose arrays are taken in users' shapes."""
        state = {name: value for name, value in vars(self).items() if name != "_network"}
        if self.built:
            names = ["kernel", "bias", *self._network.slot_names()]
            state["_parameters"] = (names, self._get(*names), self._network.iteration)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the compiled network, for this machine's instruction set."""
        parameters = state.pop("_parameters", None)
        vars(self).update(state, _network=None)
        if parameters is None:
            return
        names, arrays, iteration = parameters
        network = lower_layers(self.layers, state["_n_inputs"], self.dtype)
        self._lower_training(network)
        network.set_all(names, arrays)
        network.restore_iteration(iteration)
        self._network = network
