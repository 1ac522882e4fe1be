/* What layers without parameters do to rows: sums of two, random factors. */

#define ROW(x, b) ((REAL *)(x##__bo) + (b) * x##_stride)
#define CONST_ROW(x, b) ((const REAL *)(x##__bo) + (b) * x##_stride)
#define LOAD(row) NAME(load_up_to)((row) + o, some, 0)

static void NAME(add_rows)(size_t n_rows, size_t n_units, const void *a__bo, size_t a_stride,
                           const void *b__bo, size_t b_stride, void *y__bo, size_t y_stride) {
    for (size_t row = 0; row < n_rows; row++) {
        const REAL *a = CONST_ROW(a, row), *b = CONST_ROW(b, row);
        FOR_EACH_VEC(o, some, n_units) {
            NAME(store_up_to)(ROW(y, row) + o, some, vec_add(LOAD(a), LOAD(b)));
        }
    }
}

static void NAME(multiply_rows)(size_t n_rows, size_t n_units, const void *a__bo, size_t a_stride,
                                const void *b__bo, size_t b_stride, int adds, void *y__bo,
                                size_t y_stride) {
    for (size_t row = 0; row < n_rows; row++) {
        const REAL *a = CONST_ROW(a, row), *b = CONST_ROW(b, row);
        REAL *y = ROW(y, row);
        FOR_EACH_VEC(o, some, n_units) {
            const vec before = adds ? LOAD(y) : vec_zero();
            NAME(store_up_to)(y + o, some, vec_fma(LOAD(a), LOAD(b), before));
        }
    }
}

#undef ROW
#undef CONST_ROW
#undef LOAD

/* Numbers of 16 bits, sixteen of them in a block of the stream: a share is as exact as it needs.
 * Some blocks at once make loops that compilers turn into vectors: a branch for each number would
 * be as hard to predict as the number. */
static void NAME(dropout)(size_t n_rows, size_t n_units, const uint64_t key[2], size_t layer,
                          size_t first_row, unsigned dropped, void *factor__bo,
                          size_t factor_stride) {
    enum { BLOCKS = 4, N = 16 * BLOCKS };
    const REAL kept = (REAL)(65536.0 / (65536.0 - dropped));
    for (size_t b = 0; b < n_rows; b++) {
        REAL *factor = (REAL *)factor__bo + b * factor_stride;
        uint64_t counter[4] = {0, first_row + b, layer, 0};
        for (size_t o = 0; o < n_units; o += N) {
            const size_t some = n_units - o < N ? n_units - o : N;
            uint16_t numbers[N] = {0};
            REAL factors[N];
            for (size_t i = 0; i < some; i += 16) {
                uint64_t random[4];
                counter[0]++;
                cymlp_philox(counter, key, random);
                for (size_t j = 0; j < 16; j++) {
                    numbers[i + j] = (uint16_t)(random[j / 4] >> (j % 4 * 16));
                }
            }
            for (int i = 0; i < N; i++) {
                factors[i] = numbers[i] < dropped ? 0 : kept;
            }
            if (some == N) { /* a length that is constant */
                memcpy(factor + o, factors, sizeof factors);
            } else {
                memcpy(factor + o, factors, some * sizeof(REAL));
            }
        }
    }
}

static void NAME(spread_nonzeros)(size_t n_rows, size_t n_inputs, const void *const *x_rows__b_n,
                                  cymlp_nonzeros nonzeros, void *y__bi, size_t y_stride) {
    const size_t n_words = (n_inputs + BLOCK_ROWS - 1) / BLOCK_ROWS;
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *x = (const REAL *)x_rows__b_n[b];
        REAL *y = (REAL *)y__bi + b * y_stride;
        memset(y, 0, n_inputs * sizeof(REAL));
        for (size_t w = 0; w < n_words; w++) {
            uint64_t bits = nonzeros.bits__bw[b * nonzeros.stride + w];
            for (; bits; bits &= bits - 1) {
                y[w * BLOCK_ROWS + (size_t)lowest_bit(bits)] = *x++;
            }
        }
    }
}
