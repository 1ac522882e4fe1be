"""exp, sigmoid and tanh of every float32 number, on every instruction set of this machine.

The sweep is a C program, tests/c/sweep.c, since exp has no Python face and 2^32 numbers times three
functions are for the compiler. What is said here of the results is in the unit of the last place.
"""

import os
import re
import subprocess

from conftest import ISAS


def test_every_float32(c_program):
    """Within 2 ulp of the correctly rounded value, NaN for a NaN alone.

    Every block of 4096 numbers takes minutes: that is for CYMLP_EXHAUSTIVE=1, else every ninth.
    """
    stride = "1" if os.environ.get("CYMLP_EXHAUSTIVE") == "1" else "9"
    process = subprocess.run([c_program("sweep"), stride], capture_output=True, text=True)
    print(process.stdout)
    assert process.returncode == 0, process.stdout + process.stderr
    found = re.findall(r"^(\w+) (\w+): ([\d.]+) ulp at ", process.stdout, re.M)
    assert {(isa, name) for isa, name, _ in found} == {
        (isa, name) for isa in ISAS for name in ("exp", "sigmoid", "tanh")
    }
    assert all(0 < float(ulp) <= 2 for *_, ulp in found)


def test_sweep_needs_a_stride_that_makes_sense(c_program):
    process = subprocess.run([c_program("sweep"), "0"], capture_output=True, text=True)
    assert process.returncode == 2
    assert "STRIDE" in process.stderr
