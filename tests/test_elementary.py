"""exp, sigmoid and tanh of every float32 number, on every instruction set of this machine.

The sweep is a C program, tests/c/sweep.c, since exp has no Python face and 2^32 numbers times three
functions are for the compiler. What is said here of the results is in the unit of the last place.
"""

import re
import subprocess

from conftest import ISAS, build_c


def test_every_float32(tmp_path):
    """Within 2 ulp of the correctly rounded value, NaN for a NaN alone."""
    process = subprocess.run([build_c("sweep", tmp_path)], capture_output=True, text=True)
    print(process.stdout)
    assert process.returncode == 0, process.stdout + process.stderr
    found = re.findall(r"^(\w+) (\w+): ([\d.]+) ulp at ", process.stdout, re.M)
    assert {(isa, name) for isa, name, _ in found} == {
        (isa, name) for isa in ISAS for name in ("exp", "sigmoid", "tanh")
    }
    assert all(0 < float(ulp) <= 2 for *_, ulp in found)


def test_sweep_needs_a_stride_that_makes_sense(tmp_path):
    process = subprocess.run([build_c("sweep", tmp_path), "0"], capture_output=True, text=True)
    assert process.returncode == 2
    assert "STRIDE" in process.stderr
