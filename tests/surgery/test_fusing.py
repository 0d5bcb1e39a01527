"""Fusing: what stays takes over what went."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import runs_channels_first

import prune_keras
from prune_keras.callbacks import ProgressivePruning
from prune_keras.repair import fusing
from prune_keras.surgery import kept_neurons

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 7, 7, 2)).astype("float32")


def network(data_format="channels_last"):
    """Readers behind padding, strides, Flatten, pooling; one of them without a bias."""
    first = data_format == "channels_first"
    inputs = keras.Input((2, 7, 7) if first else (7, 7, 2))
    arguments = {"data_format": data_format}
    x = layers.Conv2D(6, 3, activation="tanh", name="a", **arguments)(inputs)
    y = layers.Conv2D(5, 3, use_bias=False, activation="tanh", name="b", **arguments)(x)
    z = layers.Conv2D(4, 2, strides=2, activation="tanh", name="c", **arguments)(x)
    parts = [layers.Flatten(**arguments)(y)]
    parts.append(layers.GlobalAveragePooling2D(**arguments)(z))
    x = layers.Dense(8, activation="tanh", name="d")(layers.Concatenate()(parts))
    model = keras.Model(inputs, layers.Dense(3, name="e")(x))
    keras.utils.set_random_seed(1)
    for variable in model.weights:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape) / 2)
    return model


def outputs_of(model, x=X):
    return ops.convert_to_numpy(model(x))


def without(model, path, gone):
    """Return the plan that removes some units of one layer."""
    widths = prune_keras.trace(model).widths
    plan = prune_keras.Plan.everything(widths)
    return prune_keras.Plan({**plan.kept, path: np.delete(np.arange(widths[path]), gone)}, widths)


def thin_and_fused(model, plan, fuse, x=X):
    graph, thin = prune_keras.trace(model), prune_keras.shrink(model, plan)
    fusing.assign(thin, fusing.fused(model, graph, kept_neurons(graph, plan), x, fuse))
    return thin


@pytest.mark.parametrize("path", "abcd")
def test_what_others_say_too_is_not_missed(path):
    """A unit that says what another one says is made up for, exactly but for the ridge."""
    model = network()
    layer = model.get_layer(path)
    layer.set_weights([np.concatenate([w[..., :-1], w[..., :1]], -1) for w in layer.get_weights()])
    plan = without(model, path, [-1])
    before = outputs_of(model)
    missed = np.abs(outputs_of(prune_keras.shrink(model, plan)) - before).max()
    left = np.abs(outputs_of(thin_and_fused(model, plan, "weights")) - before).max()
    assert left < 1e-3 * missed


@pytest.mark.parametrize("path", "acd")
def test_a_constant_moves_into_the_bias(path):
    """`b` is read by a layer with a bias, but not with the padding of zeros that others have."""
    model = network()
    layer = model.get_layer(path)
    kernel, *bias = layer.get_weights()
    kernel[..., 1] = 0
    layer.set_weights([kernel, *bias])
    plan = without(model, path, [1])
    fused = thin_and_fused(model, plan, "bias")
    before = outputs_of(model)
    if path == "a":  # `b` has no bias to take it
        c = [keras.Model(m.input, m.get_layer("c").output) for m in (model, fused)]
        np.testing.assert_allclose(outputs_of(c[1]), outputs_of(c[0]), atol=1e-4)
    else:
        np.testing.assert_allclose(outputs_of(fused), before, atol=1e-4)


@pytest.mark.parametrize("path", "abcd")
@pytest.mark.parametrize("fuse", ["weights", "bias"])
def test_the_next_layers_change_less(path, fuse):
    model = network()
    plan = without(model, path, [0, 2])
    readers = {"a": "bc", "b": "d", "c": "d", "d": "e"}[path]
    for name in readers:
        shown = [responses(m, name) for m in (model, prune_keras.shrink(model, plan))]
        after = responses(thin_and_fused(model, plan, fuse), name)
        if fuse == "weights" or model.get_layer(name).bias is not None:
            assert np.square(after - shown[0]).mean() < np.square(shown[1] - shown[0]).mean()


def test_a_reader_that_is_called_by_name_is_fused():
    inputs = keras.Input((7, 7, 2))
    x = layers.Flatten()(layers.Conv2D(6, 3, activation="tanh", name="a")(inputs=inputs))
    model = keras.Model(inputs, layers.Dense(3, name="b")(inputs=x))
    plan, before = without(model, "a", [0, 2]), outputs_of(model)
    lost = np.square(outputs_of(prune_keras.shrink(model, plan)) - before).mean()
    assert np.square(outputs_of(thin_and_fused(model, plan, "weights")) - before).mean() < lost


def responses(model, name):
    """Return what a layer gives before its activation."""
    layer = model.get_layer(name)
    held, layer.activation = layer.activation, keras.activations.linear
    found = outputs_of(keras.Model(model.input, layer.output))
    layer.activation = held
    return found


def test_least_squares_against_numpy():
    """The weights of `e` are those that a regression of its old responses finds."""
    model = network()
    plan = without(model, "d", [1, 4, 5])
    read = outputs_of(keras.Model(model.input, model.get_layer("d").output))
    kept = np.column_stack([read[:, plan.kept["d"]], np.ones(len(read))])
    expected = np.linalg.lstsq(kept, outputs_of(model), rcond=None)[0]
    kernel, bias = thin_and_fused(model, plan, "weights").get_layer("e").get_weights()
    np.testing.assert_allclose(kernel, expected[:-1], rtol=0.05, atol=0.02)
    np.testing.assert_allclose(bias, expected[-1], rtol=0.05, atol=0.02)


@pytest.mark.skipif(not runs_channels_first(2), reason="no kernels with channels in front here")
def test_channels_first():
    model = network("channels_first")
    moved = np.moveaxis(X, -1, 1)
    plan = without(model, "a", [0])
    thin = thin_and_fused(model, plan, "weights", moved)
    assert np.isfinite(outputs_of(thin, moved)).all()


def test_prune_and_the_callback_fuse():
    model = network()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    y = outputs_of(model)
    target = {"neurons": 0.7}
    plain, _ = prune_keras.prune(model, target)
    fused, _ = prune_keras.prune(model, target, data=X, fuse="weights")
    lost = [float(np.square(outputs_of(m) - y).mean()) for m in (plain, fused)]
    assert lost[1] < 0.9 * lost[0]
    pruning = ProgressivePruning(
        target, fraction=0.9, data=X, fuse="weights", monitor="loss", verbose=0
    )
    model.fit(X, y, epochs=2, verbose=0, callbacks=[pruning])
    assert float(np.square(outputs_of(model) - y).mean()) == pytest.approx(lost[1], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fuse": "kernel", "data": X}, r"'weights', 'bias', 'sequential'\). Received.*kernel"),
        ({"fuse": "bias"}, "Fusing looks at samples. Received: fuse='bias', data=None. Pass"),
    ],
)
def test_bad_requests(arguments, message):
    with pytest.raises(ValueError, match=message):
        prune_keras.prune(network(), fraction=0.3, **arguments)
    if "data" not in arguments:
        with pytest.raises(ValueError, match=message):
            network().fit(
                X, np.zeros((40, 3)), callbacks=[ProgressivePruning({"params": 0.5}, **arguments)]
            )
