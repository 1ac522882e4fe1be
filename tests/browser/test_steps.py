"""Going through the computation: buttons, keys, the list; equations of units, weights, the loss."""

import pytest
from playwright.sync_api import expect

import cymlp

from .nets import batch_trace, worked_net, worked_trace, written

STEPS = [
    "Inputs",
    "layers[0]: weighted sums",
    "layers[0]: relu",
    "layers[1]: weighted sums",
    "layers[1]: sigmoid",
    "Loss",
    "layers[1]: deltas",
    "layers[1]: gradients",
    "layers[0]: deltas",
    "layers[0]: gradients",
    "Inputs: gradient",
    "Average over the batch",
    "Update",
]


@pytest.fixture
def trace():
    return worked_trace()


@pytest.fixture
def page(open_page, trace):
    return open_page(trace)


def unit(page, name):
    return page.locator(f'[role=option][aria-label^="{name},"]')


def edge(page, source, target):
    return page.locator(f'[role=option][aria-label^="{source} to {target},"]')


def expect_step(page, number):
    title = page.locator("#step-title")
    expect(title).to_have_text(f"{STEPS[number]} ({number + 1} of {len(STEPS)})")
    expect(page.locator("#steps [aria-current=step]")).to_have_text(STEPS[number])


def expect_equation(page, *numbers):
    """Expect numbers in the equations, as the page writes them."""
    equations = page.locator("#equations")
    for number in numbers:
        expect(equations).to_contain_text(written(page, number))


def test_steps_are_those_of_the_computation(page):
    assert page.locator("#steps li").all_inner_texts() == STEPS


def test_buttons(page):
    for number in range(len(STEPS) - 1):
        expect_step(page, number)
        page.get_by_role("button", name="Next step").click()
    expect_step(page, len(STEPS) - 1)
    expect(page.get_by_role("button", name="Next step")).to_be_disabled()
    for number in reversed(range(len(STEPS) - 1)):
        page.get_by_role("button", name="Previous step").click()
        expect_step(page, number)
    expect(page.get_by_role("button", name="Previous step")).to_be_disabled()
    page.get_by_role("button", name="Last step").click()
    expect_step(page, len(STEPS) - 1)
    page.get_by_role("button", name="First step").click()
    expect_step(page, 0)
    page.get_by_role("button", name="layers[0]: deltas").click()
    expect_step(page, 8)


def test_keys(page):
    for number in range(1, len(STEPS)):
        page.keyboard.press("ArrowRight")
        expect_step(page, number)
    page.keyboard.press("ArrowRight")
    expect_step(page, len(STEPS) - 1)
    page.keyboard.press("ArrowLeft")
    expect_step(page, len(STEPS) - 2)
    page.keyboard.press("Home")
    expect_step(page, 0)
    page.keyboard.press("End")
    expect_step(page, len(STEPS) - 1)


def test_keys_belong_to_the_field_that_one_is_in(page):
    field = page.get_by_label("Learning rate")
    field.focus()
    for key in ("ArrowRight", "ArrowLeft", "Home", "End"):
        field.press(key)
    expect_step(page, 0)


