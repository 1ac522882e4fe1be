"""exp, sigmoid and tanh of every float32 number, on every instruction set of this machine.

The sweep is a C program, tests/c/sweep.c, since exp has no Python face and 2^32 numbers times three
functions are for the compiler. What is said here of the results is in the unit of the last place.
"""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig

import pytest
from conftest import ISAS, SOURCE_TREE

#: What the kernels are compiled with, as setup.py says.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off"]


def compiler():
    """Return the command of the C compiler that built this Python, or of any, as a list."""
    for command in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"):
        words = shlex.split(command or "")
        if words and shutil.which(words[0]):
            return words
    return None


def build(program, folder):
    """Compile tests/c/`program`.c with the kernels into a folder and return the binary's path."""
    if SOURCE_TREE is None or os.name != "posix":
        pytest.skip("needs the C sources and a POSIX compiler")
    if compiler() is None:
        pytest.skip("no C compiler is installed")
    source = SOURCE_TREE / "src"
    tests = SOURCE_TREE / "tests" / "c"
    command = [
        *compiler(),
        *FLAGS,
        f"-I{source}",
        f"-I{tests}",
        '-DCYMLP_EXPOSE="expose.inc.h"',
        *map(str, [tests / f"{program}.c", source / "dispatch.c"]),
        *map(str, sorted((source / "isa").glob("*.c"))),
        "-o",
        str(folder / program),
        "-lm",
    ]
    # Without OpenMP it takes one core and the time of two.
    for openmp in (["-fopenmp"], []):
        process = subprocess.run([*command, *openmp], capture_output=True, text=True)
        if process.returncode == 0:
            return folder / program
    raise AssertionError(process.stderr)


def test_every_float32(tmp_path):
    """Within 2 ulp of the correctly rounded value, NaN for a NaN alone."""
    process = subprocess.run([build("sweep", tmp_path)], capture_output=True, text=True)
    print(process.stdout)
    assert process.returncode == 0, process.stdout + process.stderr
    found = re.findall(r"^(\w+) (\w+): ([\d.]+) ulp at ", process.stdout, re.M)
    assert {(isa, name) for isa, name, _ in found} == {
        (isa, name) for isa in ISAS for name in ("exp", "sigmoid", "tanh")
    }
    assert all(0 < float(ulp) <= 2 for *_, ulp in found)


def test_sweep_needs_a_stride_that_makes_sense(tmp_path):
    process = subprocess.run([build("sweep", tmp_path), "0"], capture_output=True, text=True)
    assert process.returncode == 2
    assert "STRIDE" in process.stderr
