/* What the Cython loops need of OpenMP, with a serial stand-in for builds without it. */
#ifndef CYMLP_THREADS_H
#define CYMLP_THREADS_H

#ifdef _OPENMP
#include <omp.h>

enum { CYMLP_HAS_OPENMP = 1 };

/* The limit of the calling thread. */
static inline int cymlp_max_threads(void) { return omp_get_max_threads(); }

/* Whether the calling thread is one of somebody's team. */
static inline int cymlp_in_parallel(void) { return omp_in_parallel(); }

/* The team may be smaller than asked for: share work by this number alone. */
static inline int cymlp_team_size(void) { return omp_get_num_threads(); }

static inline void cymlp_barrier(void) {
#pragma omp barrier
}
#else

enum { CYMLP_HAS_OPENMP = 0 };

static inline int cymlp_max_threads(void) { return 1; }

static inline int cymlp_in_parallel(void) { return 0; }

static inline int cymlp_team_size(void) { return 1; }

static inline void cymlp_barrier(void) {}
#endif

/* cymlp_forked: whether this process is the child of a fork, by Python or by C, that came after
 * cymlp_notice_forks, which returns 0 or an error number. A team of OpenMP threads does not survive
 * a fork, and libgomp waits for it forever. Each file that includes this has a flag of its own. */
#ifdef _WIN32
static inline int cymlp_forked(void) { return 0; }

static inline int cymlp_notice_forks(void) { return 0; }
#else
#include <pthread.h>

static int cymlp_fork_noticed = 0;

static inline int cymlp_forked(void) { return cymlp_fork_noticed; }

static inline void cymlp_in_child(void) { cymlp_fork_noticed = 1; }

static inline int cymlp_notice_forks(void) { return pthread_atfork(NULL, NULL, cymlp_in_child); }
#endif

/* Seconds from some fixed moment; never goes back. */
#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

static inline double cymlp_now(void) {
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return (double)ticks.QuadPart / (double)per_second.QuadPart;
}
#else
#include <time.h>

static inline double cymlp_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}
#endif

#if defined(__clang__)
#define CYMLP_COMPILER "Clang " __clang_version__
#elif defined(__GNUC__)
#define CYMLP_COMPILER "GCC " __VERSION__
#elif defined(_MSC_VER)
#define CYMLP_STRING_(x) #x
#define CYMLP_STRING(x) CYMLP_STRING_(x)
#define CYMLP_COMPILER "MSVC " CYMLP_STRING(_MSC_VER)
#else
#define CYMLP_COMPILER "unknown"
#endif

#endif
