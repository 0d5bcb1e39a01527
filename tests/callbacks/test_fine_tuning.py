"""Learning rates that go back after cuts, and scales and biases that are trained alone at last."""

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, callback, conv_model, dense_model, fit
from resumed import killed, outcome, run, small_model

from prune_keras.callbacks import Backup, FineTuning, Judge
from prune_keras.rounds.fine_tuning import is_scale_or_bias

schedules = keras.optimizers.schedules
STEPS = 2  # of an epoch of `fits.fit`


class Rates(keras.callbacks.Callback):
    """Notes the rate of each step, and whether the step moved anything."""

    def __init__(self):
        super().__init__()
        self.rates, self.moved = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(round(float(self.model.optimizer.learning_rate), 4))
        self._before = numbers(self.model.trainable_variables)

    def on_train_batch_end(self, batch, logs=None):
        now = numbers(self.model.trainable_variables)
        pairs = zip(self._before, now, strict=True)
        self.moved.append(any((a != b).any() for a, b in pairs))


def numbers(variables):
    return [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in variables]


def falling():
    """A schedule whose rate tells which step it is at: one tenth less, step after step."""
    return schedules.PolynomialDecay(1.0, 10, end_learning_rate=0.0)


@pytest.mark.parametrize(
    ("rewind", "expected"),
    [
        (None, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]),
        ("fit", [1.0, 0.9, 1.0, 0.9, 1.0, 0.9]),
        ("round", [1.0, 0.9, 0.8, 0.7, 0.8, 0.7]),
    ],
)
def test_a_schedule_goes_its_way_again_after_each_cut(rewind, expected):
    model, rates = dense_model(optimizer=keras.optimizers.SGD(falling())), Rates()
    judge = Judge("val_loss", "min", floor=1e9, start_from_epoch=1)
    pruning = callback(target=None, judge=judge, fine_tuning=FineTuning(rewind))
    fit(model, pruning, rates)
    assert [done.epoch for done in pruning.rounds] == [1, 2]
    assert rates.rates == expected
    assert int(model.optimizer.iterations) == len(expected)


@pytest.mark.parametrize("eager", [False, True])
def test_steps_are_made_at_the_rate_that_is_told(eager):
    rate = schedules.PiecewiseConstantDecay([0], [0.1, 0.0])  # the first step alone
    model, rates = dense_model(optimizer=keras.optimizers.SGD(rate)), Rates()
    model.run_eagerly = eager
    fit(model, callback(fine_tuning=FineTuning("fit")), rates)
    assert rates.moved == [True, False] * 3
    later = Rates()
    fit(model, later, epochs=1)  # by the count of all steps, again
    assert later.moved == [False, False]


OPTIMIZERS = {
    "Adam": lambda rate: keras.optimizers.Adam(rate),
    "LossScaleOptimizer": lambda rate: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(rate), initial_scale=8.0
    ),
    "gradient accumulation": lambda rate: keras.optimizers.SGD(rate, gradient_accumulation_steps=2),
    "averages": lambda rate: keras.optimizers.SGD(rate, use_ema=True),
}


@pytest.mark.repeats(3)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("rate", [falling(), 1.0], ids=["schedule", "number"])
def test_rates_of_every_kind_of_optimizer_go_back(name, rate):
    model, rates = dense_model(optimizer=OPTIMIZERS[name](rate)), Rates()
    model.run_eagerly = True
    model.optimizer.build(model.trainable_variables)
    before = {*vars(model.optimizer)}

    class Lower(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if not callable(rate):
                self.model.optimizer.learning_rate = 0.9

    fit(model, callback(fine_tuning=FineTuning("fit")), Lower(), rates)
    assert rates.rates == [1.0, 0.9] * 3
    assert {*vars(model.optimizer)} == before


@pytest.mark.parametrize("undo_steps", [True, False])
def test_a_round_that_is_undone_takes_its_place_in_the_schedule_with_it(undo_steps):
    model, rates = dense_model(optimizer=keras.optimizers.SGD(falling())), Rates()
    scores = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(score=float(epoch < 2))
    )
    judge = Judge("score", "max", floor=0.5, undo_steps=undo_steps)
    tuning = FineTuning("fit")
    pruning = callback(target=None, judge=judge, min_fraction=0.2, fine_tuning=tuning)
    fit(model, scores, pruning, rates, epochs=4)
    assert [done.kept for done in pruning.rounds] == [True, False]
    # The last epoch, undone as well, goes on behind the first round.
    assert rates.rates == [1.0, 0.9] * 3 + [0.8, 0.7]
    assert int(model.optimizer.iterations) == (4 if undo_steps else 8)


def test_rounds_of_batches_go_back_too():
    model, rates = dense_model(optimizer=keras.optimizers.SGD(falling())), Rates()
    fit(model, callback(batches_per_round=1, fine_tuning=FineTuning("fit")), rates, epochs=1)
    assert rates.rates == [1.0, 1.0]


def test_plateaus_lower_a_rate_that_goes_back():
    model, rates = dense_model(optimizer=keras.optimizers.SGD(1.0)), Rates()
    plateau = keras.callbacks.ReduceLROnPlateau("plain", factor=0.5, patience=1, mode="min")
    log = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(plain=1.0))
    pruning = callback(epochs_per_round=3, target={"neurons": 0.6}, fine_tuning=FineTuning("fit"))
    fit(model, log, plateau, pruning, rates, epochs=6)
    assert rates.rates[::STEPS] == [1.0, 1.0, 0.5, 1.0, 0.5, 0.25]


WAYS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda: keras.optimizers.Adam(0.1),
    "LossScaleOptimizer": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.AdamW(0.1), initial_scale=8.0
    ),
    "gradient accumulation": lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=2),
}


