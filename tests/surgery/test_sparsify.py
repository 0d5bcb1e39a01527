"""sparsify: which weights become zero, and what is told of it."""

import keras
import numpy as np
import pytest
from fits import conv_model, dense_model

import prune_keras


def kernels(model):
    return {
        layer.name: np.array(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")
    }


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_the_lowest_of_each_scope_become_zero_and_nothing_else(share):
    for scope in ("unit", "layer", "global"):
        model = dense_model((16, 8))
        before = kernels(model)
        biases = [v for v in model.weights if v.name != "kernel"]
        others = [np.array(v) for v in biases]
        done = prune_keras.sparsify(model, share, scope)
        after = kernels(model)
        names = ["hidden0", "hidden1"]
        rows = {
            "unit": [row for name in names for row in before[name].T],
            "layer": [before[name].ravel() for name in names],
            "global": [np.concatenate([before[name].ravel() for name in names])],
        }[scope]
        zeros = sum(int(share * len(row)) for row in rows)
        assert sum(done.zeros.values()) == sum((after[name] == 0).sum() for name in names) == zeros
        kept = [np.abs(row)[np.argsort(np.abs(row))[int(share * len(row)) :]] for row in rows]
        left = np.concatenate([after[name][after[name] != 0] for name in names])
        np.testing.assert_array_equal(np.sort(np.concatenate(kept)), np.sort(np.abs(left)))
        assert all(((after[n] == 0) | (after[n] == before[n])).all() for n in names)
        np.testing.assert_array_equal(after["classes"], before["classes"])
        for value, old in zip(
            [v for v in model.weights if v.name != "kernel"], others, strict=True
        ):
            np.testing.assert_array_equal(value, old)


def test_what_is_told_is_the_truth():
    model = conv_model()
    before = model.count_params()
    done = prune_keras.sparsify(model, 0.9, layers=["conv", "hidden"])
    assert done.weights == {"conv": 144, "hidden": 48}
    assert done.zeros == {"conv": 8 * 16, "hidden": 6 * 7}
    assert done.share == (8 * 16 + 6 * 7) / 192
    assert done.bytes_after < done.bytes_before
    assert model.count_params() == done.params == before
    assert "no thinner" in str(done) and f"{done.bytes_after:,} bytes" in str(done)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_weights_of_every_type(dtype):
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(8, name="a", dtype=dtype),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential(layers)
    done = prune_keras.sparsify(model, 0.5)
    assert done.zeros == {"a": 16} and done.bytes_after < done.bytes_before
    assert keras.backend.standardize_dtype(model.get_layer("a").kernel.dtype) == dtype


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 1}, "`share` must be a share"),
        ({"scope": "model"}, "`scope` must be one of"),
        ({"layers": "hidden0"}, "`layers` must be a list"),
        ({"layers": ["x"]}, "must name a layer with units"),
    ],
)
def test_arguments_out_of_range_leave_the_model_alone(arguments, message):
    model = dense_model()
    before = kernels(model)
    with pytest.raises(ValueError, match=message):
        prune_keras.sparsify(model, **{"share": 0.5} | arguments)
    np.testing.assert_equal(kernels(model), before)
