"""The border to the C kernels, src/kernels.h, whose comments say what each kernel does."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "kernels.h" nogil:
    enum:
        CYMLP_FLOAT32
        CYMLP_FLOAT64
        CYMLP_UINT8
        CYMLP_INT8
        CYMLP_UINT16
        CYMLP_INT16
        CYMLP_UINT32
        CYMLP_INT32
        CYMLP_UINT64
        CYMLP_INT64
        CYMLP_HALF
        CYMLP_SINGLE
        CYMLP_WIDE
        CYMLP_LONG_DOUBLE
        CYMLP_IDENTITY
        CYMLP_RELU
        CYMLP_SIGMOID
        CYMLP_TANH
        CYMLP_SOFTMAX
        CYMLP_LEAKY_RELU
        CYMLP_ELU
        CYMLP_SELU
        CYMLP_GELU
        CYMLP_GELU_TANH
        CYMLP_SILU
        CYMLP_MISH
        CYMLP_SOFTPLUS
        CYMLP_SOFTSIGN
        CYMLP_HARD_SIGMOID
        CYMLP_EXPONENTIAL
        CYMLP_SQUARED_ERROR
        CYMLP_ABSOLUTE_ERROR
        CYMLP_HUBER
        CYMLP_LOG_COSH
        CYMLP_QUANTILE
        CYMLP_POISSON
        CYMLP_GAMMA
        CYMLP_TWEEDIE
        CYMLP_CROSS_ENTROPY
        CYMLP_BINARY_CROSS_ENTROPY
        CYMLP_HINGE
        CYMLP_KL_DIVERGENCE
        CYMLP_FOCAL
        CYMLP_SOFTMAX_CROSS_ENTROPY
        CYMLP_SOFTMAX_KL_DIVERGENCE
        CYMLP_SIGMOID_BINARY_CROSS_ENTROPY
        CYMLP_SIGMOID_FOCAL
        CYMLP_EXPONENTIAL_POISSON
        CYMLP_EXPONENTIAL_GAMMA
        CYMLP_EXPONENTIAL_TWEEDIE
        CYMLP_GRADIENT
        CYMLP_ACCUMULATE
        CYMLP_SGD
        CYMLP_MOMENTUM
        CYMLP_NESTEROV
        CYMLP_ADAM
        CYMLP_AMSGRAD
        CYMLP_NADAM
        CYMLP_RMSPROP
        CYMLP_RMSPROP_MOMENTUM
        CYMLP_CENTERED_RMSPROP
        CYMLP_CENTERED_RMSPROP_MOMENTUM
        CYMLP_ADAGRAD
        CYMLP_ADADELTA
        CYMLP_LION
        CYMLP_RPROP
        CYMLP_N_SLOTS
        CYMLP_N_ISAS

    ctypedef struct Step "cymlp_step":
        double learning_rate, momentum, beta_1, beta_2, epsilon, epsilon_hat, m_scale, v_root_scale
        double g_scale
        double eta_minus, eta_plus, smallest_step, largest_step
        double l2, l1, gradient_scale, clip_value, weight_decay, decoupled_decay, average_decay

    ctypedef struct LossSettings "cymlp_loss_settings":
        double parameter
        double smoothing
        const void* unit__o

    ctypedef struct Targets "cymlp_targets":
        const int32_t* labels__b
        const void* const* values__b_o

    ctypedef struct Ahead "cymlp_ahead":
        const char* line[3]
        size_t n_lines
        size_t delta_offset

    ctypedef struct Across "cymlp_across":
        char* first
        size_t stride

    ctypedef struct SparseAhead "cymlp_sparse_ahead":
        const void* const* rows__b
        size_t start, n_bytes
        const char* full[3]
        const char* lesser[3]
        size_t full_panel
        const Across* across__t
        size_t n_across

    ctypedef struct Panels "cymlp_panels":
        size_t n_full, n_lesser, lesser_vecs

    Panels cymlp_panels_of(size_t n_vecs, size_t panel_vecs) noexcept nogil
    Panels cymlp_run_of(Panels left, size_t panel_vecs, size_t run_vecs) noexcept nogil
    size_t cymlp_vecs_of(Panels panels, size_t panel_vecs) noexcept nogil
    Panels cymlp_without(Panels panels, Panels run) noexcept nogil

    ctypedef struct Nonzeros "cymlp_nonzeros":
        const uint64_t* bits__bw
        const uint32_t* starts__bw
        size_t stride

    ctypedef struct Next "cymlp_next":
        const char* start
        size_t step

    ctypedef struct RowSamples "cymlp_samples":
        const char* x
        Py_ssize_t x_stride
        const int32_t* labels
        const char* values
        Py_ssize_t values_stride
        const double* weight
        const int64_t* order

    ctypedef struct RowParameters "cymlp_parameters":
        void* values
        void* slots[3]

    ctypedef struct RowLayer "cymlp_row_layer":
        size_t n_inputs
        size_t n_units
        int is_narrow
        int activation
        double alpha
        double l2
        int l2_per_weight
        RowParameters kernel
        RowParameters bias
        void* y__o
        void* delta__o

    ctypedef struct RowNetwork "cymlp_row_network":
        size_t n_layers
        RowLayer* layers
        int loss
        LossSettings loss_settings
        int optimizer
        Step step
        int wants_accuracy
        double accuracy_threshold

    ctypedef struct Sums "cymlp_sums":
        double loss, penalty, hits, weight

    void cymlp_correct_step(Step* step, double number)
    int cymlp_keeps_z(int activation)
    double cymlp_nadam_momentum(double beta_1, double momentum_decay, double t)
    double cymlp_nadam_product(double beta_1, double momentum_decay, size_t t)
    void cymlp_correct_nadam(Step* step, double t, double momentum_decay, double product)

    ctypedef void (*Activate)(
        size_t n_rows, size_t n_units, double alpha, const void* z__bo, size_t z_stride,
        void* y__bo, size_t y_stride) noexcept nogil
    ctypedef void (*ActivateBackward)(
        size_t n_rows, size_t n_units, double alpha, const void* kept__bo, size_t kept_stride,
        void* d__bo, size_t d_stride) noexcept nogil
    ctypedef void (*LossRows)(
        size_t n_rows, size_t n_units, const LossSettings* settings, const void* out__bo,
        size_t out_stride, Targets targets, const double* scale__b, double* loss__b,
        void* delta__bo, size_t delta_stride) noexcept nogil
    ctypedef void (*Update)(
        size_t n, const void* g__n, void* w__n, void* const* slots__n,
        const Step* step) noexcept nogil

    ctypedef struct KernelTable "cymlp_kernels":
        const char* isa
        size_t item_size
        size_t lanes
        size_t panel_vecs
        size_t run_vecs
        size_t tile_rows
        size_t block_rows
        void (*dense_tile)(
            size_t n_rows, size_t width, size_t n_columns, size_t first_input, size_t n_inputs,
            const void* const* x_rows__b_i, const void* w__ip, const void* bias__p, int from_y,
            int relu, const void* gate__bo, void* y__bo, size_t y_stride,
            Next next) noexcept nogil
        void (*dense_row)(
            size_t n_units, size_t n_columns, size_t n_inputs, const void* x__i,
            const void* w__pip, const void* bias__o, int relu, void* y__o) noexcept nogil
        void (*dense_dots)(
            size_t n_rows, size_t n_units, size_t n_columns, size_t n_inputs,
            const void* const* x_rows__b_i, const void* w__pop, const void* bias__o, int relu,
            void* y__bo, size_t y_stride) noexcept nogil
        void (*convert)(
            size_t n, int element, int swapped, const void* elements, Py_ssize_t stride,
            double scale, void* x__n) noexcept nogil
        size_t (*find_nonzeros)(
            size_t n_rows, size_t n_inputs, const void* const* x_rows__b_i, uint64_t* bits__bw,
            size_t bits_stride) noexcept nogil
        void (*sparse_forward)(
            size_t n_rows, Panels panels, size_t n_inputs, const void* const* x_rows__b_i,
            Nonzeros nonzeros, const void* w__pip, const void* bias__o, int from_y, int relu,
            void* y__bo, size_t y_stride) noexcept nogil
        void (*spread_nonzeros)(
            size_t n_rows, size_t n_inputs, const void* const* x_rows__b_n, Nonzeros nonzeros,
            void* y__bi, size_t y_stride) noexcept nogil
        void (*pack_block)(
            size_t n_rows, size_t n_columns, const void* const* x_rows__b_i, Nonzeros nonzeros,
            size_t first_column, void* strips__sbt) noexcept nogil
        void (*gradient_tile)(
            size_t n_inputs, size_t width, size_t n_rows, const void* strip__bt,
            size_t strip_stride, const void* delta__bp, size_t delta_stride, void* g__tp,
            const Ahead* ahead) noexcept nogil
        void (*turn_nonzeros)(
            size_t n_rows, size_t word, Nonzeros nonzeros, uint64_t* rows__ci) noexcept nogil
        void (*sparse_gradient)(
            size_t n_rows, Panels run, size_t first_input, size_t n_inputs,
            const void* const* x_rows__b_i, Nonzeros nonzeros, const void* strips__sbt,
            const uint64_t* rows__ci, const void* delta__bo, size_t delta_stride, void* g__pip,
            const SparseAhead* ahead) noexcept nogil
        void (*column_sum)(
            size_t n_rows, size_t width, const void* x__bp, size_t x_stride,
            void* sum__p) noexcept nogil
        void (*column_dot)(
            size_t n_rows, size_t width, const void* a__bp, size_t a_stride, const void* b__bp,
            size_t b_stride, void* sum__p) noexcept nogil
        void (*column_moments)(
            size_t n_rows, size_t width, const void* x__bp, size_t x_stride, void* mean__p,
            void* variance__p) noexcept nogil
        void (*inverse_std)(
            size_t n, double epsilon, const void* variance__n,
            void* inverse_std__n) noexcept nogil
        void (*blend)(
            size_t n, double old_share, void* y__n, double new_share,
            const void* x__n) noexcept nogil
        void (*batch_norm)(
            size_t n_rows, size_t n_units, const void* mean__o, const void* inverse_std__o,
            const void* gamma__o, const void* beta__o, const void* x__bo, size_t x_stride,
            void* kept__bo, size_t kept_stride, void* y__bo, size_t y_stride) noexcept nogil
        void (*batch_norm_backward)(
            size_t n_rows, size_t n_units, double share, const void* inverse_std__o,
            const void* gamma__o, const void* sum__o, const void* dot__o, const void* kept__bo,
            size_t kept_stride, const void* d__bo, size_t d_stride, int adds, void* dx__bo,
            size_t dx_stride) noexcept nogil
        void (*layer_norm)(
            size_t n_rows, size_t n_units, double epsilon, const void* gamma__o,
            const void* beta__o, const void* x__bo, size_t x_stride, void* kept__bo,
            size_t kept_stride, void* inverse_std__b, void* y__bo,
            size_t y_stride) noexcept nogil
        void (*layer_norm_backward)(
            size_t n_rows, size_t n_units, const void* gamma__o, const void* kept__bo,
            size_t kept_stride, const void* inverse_std__b, const void* d__bo, size_t d_stride,
            int adds, void* dx__bo, size_t dx_stride) noexcept nogil
        void (*add_rows)(
            size_t n_rows, size_t n_units, const void* a__bo, size_t a_stride,
            const void* b__bo, size_t b_stride, void* y__bo, size_t y_stride) noexcept nogil
        void (*multiply_rows)(
            size_t n_rows, size_t n_units, const void* a__bo, size_t a_stride,
            const void* b__bo, size_t b_stride, int adds, void* y__bo,
            size_t y_stride) noexcept nogil
        void (*dropout)(
            size_t n_rows, size_t n_units, const uint64_t* key, size_t layer, size_t first_row,
            unsigned dropped, void* factor__bo, size_t factor_stride) noexcept nogil
        void (*constrain_columns)(
            size_t n_rows, size_t width, double max_norm, void* w__bp) noexcept nogil
        void (*claim_lines)(size_t n, const void* first, size_t stride) noexcept nogil
        void (*bring_columns)(
            size_t n_rows, const void* const* x_rows__b_i, size_t first_column,
            size_t n_columns) noexcept nogil
        void (*transpose_tile)(
            size_t n_rows, size_t n_columns, const void* src__pp, size_t src_width, void* dst__pp,
            size_t dst_width) noexcept nogil
        double (*sum_of_squares)(size_t n, const void* w__n) noexcept nogil
        double (*sum_of_abs)(size_t n, const void* w__n) noexcept nogil
        void (*move_average)(
            size_t n, double decay, const void* w__n, void* average__n) noexcept nogil
        int (*all_finite)(size_t n, const void* x__n) noexcept nogil
        void (*accuracy)(
            size_t n_rows, size_t n_units, const void* out__bo, size_t out_stride,
            Targets targets, double threshold, double* hit__b) noexcept nogil
        void (*train_rows)(
            const RowNetwork* network, const RowSamples* samples, size_t first, size_t n_samples,
            size_t n_steps, Sums* sums) noexcept nogil
        Activate* activate
        ActivateBackward* activate_backward
        LossRows* loss
        Update* update

    ctypedef struct Isa "cymlp_isa":
        const char* name
        const KernelTable* const* tables

    void cymlp_detect_isas(Isa* isas)


# The table for an ISA's name (None: the active one) and a dtype's name.
cdef const KernelTable* kernel_table(object isa, object dtype) except NULL

# The active table by the size of an element.
cdef const KernelTable* active_table(Py_ssize_t item_size) noexcept

# An optimizer step's scalars, before the corrections that depend on its number. What `settings`
# does not name is off.
cdef Step optimizer_step(dict settings)
