"""The page for those who come from scikit-learn: its examples run and print what it says."""

import doctest
import re
import warnings

import pytest
from conftest import SOURCE_TREE

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.exceptions import ConvergenceWarning

pytestmark = pytest.mark.skipif(SOURCE_TREE is None, reason="these tests stand in no source tree")

#: A block of Python, and what stands before it.
BLOCK = re.compile(r"(.*?)^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def page():
    return (SOURCE_TREE / "docs" / "scikit-learn.md").read_text(encoding="utf-8")


def session(text):
    """Return the page's lines, those outside of its blocks of Python empty: one doctest."""
    return "".join("\n" * (before.count("\n") + 1) + code for before, code in BLOCK.findall(text))


def test_the_examples_print_what_the_page_says():
    name = "scikit-learn.md"
    examples = doctest.DocTestParser().get_doctest(session(page()), {}, name, name, 0)
    assert len(examples.examples) > 50
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    report = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        runner.run(examples, out=report.append)
    assert not runner.failures, "".join(report)


def test_every_link_leads_somewhere():
    text = page()
    titles = re.findall(r"^#+ (.+)$", text, flags=re.M)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert (SOURCE_TREE / "docs" / path).exists()
        assert not anchor or anchor in anchors, target
