/* Every function of the kernel tables against plain loops: each ISA that runs here, both dtypes.
 *
 * What tests/test_kernels.py does from Python, for machines that have no Python: a foreign CPU's
 * kernels run under an emulator. Prints a line for each table.
 *
 * Arrays begin one element past an aligned address, and all that is no input is a NaN: in front of
 * an array, behind it and between its rows. A kernel that reads too much returns NaN, one that
 * writes too much is found by done(). */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#include "check.h"
#include "philox.h"

typedef long double wide;

int check_failures;

static const cymlp_kernels *k; /* the table under test */
static enum cymlp_dtype dtype;
static wide eps;
static char situation[200]; /* what a failure is reported with */

static void now(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(situation, sizeof situation, format, arguments);
    va_end(arguments);
}

#define EXPECT(condition, what, j)                                                            \
    CHECK(condition, "%s %s, %s: %s, element %zu", k->isa, k->item_size == 4 ? "f32" : "f64", \
          situation, what, (size_t)(j))

/* ---- arrays ---- */

enum { GUARD = 33, MOST_ARRAYS = 128 }; /* odd: an array lies one element off a 32 byte boundary */

static struct {
    char *start;
    size_t n;
} arrays[MOST_ARRAYS];
static int n_arrays;

/* n elements, all NaN, between guards. */
static void *array(size_t n) {
    const size_t bytes = (n + 2 * GUARD) * k->item_size;
    char *start = n_arrays < MOST_ARRAYS ? malloc(bytes) : NULL;
    if (!start) {
        fprintf(stderr, "no room for another array: %s\n", situation);
        exit(2);
    }
    memset(start, 0xff, bytes);
    arrays[n_arrays].start = start;
    arrays[n_arrays++].n = n;
    return start + GUARD * k->item_size;
}

static int is_untouched(const void *bytes, size_t n) {
    const unsigned char *byte = bytes;
    for (size_t j = 0; j < n; j++) {
        if (byte[j] != 0xff) {
            return 0;
        }
    }
    return 1;
}

/* Ends a situation: looks at all guards and frees the arrays. */
static void done(void) {
    const size_t guard = GUARD * k->item_size;
    for (int a = 0; a < n_arrays; a++) {
        EXPECT(is_untouched(arrays[a].start, guard), "written in front of array", a);
        EXPECT(is_untouched(arrays[a].start + guard + arrays[a].n * k->item_size, guard),
               "written behind array", a);
        free(arrays[a].start);
    }
    n_arrays = 0;
}

static void *element(const void *a, size_t j) { return (char *)a + j * k->item_size; }

static wide get(const void *a, size_t j) {
    return dtype == CYMLP_FLOAT32 ? (wide)((const float *)a)[j] : (wide)((const double *)a)[j];
}

static void put(void *a, size_t j, wide value) {
    if (dtype == CYMLP_FLOAT32) {
        ((float *)a)[j] = (float)value;
    } else {
        ((double *)a)[j] = (double)value;
    }
}

static uint64_t state; /* of random numbers: each test starts anew, whatever came before it */

/* Uniform between low and high. D. E. Knuth's MMIX generator. */
static wide drawn(wide low, wide high) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (wide)(state >> 40) / (1 << 24);
}

static void draw(void *a, size_t n, wide low, wide high) {
    for (size_t j = 0; j < n; j++) {
        put(a, j, drawn(low, high));
    }
}

/* A (rows, columns) array with gaps between its rows. */
static void *matrix(size_t n_rows, size_t n_columns, size_t stride, wide low, wide high) {
    void *a = array(n_rows * stride);
    for (size_t b = 0; b < n_rows; b++) {
        draw(element(a, b * stride), n_columns, low, high);
    }
    return a;
}

static void *copy(const void *a, size_t n) {
    void *b = array(n);
    memcpy(b, a, n * k->item_size);
    return b;
}

/* Nothing may stand between rows. */
static void expect_gaps(const void *a, size_t n_rows, size_t n_columns, size_t stride) {
    for (size_t b = 0; b < n_rows; b++) {
        EXPECT(
            is_untouched(element(a, b * stride + n_columns), (stride - n_columns) * k->item_size),
            "written behind row", b);
    }
}

static void expect_near(wide actual, wide expected, wide tolerance, const char *what, size_t j) {
    CHECK(fabsl(actual - expected) <= tolerance,
          "%s %s, %s: %s, element %zu is %.9Lg, expected %.9Lg, tolerance %.2Lg", k->isa,
          k->item_size == 4 ? "f32" : "f64", situation, what, j, actual, expected, tolerance);
}

static wide larger(wide a, wide b) { return a > b ? a : b; }

static size_t whole_vecs(size_t n) { return (n + k->lanes - 1) / k->lanes * k->lanes; }

/* ---- panels ---- */

/* The columns of the panel that begins with column `first` of a matrix. */
static size_t panel_width(size_t n_columns, size_t first) {
    const size_t n_vecs = whole_vecs(n_columns) / k->lanes, most = k->panel_vecs;
    const size_t left = n_vecs - first / k->lanes;
    if (most > 2 && (n_vecs == 8 || left == most + 1)) {
        return 2 * k->lanes;
    }
    return (left < most ? left : most) * k->lanes;
}

/* Where the element (row, column) of a matrix stands in its panels. */
static size_t in_panels(size_t n_rows, size_t n_columns, size_t row, size_t column) {
    size_t first = 0;
    while (first + panel_width(n_columns, first) <= column) {
        first += panel_width(n_columns, first);
    }
    return first * n_rows + row * panel_width(n_columns, first) + column - first;
}

static void *panels(size_t n_rows, size_t n_columns) {
    void *w = array(n_rows * whole_vecs(n_columns));
    memset(w, 0, n_rows * whole_vecs(n_columns) * k->item_size);
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t o = 0; o < n_columns; o++) {
            put(w, in_panels(n_rows, n_columns, i, o), drawn(-1, 1));
        }
    }
    return w;
}

/* ---- matrix products ---- */

enum { MOST_ROWS = 200, MOST_LOSS_UNITS = 64 };

static const void *row_pointers[MOST_ROWS];

/* Rows of inputs in no order, reached through row_pointers. */
static void input_rows(size_t n_rows, size_t n_inputs) {
    const size_t stride = n_inputs + 3;
    void *x = matrix(n_rows, n_inputs, stride, -1, 1);
    for (size_t b = 0; b < n_rows; b++) {
        row_pointers[b] = element(x, (n_rows - 1 - b) * stride);
    }
}

static void dense_tile_of(size_t n_rows, size_t n_vecs, size_t n_columns, size_t first,
                          size_t n_inputs, int start, int relu, int gated) {
    const size_t width = n_vecs * k->lanes, stride = width + 5;
    const cymlp_next next = {NULL, 64};
    void *w = matrix(1, n_inputs * width, n_inputs * width, -1, 1);
    void *bias = start == 1 ? matrix(1, width, width, -1, 1) : NULL;
    void *y = matrix(n_rows, start == 2 ? n_columns : 0, stride, -1, 1);
    void *before = copy(y, n_rows * stride);
    void *gate = gated ? matrix(n_rows, width, stride, -1, 1) : NULL;
    now("dense_tile of %zu rows, %zu vectors, %zu columns, inputs %zu + %zu, start %d, relu %d, "
        "gated %d",
        n_rows, n_vecs, n_columns, first, n_inputs, start, relu, gated);
    if (gated) { /* zero closes it */
        put(gate, 0, 0);
    }
    input_rows(n_rows, first + n_inputs);
    k->dense_tile(n_rows, width, n_columns, first, n_inputs, row_pointers, w, bias, start == 2,
                  relu, gate, y, stride, next);
    for (size_t b = 0; b < n_rows; b++) {
        for (size_t o = 0; o < n_columns; o++) {
            wide sum = start == 1 ? get(bias, o) : start == 2 ? get(before, b * stride + o) : 0;
            wide size = fabsl(sum);
            for (size_t i = 0; i < n_inputs; i++) {
                const wide product = get(row_pointers[b], first + i) * get(w, i * width + o);
                sum += product;
                size += fabsl(product);
            }
            if (gated && get(gate, b * stride + o) <= 0) {
                EXPECT(get(y, b * stride + o) == 0, "behind a closed gate", b * stride + o);
                continue;
            }
            expect_near(get(y, b * stride + o), relu ? larger(sum, 0) : sum,
                        (wide)(n_inputs + 1) * eps * size, "y", b * stride + o);
        }
    }
    expect_gaps(y, n_rows, n_columns, stride);
    done();
}

static void test_dense_tile(void) {
    const size_t inputs[] = {1, 2, 7, 33};
    size_t n = 0;
    for (size_t rows = 1; rows <= k->tile_rows; rows++) {
        for (size_t vecs = 1; vecs <= k->panel_vecs; vecs++) {
            for (size_t missing = 0; missing <= k->lanes; missing++) {
                for (int start = 0; start < 3; start++, n++) {
                    dense_tile_of(rows, vecs, vecs * k->lanes - missing, n % 5, inputs[n % 4],
                                  start, n / 3 % 2, n / 6 % 2);
                }
            }
        }
    }
}

/* A NaN may not be lost in a maximum. */
static void test_nan_through_relu(void) {
    const cymlp_next next = {NULL, 0};
    const size_t width = k->lanes;
    void *w = matrix(1, width, width, 1, 2), *y = array(width), *z = matrix(1, 9, 9, -1, 1);
    now("relu of a NaN");
    input_rows(1, 1);
    put(element(row_pointers[0], 0), 0, (wide)NAN);
    k->dense_tile(1, width, width, 0, 1, row_pointers, w, NULL, 0, 1, NULL, y, width, next);
    for (size_t o = 0; o < width; o++) {
        EXPECT(isnan(get(y, o)), "number from dense_tile", o);
    }
    k->dense_dots(1, 1, 1, 1, row_pointers, w, w, 1, y, width);
    EXPECT(isnan(get(y, 0)), "number from dense_dots", 0);
    for (size_t o = 0; o < 9; o += 3) {
        put(z, o, (wide)NAN);
    }
    k->activate[CYMLP_RELU](1, 9, 0, z, 9, z, 9);
    for (size_t o = 0; o < 9; o++) {
        EXPECT(!isnan(get(z, o)) == (o % 3 > 0), "NaN or not", o);
    }
    done();
}

/* Sizes around the edges of vectors, panels and runs of panels. */
static size_t units_around(size_t n) {
    const size_t panel = k->panel_vecs * k->lanes, run = k->run_vecs * k->lanes;
    const size_t sizes[] = {1,
                            k->lanes - 1,
                            k->lanes,
                            k->lanes + 1,
                            panel - 1,
                            panel,
                            panel + 1,
                            2 * panel + 1,
                            run - 1,
                            run,
                            run + 1,
                            run + panel + k->lanes + 1,
                            3 * panel + 1 - k->lanes,
                            3 * panel + 1,
                            4 * panel + 1,
                            8 * k->lanes,
                            2 * run + 1};
    return n < sizeof sizes / sizeof *sizes ? sizes[n] : 0;
}

/* The same with dense_tile, panel by panel; without a bias, from y on. */
static void by_tiles(size_t n_rows, size_t n_units, size_t n_inputs, const void *w,
                     const void *bias, int relu, void *y, size_t stride) {
    const size_t n_columns = whole_vecs(n_units);
    const cymlp_next next = {NULL, 0};
    for (size_t b = 0; b < n_rows; b++) {
        for (size_t o = 0, width; o < n_columns; o += width) {
            width = panel_width(n_units, o);
            k->dense_tile(1, width, width, 0, n_inputs, row_pointers + b, element(w, o * n_inputs),
                          bias ? element(bias, o) : NULL, !bias, relu, NULL,
                          element(y, b * stride + o), stride, next);
        }
    }
}

static void test_dense_row(void) {
    size_t n_units, n_inputs = 1;
    for (size_t n = 0; (n_units = units_around(n)); n++, n_inputs = n_inputs * 3 % 37) {
        const int relu = n % 2;
        void *w = panels(n_inputs, n_units);
        void *bias = matrix(1, whole_vecs(n_units), whole_vecs(n_units), -1, 1);
        void *y = array(n_units), *expected = array(whole_vecs(n_units));
        now("dense_row of %zu units, %zu inputs", n_units, n_inputs);
        input_rows(1, n_inputs);
        k->dense_row(n_units, n_units, n_inputs, row_pointers[0], w, bias, relu, y);
        by_tiles(1, n_units, n_inputs, w, bias, relu, expected, whole_vecs(n_units));
        for (size_t o = 0; o < n_units; o++) {
            EXPECT(get(y, o) == get(expected, o), "other than dense_tile's", o);
        }
        k->dense_row(n_units, n_units, n_inputs, row_pointers[0], w, NULL, 0, y);
        for (size_t o = 0; o < n_units; o++) {
            wide sum = 0, size = 0;
            for (size_t i = 0; i < n_inputs; i++) {
                const wide product =
                    get(row_pointers[0], i) * get(w, in_panels(n_inputs, n_units, i, o));
                sum += product;
                size += fabsl(product);
            }
            expect_near(get(y, o), sum, (wide)n_inputs * eps * size, "y", o);
        }
        done();
    }
}

