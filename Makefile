# `make help` lists the targets. Variables:
#   PYTHON     the interpreter that environments are made from   (python3)
#   VENV       where the working environment stands              (.venv)
#   TESTS      what `make test` runs, with any pytest options    (everything)
#   EXTRAS     what tests may use; with dev,compare also PyTorch (dev)
#   TEST_PROCESSES  in how many processes, 0 for one that a debugger can see (auto)
#   DEMO_ARGS  what `make demo` says to `cymlp demo`, such as --mnist DIR
#   BROWSER_TESTS  what `make test-browser` runs                 (tests/browser)
#   ARM_CC     the compiler of `make test-arm`                   (aarch64-linux-gnu-gcc)
#   ARM_RUN    what runs its programs                            (qemu-aarch64)
#   BENCH_VENV where the environment of the benchmark stands     (.venv-bench)
#   BENCH_ARGS what `make bench` says to the suite, such as --only tabular

PYTHON ?= python3
VENV ?= .venv
TEST_PROCESSES ?= auto
EXTRAS ?= dev
BENCH_VENV ?= .venv-bench
BROWSER_TESTS ?= tests/browser

BIN := $(abspath $(VENV))/bin
PY := $(BIN)/python
# Bytecode is compiled of what is imported, when it is.
INSTALL := $(PY) -m pip install --quiet --no-compile --disable-pip-version-check
# One file for each thing that is known to hold of the environment.
STAMPS := $(VENV)/.make

