/* Sums over the rows of a batch, and the normalizations that need them: by column over the batch
 * (S. Ioffe and C. Szegedy, Batch normalization, 2015) and by row (J. L. Ba et al., Layer
 * normalization, 2016). The kept rows are those with mean 0 and variance 1. */

/* Vectors of columns that are summed at once. */
#define COLUMN_VECS 8

/* A sum over rows for some vectors of columns from `column` on: four rows are summed before they
 * are added, so that additions wait for few others. The order of a column's sum depends on the
 * number of rows alone. */
#define FEW_COLUMNS(NAME_OF_SUM, PARAMETERS, FIRST, TERM)                                      \
    static FORCE_INLINE void NAME(NAME_OF_SUM##_few)(                                          \
        const int n_vecs, size_t n_rows, size_t column, COMMA_LIST PARAMETERS, REAL *sum__p) { \
        vec sum[COLUMN_VECS];                                                                  \
        size_t b = 0;                                                                          \
        UNROLL                                                                                 \
        for (int v = 0; v < n_vecs; v++) {                                                     \
            sum[v] = vec_zero();                                                               \
        }                                                                                      \
        for (; b + 4 <= n_rows; b += 4) {                                                      \
            UNROLL                                                                             \
            for (int v = 0; v < n_vecs; v++) {                                                 \
                const size_t j = column + (size_t)v * LANES;                                   \
                const vec pair = TERM(FIRST(b, j), b + 1, j);                                  \
                const vec other = TERM(FIRST(b + 2, j), b + 3, j);                             \
                sum[v] = vec_add(sum[v], vec_add(pair, other));                                \
            }                                                                                  \
        }                                                                                      \
        for (; b < n_rows; b++) {                                                              \
            UNROLL                                                                             \
            for (int v = 0; v < n_vecs; v++) {                                                 \
                sum[v] = TERM(sum[v], b, column + (size_t)v * LANES);                          \
            }                                                                                  \
        }                                                                                      \
        UNROLL                                                                                 \
        for (int v = 0; v < n_vecs; v++) {                                                     \
            vec_store(sum__p + column + v * LANES, sum[v]);                                    \
        }                                                                                      \
    }

#define COMMA_LIST(...) __VA_ARGS__
#define AT(x, b, j) vec_load((x) + (b) * x##_stride + (j))

#define FIRST(b, j) AT(x, b, j)
#define TERM(sum, b, j) vec_add(sum, AT(x, b, j))
FEW_COLUMNS(column_sum, (const REAL *x, size_t x_stride), FIRST, TERM)
#undef FIRST
#undef TERM

#define FIRST(b, j) vec_mul(AT(p, b, j), AT(q, b, j))
#define TERM(sum, b, j) vec_fma(AT(p, b, j), AT(q, b, j), sum)
FEW_COLUMNS(column_dot, (const REAL *p, size_t p_stride, const REAL *q, size_t q_stride), FIRST,
            TERM)
#undef FIRST
#undef TERM

/* Of the distances from the mean, which cancel less than the squares of large numbers would. */
static FORCE_INLINE vec NAME(add_distance)(vec sum, vec x, vec mean) {
    const vec distance = vec_sub(x, mean);
    return vec_fma(distance, distance, sum);
}

#define TERM(sum, b, j) NAME(add_distance)(sum, AT(x, b, j), vec_load(mean__p + (j)))
#define FIRST(b, j) TERM(vec_zero(), b, j)
FEW_COLUMNS(column_distances, (const REAL *x, size_t x_stride, const REAL *mean__p), FIRST, TERM)
#undef FIRST
#undef TERM

#undef AT
#undef COMMA_LIST
#undef FEW_COLUMNS

