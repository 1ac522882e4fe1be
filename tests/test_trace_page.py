"""The page of a trace as text: what is in it and what is not. tests/browser drives it."""

import base64
import hashlib
import html
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

import cymlp
from cymlp import Sequential, trace_page
from cymlp.layers import Dense


@pytest.fixture
def net():
    net = Sequential([Dense(2, "tanh"), Dense(1)], n_inputs=2, random_state=0)
    net.compile(optimizer="sgd", loss="squared_error")
    return net


@pytest.fixture
def trace(net):
    return cymlp.explain(net, [1.0, 2.0], [0.5])


def data_of(page):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1]
    )


def test_file_and_text_are_the_same(trace, tmp_path):
    page = trace.to_html(tmp_path / "trace.html")
    assert (tmp_path / "trace.html").read_text(encoding="utf-8") == page == trace.to_html()


def test_page_is_whole_and_fetches_nothing(trace):
    page = trace.to_html()
    assert "{{" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)|url\(|@import|fetch\(|import\(""", page)
    assert page.count("</script>") == 2 and page.count("</style>") == 1


def test_policy_allows_this_style_and_script_alone(trace):
    page = trace.to_html()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)[1]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind, pattern in (
        ("style", r"<style>(.*?)</style>"),
        ("script", r"<script>(.*?)</script>"),
    ):
        text = re.search(pattern, page, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_names_cannot_end_the_data(net):
    hostile = "</script><img src=x onerror=alert(1)><!--{{script}}"
    page = cymlp.explain(net, [1.0, 2.0], names={"inputs": [hostile, "b"]}).to_html()
    assert "<img" not in page and "<!--" not in page
    assert data_of(page)["inputNames"] == [hostile, "b"]


def test_title_is_text(trace):
    page = trace_page.render(trace, title="<b> & {{data}}")
    assert "<title>&lt;b&gt; &amp; {{data}}</title>" in page
    assert data_of(page)["title"] == "<b> & {{data}}"


@pytest.mark.parametrize("name", trace_page.SCRIPTS)
def test_scripts_are_small_and_narrow(name):
    """What a linter would say of them, without one."""
    lines = (
        Path(trace_page.__file__).with_name("page").joinpath(name).read_text("utf-8").split("\n")
    )
    assert len(lines) <= 400
    assert max(map(len, lines)) <= 100
    assert not any(line != line.rstrip() or "\t" in line for line in lines)


def test_arrays_are_packed_exactly():
    array = np.array([[1.5, -2.25, 1e-30]], "float32")
    packed = trace_page._packed(array)
    assert packed["shape"] == [1, 3]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed["f4"]), "<f4"), array[0])
    assert trace_page._packed(np.zeros((784, 128))) == {"shape": [784, 128], "fill": 0.0}
    assert "f8" in trace_page._packed(np.full((2, 2), np.nan))
    big_endian = trace_page._packed(array.astype(">f4"))
    assert big_endian == packed
    assert trace_page._packed(None) is None


def test_what_the_page_computes_is_not_in_it(trace):
    layer = data_of(trace.to_html())["layers"][0]
    assert layer["parameters"]["kernel"]["gradient"] is None
    assert "updated" not in layer["parameters"]["kernel"]


def test_an_image_takes_a_second_and_two_megabytes():
    net = Sequential([Dense(128, "relu"), Dense(10, "softmax")], n_inputs=784, random_state=0)
    net.compile(optimizer="adam", loss="cross_entropy")
    X, y = np.random.default_rng(0).random((3, 784), "float32"), [3, 1, 2]
    start = time.perf_counter()
    page = cymlp.explain(net, X[0], y[0]).to_html()
    assert time.perf_counter() - start < 1
    assert len(page) < 2_000_000
    assert data_of(page)["imageShape"] == [28, 28]
    net.train_on_batch(X, y)  # Adam's moments are there now
    assert len(cymlp.explain(net, X[0], y[0]).to_html()) < 2_000_000


def test_image_shape(net):
    wide = Sequential([Dense(1)], n_inputs=50, random_state=0)
    trace = cymlp.explain(wide, np.zeros(50))
    assert data_of(trace.to_html())["imageShape"] is None
    assert data_of(trace.to_html(image_shape=(5, 10)))["imageShape"] == [5, 10]
    assert data_of(trace.to_html(image_shape=(0, 0)))["imageShape"] is None
    with pytest.raises(ValueError, match=r"image_shape must have 50 pixels, got 5 x 5"):
        trace.to_html(image_shape=(5, 5))
    for wrong in (5, "55", (1, 2, 3), (5.0, 10)):
        with pytest.raises(TypeError, match="image_shape"):
            trace.to_html(image_shape=wrong)


def test_notebook_gets_a_frame(trace, monkeypatch):
    shown = trace._repr_html_()
    assert shown.startswith("<iframe ") and 'sandbox="allow-scripts"' in shown
    assert html.unescape(re.search(r'srcdoc="(.*?)"', shown, re.S)[1]) == trace.to_html()
    monkeypatch.setattr(trace_page, "_LARGEST_IN_NOTEBOOK", 1000)
    assert trace._repr_html_() == f"<pre>{html.escape(str(trace))}</pre>"
