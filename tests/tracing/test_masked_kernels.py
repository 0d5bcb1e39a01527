"""Kernels that a `call` convolves with itself, or masks before it does."""

import composites_checks as checks
import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import randomize
from promises import random_plan

import prune_keras


def mask_of(shape):
    """Return zeros and ones of a shape, others for each of its entries."""
    return (np.random.default_rng(1).uniform(size=shape) > 0.4).astype("float32")


class Own(layers.Layer):
    """Convolves with a kernel of its own, times what `mask` says."""

    def __init__(self, filters=4, mask=None, depthwise=False, **options):
        super().__init__(**options)
        self.filters, self.kind, self.depthwise = filters, mask, depthwise

    def build(self, shape):
        last = (shape[-1], 2) if self.depthwise else (shape[-1], self.filters)
        self.kernel = self.add_weight((3, 3, *last), name="kernel")
        if self.kind == "pixels":
            self.mask = mask_of((3, 3, 1, 1))
        if self.kind == "entries":
            self.mask = mask_of(self.kernel.shape)
        if self.kind == "filters first":
            self.mask = mask_of(last)
        if self.kind == "weight":
            self.mask = self.add_weight(self.kernel.shape, name="mask", trainable=False)

    def call(self, x):
        kernel = self.kernel if self.kind is None else self.kernel * self.mask
        run = ops.depthwise_conv if self.depthwise else ops.conv
        return run(x, kernel, padding="same")


class Writes(layers.Layer):
    """Writes the masked kernel to the layer that it calls."""

    def __init__(self, filters=4, factor=1.0, reads=False, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv")
        self.factor, self.reads = factor, reads

    def build(self, shape):
        self.conv.build(shape)
        self.mask = self.factor * mask_of(self.conv.kernel.shape)

    def call(self, x):
        self.conv.kernel.assign(self.conv.kernel * self.mask)
        y = self.conv(x)
        return y + ops.mean(self.conv.kernel) if self.reads else y


KINDS = {
    "whole": lambda **o: Own(**o),
    "of pixels": lambda **o: Own(mask="pixels", **o),
    "of entries": lambda **o: Own(mask="entries", **o),
    "of channels and filters": lambda **o: Own(mask="filters first", **o),
    "a weight": lambda **o: Own(mask="weight", **o),
    "of each channel": lambda **o: Own(depthwise=True, **o),
    "written": lambda **o: Writes(**o),
}


def of(make, stream=False):
    """Return a model around a layer, which may stand in a residual stream."""
    keras.utils.clear_session(free_memory=False)
    inputs = keras.Input((5, 5, 3))
    x = layers.Conv2D(4, 1, name="stem")(inputs)
    y = make(name="middle")(x)
    x = layers.Add()([x, y]) if stream else y
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, activation="tanh", name="next")(x))
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    randomize(model)
    return model


def numbers():
    return np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype("float32")


@pytest.mark.repeats(5)
@pytest.mark.parametrize("stream", [False, True], ids=["chain", "stream"])
@pytest.mark.parametrize("kind", [each for each in KINDS if each != "of each channel"])
def test_channels_go_with_their_entries_of_the_mask(kind, stream):
    """A thin model gives what the model gives with zeros for all that went."""
    model, thin, again = (of(KINDS[kind], stream) for _ in range(3))
    assert {each.path for each in prune_keras.trace(model).fixed} == {"head"}
    plan = random_plan(model, (0, 0.4))
    prune_keras.shrink_in_place(thin, plan)
    assert thin.get_layer("middle").count_params() < model.get_layer("middle").count_params()
    with checks.silenced(model, checks.kept_entries(again, plan)):
        checks.assert_close(checks.outputs_of(thin, numbers()), checks.outputs_of(model, numbers()))


@pytest.mark.parametrize("kind", ["whole", "of each channel"])
def test_a_kernel_becomes_that_of_a_convolution(kind):
    model = of(KINDS[kind])
    plain = prune_keras.unfold(model, flat=True)
    assert all(type(each).__module__.startswith("keras.") for each in plain.layers)
    found, wanted = (ops.convert_to_numpy(each(numbers())) for each in (plain, model))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    thin = prune_keras.shrink(plain, random_plan(plain, (0, 0.4)))
    assert thin.count_params() < plain.count_params()


@pytest.mark.parametrize("kind", ["of pixels", "written"])
def test_masked_ones_keep_their_class_unless_no_config_tells_the_cut(kind):
    model = of(KINDS[kind])
    (kept,) = (each for each in prune_keras.unfold(model).layers if each.name == "middle")
    assert type(kept) is type(model.get_layer("middle"))
    thin, report = prune_keras.prune(model, fraction=0.4, criterion="l2")
    assert type(thin.get_layer("middle")).__module__.startswith("keras.")
    assert any("what middle does in training only is not in" in note for note in report.notes)


def test_the_layer_s_own_mask_is_as_large_as_its_kernel():
    model = of(KINDS["written"])
    prune_keras.shrink_in_place(model, random_plan(model, (0, 0.4)))
    middle = model.get_layer("middle")
    assert middle.mask.shape == tuple(middle.conv.kernel.shape) != (3, 3, 4, 4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"factor": 0.5}, "conv/kernel, by other than a mask of zeros and ones"),
        ({"reads": True}, "conv/kernel, and reads it itself"),
    ],
)
def test_what_else_is_written_keeps_a_layer_closed(options, reason):
    model = of(lambda **o: Writes(**options, **o))
    told = {each.path: each.reason for each in prune_keras.trace(model).fixed}
    assert reason in told["stem"]
