/* Sums over the rows of a batch, and the normalizations that need them: by column over the batch
 * (S. Ioffe and C. Szegedy, Batch normalization, 2015) and by row (J. L. Ba et al., Layer
 * normalization, 2016). The kept rows are those with mean 0 and variance 1. */

/* Every fourth row goes into the same sum: each addition would wait for the one before. */
#define COLUMN_SUM(NAME_OF_SUM, PARAMETERS, TERM)                                     \
    static void NAME(NAME_OF_SUM)(size_t n_rows, size_t width, COMMA_LIST PARAMETERS, \
                                  void *sum__p) {                                     \
        for (size_t column = 0; column < width; column += LANES) {                    \
            vec sum[4] = {vec_zero(), vec_zero(), vec_zero(), vec_zero()};            \
            size_t b = 0;                                                             \
            for (; b + 4 <= n_rows; b += 4) {                                         \
                UNROLL                                                                \
                for (size_t r = 0; r < 4; r++) {                                      \
                    sum[r] = TERM(sum[r], b + r);                                     \
                }                                                                     \
            }                                                                         \
            for (; b < n_rows; b++) {                                                 \
                sum[0] = TERM(sum[0], b);                                             \
            }                                                                         \
            sum[0] = vec_add(vec_add(sum[0], sum[1]), vec_add(sum[2], sum[3]));       \
            vec_store((REAL *)sum__p + column, sum[0]);                               \
        }                                                                             \
    }

#define COMMA_LIST(...) __VA_ARGS__
#define AT(x, b) vec_load((const REAL *)(x) + (b) * x##_stride + column)

#define TERM(sum, b) vec_add(sum, AT(x, b))
COLUMN_SUM(column_sum, (const void *x, size_t x_stride), TERM)
#undef TERM

#define TERM(sum, b) vec_fma(AT(p, b), AT(q, b), sum)
COLUMN_SUM(column_dot, (const void *p, size_t p_stride, const void *q, size_t q_stride), TERM)
#undef TERM

/* Of the distances from the mean, which cancel less than the squares of large numbers would. */
static FORCE_INLINE vec NAME(add_distance)(vec sum, vec x, vec mean) {
    const vec distance = vec_sub(x, mean);
    return vec_fma(distance, distance, sum);
}

#define TERM(sum, b) NAME(add_distance)(sum, AT(x, b), vec_load((const REAL *)mean__p + column))
COLUMN_SUM(column_distances, (const void *x, size_t x_stride, const void *mean__p), TERM)
#undef TERM

#undef AT
#undef COMMA_LIST
#undef COLUMN_SUM

static void NAME(column_moments)(size_t n_rows, size_t width, const void *x__bp, size_t x_stride,
                                 void *mean__p, void *variance__p) {
    const vec count = vec_set1((REAL)n_rows);
    REAL *const both[] = {(REAL *)mean__p, (REAL *)variance__p};
    NAME(column_sum)(n_rows, width, x__bp, x_stride, mean__p);
    for (int moment = 0; moment < 2; moment++) {
        for (size_t column = 0; column < width; column += LANES) {
            vec_store(both[moment] + column, vec_div(vec_load(both[moment] + column), count));
        }
        if (moment == 0) {
            NAME(column_distances)(n_rows, width, x__bp, x_stride, mean__p, variance__p);
        }
    }
}

static void NAME(inverse_std)(size_t n, double epsilon, const void *variance__n,
                              void *inverse_std__n) {
    const vec small = vec_set1((REAL)epsilon), one = vec_set1(1);
    FOR_EACH_VEC(j, some, n) {
        const vec variance = NAME(load_up_to)((const REAL *)variance__n + j, some, 0);
        NAME(store_up_to)((REAL *)inverse_std__n + j, some,
                          vec_div(one, vec_sqrt(vec_add(variance, small))));
    }
}

static void NAME(blend)(size_t n, double old_share, void *y__n, double new_share,
                        const void *x__n) {
    REAL *y = (REAL *)y__n;
    FOR_EACH_VEC(j, some, n) {
        const vec old = vec_mul(vec_set1((REAL)old_share), NAME(load_up_to)(y + j, some, 0));
        const vec x = NAME(load_up_to)((const REAL *)x__n + j, some, 0);
        NAME(store_up_to)(y + j, some, vec_fma(vec_set1((REAL)new_share), x, old));
    }
}

#define ROW(x, b) ((REAL *)(x##__bo) + (b) * x##_stride)
#define CONST_ROW(x, b) ((const REAL *)(x##__bo) + (b) * x##_stride)
#define LOAD(row) NAME(load_up_to)((row) + o, some, 0)

static void NAME(batch_norm)(size_t n_rows, size_t n_units, const void *mean__o,
                             const void *inverse_std__o, const void *gamma__o, const void *beta__o,
                             const void *x__bo, size_t x_stride, void *kept__bo, size_t kept_stride,
                             void *y__bo, size_t y_stride) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *x = CONST_ROW(x, b);
        REAL *y = ROW(y, b);
        FOR_EACH_VEC(o, some, n_units) {
            const vec normal = vec_mul(vec_sub(LOAD(x), LOAD((const REAL *)mean__o)),
                                       LOAD((const REAL *)inverse_std__o));
            if (kept__bo) {
                NAME(store_up_to)(ROW(kept, b) + o, some, normal);
            }
            NAME(store_up_to)(
                y + o, some,
                vec_fma(LOAD((const REAL *)gamma__o), normal, LOAD((const REAL *)beta__o)));
        }
    }
}