/* Calls DO(vectors, first column) for all columns: a few cache lines of a row at once. */
#define FOR_COLUMNS(width, DO)                                                         \
    do {                                                                               \
        size_t first = 0;                                                              \
        for (; (width) - first >= COLUMN_VECS * LANES; first += COLUMN_VECS * LANES) { \
            DO(COLUMN_VECS, first);                                                    \
        }                                                                              \
        for (; (width) - first >= 2 * LANES; first += 2 * LANES) {                     \
            DO(2, first);                                                              \
        }                                                                              \
        for (; first < (width); first += LANES) {                                      \
            DO(1, first);                                                              \
        }                                                                              \
    } while (0)

static void NAME(column_sum)(size_t n_rows, size_t width, const void *x__bp, size_t x_stride,
                             void *sum__p) {
#define DO(n_vecs, first) \
    NAME(column_sum_few)(n_vecs, n_rows, first, (const REAL *)x__bp, x_stride, (REAL *)sum__p)
    FOR_COLUMNS(width, DO);
#undef DO
}

static void NAME(column_dot)(size_t n_rows, size_t width, const void *a__bp, size_t a_stride,
                             const void *b__bp, size_t b_stride, void *sum__p) {
#define DO(n_vecs, first)                                                      \
    NAME(column_dot_few)(n_vecs, n_rows, first, (const REAL *)a__bp, a_stride, \
                         (const REAL *)b__bp, b_stride, (REAL *)sum__p)
    FOR_COLUMNS(width, DO);
#undef DO
}

static FORCE_INLINE void NAME(column_moments_few)(const int n_vecs, size_t n_rows, size_t column,
                                                  const REAL *x, size_t x_stride, REAL *mean__p,
                                                  REAL *variance__p) {
    const vec count = vec_set1((REAL)n_rows);
    REAL *const both[] = {mean__p + column, variance__p + column};
    NAME(column_sum_few)(n_vecs, n_rows, column, x, x_stride, mean__p);
    for (int moment = 0; moment < 2; moment++) {
        for (size_t j = 0; j < (size_t)n_vecs * LANES; j += LANES) {
            vec_store(both[moment] + j, vec_div(vec_load(both[moment] + j), count));
        }
        if (moment == 0) {
            NAME(column_distances_few)(n_vecs, n_rows, column, x, x_stride, mean__p, variance__p);
        }
    }
}

