"""Every optimizer that Keras ships, and their options: what they remember is cut and goes on.

Slots are found here by their names, and what must be left of them by the silenced original.
"""

import re

import h5py
import keras
import numpy as np
import pytest
from fits import callback, compiled, dense_model, fit, judged, neurons, state_of
from keras import ops
from matrix import Case
from networks import train_step
from own_optimizers import Momentum, NormsOfUnits, OneSlotForAll, SlotsByName
from silenced import Silenced
from slots import (
    Scores,
    States,
    assert_equal,
    assert_near,
    everything,
    left_of_slots,
    network,
    numbers,
    rounds,
    slots,
    slots_of,
    some_of,
)

import prune_keras
from prune_keras.surgery import capture, restore

TITLE = "Optimizers and their options"
SAME = "all it remembers is cut; its next step is that of the uncut model"
OWN = "all it remembers is cut; its steps look at whole weights, so the next one is its own"
known = keras.optimizers


def selected():
    """Return a `MultiOptimizer` that trains hidden layers with one and the rest with another."""
    chosen = known.OptimizerMap(known.SGD(0.1, momentum=0.9))
    chosen[".*hidden.*"] = known.Adam(0.01)
    return known.MultiOptimizer(chosen)


# Case -> how to make it, where this Keras has it.
ELEMENTWISE = {
    Case("`SGD`", SAME): lambda: known.SGD(0.1, momentum=0.9, nesterov=True),
    Case("`RMSprop`", SAME): lambda: known.RMSprop(0.01, momentum=0.9, centered=True),
    Case("`Adam`", SAME): lambda: known.Adam(0.01, amsgrad=True),
    Case("`AdamW`", SAME): lambda: known.AdamW(0.01, weight_decay=0.1),
    Case("`Adamax`", SAME): lambda: known.Adamax(0.01),
    Case("`Nadam`", SAME): lambda: known.Nadam(0.01),
    Case("`Adagrad`", SAME): lambda: known.Adagrad(0.1),
    Case("`Adadelta`", SAME): lambda: known.Adadelta(1.0),
    Case("`Ftrl`", SAME): lambda: known.Ftrl(0.1, l2_regularization_strength=0.01),
    Case("`Lion`", SAME): lambda: known.Lion(0.01),
    Case("`ScheduleFreeAdamW`", SAME): lambda: known.ScheduleFreeAdamW(0.01),
    Case("`LossScaleOptimizer`", SAME): lambda: known.LossScaleOptimizer(known.Adam(0.01)),
    Case("`MultiOptimizer`", SAME): selected,
    Case("`gradient_accumulation_steps`", "half a sum of gradients is cut, and goes on"): (
        lambda: known.Adam(0.01, gradient_accumulation_steps=3)
    ),
    Case("`weight_decay`", SAME): lambda: known.SGD(0.1, momentum=0.9, weight_decay=0.5),
    Case("`clipvalue`", SAME): lambda: known.SGD(0.1, momentum=0.9, clipvalue=0.05),
    Case("`use_ema`", "the averages are cut with the weights"): (
        lambda: known.Adam(0.01, use_ema=True, ema_momentum=0.5)
    ),
}
WHOLE = {
    Case("`Adafactor`", OWN): lambda: known.Adafactor(0.1),
    Case("`Lamb`", OWN): lambda: known.Lamb(0.01),
    Case("`Muon`", OWN): lambda: known.Muon(0.01),
    Case("`clipnorm`", OWN): lambda: known.SGD(0.1, momentum=0.9, clipnorm=0.1),
    Case("`global_clipnorm`", OWN): lambda: known.SGD(0.1, momentum=0.9, global_clipnorm=0.1),
}
MAKERS = ELEMENTWISE | WHOLE
CASES = [*MAKERS]
# Tracing anew after each cut takes most of the time: left to those that decide something in a step.
COMPILED = ("`LossScaleOptimizer`", "`MultiOptimizer`", "`gradient_accumulation_steps`")


def works(name, note):
    """Add a case; the test that follows runs it."""
    CASES.append(Case(name, note))
    return lambda test: test


def made(case):
    name = re.search(r"\w+", case.name)[0]
    if name[0].isupper() and not hasattr(known, name):
        pytest.skip(f"this Keras has no {name}")
    return MAKERS[case]()


def twins(case):
    """Return two equal models that were trained alike, for two steps."""
    pair = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        pair.append(network(made(case)))
        for seed in (3, 4):
            train_step(pair[-1], seed)
    return pair


@pytest.mark.repeats(8)
@pytest.mark.parametrize("case", MAKERS, ids=str)
def test_what_it_remembers_is_cut_with_the_weights(case):
    model, original = twins(case)
    plan = some_of(original)
    silenced = Silenced(original, plan)
    prune_keras.shrink_in_place(model, plan)
    expected = left_of_slots(silenced)
    assert any(np.abs(slot).sum() for slot in expected)
    for found, left in zip(slots(model), expected, strict=True):
        np.testing.assert_array_equal(found, left)
    silenced.zero_reads()
    for each in (model, original):
        train_step(each, seed=5)
    if case in ELEMENTWISE:
        assert_near(numbers(model.variables), [silenced.sliced(v) for v in original.variables])
        assert_near(slots(model), left_of_slots(silenced))
    assert all(np.isfinite(value).all() for value in everything(model))


