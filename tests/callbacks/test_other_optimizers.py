"""A second optimizer in a model's own step: refused, unless it trains nothing that is cut."""

import functools

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, neurons

from prune_keras import _keras, trace
from prune_keras.callbacks.other_optimizers import check_other_optimizers

AROUND = keras.optimizers.Adam(0.1)


class Holder:
    """An object of a user's own class."""

    def __init__(self, optimizer):
        self.inner = {"of the head": [optimizer]}


class Slotted:
    __slots__ = ("optimizer",)

    def __init__(self, optimizer):
        self.optimizer = optimizer


class Noted(keras.layers.Layer):
    """Passes on what it gets, and holds something."""

    def __init__(self, held=None):
        super().__init__()
        self.held = held

    def call(self, x):
        return x


class Own(keras.Model):
    """Trains as any model; the step is its own."""

    def train_step(self, *arguments):
        return super().train_step(*arguments)


class AroundGlobal(Own):
    def train_step(self, *arguments):
        def inner():
            return AROUND

        inner()
        return super().train_step(*arguments)


def around_closure(optimizer):
    class Closed(Own):
        def train_step(self, *arguments):
            assert optimizer is not None
            return super().train_step(*arguments)

    return Closed


def model_of(kind=Own, held=None):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(16, activation="relu", name="hidden0")(inputs)
    x = keras.layers.Dense(8, activation="relu", name="hidden1")(x)
    model = kind(inputs, Noted(held)(keras.layers.Dense(3, activation="softmax")(x)))
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


def with_attribute(name, wrap, optimizer):
    model = model_of()
    setattr(model, name, wrap(optimizer))
    return model


HOLDERS = {
    "attribute": functools.partial(with_attribute, "second", lambda optimizer: optimizer),
    "private attribute": functools.partial(with_attribute, "_second", lambda optimizer: optimizer),
    "list": functools.partial(with_attribute, "all", lambda optimizer: [None, optimizer]),
    "tuple": functools.partial(with_attribute, "all", lambda optimizer: (optimizer,)),
    "dict": functools.partial(with_attribute, "all", lambda optimizer: {"d": optimizer}),
    "dict of lists": functools.partial(with_attribute, "all", lambda optimizer: {"d": [optimizer]}),
    "object": functools.partial(with_attribute, "trainer", Holder),
    "object with slots": functools.partial(with_attribute, "trainer", Slotted),
    "layer": lambda optimizer: model_of(held=optimizer),
    "list in a layer": lambda optimizer: model_of(held=[optimizer]),
    "closure": lambda optimizer: model_of(around_closure(optimizer)),
    "loss scale": functools.partial(with_attribute, "second", keras.optimizers.LossScaleOptimizer),
}


def fit(model, **arguments):
    return model.fit(SAMPLES, LABELS, batch_size=12, verbose=0, **arguments)


def no_batch():
    return keras.callbacks.LambdaCallback(on_train_batch_begin=lambda *_: pytest.fail("a batch"))


@pytest.mark.repeats(10)
@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("name", HOLDERS)
def test_a_second_optimizer_is_refused_before_the_first_batch(name, built):
    optimizer = keras.optimizers.Adam()
    model = HOLDERS[name](optimizer)
    if built:
        optimizer.build(model.trainable_variables[2:])
    message = "trains .*hidden1/kernel" if built and name != "loss scale" else "of unknown weights"
    with pytest.raises(ValueError, match=f"the optimizer that it is compiled with.*{message}"):
        fit(model, callbacks=[callback(), no_batch()])
    assert model.get_layer("hidden0").units == 16
    fit(model)


def test_one_that_a_step_reads_from_its_module_is_refused():
    with pytest.raises(ValueError, match="train_step: AROUND, a second one of type Adam"):
        fit(model_of(AroundGlobal), callbacks=[callback(), no_batch()])


@pytest.mark.parametrize("name", [name for name in HOLDERS if name != "loss scale"])
def test_one_that_trains_nothing_of_the_graph_is_let_alone(name):
    critic = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    optimizer = keras.optimizers.Adam()
    optimizer.build(critic.trainable_variables)
    model = HOLDERS[name](optimizer)
    fit(model, callbacks=[callback()], epochs=2)
    assert neurons(model) < 24


@pytest.mark.parametrize("trained", [False, True])
def test_a_critic_that_is_compiled_by_itself_is_let_alone(trained):
    model = model_of()
    model.critic = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    )
    model.critic.compile("adam", "mse")
    if trained:
        model.critic.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    check_other_optimizers(model, trace(model))


@pytest.mark.parametrize("name", ["LossScaleOptimizer", "MultiOptimizer"])
def test_what_the_compiled_one_wraps_is_no_second_one(name):
    chosen = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1))
    chosen[".*hidden.*"] = keras.optimizers.Adam(0.01)
    model = model_of()
    inner = chosen if name == "MultiOptimizer" else keras.optimizers.Adam()
    model.compile(getattr(keras.optimizers, name)(inner), "sparse_categorical_crossentropy")
    model.mine = _keras.plain_optimizers(model.optimizer)
    assert len(model.mine) > 1 and _keras.other_optimizers(model) == []


def test_one_that_the_model_was_compiled_with_before_is_no_second_one():
    model = model_of()
    before = model.optimizer
    fit(model)
    model.compile("adam", "sparse_categorical_crossentropy")
    assert _keras.other_optimizers(model) == []
    fit(model, callbacks=[callback()])
    assert before is not model.optimizer and neurons(model) < 24
