"""Large networks, images, deep networks, and names that would be markup."""

import time

import numpy as np
import pytest
from playwright.sync_api import expect

import cymlp
from cymlp import Sequential
from cymlp.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    LayerNormalization,
    Residual,
)

from .nets import RESULT, assert_agrees, image_net, ring, written
from .test_look import OVERFLOW, WIDTHS, violations


@pytest.fixture(scope="module")
def digit():
    return cymlp.explain(image_net(), ring(), 3)


@pytest.mark.parametrize("width", WIDTHS)
def test_network_for_images(open_page, look, digit, width):
    start = time.perf_counter()
    page = open_page(digit, width=width)
    page.locator("#equations .result").first.wait_for()
    assert time.perf_counter() - start < 5
    shown = 12 if width > 1000 else 5
    expect(page.get_by_role("listbox", name="Inputs").get_by_role("option")).to_have_count(shown)
    expect(page.locator("#drawing")).to_contain_text(f"… {784 - shown} more")
    for step in range(page.locator("#steps li").count()):
        page.evaluate(f"goTo({step})")
        assert page.evaluate(OVERFLOW) <= 0
    look(page, f"image-{width}", full_page=True)
    assert violations(page) == []


def test_equations_are_cut_and_say_what_is_missing(open_page, digit):
    page = open_page(digit)
    page.get_by_role("button", name="layers[0]: weighted sums").click()
    page.get_by_role("listbox", name="Units of layers[0]").get_by_role("option").first.focus()
    name = page.locator("#equations h3").inner_text().split(",")[0]
    number = int(name.removeprefix("J")) - 1
    terms = ring() * digit.layers[0].parameters["kernel"].value[:, number].astype("float64")
    terms = np.append(terms, digit.layers[0].parameters["bias"].value[number])
    rest = terms[np.argsort(-abs(terms), kind="stable")[8:]]
    text = page.locator("#equations").inner_text()
    assert f"[{len(rest)} more, which come to {written(page, rest.sum())}]" in text
    expect(page.locator("#equations")).to_contain_text(
        written(page, digit.layers[0].pre_activation[0, number])
    )


def test_units_can_be_chosen(open_page, digit):
    page = open_page(digit)
    field = page.get_by_label("Shown of 784:")
    field.fill("1-3, 400")
    field.press("Enter")
    inputs = page.get_by_role("listbox", name="Inputs").get_by_role("option")
    expect(inputs).to_have_count(4)
    expect(inputs.last).to_have_attribute("aria-label", f"I400, input {written(page, ring()[399])}")
    field = page.get_by_label("Shown of 784:")
    field.fill("0-3")
    field.press("Enter")
    expect(
        page.get_by_text("Must be numbers from 1 to 784, such as 1-4, 7; got “0-3”")
    ).to_be_visible()
    expect(inputs).to_have_count(4)
    page.get_by_role("button", name="Largest contributions").first.click()
    expect(inputs).to_have_count(12)


def test_edit_of_a_large_network(open_page, digit):
    """In double precision, where the core had single precision."""
    page = open_page(digit)
    page.get_by_label("Target of K1", exact=True).fill("1")
    expect(page.locator("#origin")).to_contain_text("Recomputed here")
    net = Sequential(image_net().layers, n_inputs=784, dtype="float64", random_state=0)
    net.compile(optimizer="adam", loss="cross_entropy")
    net.set_weights(image_net().get_weights())
    # Both ones: the loss takes any numbers from 0 to 1.
    loss = -np.log(net.predict(digit.inputs)[0, [0, 3]]).sum()
    assert page.evaluate("view.result.loss") == pytest.approx(loss, rel=1e-12)