KERNELS := $(sort $(wildcard src/*.[ch] src/*/*.[ch]))
C_TESTS := $(sort $(wildcard tests/c/*.[ch]))
CYTHON := $(sort $(wildcard cymlp/*.pyx cymlp/*.pxd))
MODULES := $(sort $(wildcard cymlp/*.py cymlp/*.pyi cymlp/page/*) cymlp/py.typed)
SCRIPTS := $(sort $(wildcard cymlp/page/*.js))
RECIPE := setup.py pyproject.toml
METADATA := $(sort $(wildcard README.md LICENSE MANIFEST.in))
SOURCES := $(RECIPE) $(METADATA) $(KERNELS) $(CYTHON) $(MODULES)

SANITIZED := build/sanitize
# Some nine minutes. Tests that wait for a signal or for processes are slow there and show no more.
SANITIZED_TESTS ?= $(patsubst %,tests/test_%.py,kernels dense gradients training predict layers \
                   norm_kernels losses optimizers schedules activations inspection fit_many \
                   batches data trace) -k "not (test_interrupt[ or ctrl_c or loky)"
TRACED := build/coverage
ARM := build/arm
ARM_CC ?= aarch64-linux-gnu-gcc
ARM_RUN ?= qemu-aarch64
BENCH := $(abspath $(BENCH_VENV))/bin/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help build demo test test-browser lint format sanitize coverage test-arm arm-tools sdist wheel \
        test-wheel bench bench-quick clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

# ---- environment ----

$(STAMPS)/created:
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) --upgrade pip
	mkdir -p $(STAMPS)
	touch $@

# The editable installation compiles everything; after it an edit of the core costs a build_ext.
$(STAMPS)/installed: $(RECIPE) | $(STAMPS)/created
	$(INSTALL) "setuptools>=77" "cython>=3.1" "numpy>=2.0"
	$(INSTALL) --no-build-isolation --editable ".[demo]"
	touch $@

$(STAMPS)/built: $(STAMPS)/installed $(KERNELS) $(CYTHON)
	$(PY) setup.py --quiet build_ext --inplace
	touch $@

# cymlp is installed already: this adds what its extras name and leaves cymlp alone.
$(STAMPS)/dev: $(STAMPS)/installed
	$(INSTALL) "cymlp[$(EXTRAS)]"
	touch $@

$(STAMPS)/browser: $(STAMPS)/installed
	$(INSTALL) "cymlp[browser]"
	touch $@

# ---- work ----

build: $(STAMPS)/built ## make the environment and compile the core

demo: $(STAMPS)/built ## train on real digits, print the scores, write the picture
	$(BIN)/cymlp demo $(DEMO_ARGS)

test: $(STAMPS)/built $(STAMPS)/dev ## run the whole suite with its doctests
	$(PY) -m pytest --numprocesses=$(TEST_PROCESSES) $(TESTS)

test-browser: $(STAMPS)/built $(STAMPS)/browser ## drive the page of a trace in Chromium, which is installed if need be
	chromium=$$(tools/find_chromium.sh) && \
	CYMLP_CHROMIUM=$$chromium $(PY) -m pytest --numprocesses=$(TEST_PROCESSES) $(BROWSER_TESTS)

lint: $(STAMPS)/dev ## check Python, Cython, C and JavaScript: style, warnings, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PATH=$(BIN):$$PATH cython-lint cymlp
	$(BIN)/clang-format --dry-run -Werror $(KERNELS) $(C_TESTS)
	$(CC) -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -Isrc $(filter %.c,$(KERNELS))
	$(CC) -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -fopenmp -Isrc $(filter %.c,$(C_TESTS))
	$(BIN)/mypy
	$(BIN)/mypy benchmarks
	@! command -v node > /dev/null || for script in $(SCRIPTS); do node --check $$script || exit; done

format: $(STAMPS)/dev ## rewrite Python and C the way lint wants them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(KERNELS) $(C_TESTS)

# The tests are copied beside the sanitized package: from the source tree they could import the
# ordinary one. Python itself is not free of leaks, and its own allocator would hide overruns.
$(SANITIZED)/.built: $(SOURCES) | $(STAMPS)/dev
	rm -rf $(SANITIZED)
	CYMLP_SANITIZE=1 $(PY) setup.py --quiet build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	touch $@

sanitize: $(SANITIZED)/.built ## run the tests of the core under AddressSanitizer and UBSan (GCC)
	rm -rf $(SANITIZED)/tests
	cp -R tests pyproject.toml $(SANITIZED)
	cd $(SANITIZED) && PYTHONPATH=lib PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	UBSAN_OPTIONS=print_stacktrace=1 LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) \
	$(BIN)/pytest -p no:cacheprovider $(SANITIZED_TESTS)

# Cython's coverage plugin wants C, .pyx and .so files side by side: all are made in a copied tree.
$(TRACED)/.built: $(SOURCES) | $(STAMPS)/dev
	rm -rf $(TRACED)
	mkdir -p $(TRACED)
	cp -R $(RECIPE) $(METADATA) src cymlp $(TRACED)
	rm -f $(TRACED)/cymlp/*.so
	printf '[run]\nplugins = Cython.Coverage\nsource_pkgs = cymlp\n' > $(TRACED)/.coveragerc
	cd $(TRACED) && CYMLP_COVERAGE=1 $(PY) setup.py --quiet build_ext --inplace
	touch $@

coverage: $(TRACED)/.built ## run the suite, counting the lines of Python and Cython
	rm -rf $(TRACED)/tests $(TRACED)/examples
	cp -R tests examples $(TRACED)
	cd $(TRACED) && COVERAGE_CORE=ctrace PYTHONPATH=. \
	$(PY) -m pytest --cov --cov-config=.coveragerc --cov-report=term $(TESTS)

# The kernels with the flags of setup.py, static: no library of the foreign machine is looked for.
ARM_BUILD := $(ARM_CC) -std=c11 -O2 -ffp-contract=off -Wall -Wextra -Werror -Wno-unknown-pragmas \
             -Isrc -Itests/c '-DCYMLP_EXPOSE="expose.inc.h"'
ARM_KERNELS := $(patsubst src/%.c,$(ARM)/src/%.o,$(filter src/%.c,$(KERNELS)))

$(ARM)/src/%.o: src/%.c $(C_TESTS) $(KERNELS) | arm-tools
	mkdir -p $(@D)
	$(ARM_BUILD) -c $< -o $@

$(ARM)/%: tests/c/%.c $(ARM_KERNELS)
	$(ARM_BUILD) -static $< $(ARM_KERNELS) -o $@ -lm

arm-tools:
	@for tool in $(firstword $(ARM_CC)) $(firstword $(ARM_RUN)); do \
	command -v $$tool > /dev/null || { echo "make test-arm needs $$tool. On Debian and Ubuntu:" \
	"apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" >&2; exit 1; }; done

test-arm: $(ARM)/test_kernels $(ARM)/sweep ## run the C tests of the kernels for AArch64 under an emulator
	$(ARM_RUN) $(ARM)/test_kernels
	$(ARM_RUN) $(ARM)/sweep 997

# ---- distributions ----

sdist: $(STAMPS)/dev ## build dist/cymlp-*.tar.gz
	$(PY) -m build --sdist --outdir dist

# The wheel is built from the sdist, so nothing that lies in the tree by chance gets into it.
dist/.wheel: $(SOURCES) | $(STAMPS)/dev
	rm -rf dist build/wheel
	$(PY) -m build --outdir build/wheel
	PATH=$(BIN):$$PATH auditwheel repair --strip --zip-compression-level 9 --wheel-dir dist build/wheel/*.whl
	mv build/wheel/*.tar.gz dist
	touch $@

wheel: dist/.wheel ## build dist/cymlp-*.whl with its OpenMP library inside; print its tag and size
	$(BIN)/auditwheel show dist/*.whl
	$(PY) tools/check_wheel.py dist/*.whl

test-wheel: dist/.wheel ## run the suite against the wheel, in a clean environment elsewhere
	tools/test_wheel.sh $(PYTHON) dist/*.whl

# ---- benchmark ----

# What is timed is the wheel, as users install it. The libraries that it is compared with stay.
$(BENCH_VENV)/.make/peers: benchmarks/requirements.txt
	$(PYTHON) -m venv --clear $(BENCH_VENV)
	$(BENCH) -m pip install --quiet --disable-pip-version-check --requirement $<
	mkdir -p $(@D)
	touch $@

$(BENCH_VENV)/.make/cymlp: dist/.wheel | $(BENCH_VENV)/.make/peers
	$(BENCH) -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
	$(BENCH) -m pip install --quiet --disable-pip-version-check dist/*.whl
	touch $@

bench: $(BENCH_VENV)/.make/cymlp ## time it and its peers; write tables and a plot (25 minutes)
	$(BENCH) benchmarks --wheel dist/*.whl $(BENCH_ARGS)

bench-quick: $(BENCH_VENV)/.make/cymlp ## the same on a part of the work (4 minutes)
	$(BENCH) benchmarks --quick --wheel dist/*.whl $(BENCH_ARGS)

clean: ## remove the environments and everything that was built
	if [ -d $(STAMPS) ]; then rm -rf $(VENV); fi
	if [ -d $(BENCH_VENV)/.make ]; then rm -rf $(BENCH_VENV); fi
	rm -rf build dist cymlp.egg-info cymlp/*.so cymlp/*.c .coverage
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find cymlp tests tools benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