def test_tab_goes_from_layer_to_layer_and_arrows_go_through_one(page):
    """Left and right are the steps there too, and the focus stays."""
    unit(page, "I1").focus()
    page.keyboard.press("ArrowDown")
    expect(unit(page, "I2")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect_step(page, 1)
    expect(unit(page, "I2")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")  # there is no other above
    expect(unit(page, "I1")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(unit(page, "J1")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(unit(page, "I2")).to_be_focused()
    weights = edge(page, "I1", "J1")
    weights.focus()
    page.keyboard.press("ArrowDown")
    expect(edge(page, "I2", "J1")).to_be_focused()
    expect(page.locator("#equations h3")).to_have_text("Weight from I2 to J1")


def test_numbers_appear_as_they_are_computed(page, trace):
    label = "aria-label"
    expect(unit(page, "J3")).to_have_attribute(label, "J3, not computed yet, bias 0.1")
    page.keyboard.press("ArrowRight")
    expect(unit(page, "J2")).to_have_attribute(label, "J2, weighted sum −0.3, bias −0.2")
    page.keyboard.press("ArrowRight")
    expect(unit(page, "J2")).to_have_attribute(label, "J2, output 0, bias −0.2")
    page.get_by_role("button", name="layers[1]: deltas").click()
    delta = written(page, trace.layers[1].delta[0, 0])
    text = f"K1, delta {delta}, bias −0.1, target 1"
    expect(unit(page, "K1")).to_have_attribute(label, text)
    page.keyboard.press("End")
    updated = written(page, trace.layers[1].parameters["kernel"].updated[2, 1])
    name = f"relu(J3) to K2, new weight {updated}"
    expect(edge(page, "relu(J3)", "K2")).to_have_attribute(label, name)


def test_equations_of_units(page, trace):
    hidden, output = trace.layers
    page.get_by_role("button", name="layers[0]: weighted sums").click()
    unit(page, "J3").hover()
    expect(page.locator("#equations")).to_contain_text("1 × 0.5 + 2 × 0.6 + 3 × (−0.3) + 0.1")
    expect_equation(page, hidden.pre_activation[0, 2])
    page.get_by_role("button", name="layers[1]: sigmoid").click()
    unit(page, "K2").focus()
    expect_equation(page, output.pre_activation[0, 1], output.activation[0, 1])
    page.get_by_role("button", name="Loss", exact=True).click()
    expect_equation(page, trace.loss)
    unit(page, "K1").hover()
    expect(page.locator("#equations")).to_contain_text("½ (y − t)²")
    expect_equation(page, (output.activation[0, 0] - 1) ** 2 / 2)
    page.get_by_role("button", name="layers[1]: deltas").click()
    unit(page, "K1").focus()
    gradient, slope = output.activation_gradient[0, 0], output.slope[0, 0]
    expect_equation(page, gradient, slope, output.delta[0, 0])
    page.get_by_role("button", name="layers[0]: deltas").click()
    unit(page, "J3").hover()
    expect_equation(page, *output.delta[0], hidden.activation_gradient[0, 2], hidden.delta[0, 2])
    page.get_by_role("button", name="Inputs: gradient").click()
    unit(page, "I2").focus()
    expect_equation(page, *hidden.delta[0], trace.input_gradient[0, 1])
    page.get_by_role("button", name="Update").click()
    unit(page, "J1").hover()
    bias = hidden.parameters["bias"]
    expect_equation(page, bias.value[0], bias.gradient[0], bias.updated[0], 0.01)


def test_equations_of_weights(page, trace):
    kernel = trace.layers[1].parameters["kernel"]
    weight = edge(page, "relu(J1)", "K1")
    weight.focus()
    expect(page.locator("#equations")).to_contain_text("0.1 × 0.1")
    page.get_by_role("button", name="layers[1]: gradients").click()
    weight.focus()
    output = trace.layers[1]
    factors = output.activation_gradient[0, 0], output.slope[0, 0]
    expect(page.locator("#equations")).to_contain_text("∂L/∂y × f′(z) × x")
    expect_equation(page, *factors, kernel.average[0, 0])
    page.keyboard.press("End")
    expect_equation(page, kernel.gradient[0, 0], kernel.updated[0, 0])


def test_a_pointer_shows_without_choosing(page):
    heading = page.locator("#equations h3")
    unit(page, "J1").click()
    expect(heading).to_have_text("J1, in layers[0]")
    unit(page, "K2").hover()
    expect(heading).to_have_text("K2, in layers[1]")
    page.mouse.move(5, 5)
    expect(heading).to_have_text("J1, in layers[0]")


def test_samples_of_a_batch(open_page):
    trace = batch_trace()
    page = open_page(trace)
    page.get_by_role("button", name="Loss", exact=True).click()
    for sample in range(3):
        page.get_by_label("Sample", exact=True).select_option(label=str(sample + 1))
        result = page.locator("#equations .result .right")
        expect(result.first).to_have_text(written(page, trace.losses[sample]))
        expect(result.last).to_have_text(written(page, trace.loss))
    page.get_by_role("button", name="Average over the batch").click()
    edge(page, "I1", "J1").focus()
    kernel = trace.layers[0].parameters["kernel"]
    each = trace.sample_weight / trace.sample_weight.sum()
    expect_equation(page, *each, *kernel.gradient_per_sample[:, 0, 0], kernel.average[0, 0])


def test_a_forward_pass_alone(open_page):
    page = open_page(cymlp.explain(worked_net(), [1.0, 2.0, 3.0]))
    assert page.locator("#steps li").all_inner_texts() == STEPS[:5]
    page.keyboard.press("End")
    unit(page, "K1").hover()
    expect(page.locator("#equations")).to_contain_text("sigmoid(K1)")