static void dense_dots_of(size_t n_rows, size_t n_units, size_t n_inputs, int padded, int relu) {
    const size_t n_columns = padded ? whole_vecs(n_units) : n_units, stride = n_columns + 3;
    void *w = panels(n_units, n_inputs), *bias = matrix(1, n_units, n_units, -1, 1);
    void *y = array(n_rows * stride), *alone = array(n_columns);
    now("dense_dots of %zu rows, %zu units, %zu inputs, padded %d, relu %d", n_rows, n_units,
        n_inputs, padded, relu);
    input_rows(n_rows, n_inputs);
    k->dense_dots(n_rows, n_units, n_columns, n_inputs, row_pointers, w, bias, relu, y, stride);
    for (size_t b = 0; b < n_rows; b++) {
        k->dense_dots(1, n_units, n_columns, n_inputs, row_pointers + b, w, bias, relu, alone, 0);
        EXPECT(!memcmp(alone, element(y, b * stride), n_columns * k->item_size),
               "other than the row alone", b);
        for (size_t o = 0; o < n_columns; o++) {
            wide sum = o < n_units ? get(bias, o) : 0, size = fabsl(sum);
            for (size_t i = 0; i < n_inputs && o < n_units; i++) {
                const wide product =
                    get(row_pointers[b], i) * get(w, in_panels(n_units, n_inputs, o, i));
                sum += product;
                size += fabsl(product);
            }
            expect_near(get(y, b * stride + o), relu ? larger(sum, 0) : sum,
                        (wide)(n_inputs + 1) * eps * size, "y", b * stride + o);
        }
    }
    expect_gaps(y, n_rows, n_columns, stride);
    done();
}

static void test_dense_dots(void) {
    const size_t panel = k->panel_vecs * k->lanes;
    size_t n = 0;
    for (size_t n_inputs = 1; n_inputs <= 2 * panel + 1; n_inputs++) {
        for (size_t n_units = 1; n_units <= k->lanes + 1; n_units++, n++) {
            dense_dots_of(1 + n % (2 * k->tile_rows + 1), n_units, n_inputs, n % 2, n / 2 % 2);
        }
    }
}

static const cymlp_nonzeros all_known = {NULL, NULL, 0};

static void test_pack_block(void) {
    for (size_t n_columns = 1; n_columns <= k->block_rows; n_columns++) {
        const size_t n_rows = 1 + n_columns * 5 % 11, first = n_columns % 4, t = k->tile_rows;
        const size_t size = (n_columns + t - 1) / t * t * n_rows;
        void *strips = array(size);
        now("pack_block of %zu rows, columns %zu + %zu", n_rows, first, n_columns);
        input_rows(n_rows, first + n_columns);
        k->pack_block(n_rows, n_columns, row_pointers, all_known, first, strips);
        for (size_t j = 0; j < size; j++) {
            const size_t b = j / t % n_rows, c = j / (t * n_rows) * t + j % t;
            if (c < n_columns) {
                EXPECT(get(strips, j) == get(row_pointers[b], first + c), "strips", j);
            } else {
                EXPECT(is_untouched(element(strips, j), k->item_size), "written to strips", j);
            }
        }
        done();
    }
}

static void test_gradient_tile(void) {
    const size_t rows[] = {1, 2, 31, 66};
    size_t n = 0;
    for (size_t n_inputs = 1; n_inputs <= k->tile_rows; n_inputs++) {
        for (size_t vecs = 1; vecs <= k->panel_vecs; vecs++) {
            for (size_t lines = 0; lines < 100; lines += 33, n++) {
                const size_t n_rows = rows[n % 4], width = vecs * k->lanes, stride = width + 3;
                const size_t t = k->tile_rows + (n % 3 ? 0 : 2);
                void *strip = matrix(n_rows, n_inputs, t, -1, 1);
                void *delta = matrix(n_rows, width, stride, -1, 1), *g = array(n_inputs * width);
                const cymlp_ahead ahead = {{g, strip, delta}, lines, 0};
                now("gradient_tile of %zu inputs, %zu vectors, %zu rows", n_inputs, vecs, n_rows);
                k->gradient_tile(n_inputs, width, n_rows, strip, t, delta, stride, g, &ahead);
                for (size_t j = 0; j < n_inputs * width; j++) {
                    wide sum = 0, size = 0;
                    for (size_t b = 0; b < n_rows; b++) {
                        const wide product =
                            get(strip, b * t + j / width) * get(delta, b * stride + j % width);
                        sum += product;
                        size += fabsl(product);
                    }
                    expect_near(get(g, j), sum, (wide)n_rows * eps * size, "g", j);
                }
                done();
            }
        }
    }
}

static void test_column_sum(void) {
    for (size_t n_rows = 0; n_rows < 20; n_rows++) {
        const size_t width = (1 + n_rows % k->panel_vecs) * k->lanes, stride = width + n_rows % 4;
        void *delta = matrix(n_rows, width, stride, -1, 1), *sum = array(width);
        now("column_sum of %zu rows", n_rows);
        k->column_sum(n_rows, width, delta, stride, sum);
        for (size_t p = 0; p < width; p++) {
            wide expected = 0;
            for (size_t b = 0; b < n_rows; b++) {
                expected += get(delta, b * stride + p);
            }
            expect_near(get(sum, p), expected, (wide)(n_rows * n_rows) * eps, "sum", p);
        }
        done();
    }
}

/* Hints change nothing, whatever the address. */
static void test_bring_columns(void) {
    const size_t n_inputs = 70;
    now("bring_columns");
    input_rows(3, n_inputs);
    k->bring_columns(3, row_pointers, 5, n_inputs - 5);
    k->bring_columns(3, row_pointers, 0, 0);
    k->bring_columns(0, NULL, 0, n_inputs);
    done();
}

static void test_claim_lines(void) {
    char bytes[5 * 64] = "kept";
    now("claim_lines");
    k->claim_lines(5, bytes, 64);
    k->claim_lines(3, NULL, 1 << 20);
    k->claim_lines(0, bytes, 64);
    EXPECT(strcmp(bytes, "kept") == 0, "a line was changed", 0);
}

static void test_transpose_tile(void) {
    for (size_t n_rows = 1; n_rows <= k->lanes; n_rows++) {
        for (size_t n_columns = 1; n_columns <= 3 * k->lanes; n_columns++) {
            const size_t src_width = whole_vecs(n_columns) + 1, dst_width = k->lanes + 2;
            void *src = matrix(n_rows, n_columns, src_width, -1, 1);
            void *dst = array(n_columns * dst_width);
            now("transpose_tile of %zu rows, %zu columns", n_rows, n_columns);
            k->transpose_tile(n_rows, n_columns, src, src_width, dst, dst_width);
            for (size_t c = 0; c < n_columns; c++) {
                for (size_t r = 0; r < k->lanes; r++) {
                    const wide expected = r < n_rows ? get(src, r * src_width + c) : 0;
                    EXPECT(get(dst, c * dst_width + r) == expected, "dst", c * dst_width + r);
                }
            }
            expect_gaps(dst, n_columns, k->lanes, dst_width);
            done();
        }
    }
}

/* ---- inputs that are mostly zero ---- */

enum { MOST_WORDS = 8 };

static uint64_t bits[MOST_ROWS * MOST_WORDS], turned[2 * 256];
static uint32_t starts[MOST_ROWS * MOST_WORDS];

/* Replaces most of what input_rows made by zeros of either sign. */
static void thin_out(size_t n_rows, size_t n_inputs) {
    for (size_t b = 0; b < n_rows; b++) {
        for (size_t i = 0; i < n_inputs; i++) {
            if (drawn(0, 1) < 0.75L) {
                put(element(row_pointers[b], 0), i, i % 2 ? -0.0L : 0.0L);
            }
        }
    }
}

/* Fills bits and starts in plain C; returns the words of a row. */
static size_t list_nonzeros(size_t n_rows, size_t n_inputs) {
    const size_t n_words = (n_inputs + k->block_rows - 1) / k->block_rows;
    for (size_t b = 0; b < n_rows; b++) {
        uint32_t n = 0;
        for (size_t w = 0; w < n_words; w++) {
            uint64_t word = 0;
            starts[b * MOST_WORDS + w] = n;
            for (size_t i = w * k->block_rows; i < n_inputs && i < (w + 1) * k->block_rows; i++) {
                const int nonzero = get(row_pointers[b], i) != 0;
                word |= (uint64_t)nonzero << (i - w * k->block_rows);
                n += (uint32_t)nonzero;
            }
            bits[b * MOST_WORDS + w] = word;
        }
    }
    return n_words;
}

/* Rows that hold nothing but their non-zeros, in the place of the rows themselves. */
static void leave_zeros_out(size_t n_rows, size_t n_inputs) {
    for (size_t b = 0; b < n_rows; b++) {
        char *row = array(n_inputs);
        size_t n = 0;
        for (size_t i = 0; i < n_inputs; i++) {
            if (get(row_pointers[b], i) != 0) {
                put(row, n++, get(row_pointers[b], i));
            }
        }
        row_pointers[b] = row;
    }
}

static size_t inputs_around(size_t n) {
    const size_t sizes[] = {1,
                            k->lanes + 1,
                            k->block_rows - 1,
                            k->block_rows,
                            k->block_rows + 1,
                            3 * k->block_rows + 5};
    return n < sizeof sizes / sizeof *sizes ? sizes[n] : 0;
}

static void test_convert(void) {
    uint8_t bytes[256 + 19];
    for (size_t j = 0; j < sizeof bytes; j++) {
        bytes[j] = (uint8_t)j;
    }
    for (int stride = -1; stride <= 3; stride++) {
        const size_t n = stride > 1 ? sizeof bytes / (size_t)stride : sizeof bytes;
        const uint8_t *from = stride < 0 ? bytes + sizeof bytes - 1 : bytes;
        now("convert bytes %d apart", stride);
        void *x = array(n);
        k->convert(n, CYMLP_UINT8, 0, from, stride, 1, x);
        for (size_t j = 0; j < n; j++) {
            EXPECT(get(x, j) == (wide)from[(ptrdiff_t)j * stride], "x", j);
        }
        done();
    }
    for (int swapped = 0; swapped < 2; swapped++) {
        int16_t pair[2] = {-2, 258};
        now("convert pairs of bytes, swapped %d", swapped);
        void *x = array(2);
        k->convert(2, CYMLP_INT16, swapped, pair, 2, 0.5, x);
        EXPECT(get(x, 0) == (swapped ? -128.5L : -1), "x", (size_t)0);
        EXPECT(get(x, 1) == (swapped ? 256.5L : 129), "x", (size_t)1);
        done();
    }
}

static void test_find_nonzeros(void) {
    size_t n_inputs;
    for (size_t n = 0; (n_inputs = inputs_around(n)); n++) {
        const size_t n_rows = 1 + 2 * n, stride = MOST_WORDS;
        uint64_t found[MOST_ROWS * MOST_WORDS];
        size_t total = 0;
        now("find_nonzeros of %zu rows, %zu inputs", n_rows, n_inputs);
        memset(found, 0x55, sizeof found);
        input_rows(n_rows, n_inputs);
        thin_out(n_rows, n_inputs);
        put(element(row_pointers[0], 0), n_inputs - 1, (wide)NAN);
        const size_t n_words = list_nonzeros(n_rows, n_inputs);
        const size_t counted = k->find_nonzeros(n_rows, n_inputs, row_pointers, found, stride);
        for (size_t b = 0; b < n_rows; b++) {
            for (size_t w = 0; w < stride; w++) {
                const uint64_t expected =
                    w < n_words ? bits[b * stride + w] : (uint64_t)0x5555555555555555;
                EXPECT(found[b * stride + w] == expected, "word", b * stride + w);
            }
            for (size_t i = 0; i < n_inputs; i++) {
                total += get(row_pointers[b], i) != 0;
            }
        }
        EXPECT(counted == total, "count", counted);
        EXPECT(k->find_nonzeros(n_rows, n_inputs, row_pointers, NULL, 0) == total, "count", total);
        done();
    }
}

static void test_sparse_forward(void) {
    size_t n_units, n_inputs;
    for (size_t n = 0; (n_units = units_around(n)); n++) {
        for (size_t m = 0; (n_inputs = inputs_around(m)); m++) {
            const size_t n_rows = 1 + (n + m) % 5, columns = whole_vecs(n_units);
            const size_t stride = columns + 3;
            const int relu = (n + m) % 2;
            void *w = panels(n_inputs, n_units), *bias = matrix(1, columns, columns, -1, 1);
            void *y = array(n_rows * stride), *expected = array(n_rows * stride);
            cymlp_nonzeros nonzeros = {bits, NULL, MOST_WORDS};
            now("sparse_forward of %zu units, %zu inputs, %zu rows", n_units, n_inputs, n_rows);
            input_rows(n_rows, n_inputs);
            thin_out(n_rows, n_inputs);
            list_nonzeros(n_rows, n_inputs);
            by_tiles(n_rows, n_units, n_inputs, w, bias, relu, expected, stride);
            for (int packed = 0; packed < 2; packed++) {
                if (packed) {
                    leave_zeros_out(n_rows, n_inputs);
                    nonzeros.starts__bw = starts;
                    memset(y, 0xff, n_rows * stride * k->item_size);
                }
                k->sparse_forward(n_rows, cymlp_panels_of(columns / k->lanes, k->panel_vecs),
                                  n_inputs, row_pointers, nonzeros, w, bias, 0, relu, y, stride);
                for (size_t b = 0; b < n_rows; b++) {
                    for (size_t o = 0; o < columns; o++) {
                        const size_t j = b * stride + o;
                        EXPECT(get(y, j) == get(expected, j),
                               packed ? "of packed rows, other than dense_tile's"
                                      : "other than dense_tile's",
                               j);
                    }
                }
                expect_gaps(y, n_rows, columns, stride);
            }
            done();
        }
    }
}