class Moved(keras.callbacks.Callback):
    """Notes, for each step of each epoch, the names of the variables that it moved."""

    def __init__(self):
        super().__init__()
        self.moved = []

    def on_epoch_begin(self, epoch, logs=None):
        self._before = numbers(self.model.trainable_variables)

    def on_train_batch_end(self, batch, logs=None):
        variables = self.model.trainable_variables
        now = numbers(variables)
        pairs = zip(variables, self._before, now, strict=True)
        self.moved.append({v.name for v, a, b in pairs if (a != b).any()})
        self._before = now


@pytest.mark.parametrize("name", WAYS)
def test_the_last_share_moves_scales_and_biases_alone(name):
    model, moved = conv_model(WAYS[name]()), Moved()
    model.run_eagerly = True
    tuning = FineTuning(scales_only=0.5)
    fit(model, callback(fine_tuning=tuning), moved, epochs=2, batch_size=6)
    assert len(moved.moved) == 8
    assert any("kernel" in names for names in moved.moved[4:6])
    assert not any("kernel" in names for names in moved.moved[6:])
    last = set().union(*moved.moved[6:])
    assert last == {"gamma", "beta", "bias"}
    later = Moved()
    fit(model, later, epochs=1)
    assert any("kernel" in names for names in later.moved)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras takes one step at a time there"
)
@pytest.mark.repeats(2)
@pytest.mark.parametrize(("share", "free"), [(1.0, 0), (0.5, 2), (0.3, 4), (0.01, 4)])
def test_it_begins_with_an_execution(share, free):
    model = conv_model()
    model.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=2)
    kernels = []

    class Kernels(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kernels.append(numbers([self.model.get_layer("hidden").kernel])[0])

    tuning = FineTuning(scales_only=share)
    pruning = callback(fine_tuning=tuning, target={"neurons": 0.9})
    before = numbers([model.get_layer("hidden").kernel])[0]
    fit(model, pruning, Kernels(), epochs=1, batch_size=4, validation_data=None)
    moves = [a.shape != b.shape or (a != b).any() for a, b in zip([before, *kernels], kernels)]  # noqa: B905
    assert sum(moves[1:]) == max(free // 2 - 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [("epoch", 2), ("batch", 8), ("batch", 18)], ids=str)
@pytest.mark.parametrize("rewind", ["fit", "round"])
def test_a_fit_that_was_killed_ends_as_it_would_have(rewind, moment, tmp_path):
    def build():
        return small_model(keras.optimizers.SGD(schedules.CosineDecay(0.1, 20), momentum=0.9))

    given = {"build": build, "fine_tuning": FineTuning(rewind, scales_only=0.5)}
    whole = outcome(*run(tmp_path / "whole", **given))
    backup = Backup(tmp_path / "killed", every=2)
    killed(backup, moment, **given)
    np.testing.assert_equal(outcome(*run(backup, **given)), whole)


def test_what_fails_leaves_an_ordinary_optimizer():
    model = dense_model(optimizer=keras.optimizers.SGD(falling()))
    model.optimizer.build(model.trainable_variables)
    before = {*vars(model.optimizer)}

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("stop")

    tuning = FineTuning("fit", scales_only=1.0)
    with pytest.raises(RuntimeError, match="stop"):
        fit(model, callback(fine_tuning=tuning), Fail(), epochs=1)
    assert {*vars(model.optimizer)} == before
    with pytest.raises(ValueError, match="target"):  # before the first batch
        fit(model, callback(target={"neurons": 1e6}, fine_tuning=tuning), epochs=1)
    assert {*vars(model.optimizer)} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rewind": "epoch"}, "`rewind` must be one of .*Received: rewind='epoch'"),
        ({"scales_only": 1.5}, "`scales_only` must be a share .*Received: scales_only=1.5"),
    ],
)
def test_options_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FineTuning(**arguments)


def test_rates_that_are_set_anew_each_epoch_are_refused():
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    pruning = callback(fine_tuning=FineTuning("fit"))
    with pytest.raises(ValueError, match="Received: rewind beside LearningRateScheduler.*schedule"):
        fit(dense_model(), scheduler, pruning)
    model = dense_model(optimizer=keras.optimizers.SGD(lambda: 0.1))
    with pytest.raises(ValueError, match="must be a number or a schedule"):
        fit(model, callback(fine_tuning=FineTuning("fit")))


def test_a_share_needs_batches_that_can_be_counted_and_something_to_train():
    tuned = {"fine_tuning": FineTuning(scales_only=0.5)}

    def batches():
        for _ in range(2):
            yield IMAGES[:12], LABELS[:12]

    with pytest.raises(ValueError, match="how many batches.*Received: scales_only=0.5"):
        conv_model().fit(batches(), callbacks=[callback(**tuned)], verbose=0, shuffle=False)
    layers = [keras.layers.Dense(units, use_bias=False) for units in (8, 3)]
    plain = keras.Sequential([keras.Input((6,)), *layers])
    plain.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="scales or biases.*Received: scales_only=0.5"):
        fit(plain, callback(**tuned), validation_data=None)
    with pytest.raises(ValueError, match="FineTuning"):
        callback(fine_tuning="fit")


@pytest.mark.parametrize(
    ("layer", "chosen"),
    [
        (keras.layers.BatchNormalization(), {"gamma", "beta"}),
        (keras.layers.LayerNormalization(), {"gamma", "beta"}),
        (keras.layers.GRU(3), {"bias"}),
        (keras.layers.SeparableConv1D(3, 2), {"bias"}),
        (keras.layers.RMSNormalization(), {"scale"}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_scales_and_biases_are_known_by_their_names(layer, chosen):
    layer.build((None, 4, 4))
    assert {v.name for v in layer.trainable_variables if is_scale_or_bias(v)} == chosen
