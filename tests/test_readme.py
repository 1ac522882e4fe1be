"""The README's examples run as they stand and print what it says."""

import re
from pathlib import Path

import pytest

from cymlp import _kernels

README = Path(__file__).resolve().parent.parent / "README.md"
#: A block of Python, and the block of output that follows it.
EXAMPLE = re.compile(r"```python\n(.*?)```\n+```\n(.*?)```", re.DOTALL)


@pytest.mark.skipif(not README.is_file(), reason="the tests stand outside the source tree")
@pytest.mark.filterwarnings("error")
def test_examples_print_what_the_readme_says(capsys):
    examples = EXAMPLE.findall(README.read_text(encoding="utf-8"))
    assert len(examples) == 3
    for code, output in examples:
        exec(compile(code, str(README), "exec"), {})
        printed = capsys.readouterr().out
        # Other instruction sets round differently, and may get a test image more or less right.
        if _kernels.active_isa() == "avx2":
            assert printed == output