/* Sums that start from zeros, or from what is there: those of deltas. */
static void test_sparse_forward_without_bias(void) {
    size_t n_units;
    for (size_t n = 0; (n_units = units_around(n)); n++) {
        const size_t n_inputs = 2 * k->block_rows + 3, n_rows = 17, stride = whole_vecs(n_units);
        const cymlp_panels all = cymlp_panels_of(stride / k->lanes, k->panel_vecs);
        const cymlp_nonzeros nonzeros = {bits, NULL, MOST_WORDS};
        void *w = panels(n_inputs, n_units), *y = array(n_rows * stride);
        void *start = matrix(n_rows, stride, stride, -1, 1), *expected = array(n_rows * stride);
        now("sparse_forward without bias of %zu units", n_units);
        input_rows(n_rows, n_inputs);
        thin_out(n_rows, n_inputs);
        list_nonzeros(n_rows, n_inputs);
        for (int from_y = 0; from_y < 2; from_y++) {
            memcpy(y, start, n_rows * stride * k->item_size);
            memcpy(expected, start, n_rows * stride * k->item_size);
            if (!from_y) {
                memset(expected, 0, n_rows * stride * k->item_size);
            }
            by_tiles(n_rows, n_units, n_inputs, w, NULL, 0, expected, stride);
            k->sparse_forward(n_rows, all, n_inputs, row_pointers, nonzeros, w, NULL, from_y, 0, y,
                              stride);
            for (size_t j = 0; j < n_rows * stride; j++) {
                EXPECT(get(y, j) == get(expected, j), from_y ? "from y" : "from zeros", j);
            }
        }
        done();
    }
}

static void test_turn_nonzeros(void) {
    const size_t rows[] = {1, 63, 64, 65, 130};
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++) {
        const size_t n_inputs = k->block_rows + 7, n_rows = rows[n],
                     whole = (n_rows + 63) / 64 * 64;
        const cymlp_nonzeros nonzeros = {bits, NULL, MOST_WORDS};
        now("turn_nonzeros of %zu rows", n_rows);
        input_rows(n_rows, n_inputs);
        thin_out(n_rows, n_inputs);
        list_nonzeros(n_rows, n_inputs);
        for (size_t word = 0; word < 2; word++) {
            memset(turned, 0x55, sizeof turned);
            k->turn_nonzeros(n_rows, word, nonzeros, turned);
            for (size_t j = 0; j < whole; j++) {
                uint64_t expected = 0;
                for (size_t r = 0; r < 64 && j / 64 * 64 + r < n_rows; r++) {
                    const uint64_t row = bits[(j / 64 * 64 + r) * MOST_WORDS + word];
                    expected |= (row >> j % 64 & 1) << r;
                }
                EXPECT(turned[j] == expected, "word", j);
            }
            EXPECT(turned[whole] == 0x5555555555555555u, "written behind word", whole);
        }
        done();
    }
}

/* Some panels of a layer at once: what the others' units have stays as it is. */
static void sparse_forward_of_some_panels(size_t n_vecs) {
    const size_t columns = n_vecs * k->lanes, n_inputs = 70;
    const cymlp_panels all = cymlp_panels_of(n_vecs, k->panel_vecs);
    const cymlp_nonzeros nonzeros = {bits, NULL, MOST_WORDS};
    const size_t n_rows = 3, n_panels = all.n_full + all.n_lesser;
    for (size_t first = 0; first < n_panels; first++) {
        for (size_t stop = first + 1; stop <= n_panels; stop++) {
            void *w = panels(n_inputs, columns), *bias = matrix(1, columns, columns, -1, 1);
            void *y = array(n_rows * columns), *expected = array(n_rows * columns);
            const cymlp_panels before = {first < all.n_full ? first : all.n_full,
                                         first < all.n_full ? 0 : first - all.n_full,
                                         all.lesser_vecs};
            const cymlp_panels end = {stop < all.n_full ? stop : all.n_full,
                                      stop < all.n_full ? 0 : stop - all.n_full, all.lesser_vecs};
            const size_t begin = cymlp_vecs_of(before, k->panel_vecs) * k->lanes;
            const size_t behind = cymlp_vecs_of(end, k->panel_vecs) * k->lanes;
            now("sparse_forward of %zu vectors, panels %zu to %zu", n_vecs, first, stop);
            input_rows(n_rows, n_inputs);
            thin_out(n_rows, n_inputs);
            list_nonzeros(n_rows, n_inputs);
            memset(y, 0, n_rows * columns * k->item_size);
            by_tiles(n_rows, columns, n_inputs, w, bias, 1, expected, columns);
            k->sparse_forward(n_rows, cymlp_without(end, before), n_inputs, row_pointers, nonzeros,
                              element(w, n_inputs * begin), element(bias, begin), 0, 1,
                              element(y, begin), columns);
            for (size_t j = 0; j < n_rows * columns; j++) {
                const int is_own = j % columns >= begin && j % columns < behind;
                EXPECT(get(y, j) == (is_own ? get(expected, j) : 0), "other than expected", j);
            }
            done();
        }
    }
}

static void test_sparse_forward_of_some_panels(void) {
    sparse_forward_of_some_panels(5);
    sparse_forward_of_some_panels(8);
    sparse_forward_of_some_panels(16);
}

/* Runs follow each other to the last panel. */
static void test_runs(void) {
    for (size_t n_vecs = 1; n_vecs < 100; n_vecs++) {
        cymlp_panels left = cymlp_panels_of(n_vecs, k->panel_vecs), run;
        now("runs of %zu vectors", n_vecs);
        EXPECT(cymlp_vecs_of(left, k->panel_vecs) == n_vecs, "vectors", n_vecs);
        for (; cymlp_vecs_of(left, k->panel_vecs); left = cymlp_without(left, run)) {
            run = cymlp_run_of(left, k->panel_vecs, k->run_vecs);
            const size_t vecs = cymlp_vecs_of(run, k->panel_vecs);
            EXPECT(vecs > 0 && vecs <= k->run_vecs, "vectors of a run", vecs);
            EXPECT(!run.n_lesser || run.n_full == left.n_full, "lesser panels first", vecs);
        }
        done();
    }
}

/* pack_block of rows that hold nothing but their non-zeros. */
static void test_pack_nonzeros(void) {
    for (size_t first = 0; first < 2 * k->block_rows; first += 5) {
        const size_t left = k->block_rows - first % k->block_rows, n_rows = 1 + first % 7;
        const size_t n_columns = first % 2 ? left : (left + 1) / 2, t = k->tile_rows;
        const size_t all = first + left + 3, size = (n_columns + t - 1) / t * t * n_rows;
        const cymlp_nonzeros nonzeros = {bits, starts, MOST_WORDS};
        const void *whole[7];
        void *strips = array(size);
        now("pack_block of non-zeros, %zu rows, columns %zu + %zu", n_rows, first, n_columns);
        input_rows(n_rows, all);
        thin_out(n_rows, all);
        list_nonzeros(n_rows, all);
        memcpy(whole, row_pointers, n_rows * sizeof *whole);
        leave_zeros_out(n_rows, all);
        k->pack_block(n_rows, n_columns, row_pointers, nonzeros, first, strips);
        for (size_t j = 0; j < size; j++) {
            const size_t b = j / t % n_rows, c = j / (t * n_rows) * t + j % t;
            if (c < n_columns && get(whole[b], first + c) != 0) {
                EXPECT(get(strips, j) == get(whole[b], first + c), "strips", j);
            } else {
                EXPECT(is_untouched(element(strips, j), k->item_size), "written to strips", j);
            }
        }
        done();
    }
}

static void test_sparse_gradient(void) {
    const size_t rows[] = {1, 64, 67, 130};
    for (size_t n_vecs = 1; n_vecs <= k->run_vecs; n_vecs++) {
        const cymlp_panels run = cymlp_panels_of(n_vecs, k->panel_vecs);
        for (int form = 0; form < 4; form++) { /* rows or strips, of all inputs or of non-zeros */
            const int in_strips = form % 2, packed = form / 2;
            const size_t n_rows = rows[n_vecs % 4], first = n_vecs % 2 * k->block_rows;
            const size_t n_inputs = n_vecs % 3 ? k->block_rows : 5, all = first + n_inputs;
            const size_t width = n_vecs * k->lanes, stride = width + 3;
            const size_t n_strips = (n_inputs + k->tile_rows - 1) / k->tile_rows;
            void *delta = matrix(n_rows, width, stride, -1, 1), *g = array(n_inputs * width);
            void *strips = array(n_strips * k->tile_rows * n_rows);
            const cymlp_nonzeros nonzeros = {bits, packed ? starts : NULL, MOST_WORDS};
            const cymlp_across across[64] = {{g, 64}};
            const cymlp_sparse_ahead ahead = {row_pointers, 0, 64,     {g, g, g},
                                              {g, g, g},    0, across, 0};
            const size_t n_kept = n_rows > 40 && packed ? 40 : n_rows; /* MOST_ARRAYS */
            wide *sums = calloc(2 * n_inputs * width, sizeof *sums);
            wide *const sizes = sums + n_inputs * width;
            now("sparse_gradient of %zu vectors, %zu inputs, %zu rows", n_vecs, n_inputs, n_kept);
            input_rows(n_kept, all);
            thin_out(n_kept, all);
            list_nonzeros(n_kept, all);
            k->turn_nonzeros(n_kept, first / k->block_rows, nonzeros, turned);
            for (size_t b = 0; b < n_kept; b++) {
                for (size_t j = 0; j < n_inputs * width; j++) {
                    const wide product = get(row_pointers[b], first + j / width) *
                                         get(delta, b * stride + j % width);
                    sums[j] += product;
                    sizes[j] += fabsl(product);
                }
            }
            if (packed) {
                leave_zeros_out(n_kept, all);
            }
            k->pack_block(n_kept, n_inputs, row_pointers, nonzeros, first, strips);
            k->sparse_gradient(n_kept, run, first, n_inputs, row_pointers, nonzeros,
                               in_strips ? strips : NULL, turned, delta, stride, g, &ahead);
            for (size_t j = 0; j < n_inputs * width; j++) {
                expect_near(get(g, in_panels(n_inputs, width, j / width, j % width)), sums[j],
                            (wide)n_kept * eps * sizes[j], in_strips ? "g of strips" : "g of rows",
                            j);
            }
            free(sums);
            done();
        }
    }
}

/* ---- sums and tests of arrays ---- */

static void test_sum_of_squares(void) {
    for (size_t n = 0; n < 70; n++) {
        void *w = matrix(1, n, n, -2, 2);
        wide sum = 0;
        now("sum_of_squares of %zu", n);
        for (size_t j = 0; j < n; j++) {
            sum += get(w, j) * get(w, j);
        }
        expect_near((wide)k->sum_of_squares(n, w), sum, (wide)(n + 4) * eps * sum, "sum", n);
        done();
    }
}

static void test_all_finite(void) {
    const wide bad[] = {(wide)NAN, (wide)INFINITY, -(wide)INFINITY};
    const wide most = dtype == CYMLP_FLOAT32 ? (wide)FLT_MAX : (wide)DBL_MAX;
    for (size_t n = 0; n < 70; n++) {
        void *x = matrix(1, n, n, -1, 1);
        now("all_finite of %zu", n);
        for (size_t j = 0; j < n; j++) {
            put(x, j, j % 2 ? most : -most);
        }
        EXPECT(k->all_finite(n, x) == 1, "no to numbers", n);
        for (size_t j = 0; j < n; j++) {
            const wide before = get(x, j);
            put(x, j, bad[(j + n) % 3]);
            EXPECT(k->all_finite(n, x) == 0, "not seen", j);
            put(x, j, before);
        }
        done();
    }
}

/* ---- activations ---- */

static wide logistic(wide z) { return z < 0 ? expl(z) / (1 + expl(z)) : 1 / (1 + expl(-z)); }

static wide softplus(wide z) { return larger(z, 0) + log1pl(expl(-fabsl(z))); }

static wide normal_below(wide z) { return erfcl(-z / sqrtl(2)) / 2; }

static const double alpha = 0.25; /* of activations that have a parameter; exact in either dtype */
static const wide selu_scale = 1.0507009873554804934193349852946L;
static const wide selu_alpha = 1.6732632423543772848170429916717L;
static const wide gate_slope = 1.5957691216057307117597842397375L; /* 2 sqrt(2 / pi) */

/* f(z) for all but softmax. */
static wide activated(enum cymlp_activation f, wide z) {
    switch (f) {
    case CYMLP_RELU:
        return larger(z, 0);
    case CYMLP_SIGMOID:
        return logistic(z);
    case CYMLP_TANH:
        return tanhl(z);
    case CYMLP_LEAKY_RELU:
        return z > 0 ? z : (wide)alpha * z;
    case CYMLP_ELU:
        return z > 0 ? z : (wide)alpha * expm1l(z);
    case CYMLP_SELU:
        return selu_scale * (z > 0 ? z : selu_alpha * expm1l(z));
    case CYMLP_GELU:
        return z * normal_below(z);
    case CYMLP_GELU_TANH:
        return z * logistic(gate_slope * (z + 0.044715L * z * z * z));
    case CYMLP_SILU:
        return z * logistic(z);
    case CYMLP_MISH:
        return z * tanhl(softplus(z));
    case CYMLP_SOFTPLUS:
        return softplus(z);
    case CYMLP_SOFTSIGN:
        return z / (1 + fabsl(z));
    case CYMLP_HARD_SIGMOID:
        return (z < -3 ? 0 : z > 3 ? 6 : z + 3) / 6;
    case CYMLP_EXPONENTIAL:
        return expl(z);
    default:
        return z;
    }
}

