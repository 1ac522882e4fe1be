"""The scalars of an optimizer's steps."""

from libc.math cimport INFINITY

from cymlp._kernels cimport Step

cdef extern from "schedule.h" nogil:
    enum:
        CYMLP_CONSTANT
        CYMLP_STEP_DECAY
        CYMLP_EXPONENTIAL_DECAY
        CYMLP_POLYNOMIAL_DECAY
        CYMLP_INVERSE_SCALING
        CYMLP_COSINE_DECAY
        CYMLP_COSINE_DECAY_RESTARTS
        CYMLP_ONE_CYCLE

    ctypedef struct Schedule "cymlp_schedule":
        int kind
        double rate, end_rate, n_steps, factor, power, stretch, start_rate, peak_step
        double warmup_steps, warmup_factor

    double cymlp_learning_rate(const Schedule* schedule, double step)


# What an optimizer does from step to step.
cdef struct Stepper:
    int optimizer                   # a code
    Step scalars                    # before the corrections of a step
    Schedule schedule               # of the learning rate
    bint is_steady                  # all steps have the same scalars
    bint keeps_average              # of the parameters
    double rate_decay               # Adagrad's
    double momentum_decay           # NAdam's, with the product of its momenta ...
    double momentum_product
    Py_ssize_t product_steps        # ... over so many steps
    double clip_norm                # of each array's gradient; infinity: none
    double clip_global_norm         # of the whole gradient


# From a code and the settings that `Network.compile` describes.
cdef Stepper stepper_of(int optimizer, dict settings)

cdef void set_rate(Stepper* stepper, double rate)

cdef inline bint has_schedule(const Stepper* stepper) noexcept nogil:
    return stepper.schedule.kind != CYMLP_CONSTANT or stepper.schedule.warmup_steps > 0


cdef inline bint clips_norms(const Stepper* stepper) noexcept nogil:
    """Whether it wants the norm of the gradient before anything moves."""
    return (stepper.clip_norm < INFINITY or stepper.clip_global_norm < INFINITY)


# Sets the scalars of the step with this number, counted from 1.
cdef void take_step(Stepper* stepper, Py_ssize_t number, Step* step) noexcept nogil

# What gradients are multiplied by: all of them, given the norm of the whole, and those of an array.
cdef double global_scale(const Stepper* stepper, double norm) noexcept nogil
cdef double array_scale(const Stepper* stepper, double norm) noexcept nogil
