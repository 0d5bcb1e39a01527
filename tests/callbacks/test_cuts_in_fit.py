"""What a cut within `fit` leaves in place, with every scope and criterion, and with statistics."""

import keras
import numpy as np
import pytest
from fits import (
    IMAGES,
    LABELS,
    begin,
    callback,
    compiled,
    conv_model,
    dense_model,
    drive,
    fit,
    neurons,
    state_of,
)

import prune_keras
from prune_keras import criteria
from prune_keras.selection import scores

# What surgery leaves in place


class Watch(keras.callbacks.Callback):
    """Remembers the state of the model before and after another callback begins an epoch."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.states = inner, []

    def set_model(self, model):
        super().set_model(model)
        self.inner.set_model(model)

    def on_train_begin(self, logs=None):
        self.inner.set_params(self.params)
        self.inner.on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        before = state_of(self.model)
        self.inner.on_epoch_begin(epoch, logs)
        self.states.append((before, state_of(self.model)))

    def on_epoch_end(self, epoch, logs=None):
        self.inner.on_epoch_end(epoch, logs)


def test_weights_and_slots_are_slices_of_what_training_left():
    model = dense_model((8, 4), keras.optimizers.Adam())
    pruning = callback()
    watch = Watch(pruning)
    fit(model, watch, epochs=2)
    before, after = watch.states[1]
    kept0, kept1 = (pruning.rounds[1].plan.kept[name] for name in ("hidden0", "hidden1"))
    assert len(kept0) + len(kept1) < 9
    slices = {"hidden0/kernel": np.s_[:, kept0], "hidden1/kernel": np.ix_(kept0, kept1)}
    slices |= {"hidden1/bias": np.s_[kept1], "classes/kernel": np.s_[kept1, :]}
    for name, index in slices.items():
        owned = [path for path in before if name.replace("/", "_") in path.replace("/", "_")]
        assert len(owned) == 3, owned
        for path in owned:
            assert np.abs(before[path]).sum() > 0
            np.testing.assert_array_equal(after[path], before[path][index])
    counts = [path for path in before if path.endswith("iteration")]
    assert [int(after[path]) for path in counts] == [2]


def test_what_the_user_holds_stays_what_it_is():
    model = conv_model()
    layers, optimizer = list(model.layers), model.optimizer
    kernels = [layer.kernel for layer in layers if hasattr(layer, "kernel")]
    names = [variable.path for variable in model.weights]
    fit(model, callback(), epochs=3)
    assert all(a is b for a, b in zip(layers, model.layers, strict=True))
    assert model.optimizer is optimizer
    assert [layer.kernel for layer in layers if hasattr(layer, "kernel")] == kernels
    assert [variable.path for variable in model.weights] == names
    assert model.get_layer("conv").filters == model.get_layer("conv").kernel.shape[-1]
    assert model.get_layer("conv").filters + model.get_layer("hidden").units == 7


def test_training_goes_on_and_the_model_is_saved_as_any_other(tmp_path):
    model = conv_model()
    history = fit(model, callback(), epochs=4)
    assert np.isfinite(history.history["loss"]).all()
    model.save(tmp_path / "thin.keras")
    loaded = keras.models.load_model(tmp_path / "thin.keras")
    np.testing.assert_array_equal(
        loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0)
    )
    assert prune_keras.cost(loaded) == prune_keras.cost(model)


def test_the_report_counts_from_the_original():
    model = dense_model()
    original = keras.models.clone_model(model)
    pruning = callback()
    begin(pruning, model, 3)
    original.set_weights(model.get_weights())
    for epoch in range(3):
        pruning.on_epoch_begin(epoch)
        pruning.on_epoch_end(epoch, {})
    report = pruning.report
    thin = prune_keras.shrink(original, report.plan)
    for expected, received in zip(thin.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
    assert (report.before.neurons, report.after.neurons) == (24, 12)
    assert report.after == prune_keras.cost(model)
    assert [done.number for done in pruning.rounds] == [1, 2, 3]
    assert all(done.seconds > 0 and done.metric is None for done in pruning.rounds)


# Every scope, every criterion, statistics


# "optimal" takes no scores of weights alone.
@pytest.mark.parametrize("scope", [each for each in scores.SCOPES if each != "optimal"])
def test_every_scope_reaches_the_target(scope):
    model, pruning = dense_model(), callback(scope=scope)
    drive(pruning, model, [0.5] * 8)
    assert neurons(model) == 12
    touched = [
        [path for path, kept in done.plan.new_widths.items() if kept < done.plan.widths[path]]
        for done in pruning.rounds
    ]
    if scope == "layerwise":
        assert touched[:2] == [["hidden0"], ["hidden1"]]
    if scope == "uniform":
        assert pruning.report.widths == {"hidden0": (16, 8), "hidden1": (8, 4)}


def normalized_model():
    """A model of 14 neurons with a batch normalization behind every layer that can be pruned."""
    hidden = [keras.layers.Conv2D(8, 3), keras.layers.Conv2D(6, 3)]
    normalized = [each for layer in hidden for each in (layer, keras.layers.BatchNormalization())]
    last = [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    return compiled(keras.Sequential([keras.Input((6, 6, 2)), *normalized, *last]))


@pytest.mark.parametrize("criterion", sorted(criteria.CRITERIA))
def test_every_criterion_reaches_the_target(criterion):
    model = normalized_model() if criterion == "bn_scale" else conv_model()
    pruning = callback(criterion=criterion, data=(IMAGES, LABELS), seed=0)
    drive(pruning, model, [0.5, 0.5])
    assert [done.after.neurons for done in pruning.rounds] == [11, 9]


def test_random_rounds_are_repeated_by_their_seed():
    plans = []
    for _ in range(2):
        pruning = callback(criterion="random", seed=3)
        drive(pruning, dense_model(), [0.5] * 2)
        plans.append(pruning.report.plan)
    assert plans[0] == plans[1]


def test_statistics_are_measured_anew_after_a_cut():
    model = conv_model()
    # Whatever weights a backend draws, the cut falls on the convolution.
    pruning = callback(data=IMAGES, recalibration_steps=1, exclude=["hidden"])
    begin(pruning, model, 1)
    pruning.on_epoch_begin(0)
    convolved = keras.ops.convert_to_numpy(model.get_layer("conv")(IMAGES)).astype("float64")
    norm = model.get_layer("norm")
    assert convolved.shape[-1] < 8
    for name, expected in (("mean", convolved.mean((0, 1, 2))), ("var", convolved.var((0, 1, 2)))):
        variable = norm.moving_mean if name == "mean" else norm.moving_variance
        measured = keras.ops.convert_to_numpy(variable.value)
        np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=1e-6)


def test_frozen_statistics_stay_slices():
    model = conv_model(trainable=False)
    model.get_layer("norm").moving_mean.assign(np.arange(8))
    pruning = callback(data=IMAGES, criterion="random", seed=1)
    begin(pruning, model, 1)
    pruning.on_epoch_begin(0)
    kept = pruning.report.plan.kept["conv"]
    assert len(kept) < 8
    measured = keras.ops.convert_to_numpy(model.get_layer("norm").moving_mean.value)
    np.testing.assert_array_equal(measured, kept)
