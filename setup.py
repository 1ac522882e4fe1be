"""Build the compiled core: the C kernels of src/ and the Cython modules over them.

Everything that is not about compiling stands in pyproject.toml. Environment variables:

CYMLP_OPENMP     0 builds without OpenMP, 1 fails where OpenMP is missing; unset uses it if found.
CYMLP_SANITIZE   1 builds with AddressSanitizer and UndefinedBehaviorSanitizer.
CYMLP_COVERAGE   1 builds with line tracing, its C files beside the .pyx files for Cython's plugin.
"""

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

SANITIZE = os.environ.get("CYMLP_SANITIZE") == "1"
COVERAGE = os.environ.get("CYMLP_COVERAGE") == "1"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "linetrace": COVERAGE,
}
# The loops that gain by it are unrolled by hand: -O3 makes the library larger, not faster.
# Functions begin with a cache line: where in one a loop begins is worth some percent, and should
# not depend on the code before it.
UNIX_FLAGS = ["-O2", "-falign-functions=64", "-std=c11", "-g0", "-ffp-contract=off"]
UNIX_FLAGS += ["-fvisibility=hidden"]
# Nothing is thrown through a kernel, and tables for that are a twenty-fifth of their library.
UNIX_KERNEL_FLAGS = ["-fno-asynchronous-unwind-tables"]
UNIX_WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function"]
UNIX_SANITIZE = ["-fsanitize=address,undefined,float-cast-overflow", "-g"]
UNIX_SANITIZE += ["-fno-sanitize-recover=undefined"]
MSVC_FLAGS = ["/O2", "/std:c11", "/fp:precise"]
OPENMP_PROGRAM = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


def extension(name, *sources):
    return Extension(
        f"cymlp.{name}",
        [f"cymlp/{name}.pyx", *sources],
        include_dirs=["src", numpy.get_include()],
        libraries=["m"] if os.name == "posix" else [],
        depends=sorted(glob("src/**/*.h", recursive=True) + glob("cymlp/*.pxd")),
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
            *([("CYTHON_TRACE_NOGIL", "1")] if COVERAGE else []),
        ],
    )


def openmp_flags(msvc):
    """Return (compile flags, link flags) of OpenMP for the usual compiler of the platform."""
    if msvc:
        return ["/openmp"], []
    if sys.platform == "darwin":
        return ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
    return ["-fopenmp"], ["-fopenmp"]


class BuildExt(build_ext):
    """Cythonize, then compile with one list of flags, OpenMP among them where it links."""

    def build_extensions(self):
        from Cython.Build import cythonize

        self.parallel = self.parallel or os.cpu_count()
        compile_all = self.compiler.compile

        def compile_each(sources, *args, **kwargs):  # setuptools takes a list one by one
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = list(pool.map(lambda s: compile_all([s], *args, **kwargs), sources))
            return sum(objects, [])

        self.compiler.compile = compile_each
        msvc, link_flags = self.compiler.compiler_type == "msvc", []
        compile_flags = MSVC_FLAGS if msvc else UNIX_FLAGS + UNIX_WARNINGS
        kernel_flags = [] if msvc or SANITIZE else UNIX_KERNEL_FLAGS
        if SANITIZE and not msvc:
            compile_flags = [*compile_flags, *UNIX_SANITIZE, "-fno-omit-frame-pointer", "-O1"]
            link_flags = UNIX_SANITIZE
        openmp = self.find_openmp(*openmp_flags(msvc))
        build_dir = None if COVERAGE else "build/cython"
        for ext in self.extensions:
            (cythonized,) = cythonize(ext, build_dir=build_dir, compiler_directives=DIRECTIVES)
            ext.sources = cythonized.sources
            own_flags = kernel_flags if ext is kernels else []
            ext.extra_compile_args = [*compile_flags, *own_flags, *openmp[0]]
            ext.extra_link_args = [*link_flags, *openmp[1]]
        super().build_extensions()

    def find_openmp(self, compile_flags, link_flags):
        """Return the OpenMP flags if a program that needs it compiles and links, else ([], [])."""
        if (wanted := os.environ.get("CYMLP_OPENMP", "")) == "0":
            return [], []
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "openmp.c")
            source.write_text(OPENMP_PROGRAM)
            try:
                made = self.compiler.compile([str(source)], folder, extra_postargs=compile_flags)
                self.compiler.link_executable(made, f"{folder}/openmp", extra_postargs=link_flags)
            except (CompileError, LinkError) as error:
                if wanted == "1":
                    raise SystemExit(f"CYMLP_OPENMP=1, but OpenMP fails: {error}") from error
                print("OpenMP was not found: building the serial version.", file=sys.stderr)
                return [], []
        return compile_flags, link_flags


kernels = extension("_kernels", "src/dispatch.c", *sorted(glob("src/isa/*.c")))
others = "_arrays _threads _dense _batch _ops _program _inference _steps _passes _updates _network"
setup(ext_modules=[kernels, *map(extension, others.split())], cmdclass={"build_ext": BuildExt})