static void NAME(batch_norm_backward)(size_t n_rows, size_t n_units, double share,
                                      const void *inverse_std__o, const void *gamma__o,
                                      const void *sum__o, const void *dot__o, const void *kept__bo,
                                      size_t kept_stride, const void *d__bo, size_t d_stride,
                                      int adds, void *dx__bo, size_t dx_stride) {
    const vec part = vec_set1((REAL)share);
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *kept = CONST_ROW(kept, b), *d = CONST_ROW(d, b);
        REAL *dx = ROW(dx, b);
        FOR_EACH_VEC(o, some, n_units) {
            const vec mean =
                vec_fma(LOAD(kept), LOAD((const REAL *)dot__o), LOAD((const REAL *)sum__o));
            const vec factor =
                vec_mul(LOAD((const REAL *)gamma__o), LOAD((const REAL *)inverse_std__o));
            const vec way = vec_sub(LOAD(d), vec_mul(part, mean));
            NAME(store_up_to)(dx + o, some, vec_fma(factor, way, adds ? LOAD(dx) : vec_zero()));
        }
    }
}

static void NAME(layer_norm)(size_t n_rows, size_t n_units, double epsilon, const void *gamma__o,
                             const void *beta__o, const void *x__bo, size_t x_stride,
                             void *kept__bo, size_t kept_stride, void *inverse_std__b, void *y__bo,
                             size_t y_stride) {
    const REAL count = (REAL)n_units;
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *x = CONST_ROW(x, b);
        REAL *y = ROW(y, b);
        vec sum = vec_zero(), squares = vec_zero();
        FOR_EACH_VEC(o, some, n_units) {
            sum = vec_add(sum, LOAD(x));
        }
        const REAL mean = vec_sum(sum) / count;
        FOR_EACH_VEC(o, some, n_units) { /* behind the end a distance of 0 */
            squares =
                NAME(add_distance)(squares, NAME(load_up_to)(x + o, some, mean), vec_set1(mean));
        }
        const REAL root = (REAL)sqrt((double)(vec_sum(squares) / count) + epsilon);
        const REAL inverse_std = 1 / root;
        if (inverse_std__b) {
            ((REAL *)inverse_std__b)[b] = inverse_std;
        }
        FOR_EACH_VEC(o, some, n_units) {
            const vec normal = vec_mul(vec_sub(LOAD(x), vec_set1(mean)), vec_set1(inverse_std));
            if (kept__bo) {
                NAME(store_up_to)(ROW(kept, b) + o, some, normal);
            }
            NAME(store_up_to)(
                y + o, some,
                vec_fma(LOAD((const REAL *)gamma__o), normal, LOAD((const REAL *)beta__o)));
        }
    }
}

static void NAME(layer_norm_backward)(size_t n_rows, size_t n_units, const void *gamma__o,
                                      const void *kept__bo, size_t kept_stride,
                                      const void *inverse_std__b, const void *d__bo,
                                      size_t d_stride, int adds, void *dx__bo, size_t dx_stride) {
    const REAL count = (REAL)n_units;
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *kept = CONST_ROW(kept, b), *d = CONST_ROW(d, b);
        REAL *dx = ROW(dx, b);
        vec sum = vec_zero(), dot = vec_zero();
        FOR_EACH_VEC(o, some, n_units) {
            const vec slope = vec_mul(LOAD((const REAL *)gamma__o), LOAD(d));
            sum = vec_add(sum, slope);
            dot = vec_fma(slope, LOAD(kept), dot);
        }
        const vec mean = vec_set1(vec_sum(sum) / count), mean_dot = vec_set1(vec_sum(dot) / count);
        const vec inverse_std = vec_set1(((const REAL *)inverse_std__b)[b]);
        FOR_EACH_VEC(o, some, n_units) {
            const vec slope = vec_mul(LOAD((const REAL *)gamma__o), LOAD(d));
            const vec way = vec_sub(vec_sub(slope, mean), vec_mul(LOAD(kept), mean_dot));
            NAME(store_up_to)(dx + o, some,
                              vec_fma(inverse_std, way, adds ? LOAD(dx) : vec_zero()));
        }
    }
}

#undef ROW
#undef CONST_ROW
#undef LOAD

/* N. Srivastava and others, Dropout, 2014, section 5.1. */
static void NAME(constrain_columns)(size_t n_rows, size_t width, double max_norm, void *w__bp) {
    const vec limit = vec_set1((REAL)max_norm), one = vec_set1(1);
    for (size_t column = 0; column < width; column += LANES) {
        REAL square[LANES], *w = (REAL *)w__bp + column;
        NAME(column_dot)(n_rows, LANES, w, width, w, width, square);
        const vec norm = vec_sqrt(vec_load(square));
        const vec factor = vec_if_less(limit, norm, vec_div(limit, norm), one);
        for (size_t b = 0; b < n_rows; b++, w += width) {
            vec_store(w, vec_mul(vec_load(w), factor));
        }
    }
}
