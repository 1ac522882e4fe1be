/* The learning rate of a step, steps counted from 0: what the classes of cymlp/schedules.py say. */
#ifndef CYMLP_SCHEDULE_H
#define CYMLP_SCHEDULE_H

#include <math.h>

enum cymlp_schedule_kind {
    CYMLP_CONSTANT,
    CYMLP_STEP_DECAY,
    CYMLP_EXPONENTIAL_DECAY,
    CYMLP_POLYNOMIAL_DECAY,
    CYMLP_INVERSE_SCALING,
    CYMLP_COSINE_DECAY,
    CYMLP_COSINE_DECAY_RESTARTS,
    CYMLP_ONE_CYCLE
};

/* A schedule reads what its kind needs of the fields after `rate`. */
typedef struct cymlp_schedule {
    enum cymlp_schedule_kind kind;
    double rate;          /* the first one; of CYMLP_ONE_CYCLE the highest */
    double end_rate;      /* where a decay ends */
    double n_steps;       /* of a decay, of a stair, of the first of many decays, of the cycle */
    double factor;        /* of a stair, of an exponential's n_steps, of a restarted peak */
    double power;         /* an exponent */
    double stretch;       /* of a restarted decay's length, a whole number */
    double start_rate;    /* where a cycle starts ... */
    double peak_step;     /* ... and when it is at its highest */
    double warmup_steps;  /* before everything else; 0: none */
    double warmup_factor; /* of the rate at the warm-up's first step */
} cymlp_schedule;

/* Half a wave of a cosine, from one rate at 0 to another one at 1. */
static inline double cymlp_half_cosine(double from, double to, double at) {
    const double pi = 3.14159265358979323846, height = (1 + cos(pi * at)) / 2;
    return from * height + to * (1 - height);
}

static inline double cymlp_smaller(double a, double b) { return a < b ? a : b; }

static inline double cymlp_restarted_cosine(const cymlp_schedule *s, double step) {
    double length = s->n_steps, peak = s->rate;
    if (s->stretch == 1) {
        const double n_restarts = floor(step / length);
        peak *= pow(s->factor, n_restarts);
        step -= n_restarts * length;
    }
    while (step >= length) {
        step -= length;
        length *= s->stretch;
        peak *= s->factor;
    }
    return cymlp_half_cosine(peak, cymlp_smaller(s->end_rate, peak), step / length);
}

static inline double cymlp_without_warmup(const cymlp_schedule *s, double step) {
    const double done = cymlp_smaller(step, s->n_steps) / s->n_steps;
    switch (s->kind) {
    case CYMLP_STEP_DECAY:
        return s->rate * pow(s->factor, floor(step / s->n_steps));
    case CYMLP_EXPONENTIAL_DECAY:
        return s->rate * pow(s->factor, step / s->n_steps);
    case CYMLP_POLYNOMIAL_DECAY:
        return s->end_rate + (s->rate - s->end_rate) * pow(1 - done, s->power);
    case CYMLP_INVERSE_SCALING:
        return s->rate / pow(step + 1, s->power);
    case CYMLP_COSINE_DECAY:
        return cymlp_half_cosine(s->rate, s->end_rate, done);
    case CYMLP_COSINE_DECAY_RESTARTS:
        return cymlp_restarted_cosine(s, step);
    case CYMLP_ONE_CYCLE:
        if (step < s->peak_step) {
            return cymlp_half_cosine(s->start_rate, s->rate, step / s->peak_step);
        }
        step = cymlp_smaller(step, s->n_steps - 1) - s->peak_step;
        return cymlp_half_cosine(s->rate, s->end_rate, step / (s->n_steps - 1 - s->peak_step));
    default:
        return s->rate;
    }
}

static inline double cymlp_learning_rate(const cymlp_schedule *s, double step) {
    if (step < s->warmup_steps) {
        const double factor = s->warmup_factor + (1 - s->warmup_factor) * (step / s->warmup_steps);
        return factor * cymlp_without_warmup(s, 0);
    }
    return cymlp_without_warmup(s, step - s->warmup_steps);
}

#endif
