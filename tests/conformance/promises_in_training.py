"""The promises that a cut between steps of training makes, as checks of one network.

Networks are as in `promises`.
"""

import keras
import numpy as np
from networks import train_step, weights_of
from promises import is_key, must_hold, random_plan
from silenced import Silenced

import prune_keras

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    # A large epsilon, lest Adam blow up rounding errors where a gradient is zero but for them.
    "adam": lambda: keras.optimizers.Adam(0.01, epsilon=1e-2),
}


def slots_of(optimizer):
    """Return the optimizer's averages, each a list aligned with the trainable variables."""
    names = ("momentums", "_momentums", "_velocities")
    return {name: held for name in names if (held := getattr(optimizer, name, None))}


def check_next_step(model, original, plan, floatx):
    """Cut the model, silence its original, train both on a batch, and compare their weights."""
    prune_keras.shrink_in_place(model, plan)
    silenced = Silenced(original, plan)
    silenced.zero_reads()
    for each in (model, original):
        train_step(each, seed=4)
    for old, new in zip(original.variables, model.variables, strict=True):
        assert_near(silenced.sliced(old), np.asarray(new), floatx)
    return silenced


def check_step_after_cut(network, cut, optimizer):
    """A cut between two training steps gives what the second one gives to the silenced original."""
    with network.built() as model:
        original = network.build()
        for each in (model, original):
            each.compile(OPTIMIZERS[optimizer](), loss="mse", run_eagerly=True)
            train_step(each, seed=3)
        must_hold(all(np.isfinite(w).all() for w in weights_of(model)))
        plan = random_plan(model, cut, exclude=is_key)
        silenced = check_next_step(model, original, plan, network.floatx)
        kept, thin = slots_of(original.optimizer), slots_of(model.optimizer)
        assert kept and kept.keys() == thin.keys()
        for name, held in kept.items():
            for variable, old, new in zip(
                original.trainable_variables, held, thin[name], strict=True
            ):
                expected = silenced.sliced(variable, old.value)
                assert_near(expected, np.asarray(new), network.floatx, np.abs(old).max())


def check_step_after_cut_is_that_of_a_copy(network, cut, optimizer):
    """A cut between two steps gives what a thin copy gives that is handed the state's slices.

    This holds where a step of the silenced original differs: with random numbers, which the copy
    draws alike, and with statistics over channels.
    """
    with network.built() as model:
        model.compile(OPTIMIZERS[optimizer](), loss="mse", run_eagerly=True)
        train_step(model, seed=3)
        plan = random_plan(model, cut)
        copy = prune_keras.shrink(model, plan)
        hand_over(Silenced(model, plan), copy)
        prune_keras.shrink_in_place(model, plan)
        for each in (copy, model):
            keras.utils.set_random_seed(0)  # what layers without a seed of their own draw from
            train_step(each, seed=4)
        for expected, found in zip(state_of(copy), state_of(model), strict=True):
            assert_near(expected, found, network.floatx)


def hand_over(silenced, copy):
    """Give the optimizer of a thin copy the slices of what the original's holds."""
    old, new = silenced.model.optimizer, copy.optimizer
    new.build(copy.trainable_variables)
    new.iterations.assign(old.iterations)
    kept, thin = slots_of(old), slots_of(new)
    assert kept and kept.keys() == thin.keys()
    for name, held in kept.items():
        variables = silenced.model.trainable_variables
        for variable, value, slot in zip(variables, held, thin[name], strict=True):
            slot.assign(silenced.sliced(variable, value.value))


def state_of(model) -> list[np.ndarray]:
    """Return the weights, and the optimizer's averages."""
    slots = [slot for held in slots_of(model.optimizer).values() for slot in held]
    return weights_of(model) + [np.asarray(slot) for slot in slots]


def assert_near(expected, found, floatx, largest=1.0):
    assert expected.shape == found.shape
    bound = {"float32": 2e-4, "float64": 1e-9}[floatx] * max(largest, np.abs(expected).max(), 1e-3)
    assert np.isfinite(expected).all() and np.abs(expected - found).max() <= bound


def check_a_step_trains_every_weight(network, cut):
    with network.built() as model:
        thin = prune_keras.shrink(model, random_plan(model, cut))
        thin.compile(keras.optimizers.SGD(0.01), loss="mse", run_eagerly=True)
        before = weights_of(thin)
        train_step(thin)
        after = weights_of(thin)
        trained = {id(variable) for variable in thin.trainable_variables}
        for variable, old, new in zip(thin.variables, before, after, strict=True):
            assert np.isfinite(new.astype("float64")).all(), variable.path
            moved = id(variable) in trained and not variable.path.endswith(network.still)
            assert not moved or (old != new).any(), variable.path
