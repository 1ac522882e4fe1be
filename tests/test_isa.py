"""Choosing an instruction set at run time, and keeping each one's instructions to itself."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ISAS, run_python

import cymlp
from cymlp import _kernels

FIT = """
import numpy as np
from cymlp import Sequential, _kernels
from cymlp.layers import Dense

rng = np.random.default_rng(0)
X = rng.standard_normal((50, 20))
net = Sequential([Dense(30, activation="tanh"), Dense(3)], n_inputs=20, random_state=0)
net.compile()
net.fit(X, X[:, :3], epochs=2, verbose=0)
print(_kernels.active_isa(), net.get_weights()[0].tobytes().hex())
"""


#: In the order of preference; the same in every build.
KNOWN = ["generic", "avx2", "avx512", "neon"]


def test_names():
    assert _kernels.known_isas() == KNOWN
    assert ISAS[0] == "generic"
    assert set(ISAS) <= set(_kernels.known_isas())
    assert _kernels.active_isa() in ISAS


def test_neon_is_where_aarch64_is():
    """Every such CPU has it: nothing is detected."""
    assert ("neon" in ISAS) == (platform.machine().lower() in ("aarch64", "arm64"))


def test_best_one_is_the_default(tmp_path):
    process = run_python(FIT, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[0] == ISAS[-1]


@pytest.mark.parametrize("name", ISAS)
def test_environment_chooses(tmp_path, name):
    """The same as choosing in the program, bit for bit."""
    by_environment = run_python(FIT, cwd=tmp_path, CYMLP_ISA=name)
    assert by_environment.returncode == 0, by_environment.stderr
    assert by_environment.stdout.split()[0] == name
    code = f"from cymlp import _kernels\n_kernels.select_isa({name!r})\n{FIT}"
    assert run_python(code, cwd=tmp_path).stdout == by_environment.stdout


def test_instruction_sets_are_really_different(tmp_path):
    if len(ISAS) == 1:
        pytest.skip("this machine runs the generic kernels only")
    # Those with a fused multiply-add may agree to the last bit; the plain one rounds in between.
    results = [run_python(FIT, cwd=tmp_path, CYMLP_ISA=name).stdout.split()[1] for name in ISAS]
    assert all(result != results[0] for result in results[1:])
    tiles = [(k.lanes, k.panel_vecs, k.tile_rows) for k in map(_kernels.Kernels, ISAS)]
    assert len(set(tiles)) == len(ISAS), "or one table stands in for another"


UNAVAILABLE = ["mmx", "AVX-2", "generic,avx2", *sorted(set(_kernels.known_isas()) - set(ISAS))]


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_environment_with_unavailable_name(tmp_path, name):
    process = run_python("import cymlp", cwd=tmp_path, CYMLP_ISA=name)
    assert process.returncode != 0
    last = process.stderr.strip().splitlines()[-1]
    assert "Error" in last
    assert "CYMLP_ISA" in last
    assert name in last
    for known in ISAS:
        assert known in last


@pytest.mark.parametrize("name", [*UNAVAILABLE, ""])
def test_select_unavailable_name(name):
    before = _kernels.active_isa()
    with pytest.raises(ValueError, match=re.escape(repr(name))) as info:
        _kernels.select_isa(name)
    for known in ISAS:
        assert known in str(info.value)
    assert _kernels.active_isa() == before


def test_select_what_is_no_name():
    for name in (None, 2):
        with pytest.raises((TypeError, ValueError)):
            _kernels.select_isa(name)


# -------------------------------------------------------------------------------------- disassembly

FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
INSTRUCTION = re.compile(r"^\s*[0-9a-f]+:\t(.+)$")
WIDE_REGISTER = re.compile(r"%?\b[yz]mm\d")
#: VEX and EVEX encodings start with v, also where they work on 128 bits; these few do not.
OLD_MNEMONICS = re.compile(
    r"^ver[rw]|^vm(call|launch|resume|xon|xoff|clear|ptrld|ptrst|read|write)"
)

SAMPLE = """
cymlp/_kernels.so:     file format elf64-x86-64

0000000000001000 <plain>:
    1000:\tmulss  %xmm1,%xmm0
    1004:\tret

0000000000001010 <sneaky>:
    1010:\tvmovups (%rdi),%ymm0
    1014:\tvzeroupper
    1017:\tret

0000000000001020 <short_vex>:
    1020:\tvmulss %xmm1,%xmm0,%xmm0

0000000000001030 <forward_f32_avx2.constprop.0>:
    1030:\tvfmadd231ps %ymm1,%ymm2,%ymm3

0000000000001040 <wide>:
    1040:\tvaddpd zmm0,zmm1,zmm2
"""


def functions_with_avx(disassembly):
    """Return ({functions with 256-bit registers or more}, {with any AVX encoding}, {all})."""
    wide, vex, names, name = set(), set(), set(), None
    for line in disassembly.splitlines():
        if match := FUNCTION.match(line):
            name = match[1]
            names.add(name)
        elif name and (match := INSTRUCTION.match(line)):
            instruction = match[1].partition("#")[0]
            if WIDE_REGISTER.search(instruction):
                wide.add(name)
            if instruction.startswith("v") and not OLD_MNEMONICS.match(instruction):
                vex.add(name)
    return wide, vex, names


def test_the_parser_sees_wide_registers():
    wide, vex, names = functions_with_avx(SAMPLE)
    assert wide == {"sneaky", "forward_f32_avx2.constprop.0", "wide"}
    assert vex == wide | {"short_vex"}
    assert names == vex | {"plain"}


def extensions():
    return sorted(Path(cymlp.__file__).parent.glob("_*.so"))


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="reads ELF files of x86-64",
)
def test_avx_stays_in_its_own_functions():
    """Elsewhere it would crash the machines that the generic kernels are there for."""
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("objdump is not installed")
    paths = extensions()
    assert {path.name.split(".")[0] for path in paths} >= {"_kernels", "_dense", "_network"}
    kernels_wide = set()
    for path in paths:
        command = [objdump, "-d", "--no-show-raw-insn", "-w", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        wide, vex, names = functions_with_avx(text)
        if path.name.startswith("_kernels") and not any("_generic" in name for name in names):
            pytest.skip(f"{path.name} is stripped of its symbols")
        # A compiler may add a suffix, as in name.constprop.0 or name.cold.
        strangers = {name for name in wide | vex if not re.search(r"_avx(2|512)(\.|$)", name)}
        assert not strangers, f"{path.name}: {sorted(strangers)}"
        kernels_wide |= wide
    assert any("gradient" in name for name in kernels_wide), "no wide kernel was found at all"
