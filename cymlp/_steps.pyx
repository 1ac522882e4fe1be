"""The scalars of an optimizer's steps: its schedule, its corrections, limits of the gradient."""

from libc.math cimport INFINITY

from cymlp._kernels cimport (
    CYMLP_ADAM, CYMLP_AMSGRAD, CYMLP_NADAM, cymlp_correct_nadam, cymlp_correct_step,
    cymlp_nadam_momentum, cymlp_nadam_product, optimizer_step)

SCHEDULES = {
    "constant": CYMLP_CONSTANT,
    "step_decay": CYMLP_STEP_DECAY,
    "exponential_decay": CYMLP_EXPONENTIAL_DECAY,
    "polynomial_decay": CYMLP_POLYNOMIAL_DECAY,
    "inverse_scaling": CYMLP_INVERSE_SCALING,
    "cosine_decay": CYMLP_COSINE_DECAY,
    "cosine_decay_restarts": CYMLP_COSINE_DECAY_RESTARTS,
    "one_cycle": CYMLP_ONE_CYCLE,
}

cdef Schedule schedule_of(dict fields):
    """A schedule from the fields that it has."""
    names = (
        "rate", "end_rate", "n_steps", "factor", "power", "stretch", "start_rate", "peak_step",
        "warmup_steps", "warmup_factor")
    cdef Schedule out = {**dict.fromkeys(names, 0.0), "n_steps": 1.0, **fields}
    return out


def scheduled(fields, Py_ssize_t step):
    """Return the learning rate with which `Network.train` takes a step, counted from 0.

    The fields are those of `cymlp_schedule`.
    """
    cdef Schedule schedule = schedule_of(fields)
    return cymlp_learning_rate(&schedule, <double> step)


cdef Stepper stepper_of(int optimizer, dict settings):
    cdef Stepper out
    out.optimizer = optimizer
    out.schedule = schedule_of(settings["schedule"])
    out.scalars = optimizer_step(settings["step"])
    out.scalars.learning_rate = out.schedule.rate
    out.keeps_average = settings.get("average_decay") is not None
    out.scalars.average_decay = settings.get("average_decay") or 0.0
    out.rate_decay = settings.get("rate_decay", 0.0)
    out.momentum_decay = settings.get("momentum_decay", 0.0)
    out.momentum_product = 1
    out.product_steps = -1
    out.clip_norm = settings.get("clip_norm", INFINITY)
    out.clip_global_norm = settings.get("clip_global_norm", INFINITY)
    out.is_steady = not (
        has_schedule(&out) or out.rate_decay > 0 or out.keeps_average
        or optimizer in (CYMLP_ADAM, CYMLP_AMSGRAD, CYMLP_NADAM))
    return out


cdef void set_rate(Stepper* stepper, double rate):
    stepper.schedule = schedule_of({"kind": CYMLP_CONSTANT, "rate": rate})
    stepper.scalars.learning_rate = rate


cdef void take_step(Stepper* stepper, Py_ssize_t number, Step* step) noexcept nogil:
    step[0] = stepper.scalars
    if stepper.is_steady:  # most corrections are powers: as slow as a small step
        return
    if has_schedule(stepper):
        step.learning_rate = cymlp_learning_rate(&stepper.schedule, number - 1)
    step.learning_rate /= 1 + (number - 1) * stepper.rate_decay
    if number == 1:
        step.average_decay = 0
    if stepper.optimizer == CYMLP_NADAM:
        cymlp_correct_nadam(
            step, number, stepper.momentum_decay, momentum_product(stepper, number))
    elif stepper.optimizer == CYMLP_ADAM or stepper.optimizer == CYMLP_AMSGRAD:
        cymlp_correct_step(step, number)


cdef double momentum_product(Stepper* stepper, Py_ssize_t number) noexcept nogil:
    """The product of NAdam's momenta, taken in the same order however it comes to `number`."""
    cdef double beta_1 = stepper.scalars.beta_1, decay = stepper.momentum_decay
    if stepper.product_steps == number - 1:
        stepper.momentum_product *= cymlp_nadam_momentum(beta_1, decay, number)
    elif stepper.product_steps != number:
        stepper.momentum_product = cymlp_nadam_product(beta_1, decay, number)
    stepper.product_steps = number
    return stepper.momentum_product


cdef double global_scale(const Stepper* stepper, double norm) noexcept nogil:
    cdef double scale
    if not stepper.clip_global_norm < INFINITY:
        return 1
    scale = stepper.clip_global_norm / (norm + 1e-6)
    return 1 if scale > 1 else scale  # a NaN for a gradient that holds one


cdef double array_scale(const Stepper* stepper, double norm) noexcept nogil:
    if not stepper.clip_norm < INFINITY:
        return 1
    return 1 if norm <= stepper.clip_norm else stepper.clip_norm / norm
