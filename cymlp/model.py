"""Sequential: a stack of layers that owns its parameters, trains and predicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from cymlp import _inference, _validate, inspection
from cymlp import metrics as metric_specs
from cymlp._batch import Described
from cymlp._batches import BatchStream, are_batches
from cymlp._fit import (
    BatchFit,
    Fit,
    Plan,
    checked_callbacks,
    checked_epochs,
    checked_validation_freq,
)
from cymlp._inference import Predictor
from cymlp._lower import (
    Lowering,
    Parameter,
    check_loss,
    check_optimizer,
    lower_layers,
    lower_training,
    plan_layers,
)
from cymlp._random import Purpose, key, stream
from cymlp._scores import Predictions, scores
from cymlp.callbacks import Callback
from cymlp.data import Samples, parted, prepare
from cymlp.history import History
from cymlp.initializers import initial_values
from cymlp.layers import Layer, stack_of, width_of
from cymlp.losses import BinaryCrossEntropy, Loss, resolve
from cymlp.metrics import Accuracy, Metric
from cymlp.optimizers import LBFGS, OPTIMIZERS, Optimizer, Rprop
from cymlp.schedules import Schedule, rate_at

if TYPE_CHECKING:
    from cymlp.trace import Trace

__all__ = ["Predictor", "Sequential"]


class Sequential:
    """A network of layers, one after the other.

    Parameters
    ----------
    layers : sequence of Layer
        From the first hidden layer to the output layer; see `cymlp.layers`.
    n_inputs : int, optional
        Number of input features. By default it is taken from the first `fit`.
    dtype : {"float32", "float64"}, default="float32"
        Of the parameters and of all computation.
    random_state : None, int, numpy.random.Generator or RandomState, default=None
        Seed of the initial parameters and of shuffling. None draws one.
    input_scale : float, default=1.0
        What inputs are multiplied by on their way in, wherever they come in: with ``1 / 255``,
        uint8 images are trained on as numbers from 0 to 1, without a copy of the set.

    Attributes
    ----------
    layers : tuple of Layer
    n_inputs : int or None
        None until the network is built.
    n_outputs : int
        Outputs of the last layer.
    dtype : numpy.dtype
    input_scale : float
    built : bool
        Whether the parameters exist.
    compiled : bool
        Whether loss and optimizer are set.
    n_parameters : int
        Number of weights and biases, moving averages included.
    loss, optimizer, metrics
        What `compile` set; None before.
    stop_training : bool
        A callback sets it to True to end the running `fit`.

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
        layers: Iterable[Layer],
        *,
        n_inputs: int | None = None,
        dtype: Any = "float32",
        random_state: Any = None,
        input_scale: float = 1.0,
    ) -> None:
        self._layers: tuple[Layer, ...] = stack_of("layers", layers)
        if width_of(self._layers, None) is None:
            raise ValueError("layers must have at least one layer with units, such as Dense(10)")
        self._plan: Lowering | None = None
        self._dtype = _validate.dtype("dtype", dtype)
        self._input_scale = _validate.scale("input_scale", input_scale, self._dtype)
        self._n_inputs: int | None = None
        self.loss: Loss | None = None
        self.optimizer: Optimizer | None = None
        self.metrics: tuple[Metric, ...] = ()
        self.stop_training = False
        self._epochs_done = 0
        # What the last epoch's loss and the last evaluation's have in them.
        self._penalty = self._validation_penalty = 0.0
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
        sizes += [inspection.short_name(layer) for layer in self.layers]
        return f"<Sequential {' - '.join(sizes)}, {self.dtype.name}>"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, from the first hidden layer to the output layer."""
        return self._layers

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters and of all computation."""
        return self._dtype

    @property
    def input_scale(self) -> float:
        """What inputs are multiplied by on their way in."""
        return self._input_scale

    @property
    def n_inputs(self) -> int | None:
        """Number of input features; None until the network is built."""
        return self._n_inputs

    @property
    def n_outputs(self) -> int:
        """Outputs of the last layer."""
        return width_of(self.layers, self.n_inputs) or 0

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
        """Number of weights and biases, moving averages included."""
        return sum(parameter.size for parameter in self._parameters("n_parameters"))

    def _parameters(self, what: str) -> list[Parameter]:
        """Return the descriptions of the parameters, in the order of `get_weights`."""
        if self._plan is None:
            self._not_built(what)
        return self._plan.parameters

    def _shapes(self, what: str) -> list[tuple[int, ...]]:
        return [parameter.shape for parameter in self._parameters(what)]

    def _names(self) -> list[tuple[int, str]]:
        """Return what the compiled network calls the parameters."""
        parameters = self._plan.parameters if self._plan else []
        return [(parameter.op, parameter.name) for parameter in parameters]

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
        if not self.built:
            self._build(n_inputs, self._initial_values)
        elif n_inputs != self.n_inputs:
            raise ValueError(
                f"n_inputs must be {self.n_inputs}, for which the network is built, got {n_inputs}"
            )

    def _build(self, n_inputs: int, initial: Callable[[Parameter], np.ndarray | None]) -> None:
        """Create the parameters, with what `initial` says of each or, where that is None, zeros."""
        plan = plan_layers(self.layers, n_inputs)
        network = self._lower(plan)
        for parameter in plan.parameters:
            values = initial(parameter)
            if values is not None:
                network.set(parameter.op, parameter.name, values)
        self._lower_training(network, plan)
        self._network, self._plan = network, plan
        self._n_inputs = n_inputs

    def _initial_values(self, parameter: Parameter) -> np.ndarray | None:
        if parameter.initializer is None:
            return None
        return initial_values(
            f"{parameter.where}: {parameter.name}_initializer",
            parameter.initializer,
            stream(self._seed, _PURPOSES[parameter.name], parameter.number),
            parameter.shape,
            parameter.n_inputs,
            parameter.shape[-1],
            self.dtype,
        )

    def _lower(self, plan: Lowering) -> Any:
        return lower_layers(plan, self.dtype, key(self._seed, Purpose.DROPOUT, 0), self.input_scale)

    def _lower_training(self, network: Any, plan: Lowering) -> None:
        if self.loss is not None and self.optimizer is not None:
            lower_training(network, plan.output_activation, self.loss, self.optimizer, self.metrics)

    def compile(
        self,
        optimizer: str | Optimizer = "adam",
        loss: str | Loss | Callable[[Any, Any], tuple[Any, Any]] = "squared_error",
        metrics: Sequence[str | Metric | Callable[..., Any]] | None = (),
    ) -> None:
        """Set how the network is trained; the optimizer starts anew.

        Parameters
        ----------
        optimizer : str or Optimizer, default="adam"
            One of sgd, adam, adamw, nadam, rmsprop, adagrad, adadelta, lion, rprop, lbfgs, or an
            instance such as ``Adam(learning_rate=0.01)``.
        loss : str, Loss or callable, default="squared_error"
            A name in the table of `cymlp.losses`, an instance such as ``Huber(delta=2.0)``, or a
            function of your own, as `cymlp.losses.CustomLoss` describes it.
        metrics : sequence of str, Metric or callable, default=()
            What is reported beside the loss: names or instances of `cymlp.metrics`, or a function
            of ``(y_true, y_pred)``, such as scikit-learn's, which gets predicted classes where
            targets are class labels, else outputs: see `metrics.FunctionMetric`. `evaluate`
            reports all, `fit` all of the validation samples and accuracy of the training samples.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be; the error lists the known names.
        RuntimeError
            If another thread trains the network.
        """
        new_optimizer = _validate.spec("optimizer", optimizer, OPTIMIZERS)
        check_optimizer(new_optimizer, self.dtype)
        new_loss = resolve("loss", loss)
        check_loss(new_loss, self.n_outputs, self.dtype)
        new_metrics = metric_specs.checked(
            metrics, self.n_outputs, exclusive=not isinstance(new_loss, BinaryCrossEntropy)
        )
        if self._plan is not None:
            lower_training(
                self._network,
                self._plan.output_activation,
                new_loss,
                new_optimizer,
                new_metrics,
            )
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
        self._set_learning_rate(_validate.real("learning_rate", rate, low=0, closed="neither"))

    def _set_learning_rate(self, rate: float, *, keeps_velocity: bool = False) -> None:
        """Set a rate that fits the optimizer; see `Network.set_learning_rate`."""
        optimizer: Any = self.optimizer
        self.optimizer = replace(optimizer, learning_rate=rate)
        if self.built:
            self._network.set_learning_rate(rate, keeps_velocity)

    # Samples

    def _prepare(self, X: Any, y: Any, sample_weight: Any = None, within: str = "") -> Samples:
        """Validate samples for training or evaluation, without changing anything."""
        return self._preparer()(X, y, sample_weight, within=within)

    def _preparer(self) -> Callable[..., Samples]:
        """Return `prepare` for the network as it is now."""
        return partial(
            prepare,
            loss=self.loss,
            n_inputs=self.n_inputs,
            n_outputs=self.n_outputs,
            dtype=self.dtype,
            input_scale=self.input_scale,
        )

    def _logs(self, loss: float, accuracy: float) -> dict[str, float]:
        """Return the loss and what is counted along with it, by their names."""
        logs = {"loss": loss}
        for metric in self.metrics:
            if isinstance(metric, Accuracy):
                logs[metric.name] = accuracy
        return logs

    def _log_names(self, validated: bool) -> list[str]:
        """Return the names of the values that an epoch of `fit` has."""
        names = [*self._logs(0.0, 0.0)]
        if validated:
            names += ["val_loss", *(f"val_{metric.name}" for metric in self.metrics)]
        return names

    # Training

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        steps_per_epoch: int | None = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        validation_freq: int | Collection[int] = 1,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | str | None = None,
        initial_epoch: int = 0,
        callbacks: Iterable[Callback] | None = None,
        verbose: int | str = "auto",
        n_threads: int | None = None,
    ) -> History:
        """Train for some epochs, each of which visits every sample once.

        A further call goes on where the last one ended: three epochs and then two are, bit for
        bit, the same as five.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs), or an iterable of batches
            Real numbers: an array, a nested list, a data frame of pandas or polars, a matrix of
            scipy.sparse. An array of the network's dtype with contiguous rows is not copied, nor
            one of uint8; a `numpy.memmap` of any dtype and order is read batch by batch.

            Or a generator, or anything else to be iterated over that is not like an array, of
            ``(X, y)`` or ``(X, y, sample_weight)``. Each is trained on as one batch, while a thread
            gets the next one from the iterator and checks it. Batches are counted from 0, through
            all epochs. Where one of them is not right, missing, or the iterator raises, `fit`
            raises that, with the batch's number, and the network is as the batch before left it.
        y : array-like of shape (samples,) or (samples, n_outputs)
            Targets, as the loss takes them. None where X yields batches.
        epochs : int, default=1
            The number that the last epoch ends with: ``epochs - initial_epoch`` are trained.
        batch_size : int, default=32
            Samples per step; the last batch of an epoch may be smaller. Batches that X yields have
            the size that they have; `LBFGS` takes all samples at once.
        steps_per_epoch : int, optional
            Where X yields batches: how many of them are an epoch. By default an epoch is one pass
            over X, which only something that can be passed over again, such as a data loader, has
            several of; a generator has one.
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)``, evaluated after each epoch.
        validation_split : float, default=0.0
            The share of the samples, within [0, 1), that is kept for that instead: the last ones,
            whatever `shuffle` says. Not used where `validation_data` is given.
        validation_freq : int or collection of int, default=1
            Epochs from one evaluation to the next, or the numbers, from 1, of those that are
            followed by one.
        shuffle : bool, default=True
            Whether each epoch visits the samples in a new random order. Batches that X yields are
            taken as they come.
        sample_weight : array-like of shape (samples,), optional
            Weights of at least 0 in the average over a batch.
        class_weight : dict of int to float or "balanced", optional
            What the weights of a class's training samples are multiplied with, 1 for classes that
            are not mentioned. "balanced": by samples / (classes x samples of the class), as in
            scikit-learn. For class labels, one-hot rows and a single output of 0 or 1.
        initial_epoch : int, default=0
            The number of the first epoch in `History`, for callbacks and in what is shown. With
            ``initial_epoch=epochs`` nothing is trained.
        callbacks : sequence of Callback, optional
            What is called between epochs and batches, in this order: see `cymlp.callbacks`.
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

        Warns
        -----
        DivergenceWarning
            Once, if the loss of an epoch is infinite or NaN; it says since which step, and which
            layer's outputs were the first.
        """
        self._require("fit", compiled=True, built=False)
        epochs, initial_epoch = checked_epochs(epochs, initial_epoch)
        batch_size = _validate.integer("batch_size", batch_size, low=1)
        validation_split = _validate.real("validation_split", validation_split, low=0, high=1)
        validation_freq = checked_validation_freq(validation_freq)
        shuffle = _validate.boolean("shuffle", shuffle)
        threads = _validate.thread_count("n_threads", n_threads)
        if are_batches(X):
            for name, value in (("y", y), ("sample_weight", sample_weight)):
                if value is not None:
                    raise TypeError(
                        f"{name} must be None where X is a {type(X).__name__}, whose batches bring "
                        "their own"
                    )
            return self._fit_batches(
                X,
                steps_per_epoch,
                validation_data,
                Plan(epochs, initial_epoch, batch_size, False, validation_freq, threads),
                checked_callbacks(callbacks, verbose),
                validation_split=validation_split,
                class_weight=class_weight,
            )
        if steps_per_epoch is not None:
            raise ValueError(
                f"steps_per_epoch must be None, unless X yields batches, got {steps_per_epoch!r}"
            )
        samples = self._prepare(X, y, sample_weight)
        validation = self._prepare_validation(validation_data, samples.n_inputs)
        samples, validation = parted(
            samples, validation, validation_split, class_weight, self.n_outputs
        )
        batch_size = min(batch_size, len(samples))
        plan = Plan(epochs, initial_epoch, batch_size, shuffle, validation_freq, threads)
        fit = Fit(self, samples, validation, plan, checked_callbacks(callbacks, verbose))
        self.build(samples.n_inputs)
        return fit.run()

    def _fit_batches(
        self,
        batches: Iterable[Any],
        steps_per_epoch: int | None,
        validation_data: Any,
        plan: Plan,
        callbacks: list[Callback],
        **unused: Any,
    ) -> History:
        """Train on batches as they come; see `fit`."""
        self._require_steps("a fit on batches")
        for name, value in unused.items():
            if value:
                raise ValueError(
                    f"{name} needs arrays: a fit on batches sees one at a time, got {value!r}"
                )
        if steps_per_epoch is not None:
            steps_per_epoch = _validate.integer("steps_per_epoch", steps_per_epoch, low=1)
        n_epochs = plan.epochs - plan.initial_epoch
        stream = BatchStream(batches, self._preparer(), n_epochs, steps_per_epoch)
        prepare_validation = partial(self._prepare_validation, validation_data)
        return BatchFit(self, stream, steps_per_epoch, prepare_validation, plan, callbacks).run()

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
        every: list[tuple[dict[str, float], float]],
        n_epochs: int,
        batch_size: int,
        shuffle: bool,
        tick: Callable[[int, dict[str, float]], object] | None = None,
        every_batch: bool = False,
        threads: int = 0,
        order: np.ndarray | None = None,
        by_count: bool = False,
    ) -> None:
        """Train for some epochs; append what each had for averages, and the penalty among them.

        Those that end before an exception are there. `tick` is called now and then or after every
        batch; the epoch ends where it returns true.
        """
        results: list[tuple[float, float, float]] = []
        report = None
        if tick is not None:

            def report(done: int, loss: float, accuracy: float) -> object:
                return tick(done, self._logs(loss, accuracy))

        try:
            self._network.train(
                described,
                batch_size,
                results,
                n_epochs=n_epochs,
                shuffle=key(self._seed, Purpose.SHUFFLE, self._epochs_done) if shuffle else None,
                order=order,
                by_count=by_count,
                tick=report,
                every_batch=every_batch,
                n_threads=threads,
            )
        finally:
            self._epochs_done += len(results)
            every += [(self._logs(loss, accuracy), penalty) for loss, accuracy, penalty in results]

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
        results: list[tuple[float, float, float]] = []
        self._network.train(self._describe(samples), len(samples), results, n_threads=threads)
        return results[0][0]

    def gradients(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        training: bool = False,
        n_threads: int | None = None,
    ) -> list[np.ndarray]:
        """Return the batch-averaged gradients of the loss; nothing moves.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs)
        y : array-like of shape (samples,) or (samples, n_outputs)
        sample_weight : array-like of shape (samples,), optional
        training : bool, default=False
            Whether layers do what they do while training, with the batch's own moments and the
            last step's dropout; otherwise it is the gradient of what `evaluate` returns.
        n_threads : int, optional
            At most so many threads, from 1 to 1024, whatever `set_num_threads` says. The result
            does not depend on it.

        Returns
        -------
        list of ndarray
            In the order of `get_weights`; zeros for moving averages, which have none.

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
        training = _validate.boolean("training", training)
        threads = _validate.thread_count("n_threads", n_threads)
        return self._gradients(self._prepare(X, y, sample_weight), training, threads)

    def _gradients(self, samples: Samples, training: bool, threads: int) -> list[np.ndarray]:
        _, found = self._network.gradients(self._describe(samples), training, threads)
        shapes = self._shapes("gradients")
        return [
            found[name] if name in found else np.zeros(shape, self.dtype)
            for name, shape in zip(self._names(), shapes, strict=True)
        ]

    def apply_gradients(self, gradients: Sequence[Any]) -> None:
        """Take one optimizer step with given gradients.

        Parameters
        ----------
        gradients : list of array-like
            In the order and of the shapes of `get_weights`. Those of moving averages and of layers
            that are not trainable change nothing.

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
        self._step(_validate.parameter_list("gradients", gradients, shapes, self.dtype))

    def _step(self, gradients: Sequence[np.ndarray]) -> None:
        """Take one optimizer step with gradients of the right shapes, finite or not."""
        parameters = self._parameters("apply_gradients")
        trained = [
            ((p.op, p.name), array)
            for p, array in zip(parameters, gradients, strict=True)
            if p.is_trained
        ]
        self._network.apply_gradients(*zip(*trained, strict=True))

    # Inference

    @_inference.compiled_first
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
        self._require("predict")
        threads = 0 if n_threads is None else _validate.thread_count("n_threads", n_threads)
        x = _validate.inputs("X", X, self.dtype, self.n_inputs, self.input_scale)
        return self._outputs(x, threads)

    def _outputs(self, x: np.ndarray | _validate.SparseRows, threads: int) -> np.ndarray:
        """Return the outputs for validated samples."""
        out = np.empty((len(x), self.n_outputs), self.dtype)
        _inference.forward(self._network, x, {self._network.n_ops - 1: out}, threads)
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
        return inspection.layer_outputs(self, X, n_threads)

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
        loss, accuracy, self._validation_penalty = _inference.evaluate(
            self._network, samples.x, samples.labels, samples.values, samples.weight, threads
        )
        counted = self._logs(loss, accuracy)
        others = [metric for metric in self.metrics if metric.name not in counted]
        if not others:
            return counted
        outputs = self._outputs(samples.x, threads)
        exclusive = not isinstance(self.loss, BinaryCrossEntropy)
        counted |= scores(
            others,
            Predictions(outputs, samples.labels, samples.values, samples.weight, exclusive),
        )
        return {name: counted[name] for name in ("loss", *(m.name for m in self.metrics))}

    # Parameters

    def _get(self, names: Iterable[tuple[int, str]]) -> list[np.ndarray]:
        return [self._network.get(op, name) for op, name in names]

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the parameters.

        Returns
        -------
        list of ndarray
            Layer by layer: of a dense layer the kernel of shape (inputs, units) and the bias; of a
            normalization gamma and beta, of a batch normalization also the moving mean and
            variance; what a layer does not have is left out.

        Raises
        ------
        ValueError
            Before the network is built.
        """
        self._require("get_weights")
        return self._get(self._names())

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
            self._names(), _validate.parameter_list("weights", weights, shapes, self.dtype)
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
        assert self._plan is not None
        return self._get(
            (p.op, f"{p.name}_average" if self._plan.is_trainable(p) else p.name)
            for p in self._plan.parameters
        )

    def parameter_names(self) -> list[str]:
        """Return the names of the parameters, in the order of `get_weights`.

        Returns
        -------
        list of str
            The layer's place and the array's name: kernel and bias of a dense layer, kernel of a
            residual layer's projection, gamma, beta, moving_mean and moving_variance.

        Raises
        ------
        ValueError
            Before the network is built.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense, Residual
        >>> net = Sequential([Residual([Dense(2)]), Dense(1, use_bias=False)], n_inputs=2)
        >>> net.parameter_names()
        ['layers[0].layers[0].kernel', 'layers[0].layers[0].bias', 'layers[1].kernel']
        """
        return [parameter.path for parameter in self._parameters("parameter_names")]

    # Inspection

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print a table of the layers with their outputs, parameters and operations.

        Layers within a residual layer stand below it; its own parameters are those of the
        projection. What is not known before the network is built is shown as a question mark.

        Parameters
        ----------
        print_fn : callable, default=print
            Called with each line.

        Notes
        -----
        FLOPs are those of the prediction of one sample, n being the number of samples: 2 for each
        multiply-add of a kernel, which the bias adds nothing to, and for each unit 1 of a residual
        layer's sum, 2 of a batch normalization, and 5 of a layer normalization, with 1 more for
        each of gamma and beta. Activations count as none. Not trainable are moving averages and
        the parameters of layers with ``trainable=False``.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(128, activation="relu"), Dense(10, activation="softmax")],
        ...                  n_inputs=784)
        >>> net.summary()
        layer  kind   activation  output    parameters    bytes    FLOPs
        0      dense  relu        (n, 128)     100,480  401,920  200,704
        1      dense  softmax     (n, 10)        1,290    5,160    2,560
        101,770 parameters, 397.5 KiB in float32; 203,264 FLOPs per sample
        trainable: 101,770, not trainable: 0
        """
        inspection.summary(self, print_fn)

    def plot(self, ax: Any = None) -> Any:
        """Draw the network: see `cymlp.plots.plot_network`.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            Before the network is built.
        """
        from cymlp.plots import plot_network

        return plot_network(self, ax)

    def input_gradients(
        self,
        X: Any,
        y: Any = None,
        *,
        output: int | None = None,
        n_threads: int | None = None,
    ) -> np.ndarray:
        """Return derivatives by the inputs: how much each input of a sample matters to it.

        Of each sample's loss, which needs y, or of one output. Layers do what they do in
        prediction. Their size is known as saliency, their product with X as gradient x input.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs)
        y : array-like of shape (samples,) or (samples, n_outputs), optional
            Targets. Each sample's derivatives are those of its own loss, without penalties.
        output : int, optional
            Which output instead, counted from 0.
        n_threads : int, optional
            At most so many threads, from 1 to 1024, whatever `set_num_threads` says.

        Returns
        -------
        ndarray of shape (samples, n_inputs), of the network's dtype
            By X as it is passed in: an `input_scale` is a factor of the derivatives.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be, if there are both or neither of y and output, or
            before the network is built. With y also before `compile`.
        RuntimeError
            If another thread trains the network.

        References
        ----------
        K. Simonyan, A. Vedaldi and A. Zisserman, "Deep inside convolutional networks: visualising
        image classification models and saliency maps", 2014, section 3.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(1)], n_inputs=2, random_state=0)
        >>> net.set_weights([[[2.0], [-1.0]], [0.0]])
        >>> net.input_gradients([[3.0, 4.0]], output=0)
        array([[ 2., -1.]], dtype=float32)
        >>> net.compile(loss="squared_error")
        >>> net.input_gradients([[3.0, 4.0]], [5.0])
        array([[-6.,  3.]], dtype=float32)
        """
        return inspection.input_gradients(self, X, y, output, n_threads)

    def jacobian(self, X: Any, *, n_threads: int | None = None) -> np.ndarray:
        """Return the derivatives of all outputs by the inputs, as layers are in prediction.

        Parameters
        ----------
        X : array-like of shape (samples, n_inputs)
        n_threads : int, optional
            At most so many threads, from 1 to 1024, whatever `set_num_threads` says.

        Returns
        -------
        ndarray of shape (samples, n_outputs, n_inputs), of the network's dtype
            By X as it is passed in, as in `input_gradients`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be, or before the network is built.
        RuntimeError
            If another thread trains the network.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(2)], n_inputs=2, random_state=0)
        >>> net.set_weights([[[2.0, 0.0], [-1.0, 3.0]], [0.0, 0.0]])
        >>> net.jacobian([[3.0, 4.0]])
        array([[[ 2., -1.],
                [ 0.,  3.]]], dtype=float32)
        """
        return inspection.jacobian(self, X, n_threads)

    def explain(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        gradients: Sequence[Any] | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> Trace:
        """Return every number of a forward pass, a backward pass and an update.

        See `cymlp.explain`, which this is for the network.

        Parameters
        ----------
        X, y, sample_weight, gradients, names
            As there.

        Returns
        -------
        Trace

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As there.

        Examples
        --------
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> net.set_weights([[[2.0]], [0.5]])
        >>> net.explain([1.0])
        <Trace of 1 sample through 1 layer>
        """
        from cymlp._explain import explain

        return explain(self, X, y, sample_weight, gradients=gradients, names=names)

    # Copies and pickles

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the compiled network, whose arrays are taken in users' shapes."""
        state = {
            name: value for name, value in vars(self).items() if name not in ("_network", "_plan")
        }
        if self.built:
            names = self._network.state_names()
            state["_parameters"] = (names, self._get(names), self._network.iteration)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the compiled network, for this machine's instruction set."""
        parameters = state.pop("_parameters", None)
        vars(self).update(state, _network=None, _plan=None)
        if parameters is None:
            return
        names, arrays, iteration = parameters
        plan = plan_layers(self.layers, state["_n_inputs"])
        network = self._lower(plan)
        self._lower_training(network, plan)
        network.set_all(names, arrays)
        network.restore_iteration(iteration)
        self._network, self._plan = network, plan


_PURPOSES = {"kernel": Purpose.INITIAL_KERNEL, "bias": Purpose.INITIAL_BIAS}
