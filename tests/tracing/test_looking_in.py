"""Looking into a `call` leaves the layer as it was, whatever happens meanwhile."""

import signal

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import randomize

import prune_keras


class Scaled(layers.Layer):
    """Tells `watch` of each call on symbolic tensors, `told` of each specification it is given.

    It reads a width as a number.
    """

    watch = told = staticmethod(lambda: None)
    spec = None

    @property
    def input_spec(self):
        return self.spec

    @input_spec.setter
    def input_spec(self, spec):
        type(self).told()
        self.spec = spec

    def build(self, shape):
        self.input_spec = layers.InputSpec(ndim=len(shape))
        self.width = shape[-1]
        self.inner = layers.Dense(self.width, name="inner")
        self.inner.build(shape)
        self.gamma = self.add_weight(shape=shape[-1:], name="gamma")

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            type(self).watch()
        return ops.reshape(self.inner(x), (-1, 4, self.width)) * self.gamma


def scaled():
    inputs = keras.Input((4, 3))
    x = Scaled(name="scaled")(layers.Dense(5, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    randomize(model)
    return model


def state(model):
    """Return what looking in changes for a moment: attributes and weights, the objects included."""
    layer = model.get_layer("scaled")
    held = {id(v): (v.shape, np.array(v)) for v in model.variables}
    return layer.gamma, layer.inner.kernel, layer.width, layer.inner.units, held


def check_as_it_was(model, before):
    for old, now in zip(before[:-1], state(model)[:-1], strict=True):
        assert old is now or old == now
    for (shape, value), (now, found) in zip(
        before[-1].values(), state(model)[-1].values(), strict=True
    ):
        assert shape == now
        np.testing.assert_array_equal(value, found)


def at(number, does):
    """Return a function that does something at its call of this number."""
    calls = iter(range(10**6))
    return staticmethod(lambda: does() if next(calls) == number else None)


class Stopped(BaseException):
    pass


def stop():
    raise Stopped


# The first calls record it as it is, later ones while it is thin.
@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize(
    ("does", "raised"),
    [(lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt), (stop, Stopped)],
    ids=["ctrl-c", "raised"],
)
def test_what_ends_it_leaves_the_layer_as_it_was(number, does, raised, monkeypatch):
    model = scaled()
    before, called = state(model), keras.layers.Layer.symbolic_call
    monkeypatch.setattr(Scaled, "watch", at(number, does))
    with pytest.raises(raised):
        prune_keras.trace(model)
    assert keras.layers.Layer.symbolic_call is called
    check_as_it_was(model, before)
    monkeypatch.undo()
    assert prune_keras.trace(model).widths == {"a": 5, "scaled/inner": 5, "scaled/gamma": 5}


@pytest.mark.parametrize("number", range(6))
def test_ctrl_c_while_it_becomes_what_it_was_waits(number, monkeypatch):
    model = scaled()
    before = state(model)
    monkeypatch.setattr(Scaled, "told", at(number, lambda: signal.raise_signal(signal.SIGINT)))
    with pytest.raises(KeyboardInterrupt):
        prune_keras.trace(model)
    check_as_it_was(model, before)


def test_a_trace_leaves_it_as_it_was():
    model = scaled()
    before = state(model)
    prune_keras.trace(model)
    check_as_it_was(model, before)