/* f'(z), given what the activation keeps, for all but softmax. */
static wide slope(enum cymlp_activation f, wide kept) {
    const wide s = logistic(kept), t = tanhl(softplus(kept));
    const wide gate = logistic(gate_slope * (kept + 0.044715L * kept * kept * kept));
    switch (f) {
    case CYMLP_RELU:
        return kept > 0;
    case CYMLP_SIGMOID:
        return kept * (1 - kept);
    case CYMLP_TANH:
        return 1 - kept * kept;
    case CYMLP_LEAKY_RELU:
        return kept > 0 ? 1 : (wide)alpha;
    case CYMLP_ELU:
        return kept > 0 ? 1 : kept + (wide)alpha;
    case CYMLP_SELU:
        return kept > 0 ? selu_scale : kept + selu_scale * selu_alpha;
    case CYMLP_GELU:
        return normal_below(kept) + kept * expl(-kept * kept / 2) * gate_slope / 4;
    case CYMLP_GELU_TANH:
        return gate + kept * gate * (1 - gate) * gate_slope * (1 + 0.134145L * kept * kept);
    case CYMLP_SILU:
        return s * (1 + kept * (1 - s));
    case CYMLP_MISH:
        return t + kept * s * (1 - t * t);
    case CYMLP_SOFTPLUS:
        return 1 - expl(-kept);
    case CYMLP_SOFTSIGN:
        return (1 - fabsl(kept)) * (1 - fabsl(kept));
    case CYMLP_HARD_SIGMOID:
        return kept > 0 && kept < 1 ? 1.0L / 6 : 0;
    case CYMLP_EXPONENTIAL:
        return kept;
    default:
        return 1;
    }
}

/* How large the error of f(z) may be, in eps. gelu_tanh's grows with its cubic. */
static wide ulps_of(enum cymlp_activation f, wide z) {
    return f == CYMLP_IDENTITY || f == CYMLP_RELU  ? 0
           : f == CYMLP_LEAKY_RELU                 ? 0.5L
           : f == CYMLP_GELU_TANH && z < 0         ? 3 - 5 * (z + 0.044715L * z * z * z)
           : f == CYMLP_GELU                       ? 5
           : f == CYMLP_SELU                       ? 3.5L
           : f == CYMLP_SIGMOID || f == CYMLP_TANH ? 2
                                                   : 3;
}

/* y = f(z) of one row, and how large a result's error may be, in eps. */
static void activate_row(enum cymlp_activation f, size_t n, const void *z, wide *y, wide *ulps) {
    wide high = get(z, 0), sum = 0;
    for (size_t o = 0; o < n; o++) {
        high = larger(high, get(z, o));
        y[o] = activated(f, get(z, o));
        ulps[o] = ulps_of(f, get(z, o));
    }
    if (f == CYMLP_SOFTMAX) {
        for (size_t o = 0; o < n; o++) {
            y[o] = expl(get(z, o) - high);
            sum += y[o];
        }
        for (size_t o = 0; o < n; o++) {
            y[o] /= sum;
            ulps[o] = (wide)n + 4 + fabsl(get(z, o)) + fabsl(high);
        }
    }
}

enum { MOST_UNITS = 70 };

static void test_activate(void) {
    wide expected[MOST_UNITS], ulps[MOST_UNITS];
    const wide least = dtype == CYMLP_FLOAT32 ? (wide)FLT_MIN : (wide)DBL_MIN;
    for (int f = 0; f < CYMLP_N_ACTIVATIONS; f++) {
        for (size_t n = 1; n < MOST_UNITS; n++) {
            const size_t n_rows = 1 + n * 5 % 37, stride = n + 3;
            const wide range = n % 3 ? 3 : 30;
            void *z = matrix(n_rows, n, stride, -range, range), *y = copy(z, n_rows * stride);
            void *alone = array(n);
            now("activation %d of %zu rows, %zu units", f, n_rows, n);
            k->activate[f](n_rows, n, alpha, y, stride, y, stride);
            for (size_t b = 0; b < n_rows; b++) {
                k->activate[f](1, n, alpha, element(z, b * stride), n, alone, n);
                EXPECT(!memcmp(alone, element(y, b * stride), n * k->item_size),
                       "other than the row alone", b);
                activate_row(f, n, element(z, b * stride), expected, ulps);
                for (size_t o = 0; o < n; o++) {
                    expect_near(get(y, b * stride + o), expected[o],
                                fabsl(expected[o]) < least ? least
                                                           : ulps[o] * eps * fabsl(expected[o]),
                                "y", b * stride + o);
                }
            }
            expect_gaps(y, n_rows, n, stride);
            done();
        }
    }
}

/* Numbers where a kernel's own arithmetic may overflow. */
static void test_activate_extremes(void) {
    const wide most = dtype == CYMLP_FLOAT32 ? (wide)FLT_MAX : (wide)DBL_MAX;
    const wide large[] = {most, -most, 0, 1e4L, -1e4L, 89, -104, 710, -746, most / 2, -0.0L};
    enum { N = sizeof large / sizeof *large };
    for (size_t j = 0; j < N * CYMLP_N_ACTIVATIONS; j++) {
        const enum cymlp_activation f = (enum cymlp_activation)(j / N);
        void *z = matrix(1, N, N, 0, 0);
        now("activation %d of extremes from %zu on", (int)f, j % N);
        for (size_t o = 0; o < N; o++) {
            put(z, o, large[(o + j) % N]);
        }
        void *kept = copy(z, N), *d = matrix(1, N, N, 1, 1);
        k->activate[f](1, N, alpha, z, N, z, N);
        for (size_t o = 0; o < N; o++) {
            const wide y = get(z, o), x = get(kept, o);
            if (f == CYMLP_SOFTMAX) {
                EXPECT(y >= 0 && y <= 1, "y", o);
            } else if (fabsl(activated(f, x)) > most) {
                EXPECT(isinf(y), "y", o);
            } else {
                expect_near(y, activated(f, x),
                            ulps_of(f, x) * eps * larger(1, fabsl(activated(f, x))), "y", o);
            }
        }
        k->activate_backward[f](1, N, alpha, cymlp_keeps_z(f) ? kept : z, N, d, N);
        for (size_t o = 0; o < N; o++) {
            EXPECT(!isnan(get(d, o)) || isinf(get(z, o)), "d", o);
        }
        done();
    }
}

static void test_activation_of_zero(void) {
    for (int f = 0; f < CYMLP_N_ACTIVATIONS; f++) {
        void *z = matrix(1, 2, 2, 0, 0);
        now("activation %d of zero", f);
        k->activate[f](1, 2, alpha, z, 2, z, 2);
        EXPECT(cymlp_keeps_zeros((enum cymlp_activation)f) == (get(z, 0) == 0), "y", 0);
        done();
    }
}

static void test_activate_backward(void) {
    for (int f = 0; f < CYMLP_N_ACTIVATIONS; f++) {
        for (size_t n = 1; n < MOST_UNITS; n++) {
            const size_t n_rows = 1 + n % 4, y_stride = n + 3, d_stride = n + 1;
            const int keeps_z = cymlp_keeps_z((enum cymlp_activation)f);
            const wide low = keeps_z                                                           ? -9
                             : f == CYMLP_SIGMOID || f == CYMLP_SOFTMAX || f == CYMLP_SOFTPLUS ? 0
                                                                                               : -1;
            void *y = matrix(n_rows, n, y_stride, low, keeps_z ? 9 : 1);
            void *d = matrix(n_rows, n, d_stride, -1, 1), *before = copy(d, n_rows * d_stride);
            put(y, n / 2, 0); /* where ReLU has its edge */
            now("derivative of activation %d of %zu units", f, n);
            k->activate_backward[f](n_rows, n, alpha, y, y_stride, d, d_stride);
            for (size_t b = 0; b < n_rows; b++) {
                wide dot = 0, size = 0;
                for (size_t o = 0; o < n; o++) {
                    const wide product = get(y, b * y_stride + o) * get(before, b * d_stride + o);
                    dot += product;
                    size += fabsl(product);
                }
                for (size_t o = 0; o < n; o++) {
                    const wide v = get(y, b * y_stride + o), g = get(before, b * d_stride + o);
                    const wide expected =
                        f == CYMLP_SOFTMAX ? v * (g - dot) : g * slope((enum cymlp_activation)f, v);
                    const wide ulps = f <= CYMLP_RELU      ? 0
                                      : f == CYMLP_SOFTMAX ? ((wide)n + 2) * (fabsl(g) + size)
                                                           : 3 * fabsl(g);
                    expect_near(get(d, b * d_stride + o), expected, ulps * eps, "d",
                                b * d_stride + o);
                }
            }
            expect_gaps(d, n_rows, n, d_stride);
            done();
        }
    }
}

/* ---- losses ---- */

static wide between(wide low, wide x, wide high) { return x < low ? low : x > high ? high : x; }

/* Whether a loss reads means or probabilities that it bounds from below. */
static int takes_y(enum cymlp_loss loss) {
    return loss == CYMLP_POISSON || loss == CYMLP_GAMMA || loss == CYMLP_TWEEDIE ||
           loss == CYMLP_CROSS_ENTROPY || loss == CYMLP_BINARY_CROSS_ENTROPY ||
           loss == CYMLP_KL_DIVERGENCE || loss == CYMLP_FOCAL;
}

static wide times_log(wide t) { return t > 0 ? t * logl(t) : 0; }

/* The loss of one output, its derivative by it, and how large both and their parts are. For softmax
 * the sum of exponentials comes in as its logarithm, and all targets as they are smoothed and
 * weighted, with their sum; w is what the settings say of the output. */
static wide loss_term(enum cymlp_loss loss, const cymlp_loss_settings *told, wide y, wide t, wide w,
                      wide log_sum, wide total, wide *derivative, wide *size,
                      wide *derivative_size) {
    const wide p = larger(y, eps), q = larger(1 - y, eps), e = y - t, a = told->parameter;
    wide part, other, wrong, share, entropy;
    switch (loss) {
    case CYMLP_SQUARED_ERROR:
        *derivative = e;
        *derivative_size = fabsl(y) + fabsl(t);
        *size = e * e + fabsl(e);
        return e * e / 2;
    case CYMLP_ABSOLUTE_ERROR:
        *derivative = (wide)(e > 0) - (wide)(e < 0);
        *derivative_size = 1;
        *size = fabsl(e);
        return fabsl(e);
    case CYMLP_HUBER:
        *derivative = between(-a, e, a);
        *derivative_size = fabsl(*derivative);
        *size = fabsl(*derivative * e);
        return fabsl(e) <= a ? e * e / 2 : a * (fabsl(e) - a / 2);
    case CYMLP_LOG_COSH:
        *derivative = tanhl(e);
        *derivative_size = fabsl(*derivative);
        *size = fabsl(e);
        return logl(coshl(e));
    case CYMLP_QUANTILE:
        *derivative = e > 0 ? 1 - w : e < 0 ? -w : 0;
        *derivative_size = 1;
        *size = fabsl(e);
        return larger(-w * e, (1 - w) * e);
    case CYMLP_POISSON:
        *derivative = 1 - t / p;
        *derivative_size = 1 + t / p;
        *size = p + t * (1 + fabsl(logl(p)));
        return p - t * logl(p);
    case CYMLP_GAMMA:
        *derivative = (1 - t / p) / p;
        *derivative_size = (1 + t / p) / p;
        *size = t / p + 1 + fabsl(logl(p));
        return t / p + logl(p);
    case CYMLP_TWEEDIE:
    case CYMLP_EXPONENTIAL_TWEEDIE:
        part = loss == CYMLP_TWEEDIE ? logl(p) : y;
        *size = 1 + fabsl(part);
        other = t * expl((1 - a) * part), part = expl((2 - a) * part);
        *derivative = (part - other) / (loss == CYMLP_TWEEDIE ? p : 1);
        *derivative_size = *size * (part + other) / (loss == CYMLP_TWEEDIE ? p : 1);
        *size *= part / (2 - a) + other / (a - 1);
        return part / (2 - a) + other / (a - 1);
    case CYMLP_CROSS_ENTROPY:
        *derivative = -t / p;
        *derivative_size = t / p;
        *size = t * (1 - logl(p));
        return -t * logl(p);
    case CYMLP_BINARY_CROSS_ENTROPY:
        *derivative = (1 - t) / q - t / p;
        *derivative_size = (1 - t) / q / q + t / p + 1 / q; /* 1 - y and 1 - t are rounded */
        *size = t * (1 - logl(p)) + (1 - t) * (1 - logl(q)) + 1 - logl(q);
        return -t * logl(p) - (1 - t) * logl(q);
    case CYMLP_HINGE:
        part = 1 - (t > 0 ? y : -y);
        *derivative = part > 0 ? (t > 0 ? -1 : 1) : 0;
        *derivative_size = 1;
        *size = 1 + fabsl(y);
        return larger(part, 0);
    case CYMLP_KL_DIVERGENCE:
        *derivative = -t / p;
        *derivative_size = t / p;
        *size = fabsl(times_log(t)) + t * (1 - logl(p));
        return times_log(t) - t * logl(p);
    case CYMLP_FOCAL:
    case CYMLP_SIGMOID_FOCAL:
        part = loss == CYMLP_FOCAL ? p : logistic(y),
        other = loss == CYMLP_FOCAL ? q : logistic(-y);
        wrong = t * other + (1 - t) * part;
        share = (told->smoothing * t + (1 - told->smoothing) * (1 - t)) * powl(wrong, a);
        entropy = -t * logl(part) - (1 - t) * logl(other);
        *derivative =
            share * (a * (1 - 2 * t) * entropy * part * other / wrong + (1 - t) * part - t * other);
        *derivative_size = share * (1 + a - a * logl(wrong)) *
                           (a * (entropy + fabsl(y) + 1) * part * other / wrong + part + other);
        *size = share * (1 + a - a * logl(wrong)) * (entropy + fabsl(y) + 1);
        if (loss == CYMLP_FOCAL) { /* by y, not by what its sigmoid is taken of */
            *derivative = share * (a * (1 - 2 * t) * entropy / wrong + (1 - t) / other - t / part);
            *derivative_size = share * (1 + a - a * logl(wrong)) *
                               (a * (entropy + 1) / wrong + (1 - t) / other + t / part);
        }
        return share * entropy;
    case CYMLP_SOFTMAX_CROSS_ENTROPY:
    case CYMLP_SOFTMAX_KL_DIVERGENCE:
        *derivative = expl(y - log_sum) * total - t;
        *derivative_size = expl(y - log_sum) * total * (4 + fabsl(y)) + t;
        *size = t * (fabsl(y) + fabsl(log_sum) + 1) + 1;
        return t * (log_sum - y) + (loss == CYMLP_SOFTMAX_KL_DIVERGENCE ? times_log(t) : 0);
    case CYMLP_EXPONENTIAL_POISSON:
        *derivative = expl(y) - t;
        *derivative_size = expl(y) + t;
        *size = expl(y) + fabsl(t * y);
        return expl(y) - t * y;
    case CYMLP_EXPONENTIAL_GAMMA:
        *derivative = 1 - t * expl(-y);
        *derivative_size = 1 + t * expl(-y);
        *size = t * expl(-y) + fabsl(y);
        return t * expl(-y) + y;
    default:
        *derivative = logistic(y) - t;
        *derivative_size = logistic(y) + t;
        *size = fabsl(y) + 1;
        return larger(y, 0) - y * t + log1pl(expl(-fabsl(y)));
    }
}