static void NAME(column_moments)(size_t n_rows, size_t width, const void *x__bp, size_t x_stride,
                                 void *mean__p, void *variance__p) {
#define DO(n_vecs, first)                                                          \
    NAME(column_moments_few)(n_vecs, n_rows, first, (const REAL *)x__bp, x_stride, \
                             (REAL *)mean__p, (REAL *)variance__p)
    FOR_COLUMNS(width, DO);
#undef DO
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

/* Rows that are taken at once, so that one's sums need not wait for the root of the one before. */
#define NORM_ROWS 4

static void NAME(layer_norm)(size_t n_rows, size_t n_units, double epsilon, const void *gamma__o,
                             const void *beta__o, const void *x__bo, size_t x_stride,
                             void *kept__bo, size_t kept_stride, void *inverse_std__b, void *y__bo,
                             size_t y_stride) {
    const REAL count = (REAL)n_units, *gamma = (const REAL *)gamma__o;
    const REAL *beta = (const REAL *)beta__o;
    for (size_t first = 0; first < n_rows; first += NORM_ROWS) {
        const size_t stop = n_rows - first < NORM_ROWS ? n_rows : first + NORM_ROWS;
        REAL mean__r[NORM_ROWS], inverse_std__r[NORM_ROWS], total;
        for (size_t b = first; b < stop; b++) {
            const REAL *x = CONST_ROW(x, b);
#define TERM(sum, o, some) vec_add(sum, NAME(load_up_to)(x + (o), some, 0))
            ROW_SUM(total, n_units, TERM);
#undef TERM
            mean__r[b - first] = total / count;
        }
        for (size_t b = first; b < stop; b++) {
            const REAL *x = CONST_ROW(x, b), mean = mean__r[b - first];
            const vec means = vec_set1(mean);
#define TERM(sum, o, some) /* behind the end a distance of 0 */ \
    NAME(add_distance)(sum, NAME(load_up_to)(x + (o), some, mean), means)
            ROW_SUM(total, n_units, TERM);
#undef TERM
            const REAL root = (REAL)sqrt((double)(total / count) + epsilon);
            inverse_std__r[b - first] = 1 / root;
            if (inverse_std__b) {
                ((REAL *)inverse_std__b)[b] = 1 / root;
            }
        }
        for (size_t b = first; b < stop; b++) {
            const REAL *x = CONST_ROW(x, b);
            REAL *y = ROW(y, b);
            const vec mean = vec_set1(mean__r[b - first]);
            const vec inverse_std = vec_set1(inverse_std__r[b - first]);
            FOR_EACH_VEC(o, some, n_units) {
                const vec normal = vec_mul(vec_sub(LOAD(x), mean), inverse_std);
                if (kept__bo) {
                    NAME(store_up_to)(ROW(kept, b) + o, some, normal);
                }
                NAME(store_up_to)(y + o, some, vec_fma(LOAD(gamma), normal, LOAD(beta)));
            }
        }
    }
}

static void NAME(layer_norm_backward)(size_t n_rows, size_t n_units, const void *gamma__o,
                                      const void *kept__bo, size_t kept_stride,
                                      const void *inverse_std__b, const void *d__bo,
                                      size_t d_stride, int adds, void *dx__bo, size_t dx_stride) {
    const REAL count = (REAL)n_units, *gamma = (const REAL *)gamma__o;
    for (size_t first = 0; first < n_rows; first += NORM_ROWS) {
        const size_t stop = n_rows - first < NORM_ROWS ? n_rows : first + NORM_ROWS;
        REAL mean__r[NORM_ROWS], dot__r[NORM_ROWS];
        for (size_t b = first; b < stop; b++) {
            const REAL *kept = CONST_ROW(kept, b), *d = CONST_ROW(d, b);
            vec sum[2] = {vec_zero(), vec_zero()}, dot[2] = {vec_zero(), vec_zero()};
            const size_t whole = n_units - n_units % (2 * LANES);
#define ADD(k, o, some)                                                                          \
    do {                                                                                         \
        const vec slope =                                                                        \
            vec_mul(NAME(load_up_to)(gamma + (o), some, 0), NAME(load_up_to)(d + (o), some, 0)); \
        sum[k] = vec_add(sum[k], slope);                                                         \
        dot[k] = vec_fma(slope, NAME(load_up_to)(kept + (o), some, 0), dot[k]);                  \
    } while (0)
            for (size_t o = 0; o < whole; o += 2 * LANES) {
                ADD(0, o, LANES);
                ADD(1, o + LANES, LANES);
            }
            FOR_EACH_VEC(o, some, n_units - whole) {
                ADD(0, whole + o, some);
            }
#undef ADD
            mean__r[b - first] = vec_sum(vec_add(sum[0], sum[1])) / count;
            dot__r[b - first] = vec_sum(vec_add(dot[0], dot[1])) / count;
        }
        for (size_t b = first; b < stop; b++) {
            const REAL *kept = CONST_ROW(kept, b), *d = CONST_ROW(d, b);
            REAL *dx = ROW(dx, b);
            const vec mean = vec_set1(mean__r[b - first]), dot = vec_set1(dot__r[b - first]);
            const vec inverse_std = vec_set1(((const REAL *)inverse_std__b)[b]);
            FOR_EACH_VEC(o, some, n_units) {
                const vec slope = vec_mul(LOAD(gamma), LOAD(d));
                const vec way = vec_sub(vec_sub(slope, mean), vec_mul(LOAD(kept), dot));
                NAME(store_up_to)(dx + o, some,
                                  vec_fma(inverse_std, way, adds ? LOAD(dx) : vec_zero()));
            }
        }
    }
}

#undef NORM_ROWS
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