@pytest.mark.repeats(8)
@pytest.mark.parametrize("case", [c for c in MAKERS if c.name != "`use_ema`"], ids=str)
def test_it_trains_on_over_cuts_and_comes_back_with_a_round(case):
    model, seen = dense_model(optimizer=made(case)), Scores(0.1, 0.9, 0.1)
    model.run_eagerly = case.name not in COMPILED
    assert rounds(model, seen)["neurons"] == [18, 21, 19]
    assert neurons(model) == 21
    assert_equal(everything(model), seen.states[1])


def thinner(optimizer):
    """Return a small model that was trained, cut, and trained again."""
    model = network(optimizer)
    train_step(model, seed=3)
    prune_keras.shrink_in_place(model, some_of(model))
    train_step(model, seed=4)
    return model


@pytest.mark.repeats(8)
@pytest.mark.parametrize("case", MAKERS, ids=str)
@works("Saved as `.keras` after a cut", "loads with all that it remembers, and trains on as before")
def test_a_thinner_model_is_loaded_with_what_it_remembers(case, tmp_path):
    model = thinner(made(case))
    model.save(tmp_path / "thin.keras")
    loaded = keras.models.load_model(tmp_path / "thin.keras")
    loaded.run_eagerly = True
    assert_equal(everything(loaded), everything(model))
    for each in (model, loaded):
        train_step(each, seed=5)
    assert_near(everything(loaded), everything(model))


@works(
    "Saved as `.h5` after a cut",
    "the file holds all that it remembers, of which Keras reads the weights alone; compile to "
    "train on",
)
def test_a_thinner_model_is_stored_in_the_older_format_with_what_it_remembers(tmp_path):
    model, file = thinner(known.Adam(0.01)), tmp_path / "thin.h5"
    model.save(file)
    stored = []
    with h5py.File(file) as opened:
        held = opened["optimizer_weights"]
        held.visititems(lambda _, x: stored.append(x[()]) if isinstance(x, h5py.Dataset) else None)
    expected = numbers(model.optimizer.variables)
    assert sorted(x.shape for x in stored) == sorted(x.shape for x in expected)
    np.testing.assert_allclose(
        sorted(float(np.sum(x)) for x in stored), sorted(float(np.sum(x)) for x in expected)
    )
    loaded = keras.models.load_model(file)
    assert_equal(numbers(loaded.variables), numbers(model.variables))
    loaded.compile("adam", "mse", run_eagerly=True)
    train_step(loaded, seed=5)
    assert all(np.isfinite(value).all() for value in everything(loaded))


@pytest.mark.parametrize("last", [0.9, 0.1])
@works("`use_ema`, as `fit` ends", "the model gets the averages, those of its last good round")
def test_fit_ends_with_the_averages_of_the_last_good_round(last):
    optimizer = known.Adam(0.01, use_ema=True, ema_momentum=0.5)
    model, seen = dense_model(optimizer=optimizer), States(0.9, last)
    rounds(model, seen)
    averages = numbers(optimizer._model_variables_moving_average)
    assert_equal(numbers(model.trainable_variables), averages)
    good = seen.states[1 if last > 0.5 else 0]
    count = len(model.variables)
    assert_equal(numbers(optimizer.variables), good[count:])
    differences = [np.abs(a - b).max() for a, b in zip(good[:count], averages, strict=True)]
    assert max(differences) > 0


def decayed(model):
    """Return the weights that change in a step whose gradients are zero."""
    before = numbers(model.trainable_variables)
    held = model.trainable_variables
    # A LossScaleOptimizer is not to be called outside of a training step on JAX.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    optimizer.apply([ops.zeros(weight.shape) for weight in held], held)
    pairs = zip(held, before, numbers(held), strict=True)
    return [weight.path for weight, old, new in pairs if not np.array_equal(old, new)]


EXCLUDED = {
    "names": lambda model: {"var_names": ["bias", "gamma"]},
    "names of layers": lambda model: {"var_names": ["hidden"]},
    "variables": lambda model: {"var_list": [model.get_layer("hidden").kernel]},
}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("way", EXCLUDED)
@works(
    "`exclude_from_weight_decay`",
    "the same weights are left out after a cut, by `var_names` and by `var_list`",
)
def test_what_is_excluded_from_weight_decay_stays_so(way, trained, wrapped):
    optimizer = known.SGD(0.1, weight_decay=0.5)
    outer = known.LossScaleOptimizer(optimizer) if wrapped else optimizer
    pair = [network("sgd"), network(outer)]
    model = pair[1]
    pair[0].optimizer = known.SGD(0.1, weight_decay=0.5)
    pair[0].optimizer.exclude_from_weight_decay(**EXCLUDED[way](pair[0]))
    optimizer.exclude_from_weight_decay(**EXCLUDED[way](model))
    for each in pair:
        each.optimizer.build(each.trainable_variables)
        for weight in each.trainable_variables:
            weight.assign(ops.ones(weight.shape))
    expected = decayed(pair[0])
    if keras.backend.backend() == "tensorflow" or way != "names of layers":
        assert 0 < len(expected) < len(model.trainable_variables)
    if trained:
        assert decayed(model) == expected
    thick = capture(model, prune_keras.trace(model))
    for _ in range(2):
        prune_keras.shrink_in_place(model, some_of(model))
        assert decayed(model) == expected
    restore(model, thick)
    assert decayed(model) == expected