/* What a loss is told: in turn different numbers, all exact in both types. */
static cymlp_loss_settings told_in(size_t turn, enum cymlp_loss loss, size_t n, int *is_smoothed) {
    const int over_classes = loss == CYMLP_CROSS_ENTROPY || loss == CYMLP_SOFTMAX_CROSS_ENTROPY;
    const int focal = loss == CYMLP_FOCAL || loss == CYMLP_SIGMOID_FOCAL;
    cymlp_loss_settings told = {1.5, 0, NULL};
    *is_smoothed = turn % 2 && (over_classes || loss == CYMLP_BINARY_CROSS_ENTROPY ||
                                loss == CYMLP_SIGMOID_BINARY_CROSS_ENTROPY);
    if (*is_smoothed || focal) {
        told.smoothing = 0.125;
    }
    if (focal && turn % 2) {
        told.parameter = 2;
    }
    if (loss == CYMLP_QUANTILE || (over_classes && turn % 3 == 0)) {
        void *unit = array(whole_vecs(n));
        draw(unit, whole_vecs(n), 0.1L, 0.9L);
        told.unit__o = unit;
    }
    return told;
}

static void loss_of(enum cymlp_loss loss, size_t n_rows, size_t n, int with_labels) {
    const int from_y = takes_y(loss);
    const size_t out_stride = n + 2, delta_stride = n + 5;
    void *out = matrix(n_rows, n, out_stride, from_y ? 0 : -4, from_y ? 1 : 4);
    void *t = matrix(n_rows, n, n, 0, 1), *delta = array(n_rows * delta_stride);
    void *alone = array(n);
    double scale[MOST_ROWS], value[MOST_ROWS];
    int32_t labels[MOST_ROWS];
    const cymlp_targets targets = {with_labels ? labels : NULL, with_labels ? NULL : row_pointers};
    int is_smoothed;
    const cymlp_loss_settings settings = told_in(n + n_rows, loss, n, &is_smoothed);
    const int weighted = settings.unit__o && loss != CYMLP_QUANTILE;
    const int binary =
        loss == CYMLP_BINARY_CROSS_ENTROPY || loss == CYMLP_SIGMOID_BINARY_CROSS_ENTROPY;
    const wide smoothing = is_smoothed ? (wide)settings.smoothing : 0;
    now("loss %d of %zu rows, %zu units, %s", (int)loss, n_rows, n,
        with_labels ? "labels" : "values");
    for (size_t b = 0; b < n_rows; b++) {
        scale[b] = (double)drawn(0, 1);
        labels[b] = (int32_t)((b * 7 + n) % n);
        row_pointers[b] = element(t, b * n);
        if (from_y) {
            put(out, b * out_stride + b % n, b % 2);
        }
        for (size_t o = 0; with_labels && o < n; o++) {
            put(t, b * n + o, o == (size_t)labels[b]);
        }
    }
    k->loss[loss](n_rows, n, &settings, out, out_stride, targets, scale, value, delta,
                  delta_stride);
    for (size_t b = 0; b < n_rows; b++) {
        wide sum = 0, size = 0, exponentials = 0, total = 0;
        const cymlp_targets target = {with_labels ? labels + b : NULL,
                                      with_labels ? NULL : row_pointers + b};
        double value_alone;
        wide told__o[MOST_LOSS_UNITS];
        k->loss[loss](1, n, &settings, element(out, b * out_stride), n, target, scale + b,
                      &value_alone, alone, n);
        EXPECT(value_alone == value[b] &&
                   !memcmp(alone, element(delta, b * delta_stride), n * k->item_size),
               "other than the row alone", b);
        for (size_t o = 0; o < n; o++) {
            told__o[o] = (1 - smoothing) * get(t, b * n + o) + smoothing / (binary ? 2 : (wide)n);
            told__o[o] *= weighted ? get(settings.unit__o, o) : 1;
            exponentials += expl(get(out, b * out_stride + o));
            total += told__o[o];
        }
        for (size_t o = 0; o < n; o++) {
            const wide w = settings.unit__o ? get(settings.unit__o, o) : 1;
            wide derivative, term_size, derivative_size;
            sum += loss_term(loss, &settings, get(out, b * out_stride + o), told__o[o], w,
                             logl(exponentials), total, &derivative, &term_size, &derivative_size);
            size += term_size;
            expect_near(get(delta, b * delta_stride + o), (wide)scale[b] * derivative,
                        ((wide)n / 4 + 4) * eps * (wide)scale[b] * derivative_size, "delta",
                        b * delta_stride + o);
        }
        expect_near((wide)value[b], sum, ((wide)n / 2 + 4) * eps * size, "loss", b);
    }
    expect_gaps(delta, n_rows, n, delta_stride);
    done();
}

static void test_loss(void) {
    for (int loss = 0; loss < CYMLP_N_LOSSES; loss++) {
        for (size_t n = 1; n < 3 * k->lanes + 3; n++) {
            loss_of(loss, 1 + n * 5 % 37, n, 0);
            loss_of(loss, 1 + n * 5 % 37, n, 1);
        }
    }
}

static void test_accuracy(void) {
    for (size_t n = 1; n < 2 * k->lanes + 3; n++) {
        for (int with_labels = 0; with_labels < 2; with_labels++) {
            enum { N_ROWS = 60 };
            const size_t stride = n + 1;
            void *out = matrix(N_ROWS, n, stride, 0, 1), *t = matrix(N_ROWS, n, n, 0, 1);
            int32_t labels[N_ROWS];
            double hit[N_ROWS];
            const cymlp_targets targets = {with_labels ? labels : NULL,
                                           with_labels ? NULL : row_pointers};
            now("accuracy of %zu units, %s", n, with_labels ? "labels" : "values");
            for (size_t b = 0; b < N_ROWS; b++) {
                labels[b] = (int32_t)(b % n);
                row_pointers[b] = element(t, b * n);
                put(out, b * stride + (b + b % 4 / 3) % n, b % 5 ? 2 : (wide)NAN);
                put(t, b * n + b % n, 2);
                put(out, b * stride + n - 1, b % 7 ? get(out, b * stride + n - 1) : 2); /* a tie */
            }
            k->accuracy(N_ROWS, n, out, stride, targets, 0.25, hit);
            for (size_t b = 0; b < N_ROWS; b++) {
                size_t best = 0;
                int is_nan = isnan(get(out, b * stride));
                for (size_t o = 1; o < n; o++) {
                    best = get(out, b * stride + o) > get(out, b * stride + best) ? o : best;
                    is_nan |= isnan(get(out, b * stride + o));
                }
                const int alone = n == 1 && !with_labels;
                const int expected =
                    alone ? (get(out, b * stride) > 0.25L) == (get(t, b) > 0.5L) : best == b % n;
                if (!is_nan) {
                    EXPECT((int)hit[b] == expected, "hit", b);
                } else if (isnan(get(out, b * stride + b % n))) {
                    EXPECT(hit[b] == 0, "hit by a NaN", b);
                }
            }
            done();
        }
    }
}

/* ---- optimizers ---- */

