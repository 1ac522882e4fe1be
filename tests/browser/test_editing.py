"""Editing: all follows, as the core would have computed it; what is wrong changes nothing."""

import pytest
from playwright.sync_api import expect

import cymlp
from cymlp import Sequential
from cymlp.activations import Activation
from cymlp.layers import Dense

from .nets import EXAMPLE, RESULT, assert_agrees, batch_trace, worked_net, worked_trace, written

X, Y = EXAMPLE["sample"]["x"], EXAMPLE["sample"]["target"]
COMPUTED = "Recomputed here, in double precision, with your changes."
FROM_CORE = "Numbers from cymlp, in double precision."


@pytest.fixture
def page(open_page):
    return open_page(worked_trace())


def result_of(page):
    return page.evaluate(f"({RESULT})(view.result)")


def edit(page, label, text):
    page.get_by_label(label, exact=True).fill(text)
    expect(page.locator("#origin")).to_have_text(COMPUTED)


def test_input(page):
    edit(page, "Input I2", "-0.5")
    assert_agrees(result_of(page), cymlp.explain(worked_net(), [X[0], -0.5, X[2]], Y))


def test_target(page):
    edit(page, "Target of K2", "0.25")
    assert_agrees(result_of(page), cymlp.explain(worked_net(), X, [Y[0], 0.25]))


def test_weight_and_bias(page):
    edit(page, "Weight from I3 to J1", "2e-1")
    edit(page, "bias of K1", "−1.5")
    net = worked_net()
    weights = net.get_weights()
    weights[0][2, 0], weights[3][0] = 0.2, -1.5
    net.set_weights(weights)
    trace = cymlp.explain(net, X, Y)
    assert_agrees(result_of(page), trace)
    # All that is shown has followed.
    page.get_by_role("button", name="Update").click()
    updated = written(page, trace.layers[0].parameters["kernel"].updated[2, 0])
    region = page.get_by_role("region", name="layers[0].kernel: after the step")
    expect(region).to_contain_text(updated)
    weight = page.locator('[role=option][aria-label^="I3 to J1,"]')
    expect(weight).to_have_attribute("aria-label", f"I3 to J1, new weight {updated}")


def test_weight_beside_its_equations(page):
    page.locator('[role=option][aria-label^="relu(J3) to K2,"]').click()
    page.locator("#editing").get_by_label("Weight").fill("1.25")
    net = worked_net()
    weights = net.get_weights()
    weights[2][2, 1] = 1.25
    net.set_weights(weights)
    assert_agrees(result_of(page), cymlp.explain(net, X, Y))
    expect(page.get_by_label("Weight from relu(J3) to K2")).to_have_value("1.25")


def test_learning_rate(page):
    edit(page, "Learning rate", "0.5")
    net = worked_net()
    net.learning_rate = 0.5
    assert_agrees(result_of(page), cymlp.explain(net, X, Y))


def test_sample_weight_and_samples(open_page):
    page = open_page(batch_trace())
    edit(page, "Weight of sample 2", "0")
    page.get_by_label("Sample", exact=True).select_option(label="2")
    edit(page, "Input I1", "7")
    trace = batch_trace()
    inputs = trace.inputs.copy()
    inputs[1, 0] = 7
    edited = cymlp.explain(worked_net(), inputs, trace.targets, [1.0, 0.0, 0.5])
    assert_agrees(result_of(page), edited)


def test_reset(page):
    expect(page.locator("#origin")).to_have_text(FROM_CORE)
    expect(page.get_by_role("button", name="Reset")).to_be_disabled()
    edit(page, "Input I1", "100")
    edit(page, "Learning rate", "3")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#origin")).to_have_text(FROM_CORE)
    expect(page.get_by_label("Input I1", exact=True)).to_have_value("1")
    expect(page.get_by_label("Learning rate")).to_have_value("0.01")
    expect(page.get_by_role("button", name="Reset")).to_be_disabled()
    assert_agrees(result_of(page), worked_trace())


@pytest.mark.parametrize(
    ("label", "text", "message"),
    [
        ("Input I1", "abc", "Must be a finite number, got “abc”"),
        ("Input I1", "", "Must be a finite number, got “”"),
        ("Weight from I1 to J1", "1e999", "Must be a finite number, got “1e999”"),
        ("Learning rate", "-1", "Must be a finite number greater than 0, got “-1”"),
    ],
)
def test_what_is_no_number_changes_nothing(page, label, text, message):
    before = result_of(page)
    field = page.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Tab")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(message)
    expect(page.get_by_text(message)).to_be_visible()
    expect(page.locator("#origin")).to_have_text(FROM_CORE)
    assert result_of(page) == before
    field.fill("0.5")
    expect(field).to_have_attribute("aria-invalid", "false")
    expect(page.get_by_text(message)).to_have_count(0)


def test_targets_that_the_loss_does_not_take(open_page):
    net = Sequential([Dense(2, "softmax")], n_inputs=1, random_state=0)
    net.compile(optimizer="sgd", loss="cross_entropy")
    page = open_page(cymlp.explain(net, [1.0], 1))
    field = page.get_by_label("Target of J1", exact=True)
    field.fill("1.5")
    field.press("Tab")
    message = "Must be a finite number from 0 to 1, got “1.5”"
    expect(field).to_have_accessible_description(message)


def test_a_sign_alone_is_no_error_yet(page):
    field = page.get_by_label("Input I1", exact=True)
    field.fill("-")
    expect(field).to_have_attribute("aria-invalid", "false")
    field.press_sequentially("2.5")
    expect(page.locator("#origin")).to_have_text(COMPUTED)


def test_what_the_page_cannot_compute_is_shown_and_fixed(open_page):
    own = Activation(lambda z: z * abs(z), lambda z: 2 * abs(z), name="square")
    net = Sequential([Dense(2, own), Dense(1)], n_inputs=2, dtype="float64", random_state=0)
    net.compile(optimizer="sgd", loss="squared_error")
    trace = cymlp.explain(net, [1.0, 2.0], [0.5])
    page = open_page(trace)
    expect(page.locator("#editing")).to_contain_text("an activation of your own, square")
    for field in page.get_by_role("textbox").all():
        expect(field).to_be_disabled()
    assert_agrees(result_of(page), trace)
    page.get_by_role("button", name="layers[0]: square").click()
    expect(page.locator("#equations")).to_contain_text(
        written(page, trace.layers[0].activation[0, 0])
    )
    for _ in page.locator("#steps li").all():
        page.keyboard.press("ArrowRight")
