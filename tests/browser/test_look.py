"""How the page looks and reads: wide and narrow, light and dark, on paper, to a screen reader."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

import cymlp

from .nets import batch_trace, image_net, ring, worked_trace

WIDTHS = (1280, 360)
SCHEMES = ("light", "dark")

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def brightness(page, what="body"):
    """Return the mean of the background's red, green and blue."""
    colour = page.evaluate(f"getComputedStyle(document.querySelector('{what}')).backgroundColor")
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3


def violations(page):
    found = Axe().run(page).response["violations"]
    return [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_accessible_and_within_the_width(open_page, look, width, scheme):
    page = open_page(batch_trace(), width=width, color_scheme=scheme)
    for name, step in (("forward", 2), ("backward", 8), ("update", 12)):
        page.evaluate(f"goTo({step})")
        assert page.evaluate(OVERFLOW) <= 0, name
        if name == "backward":
            assert violations(page) == []
        look(page, f"batch-{width}-{scheme}-{name}", full_page=True)
    page.get_by_label("Input I1", exact=True).fill("x")
    expect(page.get_by_text("got “x”")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate(OVERFLOW) <= 0


@pytest.mark.parametrize("width", WIDTHS)
def test_drawing_is_within_its_place(open_page, width):
    """Nothing of a small network is cut off, and no text in circles is wider than they are."""
    page = open_page(worked_trace(), width=width)
    drawing = page.locator("#drawing")
    assert drawing.evaluate("(each) => each.scrollWidth - each.clientWidth") <= 0
    for step in range(13):
        page.evaluate(f"goTo({step})")
        too_wide = page.evaluate("""[...document.querySelectorAll(".unit:not(.loss)")].filter(
          (unit) => unit.querySelector(".value").getBBox().width >
            unit.querySelector("circle").getBBox().width).map((unit) => unit.textContent)""")
        assert too_wide == []


def test_drawing_is_as_wide_as_a_scroll_bar_leaves_its_place(launch, tmp_path):
    """The bar comes with the first drawing, which makes the page long, and narrows the place."""
    path = tmp_path / "page.html"
    cymlp.explain(image_net(), ring(), 0).to_html(path)
    browser = launch(ignore_default_args=["--hide-scrollbars"])
    page = browser.new_page(viewport={"width": 1280, "height": 1100})
    page.goto(path.as_uri())
    has_bar = "innerWidth > document.documentElement.clientWidth"
    assert page.evaluate(has_bar)
    page.wait_for_function(
        """() => {
      const place = document.getElementById("drawing");
      return place.querySelector("svg").getAttribute("width") === `${place.clientWidth}`;
    }""",
        timeout=5000,
    )
    browser.close()


def test_follows_the_system_and_the_button(open_page):
    page = open_page(worked_trace(), color_scheme="light")
    assert brightness(page) > 200
    page.emulate_media(color_scheme="dark")
    assert brightness(page) < 60
    button = page.get_by_role("button", name="Theme: auto")
    button.click()
    expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
    assert brightness(page) > 200
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    page.emulate_media(color_scheme="light")
    assert brightness(page) < 60


def test_drawn_anew_where_the_width_changes(open_page):
    page = open_page(worked_trace())
    page.keyboard.press("ArrowRight")
    wide = page.locator("#drawing svg").bounding_box()
    page.set_viewport_size({"width": 360, "height": 800})
    expect(page.locator("#drawing svg")).to_have_class("narrow")
    narrow = page.locator("#drawing svg").bounding_box()
    assert narrow["width"] <= 360 < wide["width"]
    assert narrow["height"] > wide["height"] * 0.8
    expect(page.locator("#step-title")).to_contain_text("layers[0]: weighted sums")
    assert page.evaluate(OVERFLOW) <= 0


def test_no_motion_for_those_who_want_none(open_page):
    duration = "getComputedStyle(document.querySelector('.unit circle')).transitionDuration"
    page = open_page(worked_trace(), reduced_motion="reduce")
    assert page.evaluate(duration) == "0s"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(duration) != "0s"


def test_on_paper(open_page, look):
    page = open_page(worked_trace(), color_scheme="dark")
    page.evaluate("document.querySelector('details').open = false")
    page.emulate_media(media="print")
    assert brightness(page) > 200
    for name in ("Reset", "Next step"):
        expect(page.get_by_role("button", name=name)).to_be_hidden()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    for region in page.get_by_role("region", name="layers[0]").all():
        expect(region).to_be_visible()
    expect(page.get_by_role("region", name="Inputs", exact=True)).to_be_visible()
    look(page, "print", full_page=True)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.evaluate("document.querySelector('details').open")


def test_screen_readers_hear_of_steps_and_equations(open_page):
    page = open_page(worked_trace())
    expect(page.locator("#step-title")).to_have_attribute("aria-live", "polite")
    expect(page.locator("#equations")).to_have_attribute("aria-live", "polite")
    expect(page.get_by_role("listbox", name="Units of layers[1]")).to_be_visible()
    options = page.get_by_role("listbox", name="Weights of layers[0]").get_by_role("option")
    expect(options).to_have_count(9)
    expect(page.get_by_role("table", name="layers[1].kernel: gradient")).to_be_visible()
    # One stop of Tab in each list.
    stops = page.locator('#drawing [tabindex="0"]')
    expect(stops).to_have_count(6)