def test_image_with_the_gradient_over_it(open_page, digit):
    page = open_page(digit)
    image = page.get_by_role("img", name="Inputs as an image of 28 × 28 pixels")
    expect(image).to_be_visible()

    def colours():
        return page.evaluate("""() => {
          const canvas = document.getElementById("image");
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
          copy.drawImage(canvas, 0, 0);
          const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
          let coloured = 0;
          for (let i = 0; i < data.length; i += 4) {
            if (Math.abs(data[i] - data[i + 2]) > 40) coloured++;
          }
          return coloured / (data.length / 4);
        }""")

    assert colours() == 0
    page.get_by_role("button", name="Inputs: gradient").click()
    toggle = page.get_by_label("Show how the loss grows (blue) or falls (orange) with each pixel")
    expect(toggle).to_be_checked()
    assert colours() > 0.3
    toggle.uncheck()
    assert colours() == 0


def test_no_image_unless_it_is_one(open_page, digit):
    page = open_page(digit, html=digit.to_html(image_shape=(0, 0)))
    expect(page.locator("#pixels")).to_be_hidden()
    page = open_page(digit, html=digit.to_html(image_shape=(14, 56)))
    expect(page.get_by_role("img", name="14 × 56 pixels")).to_be_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_deep_network_of_all_layers(open_page, look, width):
    layers = [
        Dense(4, "tanh"),
        BatchNormalization(),
        Residual([Dense(4, "relu"), Dropout(0.5)]),
        Residual([Dense(5, "elu")]),
        LayerNormalization(),
        Dense(3),
        Activation("softmax"),
    ]
    net = Sequential(layers, n_inputs=3, dtype="float64", random_state=0)
    net.compile(optimizer="adam", loss="squared_error")
    X = np.random.default_rng(0).standard_normal((2, 3))
    trace = cymlp.explain(net, X, np.eye(3)[:2])
    page = open_page(trace, width=width)
    # All equations of all that is drawn, at all steps.
    equations = page.evaluate("""() => view.steps.map((_, step) => {
      goTo(step);
      return [...drawing.parts.values()].map(({ selection }) =>
        titleOf(view, selection) + equationsOf(view, selection).map(({ left, right }) =>
          `${left} = ${right}`).join("; "));
    })""")
    assert len(equations) == page.locator("#steps li").count() > 25
    for text in sum(equations, []):
        assert not any(word in text for word in ("NaN", "undefined", "null", "object")), text
    assert page.evaluate(OVERFLOW) <= 0
    assert violations(page) == []
    look(page, f"deep-{width}", full_page=True)
    assert_agrees(page.evaluate(f"({RESULT})(view.result)"), trace)


def test_names_are_text(open_page):
    hostile = "</script><img src=x onerror=alert(1)>"
    net = Sequential([Dense(2, "tanh"), Dense(1)], n_inputs=2, random_state=0)
    net.compile(optimizer="sgd", loss="squared_error")
    names = {
        "inputs": [hostile, "<!--"],
        "layers[0]": ["{{data}}", "${1}"],
        "outputs": ["<b>&amp;"],
    }
    page = open_page(cymlp.explain(net, [1.0, 2.0], [0.5], names=names))
    for _ in page.locator("#steps li").all():
        page.keyboard.press("ArrowRight")
    assert page.locator("img").count() == 0
    first = page.get_by_role("listbox", name="Inputs").get_by_role("option").first
    first.focus()
    expect(page.locator("#equations h3")).to_have_text(f"{hostile}, an input")
    region = page.get_by_role("region", name="Inputs", exact=True)
    expect(region).to_contain_text("<!--")
    expect(page.get_by_role("region", name="Targets")).to_contain_text("<b>&amp;")


def test_in_a_notebook(open_page):
    """In a frame that the notebook's script cannot reach, nor the other way round."""
    net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    trace = cymlp.explain(net, [1.0])
    head = "<!doctype html><title>notebook</title><style>h1 { color: red }</style>"
    html = head + trace._repr_html_()
    page = open_page(trace, html=html)
    frame = page.frame_locator("iframe")
    expect(frame.locator("h1")).to_have_text("One step of a network")
    assert frame.locator("h1").evaluate("(h1) => getComputedStyle(h1).color") != "rgb(255, 0, 0)"
    frame.get_by_role("button", name="Next step").click()
    expect(frame.locator("#step-title")).to_contain_text("weighted sums")
    assert page.evaluate("document.querySelector('iframe').contentDocument") is None
