"""The page on networks that do not learn: its examples run and print what it says."""

import doctest
import re

import pytest
from conftest import SOURCE_TREE

pytest.importorskip("sklearn")

pytestmark = pytest.mark.skipif(SOURCE_TREE is None, reason="these tests stand in no source tree")


def page():
    return (SOURCE_TREE / "docs" / "diagnosing.md").read_text(encoding="utf-8")


def test_the_examples_print_what_the_page_says():
    blocks = "\n".join(
        re.findall(r"^```python\n(.*?)^```$", page(), flags=re.DOTALL | re.MULTILINE)
    )
    examples = doctest.DocTestParser().get_doctest(blocks, {}, "diagnosing.md", None, 0)
    assert len(examples.examples) > 20
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    report = []
    runner.run(examples, out=report.append)
    assert not runner.failures, "".join(report)


def test_every_kind_of_finding_is_explained():
    paths = (SOURCE_TREE / "cymlp").glob("_findings_*.py")
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    kinds = set(re.findall(r"(?:problem|warning)\)?\(\s*\"(\w+)\"", source))
    kinds |= {"small_learning_rate", "large_learning_rate"}
    assert len(kinds) > 15
    from cymlp import diagnose

    assert kinds == set(re.findall(r"^    ``(\w+)`` ", diagnose.__doc__, flags=re.MULTILINE))
    table = re.findall(r"^\| (`.*?`) \|", page(), flags=re.MULTILINE)
    assert kinds == set(re.findall(r"`(\w+)`", " ".join(table)))