static wide sign_of(wide x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

/* One parameter and its slots; sizes: of what was added up to each of the results. */
static void step_of(enum cymlp_optimizer optimizer, const cymlp_step *s, wide g, wide state[4],
                    wide size[4]) {
    const wide w = state[0], rate = (wide)s->learning_rate, mu = (wide)s->momentum;
    const wide b1 = (wide)s->beta_1, b2 = (wide)s->beta_2, epsilon = (wide)s->epsilon;
    const wide decay = (wide)s->weight_decay, limit = (wide)s->clip_value;
    const wide penalty = (wide)s->l2 * w + (wide)s->l1 * sign_of(w);
    const wide g_size = fabsl(g) + fabsl(penalty) + fabsl(decay * w);
    wide root, step = 0;
    size[0] = 2 * fabsl(w);
    for (int i = 1; i < 4; i++) {
        size[i] = fabsl(state[i]) + g_size + g_size * g_size;
    }
    if (optimizer == CYMLP_ACCUMULATE) {
        state[1] += g;
        return;
    }
    g += penalty;
    if (optimizer == CYMLP_GRADIENT) {
        state[1] = g;
        return;
    }
    g = fminl(fmaxl((wide)s->gradient_scale * g, -limit), limit) + decay * w;
    switch (optimizer) {
    case CYMLP_SGD:
        step = rate * g;
        size[0] += rate * g_size;
        break;
    case CYMLP_MOMENTUM:
    case CYMLP_NESTEROV:
        state[1] = mu * state[1] + g;
        step = rate * (optimizer == CYMLP_MOMENTUM ? state[1] : g + mu * state[1]);
        size[0] += 2 * rate * size[1];
        break;
    case CYMLP_ADAM:
    case CYMLP_AMSGRAD:
    case CYMLP_NADAM:
        state[1] = b1 * state[1] + (1 - b1) * g;
        state[2] = b2 * state[2] + (1 - b2) * g * g;
        state[3] = optimizer == CYMLP_AMSGRAD ? fmaxl(state[3], state[2]) : state[3];
        root = sqrtl(optimizer == CYMLP_AMSGRAD ? state[3] : state[2]);
        root = root * (wide)s->v_root_scale + epsilon;
        step = rate * (wide)s->m_scale * state[1] / root;
        step += optimizer == CYMLP_NADAM ? rate * (wide)s->g_scale * g / root : 0;
        size[0] += rate * ((wide)s->m_scale * size[1] + (wide)s->g_scale * g_size) / root;
        break;
    case CYMLP_RMSPROP:
    case CYMLP_RMSPROP_MOMENTUM:
        state[1] = b2 * state[1] + (1 - b2) * g * g;
        step = g / (sqrtl(state[1]) + epsilon);
        if (optimizer == CYMLP_RMSPROP_MOMENTUM) {
            step = state[2] = mu * state[2] + step;
            size[2] += g_size / sqrtl(state[1]);
        }
        step *= rate;
        size[0] += rate * (g_size / sqrtl(state[1]) + fabsl(state[2]));
        break;
    case CYMLP_CENTERED_RMSPROP:
    case CYMLP_CENTERED_RMSPROP_MOMENTUM:
        state[1] = b2 * state[1] + (1 - b2) * g * g;
        state[2] = b2 * state[2] + (1 - b2) * g;
        root = sqrtl(state[1] - state[2] * state[2]);
        step = g / (root + epsilon);
        size[0] += rate * (1 + (state[1] + size[2] * size[2]) / (root * root)) * g_size / root;
        if (optimizer == CYMLP_CENTERED_RMSPROP_MOMENTUM) {
            step = state[3] = mu * state[3] + step;
            size[3] += size[0] / rate;
            size[0] += rate * fabsl(state[3]);
        }
        step *= rate;
        break;
    case CYMLP_ADAGRAD:
        state[1] += g * g;
        step = rate * g / (sqrtl(state[1]) + epsilon);
        size[0] += rate * g_size / sqrtl(state[1]);
        break;
    case CYMLP_ADADELTA:
        state[1] = b2 * state[1] + (1 - b2) * g * g;
        step = sqrtl(state[2] + epsilon) / sqrtl(state[1] + epsilon) * g;
        state[2] = b2 * state[2] + (1 - b2) * step * step;
        step *= rate;
        size[0] += rate * g_size * sqrtl(size[2] / state[1]);
        break;
    case CYMLP_LION:
        step = rate * sign_of(b1 * state[1] + (1 - b1) * g);
        state[1] = b2 * state[1] + (1 - b2) * g;
        size[0] += rate;
        break;
    default: {
        const wide turn = sign_of(g) * sign_of(state[1]);
        wide factor = turn > 0 ? (wide)s->eta_plus : 1;
        factor = turn < 0 ? (wide)s->eta_minus : factor;
        state[2] = fminl(fmaxl(factor * state[2], (wide)s->smallest_step), (wide)s->largest_step);
        state[1] = turn < 0 ? 0 : g;
        step = sign_of(state[1]) * state[2];
        size[0] += state[2];
    }
    }
    state[0] = w - rate * (wide)s->decoupled_decay * w - step;
}

static const cymlp_step plain_step = {
    .learning_rate = 0.1,
    .momentum = 0.9,
    .beta_1 = 0.9,
    .beta_2 = 0.99,
    .epsilon = 1e-8,
    .m_scale = 3.7,
    .v_root_scale = 10,
    .g_scale = 0.3,
    .eta_minus = 0.5,
    .eta_plus = 1.2,
    .smallest_step = 0.2,
    .largest_step = 0.9,
    .gradient_scale = 1,
    .clip_value = INFINITY,
};

static void test_update(void) {
    for (int turn = 0; turn < 3 * CYMLP_N_OPTIMIZERS; turn++) {
        const enum cymlp_optimizer optimizer = (enum cymlp_optimizer)(turn / 3);
        cymlp_step step = plain_step;
        step.l2 = turn % 3 ? 0.1 : 0;
        if (turn % 3 == 2) {
            step.l1 = 0.05, step.gradient_scale = 0.75, step.clip_value = 0.4;
            step.weight_decay = 0.2, step.decoupled_decay = 0.3;
        }
        for (size_t n = 1; n < 70; n++) {
            void *g = matrix(1, n, n, -1, 1), *g_before = copy(g, n);
            void *after[4], *before[4];
            now("optimizer %d of %zu, turn %d", (int)optimizer, n, turn % 3);
            for (int s = 0; s < 4; s++) {
                /* Squares, and a sum of such that no mean of its own makes negative. */
                const int is_first =
                    s == 1 && optimizer >= CYMLP_RMSPROP && optimizer <= CYMLP_ADADELTA;
                const int is_square = is_first || s == 3 ||
                                      (s == 2 && optimizer != CYMLP_CENTERED_RMSPROP &&
                                       optimizer != CYMLP_CENTERED_RMSPROP_MOMENTUM);
                const wide low = is_first ? 1.1L : is_square ? 0.1L : -1;
                after[s] = matrix(1, n, n, low, is_first ? 2 : 1);
                before[s] = copy(after[s], n);
            }
            k->update[optimizer](n, g, after[0], (void *[]){after[1], after[2], after[3]}, &step);
            for (size_t j = 0; j < n; j++) {
                const char *const names[] = {"w", "slot 0", "slot 1", "slot 2"};
                wide state[4], size[4];
                for (int s = 0; s < 4; s++) {
                    state[s] = get(before[s], j);
                }
                step_of(optimizer, &step, get(g, j), state, size);
                for (int s = 0; s < 4; s++) {
                    const int moved = state[s] != get(before[s], j);
                    expect_near(get(after[s], j), state[s], moved ? 8 * eps * size[s] : 0, names[s],
                                j);
                }
                EXPECT(get(g, j) == get(g_before, j), "the gradient was modified", j);
            }
            done();
        }
    }
}

static void test_sum_of_abs_and_average(void) {
    for (size_t n = 1; n < 70; n++) {
        void *w = matrix(1, n, n, -1, 1), *average = matrix(1, n, n, -1, 1);
        void *before = copy(average, n);
        wide sizes = 0;
        now("sum_of_abs and move_average of %zu", n);
        for (size_t j = 0; j < n; j++) {
            sizes += fabsl(get(w, j));
        }
        expect_near((wide)k->sum_of_abs(n, w), sizes, eps * sizes * (wide)n, "sizes", 0);
        k->move_average(n, 0.75, w, average);
        for (size_t j = 0; j < n; j++) {
            expect_near(get(average, j), 0.75L * get(before, j) + 0.25L * get(w, j), 4 * eps,
                        "average", j);
        }
        done();
    }
}

/* ---- normalizations, sums of rows, dropout ---- */

/* Numbers of rows around those that are summed at once, and of units around whole vectors. */
static const size_t norm_rows[] = {1, 2, 3, 4, 5, 8, 9, 31};

static size_t norm_units(size_t n) {
    const size_t l = k->lanes;
    const size_t sizes[] = {1, 2, l - 1, l, l + 1, 2 * l + 1, 4 * l, 7 * l + 3, 8 * l, 19 * l + 1};
    return n < sizeof sizes / sizeof *sizes ? sizes[n] : 0;
}

/* Calls test(rows, units) for pairs of the above, and ends each. */
static void for_norm_shapes(void (*test)(size_t n_rows, size_t n_units)) {
    size_t n_units;
    for (size_t n = 0; (n_units = norm_units(n)); n++) {
        for (size_t m = 0; m < sizeof norm_rows / sizeof *norm_rows; m++) {
            test(norm_rows[m], n_units);
            done();
        }
    }
}

static void column_moments_of(size_t n_rows, size_t n_units) {
    const size_t width = whole_vecs(n_units), stride = width + 5;
    const wide n = (wide)n_rows;
    void *x = matrix(n_rows, width, stride, 99, 101), *y = matrix(n_rows, width, stride, -1, 1);
    void *dot = array(width), *mean = array(width), *variance = array(width);
    now("column moments of %zu rows, %zu columns", n_rows, width);
    k->column_moments(n_rows, width, x, stride, mean, variance);
    k->column_dot(n_rows, width, x, stride, y, stride, dot);
    for (size_t o = 0; o < width; o++) {
        wide sum = 0, squares = 0, products = 0, sizes = 0;
        for (size_t b = 0; b < n_rows; b++) {
            const wide product = get(x, b * stride + o) * get(y, b * stride + o);
            sum += get(x, b * stride + o);
            products += product;
            sizes += fabsl(product);
        }
        for (size_t b = 0; b < n_rows; b++) {
            const wide distance = get(x, b * stride + o) - sum / n;
            squares += distance * distance;
        }
        const wide off = (n + 1) * eps * sum / n; /* of the mean, as far as its sum errs */
        expect_near(get(mean, o), sum / n, off, "mean", o);
        expect_near(get(variance, o), squares / n,
                    (n + 3) * eps * squares / n + off * off + 2 * off * sqrtl(squares / n) * eps,
                    "variance", o);
        expect_near(get(dot, o), products, n * eps * sizes, "dot", o);
    }
    put(x, 0, (wide)NAN);
    k->column_moments(n_rows, width, x, stride, mean, variance);
    EXPECT(isnan((double)get(mean, 0)) && isnan((double)get(variance, 0)), "a NaN is lost", 0);
    EXPECT(width == 1 || !isnan((double)get(mean, 1)), "a NaN spread", 1);
}

static void test_column_moments(void) { for_norm_shapes(column_moments_of); }

static void inverse_std_and_blend_of(size_t n_rows, size_t n) {
    void *v = matrix(1, n, n, 0, 4), *root = array(n), *y = matrix(1, n, n, -1, 1);
    void *before = copy(y, n);
    (void)n_rows;
    now("inverse_std and blend of %zu", n);
    put(v, 0, 0);
    k->inverse_std(n, 0.25, v, root);
    k->blend(n, 0.75, y, 0.5, v);
    for (size_t j = 0; j < n; j++) {
        const wide expected = 1 / sqrtl(get(v, j) + 0.25L), old = get(before, j);
        expect_near(get(root, j), expected, 2 * eps * expected, "root", j);
        expect_near(get(y, j), 0.75L * old + 0.5L * get(v, j), 2 * eps * (fabsl(old) + get(v, j)),
                    "blend", j);
    }
    put(v, n - 1, (wide)NAN);
    k->inverse_std(n, 0.25, v, v); /* element by element */
    k->blend(n, 0.75, y, 0.5, v);
    EXPECT(isnan((double)get(v, n - 1)) && isnan((double)get(y, n - 1)), "a NaN is lost", n);
}

static void test_inverse_std_and_blend(void) { for_norm_shapes(inverse_std_and_blend_of); }

static void batch_norm_of(size_t n_rows, size_t n) {
    const size_t stride = n + 5, all = n_rows * stride;
    void *x = matrix(n_rows, n, stride, -2, 2), *d = matrix(n_rows, n, stride, -1, 1);
    void *mean = matrix(1, n, n, -1, 1), *root = matrix(1, n, n, 0.5L, 2);
    void *gamma = matrix(1, n, n, -2, 2), *beta = matrix(1, n, n, -1, 1);
    void *sum = matrix(1, n, n, -1, 1), *dot = matrix(1, n, n, -1, 1);
    void *kept = array(all), *y = array(all), *below = array(all);
    void *added = matrix(n_rows, n, stride, -1, 1), *before = copy(added, all);
    const double share = 0.125;
    now("batch_norm of %zu rows, %zu units", n_rows, n);
    put(x, (n_rows - 1) * stride + n - 1, (wide)NAN);
    k->batch_norm(n_rows, n, mean, root, gamma, beta, x, stride, kept, stride, y, stride);
    k->batch_norm_backward(n_rows, n, share, root, gamma, sum, dot, kept, stride, d, stride, 0,
                           below, stride);
    k->batch_norm_backward(n_rows, n, share, root, gamma, sum, dot, kept, stride, d, stride, 1,
                           added, stride);
    for (size_t b = 0; b < n_rows; b++) {
        for (size_t o = 0; o < n; o++) {
            const size_t j = b * stride + o;
            if (b == n_rows - 1 && o == n - 1) {
                EXPECT(isnan((double)get(kept, j)) && isnan((double)get(y, j)) &&
                           isnan((double)get(below, j)) && isnan((double)get(added, j)),
                       "a NaN is lost", j);
                continue;
            }
            const wide normal = (get(x, j) - get(mean, o)) * get(root, o);
            const wide shift = get(gamma, o) * normal, factor = get(gamma, o) * get(root, o);
            const wide way = get(d, j) - share * (get(sum, o) + get(kept, j) * get(dot, o));
            const wide size =
                fabsl(get(d, j)) + share * (fabsl(get(sum, o)) + fabsl(get(kept, j) * get(dot, o)));
            const wide slack = 5 * eps * fabsl(factor) * size;
            expect_near(get(kept, j), normal, 2 * eps * fabsl(normal), "kept", j);
            expect_near(get(y, j), shift + get(beta, o),
                        4 * eps * (fabsl(shift) + fabsl(get(beta, o))), "y", j);
            expect_near(get(below, j), factor * way, slack, "dx", j);
            expect_near(get(added, j), get(before, j) + factor * way,
                        slack + eps * (fabsl(get(before, j)) + fabsl(factor * way)), "dx added", j);
        }
    }
    expect_gaps(kept, n_rows, n, stride);
    expect_gaps(y, n_rows, n, stride);
    expect_gaps(below, n_rows, n, stride);
    expect_gaps(added, n_rows, n, stride);
    k->batch_norm(n_rows, n, mean, root, gamma, beta, x, stride, NULL, 0, below, stride);
    for (size_t b = 0; b < n_rows; b++) {
        EXPECT(!memcmp(element(below, b * stride), element(y, b * stride), n * k->item_size),
               "other without kept", b);
    }
}

static void test_batch_norm(void) { for_norm_shapes(batch_norm_of); }

static void layer_norm_of(size_t n_rows, size_t n) {
    const size_t stride = n + 5, all = n_rows * stride;
    const wide count = (wide)n, epsilon = 1e-3L;
    void *x = matrix(n_rows, n, stride, 2, 4), *d = matrix(n_rows, n, stride, -1, 1);
    void *gamma = matrix(1, n, n, -2, 2), *beta = matrix(1, n, n, -1, 1);
    void *kept = array(all), *y = array(all), *root = array(n_rows), *below = array(all);
    void *added = matrix(n_rows, n, stride, -1, 1), *before = copy(added, all);
    now("layer_norm of %zu rows, %zu units", n_rows, n);
    put(x, (n_rows - 1) * stride, n_rows > 1 ? (wide)NAN : 3); /* all of its row, no other's */
    k->layer_norm(n_rows, n, (double)epsilon, gamma, beta, x, stride, kept, stride, root, y,
                  stride);
    k->layer_norm_backward(n_rows, n, gamma, kept, stride, root, d, stride, 0, below, stride);
    k->layer_norm_backward(n_rows, n, gamma, kept, stride, root, d, stride, 1, added, stride);
    for (size_t b = 0; b < n_rows; b++) {
        wide mean = 0, variance = 0, sum = 0, dot = 0, sizes = 0, dots = 0;
        if (n_rows > 1 && b == n_rows - 1) {
            for (size_t j = b * stride; j < b * stride + n; j++) {
                EXPECT(isnan((double)get(kept, j)) && isnan((double)get(y, j)) &&
                           isnan((double)get(below, j)) && isnan((double)get(added, j)),
                       "a NaN is lost", j);
            }
            continue;
        }
        for (size_t o = 0; o < n; o++) {
            mean += get(x, b * stride + o) / count;
        }
        for (size_t o = 0; o < n; o++) {
            const size_t j = b * stride + o;
            const wide distance = get(x, j) - mean, slope = get(gamma, o) * get(d, j);
            variance += distance * distance / count;
            sum += slope;
            sizes += fabsl(slope);
            dot += slope * get(kept, j);
            dots += fabsl(slope * get(kept, j));
        }
        const wide expected = 1 / sqrtl(variance + epsilon), std = get(root, b);
        const wide off = (count + 1) * eps * mean; /* of the mean: at most 4 */
        const wide relative = (count + 5) * eps + off * off * expected * expected;
        expect_near(std, expected, relative * expected, "inverse_std", b);
        for (size_t o = 0; o < n; o++) {
            const size_t j = b * stride + o;
            const wide normal = (get(x, j) - mean) * expected, slope = get(gamma, o) * get(d, j);
            const wide slack = off * expected + (relative + 3 * eps) * fabsl(normal);
            const wide way = slope - sum / count - get(kept, j) * dot / count;
            const wide size =
                fabsl(slope) + (sizes + fabsl(get(kept, j)) * dots) * (count + 4) / count;
            expect_near(get(kept, j), normal, slack, "kept", j);
            expect_near(get(y, j), get(gamma, o) * get(kept, j) + get(beta, o),
                        2 * eps * (fabsl(get(gamma, o) * get(kept, j)) + fabsl(get(beta, o))), "y",
                        j);
            expect_near(get(below, j), std * way, 4 * eps * std * size, "dx", j);
            expect_near(get(added, j), get(before, j) + std * way,
                        4 * eps * std * size + 2 * eps * fabsl(get(before, j)), "dx added", j);
        }
    }
    expect_gaps(kept, n_rows, n, stride);
    expect_gaps(y, n_rows, n, stride);
    expect_gaps(below, n_rows, n, stride);
    expect_gaps(added, n_rows, n, stride);
    for (size_t b = 0; b < n_rows; b++) { /* a row alone, with nothing kept */
        void *alone = element(below, b * stride);
        k->layer_norm(1, n, (double)epsilon, gamma, beta, element(x, b * stride), stride, NULL, 0,
                      NULL, alone, stride);
        EXPECT(!memcmp(alone, element(y, b * stride), n * k->item_size), "other than alone", b);
    }
}

static void test_layer_norm(void) { for_norm_shapes(layer_norm_of); }

static void add_and_multiply_rows_of(size_t n_rows, size_t n) {
    const size_t stride = n + 3, all = n_rows * stride;
    void *a = matrix(n_rows, n, stride, -1, 1), *b = matrix(n_rows, n, stride, -1, 1);
    void *sum = array(all), *product = array(all), *added = matrix(n_rows, n, stride, -1, 1);
    void *before = copy(added, all), *place = copy(a, all);
    now("add_rows and multiply_rows of %zu rows, %zu units", n_rows, n);
    put(a, all - 4, (wide)NAN);
    put(place, all - 4, (wide)NAN);
    k->add_rows(n_rows, n, a, stride, b, stride, sum, stride);
    k->multiply_rows(n_rows, n, a, stride, b, stride, 0, product, stride);
    k->multiply_rows(n_rows, n, a, stride, b, stride, 1, added, stride);
    for (size_t j = 0; j < all; j++) {
        if (j % stride >= n || j == all - 4) {
            EXPECT(isnan((double)get(sum, j)) && isnan((double)get(product, j)) &&
                       isnan((double)get(added, j)),
                   "a NaN is lost", j);
            continue;
        }
        const wide c = get(a, j) * get(b, j), old = get(before, j);
        expect_near(get(sum, j), get(a, j) + get(b, j), eps, "sum", j);
        expect_near(get(product, j), c, eps * fabsl(c), "product", j);
        expect_near(get(added, j), old + c, eps * (fabsl(old) + 2 * fabsl(c)), "added", j);
    }
    expect_gaps(sum, n_rows, n, stride);
    expect_gaps(product, n_rows, n, stride);
    expect_gaps(added, n_rows, n, stride);
    k->add_rows(n_rows, n, place, stride, b, stride, place, stride);
    k->multiply_rows(n_rows, n, a, stride, b, stride, 0, b, stride);
    EXPECT(!memcmp(place, sum, all * k->item_size), "other sum in the place of a", 0);
    EXPECT(!memcmp(b, product, all * k->item_size), "other product in the place of b", 0);
}

static void test_add_and_multiply_rows(void) { for_norm_shapes(add_and_multiply_rows_of); }

/* Random123's known answers, whose counters are those of numpy.random.Philox plus 1. */
static void test_philox(void) {
    static const uint64_t all = ~(uint64_t)0;
    static const uint64_t pi[6] = {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0,
                                   0x082efa98ec4e6c89, 0x452821e638d01377, 0xbe5466cf34e90c6c};
    const uint64_t counter[3][4] = {
        {0, 0, 0, 0}, {all, all, all, all}, {pi[0], pi[1], pi[2], pi[3]}};
    const uint64_t key[3][2] = {{0, 0}, {all, all}, {pi[4], pi[5]}};
    static const uint64_t answer[3][4] = {
        {0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b, 0x7e68b68aec7ba23b},
        {0x87b092c3013fe90b, 0x438c3c67be8d0224, 0x9cc7d7c69cd777b6, 0xa09caebf594f0ba0},
        {0xa528f45403e61d95, 0x38c72dbd566e9788, 0xa5a1610e72fd18b5, 0x57bd43b5e52b7fe6},
    };
    for (size_t n = 0; n < 3; n++) {
        uint64_t out[4];
        now("philox, known answer %zu", n);
        cymlp_philox(counter[n], key[n], out);
        for (size_t w = 0; w < 4; w++) {
            EXPECT(out[w] == answer[n][w], "word", w);
        }
    }
}

static void dropout_of(size_t n_rows, size_t n) {
    const size_t stride = n + 3, layer = 5, first = 3;
    const unsigned dropped = n % 4 == 0 ? 0 : n % 4 == 1 ? 1 : n % 4 == 2 ? 20000 : 65535;
    const uint64_t key[2] = {7 + n, 11};
    const wide kept = 65536 / (wide)(65536 - dropped);
    void *factor = array(n_rows * stride);
    now("dropout of %zu rows, %zu units, %u dropped", n_rows, n, dropped);
    k->dropout(n_rows, n, key, layer, first, dropped, factor, stride);
    for (size_t b = 0; b < n_rows; b++) {
        for (size_t o = 0; o < n; o++) {
            const uint64_t counter[4] = {o / 16 + 1, first + b, layer, 0};
            uint64_t random[4];
            cymlp_philox(counter, key, random);
            const unsigned number = random[o / 4 % 4] >> (o % 4 * 16) & 0xffff;
            expect_near(get(factor, b * stride + o), number < dropped ? 0 : kept, eps / 2 * kept,
                        "factor", b * stride + o);
        }
    }
    expect_gaps(factor, n_rows, n, stride);
}

static void test_dropout(void) {
    const size_t around_blocks[] = {15, 16, 17, 63, 64, 65, 66, 127, 130};
    for_norm_shapes(dropout_of);
    for (size_t n = 0; n < sizeof around_blocks / sizeof *around_blocks; n++) {
        dropout_of(2, around_blocks[n]);
        done();
    }
}

static void constrain_columns_of(size_t n_rows, size_t n_units) {
    const size_t width = whole_vecs(n_units);
    const wide most = 1;
    void *w = matrix(1, n_rows * width, n_rows * width, -1, 1), *before;
    now("constrain_columns of %zu rows, %zu columns", n_rows, width);
    for (size_t b = 0; b < n_rows; b++) { /* one column that is short enough, one of zeros, a NaN */
        put(w, b * width, get(w, b * width) / (wide)n_rows / 2);
        put(w, b * width + width - 1, 0);
        put(w, b * width + 1 % width, width > 2 && b == 0 ? (wide)NAN : get(w, b * width));
    }
    before = copy(w, n_rows * width);
    k->constrain_columns(n_rows, width, (double)most, w);
    for (size_t o = 0; o < width; o++) {
        wide squares = 0;
        for (size_t b = 0; b < n_rows; b++) {
            squares += get(before, b * width + o) * get(before, b * width + o);
        }
        const wide factor = sqrtl(squares) > most ? most / sqrtl(squares) : 1;
        for (size_t b = 0; b < n_rows; b++) {
            const size_t j = b * width + o;
            const wide old = get(before, j);
            if (isnan((double)old)) {
                EXPECT(isnan((double)get(w, j)), "a NaN is lost", j);
            } else if (squares < most * most * (1 - (wide)n_rows * eps)) {
                EXPECT(get(w, j) == old, "changed in a column that is short enough", j);
            } else if (!isnan((double)squares)) {
                expect_near(get(w, j), old * factor, ((wide)n_rows / 2 + 3) * eps * fabsl(old), "w",
                            j);
            }
        }
    }
}

static void test_constrain_columns(void) { for_norm_shapes(constrain_columns_of); }

static void test_spread_nonzeros(void) {
    size_t n_inputs;
    for (size_t m = 0; (n_inputs = inputs_around(m)); m++) {
        const size_t n_rows = 1 + 2 * m, stride = n_inputs + 3;
        const cymlp_nonzeros nonzeros = {bits, starts, MOST_WORDS};
        void *y = array(n_rows * stride), *whole = array(n_rows * n_inputs);
        now("spread_nonzeros of %zu rows, %zu inputs", n_rows, n_inputs);
        input_rows(n_rows, n_inputs);
        thin_out(n_rows, n_inputs);
        put(element(row_pointers[0], 0), n_inputs - 1, (wide)NAN);
        for (size_t b = 0; b < n_rows; b++) {
            memcpy(element(whole, b * n_inputs), row_pointers[b], n_inputs * k->item_size);
        }
        list_nonzeros(n_rows, n_inputs);
        leave_zeros_out(n_rows, n_inputs);
        k->spread_nonzeros(n_rows, n_inputs, row_pointers, nonzeros, y, stride);
        for (size_t j = 0; j < n_rows * n_inputs; j++) {
            const wide actual = get(y, j / n_inputs * stride + j % n_inputs);
            const wide expected = get(whole, j);
            EXPECT(isnan((double)expected) ? isnan((double)actual) : actual == expected, "y", j);
        }
        expect_gaps(y, n_rows, n_inputs, stride);
        done();
    }
}

/* ---- steps of one row ---- */

enum { N_LAYERS = 3, N_ROWS = 4 };

/* A matrix or a vector (one row) of parameters: with zeros behind each row and as slots. */
static cymlp_parameters parameters(size_t n_rows, size_t n_columns) {
    cymlp_parameters out = {panels(n_rows, n_columns), {NULL, NULL, NULL}};
    for (int s = 0; s < 2; s++) {
        out.slots[s] = array(n_rows * whole_vecs(n_columns));
        memset(out.slots[s], 0, n_rows * whole_vecs(n_columns) * k->item_size);
    }
    return out;
}

static cymlp_parameters copy_of(cymlp_parameters p, size_t n) {
    const cymlp_parameters out = {copy(p.values, n), {copy(p.slots[0], n), copy(p.slots[1], n)}};
    return out;
}

static void *zeros(size_t n) {
    void *a = array(n);
    memset(a, 0, n * k->item_size);
    return a;
}

static void expect_same(cymlp_parameters actual, cymlp_parameters expected, size_t n,
                        const char *what) {
    for (size_t j = 0; j < n; j++) {
        EXPECT(get(actual.values, j) == get(expected.values, j), what, j);
        EXPECT(get(actual.slots[0], j) == get(expected.slots[0], j), "slot 0", j);
        EXPECT(get(actual.slots[1], j) == get(expected.slots[1], j), "slot 1", j);
    }
}

static size_t kernel_size(const cymlp_row_layer *layer) {
    return layer->is_narrow ? layer->n_units * whole_vecs(layer->n_inputs)
                            : layer->n_inputs * whole_vecs(layer->n_units);
}

static size_t in_kernel(const cymlp_row_layer *layer, size_t i, size_t o) {
    return layer->is_narrow ? in_panels(layer->n_units, layer->n_inputs, o, i)
                            : in_panels(layer->n_inputs, layer->n_units, i, o);
}

/* The other kernels on the transposed weights. */
static void delta_below(const cymlp_row_layer *layer, const cymlp_row_layer *below) {
    void *turned = panels(layer->n_units, layer->n_inputs);
    for (size_t i = 0; i < layer->n_inputs; i++) {
        for (size_t o = 0; o < layer->n_units; o++) {
            put(turned, in_panels(layer->n_units, layer->n_inputs, o, i),
                get(layer->kernel.values, in_kernel(layer, i, o)));
        }
    }
    k->dense_row(layer->n_inputs, layer->n_inputs, layer->n_units, layer->delta__o, turned, NULL, 0,
                 below->delta__o);
    k->activate_backward[below->activation](1, below->n_units, below->alpha, below->y__o, 0,
                                            below->delta__o, 0);
}

static void moved(cymlp_row_layer *layer, const void *x, enum cymlp_optimizer optimizer,
                  cymlp_step step, double l2) {
    const size_t n = kernel_size(layer);
    void *g = zeros(n);
    for (size_t i = 0; i < layer->n_inputs; i++) {
        for (size_t o = 0; o < layer->n_units; o++) {
            /* In double, for one rounding in either dtype. */
            put(g, in_kernel(layer, i, o),
                (wide)((double)get(x, i) * (double)get(layer->delta__o, o)));
        }
    }
    k->update[optimizer](whole_vecs(layer->n_units), layer->delta__o, layer->bias.values,
                         layer->bias.slots, &step);
    step.l2 = l2;
    k->update[optimizer](n, g, layer->kernel.values, layer->kernel.slots, &step);
}

/* The squares of a kernel's parts as they are moved: which numbers are added first tells. */
static double kernel_squares(const cymlp_row_layer *layer) {
    const size_t n_rows = layer->is_narrow ? layer->n_units : layer->n_inputs;
    const size_t n_columns = whole_vecs(layer->is_narrow ? layer->n_inputs : layer->n_units);
    double squares = 0;
    for (size_t row = 0; row < n_rows; row += k->block_rows) {
        const size_t rows = n_rows - row < k->block_rows ? n_rows - row : k->block_rows;
        double of_block = 0;
        for (size_t first = 0, width; first < n_columns; first += width) {
            width = panel_width(n_columns, first);
            const size_t offset = n_rows * first + row * width;
            of_block += k->sum_of_squares(rows * width, (const char *)layer->kernel.values +
                                                            offset * k->item_size);
        }
        squares += of_block;
    }
    return squares;
}

/* One step, kernel by kernel. */
static void step_by_kernels(cymlp_row_network *network, const void *x, cymlp_targets targets,
                            double weight, cymlp_step step, cymlp_sums *sums) {
    cymlp_row_layer *layers = network->layers, *last = &layers[N_LAYERS - 1];
    const double scale = weight > 0;
    double loss, hit, penalty = 0;
    for (size_t i = 0; i < N_LAYERS; i++) {
        const enum cymlp_activation f = layers[i].activation;
        const void *below = i > 0 ? layers[i - 1].y__o : x;
        if (layers[i].is_narrow) {
            k->dense_dots(1, layers[i].n_units, layers[i].n_units, layers[i].n_inputs, &below,
                          layers[i].kernel.values, layers[i].bias.values, 0, layers[i].y__o, 0);
        } else {
            k->dense_row(layers[i].n_units, layers[i].n_units, layers[i].n_inputs, below,
                         layers[i].kernel.values, layers[i].bias.values, 0, layers[i].y__o);
        }
        k->activate[f](1, layers[i].n_units, layers[i].alpha, layers[i].y__o, 0, layers[i].y__o, 0);
    }
    k->loss[network->loss](1, last->n_units, &network->loss_settings, last->y__o, 0, targets,
                           &scale, &loss, last->delta__o, 0);
    k->accuracy(1, last->n_units, last->y__o, 0, targets, network->accuracy_threshold, &hit);
    k->activate_backward[last->activation](1, last->n_units, last->alpha, last->y__o, 0,
                                           last->delta__o, 0);
    for (size_t i = N_LAYERS; i-- > 0;) {
        const double by = layers[i].l2_per_weight ? weight : 1;
        const double l2 = by > 0 ? layers[i].l2 / by : 0;
        if (i > 0) {
            delta_below(&layers[i], &layers[i - 1]);
        }
        penalty += 0.5 * l2 * kernel_squares(&layers[i]);
        moved(&layers[i], i > 0 ? layers[i - 1].y__o : x, network->optimizer, step, l2);
    }
    sums->loss += weight * (loss + penalty);
    sums->penalty += weight * penalty;
    sums->hits += weight * hit;
    sums->weight += weight;
}

static const enum cymlp_activation vector_activations[] = {
    CYMLP_IDENTITY, CYMLP_RELU, CYMLP_SIGMOID, CYMLP_TANH, CYMLP_LEAKY_RELU,
};
#define N_VECTOR_ACTIVATIONS (sizeof vector_activations / sizeof *vector_activations)

/* One of the activations that keep their output. */
static enum cymlp_activation keeping_y(size_t n) {
    enum cymlp_activation f = (enum cymlp_activation)(n % CYMLP_N_ACTIVATIONS);
    while (cymlp_keeps_z(f)) {
        f = (enum cymlp_activation)((f + 1) % CYMLP_N_ACTIVATIONS);
    }
    return f;
}

/* Plain: no penalty, and the activations that steps in vectors know. */
static void train_rows_of(const size_t *sizes, size_t turn, int plain) {
    static const int64_t order[N_ROWS] = {2, 0, 3, 1};
    const double weight[N_ROWS] = {1, 0.25, 0, 3};
    const size_t n_outputs = sizes[N_LAYERS], x_stride = sizes[0] + 2;
    cymlp_row_layer layers[N_LAYERS], copies[N_LAYERS];
    void *x = matrix(N_ROWS, sizes[0], x_stride, -1, 1),
         *t = matrix(N_ROWS, n_outputs, n_outputs, 0, 1);
    int32_t labels[N_ROWS];
    cymlp_samples samples = {0};
    cymlp_row_network network = {0}, other;
    cymlp_sums sums = {1, 2, 3, 4}, expected = sums;
    int is_smoothed;
    cymlp_step step = plain_step;
    step.epsilon_hat = turn % 4 == 3 ? 0.01 : 0;
    step.learning_rate /= 64; /* no loss grows beyond all numbers in the steps of a test */
    network.n_layers = N_LAYERS;
    network.layers = layers;
    network.loss = (enum cymlp_loss)(turn % CYMLP_N_LOSSES);
    network.loss_settings = told_in(turn, network.loss, n_outputs, &is_smoothed);
    network.optimizer =
        CYMLP_SGD + (int)((plain ? turn / CYMLP_N_LOSSES : turn) % (CYMLP_ADAM - CYMLP_SGD + 1));
    network.step = step;
    network.wants_accuracy = 1;
    network.accuracy_threshold = 0.5;
    other = network;
    other.layers = copies;
    now("train_rows of %zu-%zu-%zu-%zu, loss %d, optimizer %d, turn %zu, plain %d", sizes[0],
        sizes[1], sizes[2], sizes[3], (int)network.loss, (int)network.optimizer, turn, plain);
    for (size_t i = 0; i < N_LAYERS; i++) {
        const size_t whole = whole_vecs(sizes[i + 1]);
        cymlp_row_layer *layer = &layers[i];
        layer->n_inputs = sizes[i], layer->n_units = sizes[i + 1];
        layer->activation = plain ? vector_activations[(turn / 2 + i) % N_VECTOR_ACTIVATIONS]
                                  : keeping_y(turn / 2 + i);
        layer->alpha = alpha;
        layer->l2 = turn % 3 && !plain ? 0.1 * (double)i : 0;
        layer->l2_per_weight = turn % 3 == 2;
        layer->is_narrow = i > 0 && (turn + i) % 3 == 0;
        layer->kernel = layer->is_narrow ? parameters(sizes[i + 1], sizes[i])
                                         : parameters(sizes[i], sizes[i + 1]);
        layer->bias = parameters(1, sizes[i + 1]);
        layer->y__o = zeros(whole), layer->delta__o = zeros(whole);
        copies[i] = *layer;
        copies[i].kernel = copy_of(layer->kernel, kernel_size(layer));
        copies[i].bias = copy_of(layer->bias, whole);
        copies[i].y__o = zeros(whole), copies[i].delta__o = zeros(whole);
    }
    if (takes_y(network.loss)) {
        layers[N_LAYERS - 1].activation = copies[N_LAYERS - 1].activation = CYMLP_SIGMOID;
    } else if (network.loss >= CYMLP_EXPONENTIAL_POISSON) { /* nor by an exponential's overflow */
        layers[N_LAYERS - 1].activation = copies[N_LAYERS - 1].activation = CYMLP_TANH;
    }
    for (size_t b = 0; b < N_ROWS; b++) {
        labels[b] = (int32_t)(b * 5 % n_outputs);
    }
    samples.x = x, samples.x_stride = (ptrdiff_t)(x_stride * k->item_size);
    samples.values_stride = (ptrdiff_t)(n_outputs * k->item_size);
    samples.labels = turn % 2 ? labels : NULL, samples.values = turn % 2 ? NULL : t;
    samples.weight = turn % 4 > 1 ? weight : NULL;
    samples.order = turn % 5 ? order : NULL;
    k->train_rows(&network, &samples, 1, N_ROWS - 1, 7, &sums);
    for (size_t s = 1; s < N_ROWS; s++) {
        const size_t b = samples.order ? (size_t)order[s] : s;
        const void *values = element(t, b * n_outputs);
        const cymlp_targets targets = {samples.labels ? labels + b : NULL,
                                       samples.labels ? NULL : &values};
        cymlp_step corrected = step;
        cymlp_correct_step(&corrected, (double)(7 + s));
        step_by_kernels(&other, element(x, b * x_stride), targets, samples.weight ? weight[b] : 1,
                        corrected, &expected);
    }
    for (size_t i = 0; i < N_LAYERS; i++) {
        const size_t whole = whole_vecs(sizes[i + 1]);
        expect_same(layers[i].kernel, copies[i].kernel, kernel_size(&layers[i]), "kernel");
        expect_same(layers[i].bias, copies[i].bias, whole, "bias");
    }
    expect_near((wide)sums.loss, (wide)expected.loss, 1e-12L * (1 + fabsl((wide)expected.loss)),
                "loss", 0);
    expect_near((wide)sums.penalty, (wide)expected.penalty,
                1e-12L * (1 + fabsl((wide)expected.penalty)), "penalty", 0);
    EXPECT(sums.hits == expected.hits, "hits", 0);
    EXPECT(sums.weight == expected.weight, "weight", 0);
    done();
}

static void test_train_rows(void) {
    const size_t l = k->lanes, p = k->lanes * k->panel_vecs;
    const size_t widths[] = {1, l, 3, l - 1, p, 2, p + 1, l + 1, k->block_rows + 1, 2 * p + 3, 5};
    const size_t n_widths = sizeof widths / sizeof *widths;
    for (size_t turn = 0; turn < 8 * n_widths; turn++) {
        size_t sizes[N_LAYERS + 1];
        for (size_t i = 0; i <= N_LAYERS; i++) {
            sizes[i] = widths[(turn + i * (1 + turn / n_widths)) % n_widths];
        }
        train_rows_of(sizes, turn, 0);
    }
    /* Layers within a vector take steps of their own kind: every loss with every optimizer. */
    for (size_t turn = 0; turn < 4 * CYMLP_N_LOSSES; turn++) {
        const size_t few[] = {1, l, 2, l - 1, l / 2, 3 < l ? 3 : 1, l / 2 + 1};
        const size_t n_few = sizeof few / sizeof *few;
        size_t sizes[N_LAYERS + 1];
        for (size_t i = 0; i <= N_LAYERS; i++) {
            sizes[i] = few[(turn + i * (1 + turn / n_few)) % n_few];
        }
        sizes[0] = turn % 5 ? sizes[0] : k->block_rows + 3;
        train_rows_of(sizes, turn, 1);
    }
}

/* ---- all ---- */

static void (*const tests[])(void) = {
    test_dense_tile,
    test_nan_through_relu,
    test_dense_row,
    test_dense_dots,
    test_pack_block,
    test_gradient_tile,
    test_column_sum,
    test_claim_lines,
    test_bring_columns,
    test_transpose_tile,
    test_convert,
    test_find_nonzeros,
    test_sparse_forward,
    test_sparse_forward_of_some_panels,
    test_sparse_forward_without_bias,
    test_runs,
    test_turn_nonzeros,
    test_pack_nonzeros,
    test_sparse_gradient,
    test_sum_of_squares,
    test_all_finite,
    test_activate,
    test_activate_extremes,
    test_activation_of_zero,
    test_activate_backward,
    test_loss,
    test_accuracy,
    test_update,
    test_sum_of_abs_and_average,
    test_train_rows,
    test_column_moments,
    test_inverse_std_and_blend,
    test_batch_norm,
    test_layer_norm,
    test_add_and_multiply_rows,
    test_philox,
    test_dropout,
    test_constrain_columns,
    test_spread_nonzeros,
};

int main(void) {
    cymlp_isa isas[CYMLP_N_ISAS];
    cymlp_detect_isas(isas);
    for (int i = 0; i < CYMLP_N_ISAS; i++) {
        for (int d = 0; isas[i].tables && d < CYMLP_N_DTYPES; d++) {
            const int before = check_failures;
            k = isas[i].tables[d];
            dtype = (enum cymlp_dtype)d;
            eps = dtype == CYMLP_FLOAT32 ? (wide)FLT_EPSILON : (wide)DBL_EPSILON;
            for (size_t t = 0; t < sizeof tests / sizeof *tests; t++) {
                state = 1;
                tests[t]();
            }
            printf("%s %s: %d failures\n", k->isa, d == CYMLP_FLOAT32 ? "float32" : "float64",
                   check_failures - before);
            fflush(stdout);
        }
    }
    return check_failures > 0;
}
