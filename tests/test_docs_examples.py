"""Pages with examples: these run and print what the page says, and every link leads somewhere."""

import doctest
import json
import re
import warnings

import pytest
from conftest import SOURCE_TREE

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.exceptions import ConvergenceWarning

from cymlp import diagnose
from cymlp.setting import WORKED_EXAMPLE, explain_setting

pytestmark = pytest.mark.skipif(SOURCE_TREE is None, reason="these tests stand in no source tree")

#: The pages, with how many examples they have at least.
PAGES = {"scikit-learn.md": 50, "explain.md": 25, "diagnosing.md": 20}

#: A block of Python, and what stands before it.
BLOCK = re.compile(r"(.*?)^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def text_of(page):
    return (SOURCE_TREE / "docs" / page).read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def session(text):
    """Return the page's lines, those outside of its blocks of Python empty: one doctest."""
    return "".join("\n" * (before.count("\n") + 1) + code for before, code in BLOCK.findall(text))


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_print_what_the_page_says(page):
    examples = doctest.DocTestParser().get_doctest(session(text_of(page)), {}, page, page, 0)
    assert len(examples.examples) >= PAGES[page]
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    report = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        runner.run(examples, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    text = text_of(page)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.M)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert (SOURCE_TREE / "docs" / path).exists(), target
        assert not anchor or anchor in anchors, target


def test_every_kind_of_finding_is_explained():
    paths = (SOURCE_TREE / "cymlp").glob("_findings_*.py")
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    kinds = set(re.findall(r"(?:problem|warning)\)?\(\s*\"(\w+)\"", source))
    kinds |= {"small_learning_rate", "large_learning_rate"}
    assert len(kinds) > 15
    assert kinds == set(re.findall(r"^    ``(\w+)`` ", diagnose.__doc__, flags=re.MULTILINE))
    table = re.findall(r"^\| (`.*?`) \|", text_of("diagnosing.md"), flags=re.MULTILINE)
    assert kinds == set(re.findall(r"`(\w+)`", " ".join(table)))


def test_the_tutorial_shows_what_the_command_prints():
    printed = str(explain_setting(WORKED_EXAMPLE))
    found = blocks("explain.md", "text")
    assert len(found) >= 6
    for block in found:
        assert block in printed + "\n"


def test_the_tutorials_setting_is_one():
    (block,) = blocks("explain.md", "json")
    setting = json.loads(block)
    assert setting == {name: WORKED_EXAMPLE[name] for name in setting}
    assert explain_setting(setting).loss == explain_setting(WORKED_EXAMPLE).loss
