"""Nothing is allocated between the first and the last batch of a fit."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import run_python

from cymlp import _threads

COMPILER = shutil.which("cc")
pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs LD_PRELOAD"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
    pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="LD_PRELOAD is taken"),
]

#: Counts what all threads ask of glibc. Memory under `operator new` and Python's comes from there.
COUNTER = """
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static atomic_long allocations;

long allocation_count(void) { return allocations; }

void *malloc(size_t n) { ++allocations; return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { ++allocations; return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { ++allocations; return __libc_realloc(p, n); }
void *memalign(size_t to, size_t n) { ++allocations; return __libc_memalign(to, n); }
void *aligned_alloc(size_t to, size_t n) { return memalign(to, n); }
int posix_memalign(void **p, size_t to, size_t n) {
    *p = memalign(to, n);
    return *p ? 0 : ENOMEM;
}
"""

COMMON = """
import ctypes, gc
import numpy as np
from cymlp import Sequential
from cymlp.layers import Dense
from cymlp.optimizers import SGD, Adam, AdamW, NAdam
from cymlp.schedules import CosineDecay, Warmup
from cymlp.regularizers import L2

count = ctypes.PyDLL(None).allocation_count
count.restype = ctypes.c_long
gc.disable()
rng = np.random.default_rng(0)
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counter")
    source, library = folder / "counter.c", folder / "counter.so"
    source.write_text(COUNTER)
    command = [COMPILER, "-O1", "-shared", "-fPIC", "-o", str(library), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"the counter does not compile: {built.stderr}")
    probe = run_python(COMMON + "print(count())", **preloaded(library))
    if probe.returncode or not int(probe.stdout):
        pytest.skip(f"this C library does not count: {probe.stderr}")
    return library


def preloaded(library):
    """Return the environment in which even Python's small objects are counted, one by one."""
    return {"LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc", "OMP_NUM_THREADS": "1"}


def numbers(counter, code):
    process = run_python(COMMON + code, **preloaded(counter))
    assert process.returncode == 0, process.stderr
    return [int(number) for number in process.stdout.split()]


def test_the_counter_counts(counter):
    """An array is two allocations or so, in any thread: it would see one per batch."""
    code = """
import threading
arrays = [None] * 200

def work():
    for i in range(200):
        arrays[i] = np.empty(5000)

for run in (work, threading.Thread(target=work).start):
    before = count()
    run()
    while arrays[-1] is None:
        pass
    print(count() - before)
    arrays = [None] * 200
"""
    assert all(200 <= number < 2000 for number in numbers(counter, code))


@pytest.mark.parametrize("n_threads", [1, 2] if _threads.build_info()["openmp"] else [1])
@pytest.mark.parametrize(
    "optimizer",
    [
        "SGD()",
        "SGD(momentum=0.9)",
        "Adam()",
        "AdamW(Warmup(9, CosineDecay(1e-3, 90)), clip_global_norm=1.0, ema_decay=0.99)",
        "NAdam(clip_value=0.1)",
    ],
)
def test_any_number_of_batches_allocates_as_often(counter, n_threads, optimizer):
    """One epoch over the same data. Sizes are small numbers, which Python keeps ready-made."""
    code = f"""
X, y = rng.standard_normal((5000, 150), dtype="float32"), rng.integers(0, 10, 5000)
net = Sequential([Dense(400, activation="relu", kernel_regularizer=L2(strength=1e-4)),
                  Dense(10, activation="softmax")], n_inputs=150, random_state=0)
net.compile({optimizer}, "cross_entropy", metrics=["accuracy"])

def allocations(batch_size):
    before = count()
    net.fit(X, y, batch_size=batch_size, verbose=0, n_threads={n_threads})
    return count() - before

net.train_on_batch(X, y, n_threads={n_threads})
print(net._network.team)
sizes = (250, 25, 249, 10)
counts = [0] * len(sizes)
for _ in range(4):  # memory, workers and the interpreter's own caches are there after the first
    for i, batch_size in enumerate(sizes):
        counts[i] = allocations(batch_size)
print(*counts)
"""
    team, *counts = numbers(counter, code)
    assert team == n_threads
    assert counts[0] > 0
    assert len(set(counts)) == 1, counts