@works(
    "A learning-rate schedule",
    "counts steps on over a cut, and back where a round is rolled back",
)
def test_schedules_count_the_steps_of_the_model_that_is_left():
    schedule = known.schedules.ExponentialDecay(0.1, 1, 0.5)
    model, seen = dense_model(optimizer=known.SGD(schedule)), States(0.9, 0.1, 0.9, 0.1)
    model.run_eagerly = True
    rounds(model, seen)
    steps = [0, 1, 2, 3, 2, 3, 4, 5]
    np.testing.assert_allclose(seen.rates, [0.1 * 0.5**step for step in steps], rtol=1e-5)
    assert int(model.optimizer.iterations) == 4


@works("Another learning rate in each `fit`", "trains at it, and rounds go on from the last `fit`")
def test_each_fit_trains_at_its_own_rate():
    model, pruning = dense_model(), judged(monitor="score", mode="max")
    model.run_eagerly = True
    for number, rate in enumerate((0.1, 0.01, 0.001)):
        model.optimizer.learning_rate = rate
        seen = States(0.9, 0.1)
        rounds(model, seen, pruning)
        np.testing.assert_allclose([*seen.rates, model.optimizer.learning_rate], [rate] * 5)
        assert int(model.optimizer.iterations) == 2 * (number + 1)
    assert [done.number for done in pruning.rounds] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("cut", [False, True])
@works("`compile` again after `fit`", "rounds go on with the new optimizer")
def test_rounds_go_on_with_another_optimizer(cut):
    model, pruning = dense_model(), judged(monitor="score", mode="max")
    rounds(model, Scores(0.9), pruning)
    compiled(model, known.LossScaleOptimizer(known.Lion(0.01))).run_eagerly = True
    if cut:  # before the new optimizer remembers anything
        prune_keras.shrink_in_place(model, some_of(model))
        pruning.rounds.clear()
    left, seen = neurons(model), Scores(0.9, 0.1)
    history = rounds(model, seen, pruning)
    assert left > history["neurons"][0] == neurons(model)
    assert_equal(everything(model), seen.states[0])
    weights = {weight.path: tuple(weight.shape) for weight, _, _ in slots_of(model)}
    assert weights == {weight.path: tuple(weight.shape) for weight in model.trainable_variables}


@works("An `Optimizer` of your own", "with lists of variables, one a weight and of its shape")
def test_an_optimizer_of_ones_own_trains_on():
    model, seen = dense_model(optimizer=Momentum(0.1)), States(0.1, 0.9, 0.1)
    rounds(model, seen)
    assert_equal(everything(model), seen.states[1])
    shapes = [tuple(slot.shape) for slot in model.optimizer.slots]
    assert shapes == [tuple(weight.shape) for weight in model.trainable_variables]


REFUSED = {
    Case(
        "One whose variables have shapes of their own",
        "The optimizer's state must have the shapes of the weights to be cut with them.",
        refused=True,
    ): NormsOfUnits,
    Case(
        "One with a dictionary of variables",
        "The optimizer's state must belong to weights, one variable a weight, to be cut with them.",
        refused=True,
    ): SlotsByName,
    Case(
        "One with a single variable for all weights",
        "The optimizer's state must belong to weights, one variable a weight, to be cut with them.",
        refused=True,
    ): OneSlotForAll,
}
CASES += REFUSED


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_state_that_cannot_be_cut_is_refused(case):
    model = dense_model(optimizer=REFUSED[case](0.1, name="unusual"))
    model.optimizer.build(model.trainable_variables)
    before = state_of(model)
    seen = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda *_, **__: pytest.fail("a batch")
    )
    with pytest.raises(ValueError, match=f"{re.escape(case.note)} Received: unusual"):
        fit(model, callback(), seen)
    after = state_of(model)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_equal(after[name], value)


def test_every_optimizer_of_keras_has_a_case():
    named = {word for case in CASES for word in re.findall(r"\w+", case.name)}
    shipped = {name for name, kind in vars(known).items() if isinstance(kind, type)}
    assert "Adam" in shipped
    assert shipped <= named | {"OptimizerMap"}, (
        f"without a case: {sorted(shipped - named - {'OptimizerMap'})}"
    )
