"""What a trace says of each sample is the sample's own, whatever its weight in the batch."""

import numpy as np
import pytest
from conftest import make_net

import cymlp


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy"])
def test_derivatives_of_a_sample_know_nothing_of_its_weight(dtype, loss):
    net = make_net(2, [(3, "tanh"), (1, "sigmoid")], loss=loss, dtype=dtype)
    X, y = [[1.0, 2.0], [0.5, -1.0]], [[1.0], [0.0]]
    plain, weighted = cymlp.explain(net, X, y), cymlp.explain(net, X, y, [1.0, 0.25])
    np.testing.assert_array_equal(weighted.losses, plain.losses)
    np.testing.assert_array_equal(weighted.input_gradient, plain.input_gradient)
    for one, other in zip(weighted.layers, plain.layers, strict=True):
        np.testing.assert_array_equal(one.delta, other.delta)
        np.testing.assert_array_equal(
            one.weight_gradient_per_sample, other.weight_gradient_per_sample
        )
        if other.activation_gradient is not None:
            np.testing.assert_array_equal(one.activation_gradient, other.activation_gradient)
