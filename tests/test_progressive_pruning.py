"""ProgressivePruning, driven by hand with a list of metrics, and in small fits."""

import keras
import numpy as np
import pytest
from fits import (
    IMAGES,
    LABELS,
    SAMPLES,
    assert_same,
    begin,
    callback,
    compiled,
    conv_model,
    dense_model,
    drive,
    fit,
    judged,
    neurons,
    nudge,
    state_of,
)

import prune_keras
from prune_keras import criteria, limits

# Rounds


def test_stops_at_the_target_and_not_beyond():
    model, pruning = dense_model(), callback()
    begin(pruning, model, 9)
    logs = []
    for epoch in range(9):
        pruning.on_epoch_begin(epoch)
        logs.append({"val_accuracy": 0.5})
        pruning.on_epoch_end(epoch, logs[-1])
    pruning.on_train_end()
    assert [entry["neurons"] for entry in logs] == [18, 14, 12, 12, 12, 12, 12, 12, 12]
    assert [done.after.neurons for done in pruning.rounds] == [18, 14, 12]


def test_the_report_says_why_the_target_is_not_reached():
    pruning = callback()
    drive(pruning, dense_model(), [0.5] * 2)
    note = "58.33% of the neurons remain, not 50.00%: fit had no epochs left for another round"
    assert note in pruning.report.render()
    pruning = judged(target={"neurons": 0.5})
    drive(pruning, dense_model(), [0.1] * 12)
    note = "100.00% of the neurons remain, not 50.00%: no further cut held the bound of"
    assert note in pruning.report.render()


def test_the_report_of_a_target_that_is_reached_says_no_more():
    pruning = callback()
    drive(pruning, dense_model(), [0.5] * 6)
    assert pruning.report.notes == ()


def test_a_fraction_below_one_neuron_still_reaches_the_target():
    model, pruning = dense_model((5, 3)), callback(fraction=0.1)
    drive(pruning, model, [0.5] * 6)
    assert [done.after.neurons for done in pruning.rounds] == [7, 6, 5, 4]


@pytest.mark.parametrize("scope", limits.SCOPES)
def test_a_fraction_below_one_block_still_reaches_the_target(scope):
    model = dense_model((16, 12))
    pruning = callback(fraction=0.1, round_to=4, scope=scope)
    drive(pruning, model, [0.5] * 6)
    assert pruning.report.after.neurons <= 14
    assert all(after % 4 == 0 for _, after in pruning.report.widths.values())


def test_cuts_as_an_epoch_begins_and_judges_as_it_ends():
    model, pruning = dense_model(), callback()
    begin(pruning, model, 2)
    assert neurons(model) == 24
    pruning.on_epoch_begin(0)
    assert neurons(model) == 18 and not pruning.rounds
    cut = state_of(model)
    pruning.on_epoch_end(0, {"val_accuracy": 0.5})
    assert_same(cut, state_of(model))
    assert [done.kept for done in pruning.rounds] == [True]


def test_never_cuts_where_no_fine_tuning_would_follow():
    model, pruning = dense_model(), callback(epochs_per_round=2)
    drive(pruning, model, [0.5] * 3)
    assert [done.epoch for done in pruning.rounds] == [0]
    assert neurons(model) == 18


def test_judges_after_all_epochs_of_a_round():
    pruning = judged(epochs_per_round=2)
    drive(pruning, dense_model(), [0.1, 0.9, 0.9, 0.1])
    assert [(done.epoch, done.kept) for done in pruning.rounds] == [(0, True), (2, False)]


@pytest.mark.parametrize("bound", [{"max_drop": 0.1}, {"floor": 0.8}])
def test_measures_the_start_in_a_first_epoch_without_a_cut(bound):
    pruning = callback(**bound)
    states = drive(pruning, dense_model(), [0.9, 0.9])
    widths = [state["shape of hidden0"][-1] + state["shape of hidden1"][-1] for state in states]
    assert widths == [24, 18]
    assert [done.epoch for done in pruning.rounds] == [1]


@pytest.mark.parametrize("arguments", [{}, {"max_drop": 0.1, "baseline": 0.9}])
def test_cuts_at_once_where_the_start_is_known_or_not_needed(arguments):
    pruning = callback(**arguments)
    drive(pruning, dense_model(), [0.9, 0.9])
    assert [done.epoch for done in pruning.rounds] == [0, 1]


def test_logs_gain_what_the_trained_model_costs():
    model, pruning = dense_model(), judged()
    begin(pruning, model, 1)
    pruning.on_epoch_begin(0)
    trained, logs = prune_keras.cost(model), {"val_accuracy": 0.0}
    pruning.on_epoch_end(0, logs)
    sizes = {"neurons": trained.neurons, "params": trained.params, "flops": trained.flops}
    assert logs == {"val_accuracy": 0.0} | sizes
    assert neurons(model) == trained.neurons == 18  # what a callback after this one may store
    pruning.on_train_end()
    assert neurons(model) == 24


def test_flops_that_are_unknown_stay_out_of_the_logs():
    pixels = keras.Input((None, None, 2))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(pixels))
    model = compiled(keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x)))
    pruning = callback()
    begin(pruning, model, 1)
    pruning.on_epoch_begin(0)
    logs = {}
    pruning.on_epoch_end(0, logs)
    assert set(logs) == {"neurons", "params"}


def test_caps_count_from_the_original():
    pruning = callback(target={"neurons": 0.7}, max_layer_fraction=0.5)
    drive(pruning, dense_model(), [0.5] * 8)
    assert all(after >= before / 2 for before, after in pruning.report.widths.values())


def test_excluded_layers_keep_all_units():
    pruning = callback(target={"neurons": 0.75}, exclude="hidden0")
    drive(pruning, dense_model(), [0.5] * 8)
    assert pruning.report.widths == {"hidden0": (16, 16), "hidden1": (8, 2)}


# Rounds that are undone


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam(), keras.optimizers.SGD(momentum=0.9)])
def test_bad_rounds_are_undone_to_the_last_bit(optimizer):
    optimizer = optimizer.from_config(optimizer.get_config())
    model, pruning = conv_model(optimizer), judged(data=IMAGES)
    states = drive(pruning, model, [0.85, 0.7, 0.7])
    assert [done.kept for done in pruning.rounds] == [True, False, False]
    assert states[1]["shape of conv"] != states[0]["shape of conv"]
    assert_same(states[0], state_of(model))


def test_a_first_round_is_undone_in_a_model_that_was_never_trained():
    model = dense_model()
    history = fit(model, judged(baseline=2.0), epochs=3)
    assert history.history["neurons"] == [18, 21, 23]
    assert neurons(model) == 24
    fit(model, epochs=1)


def test_a_bad_round_halves_the_fraction_until_it_is_too_small():
    pruning = judged(fraction=0.25, min_fraction=0.05)
    drive(pruning, dense_model(), [0.1] * 9)
    assert [done.fraction for done in pruning.rounds] == [0.25, 0.125, 0.0625]
    assert [done.before.neurons - done.after.neurons for done in pruning.rounds] == [6, 3, 1]
    assert pruning.report.after == pruning.report.before


def test_goes_on_with_the_smaller_fraction_from_the_last_good_round():
    pruning = judged(fraction=0.25)
    drive(pruning, dense_model(), [0.9, 0.1, 0.9])
    assert [done.after.neurons for done in pruning.rounds] == [18, 14, 16]
    assert pruning.report.after.neurons == 16


def test_the_same_cut_is_not_tried_twice():
    pruning = judged(fraction=0.25, min_fraction=0.001)
    drive(pruning, dense_model((4,)), [0.1] * 9)
    assert [done.before.neurons - done.after.neurons for done in pruning.rounds] == [1]


def test_less_is_better_for_a_loss():
    pruning = judged(monitor="val_loss", baseline=1.0)
    drive(pruning, dense_model(), [1.05, 1.2], monitor="val_loss")
    assert [done.kept for done in pruning.rounds] == [True, False]


def test_a_metric_that_is_no_number_undoes_the_round():
    pruning = judged()
    drive(pruning, dense_model(), [float("nan")])
    assert [done.kept for done in pruning.rounds] == [False]


def test_a_round_that_training_did_not_finish_is_undone():
    model, pruning = dense_model(), judged(epochs_per_round=3)
    begin(pruning, model, 3)
    start = state_of(model)
    pruning.on_epoch_begin(0)
    nudge(model)
    pruning.on_epoch_end(0, {"val_accuracy": 0.9})
    pruning.on_train_end()
    assert [(done.metric, done.kept) for done in pruning.rounds] == [(None, False)]
    assert_same(start, state_of(model))


def test_ends_at_the_last_good_epoch_if_later_ones_fall_below_the_bound():
    model, pruning = dense_model(), judged(target={"neurons": 0.8})
    states = drive(pruning, model, [0.9, 0.9, 0.1, 0.1])
    assert [done.kept for done in pruning.rounds] == [True]
    assert_same(states[1], state_of(model))


def test_a_fit_without_a_single_epoch_changes_nothing():
    model = dense_model()
    drive(callback(max_drop=0.1), model, [])
    assert neurons(model) == 24


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


@pytest.mark.parametrize("scope", limits.SCOPES)
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
    pruning = callback(data=IMAGES, recalibration_steps=1)
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


# What the user reads


def test_one_line_a_round(capsys):
    drive(judged(verbose=1), dense_model(), [0.9, 0.7])
    lines = capsys.readouterr().out.split("\n")
    assert lines[1::2] == [
        "Round 1: 24 -> 18 neurons; params 67.3%, flops 66.1%, neurons 75.0%; "
        "val_accuracy 0.9000, bound 0.8000: kept",
        "Round 2: 18 -> 14 neurons; params 47.6%, flops 46.0%, neurons 58.3%; "
        "val_accuracy 0.7000, bound 0.8000: rolled back",
    ]


def test_silence_on_request(capsys):
    drive(judged(), dense_model(), [0.9, 0.7])
    assert capsys.readouterr().out == ""


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": None}, "where to stop. Received: target=None"),
        ({"target": {"size": 0.5}}, "`target` must map some of"),
        ({"target": {"params": 1.5}}, r"Received: target\['params'\]=1.5"),
        ({"fraction": 0}, "Received: fraction=0"),
        ({"fraction": None}, "Received: fraction=None"),
        ({"min_fraction": 1}, "Received: min_fraction=1"),
        ({"epochs_per_round": 0}, "Received: epochs_per_round=0"),
        ({"criterion": "magnitude"}, "Received: criterion='magnitude'"),
        ({"criterion": "apoz"}, "'apoz' looks at samples. Received: data=None"),
        ({"debias": "average"}, "Received: debias='average'"),
        ({"combine": "median"}, "Received: combine='median'"),
        ({"scope": "everywhere"}, "Received: scope='everywhere'"),
        ({"mode": "up"}, "Received: mode='up'"),
        ({"max_drop": -0.1}, "Received: max_drop=-0.1"),
        ({"max_drop": float("nan")}, "Received: max_drop=nan"),
        ({"max_drop": "1%"}, "Received: max_drop='1%'"),
        ({"floor": "90%"}, "Received: floor='90%'"),
        ({"floor": 0.5, "baseline": float("nan")}, "Received: baseline=nan"),
        ({"recalibration_steps": 0}, "Received: recalibration_steps=0"),
        ({"min_units": 0}, "Received: min_units=0"),
        ({"max_layer_fraction": 0}, "Received: max_layer_fraction=0"),
        ({"round_to": 0.5}, "Received: round_to=0.5"),
    ],
)
def test_bad_arguments_are_refused_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        callback(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": "hidden*"}, "Received: exclude=.*, which leaves none of"),
        ({"exclude": "conv9"}, "exclude='conv9', which fits none of"),
        ({"target": {"params": 0.01}}, "The target must be reachable"),
        ({"min_units": 9}, r"closest .* is {.*}. In the way: min_units=9 \(without it: {.*}\)"),
        (
            {"floor": 0.9, "baseline": 0.5, "mode": "max"},
            "hold the floor before pruning. Received: .*=0.5",
        ),
        ({"data": SAMPLES[:0]}, "at least one sample"),
        ({"data": [SAMPLES, SAMPLES]}, "must hold 1 input arrays"),
        ({"data": SAMPLES[:, :5]}, r"Received: .*\(24, 5\)"),
        ({"data": np.full_like(SAMPLES, np.nan)}, "must be finite"),
        ({"data": iter([SAMPLES])}, "readable once a round"),
        ({"data": SAMPLES, "criterion": "taylor"}, "'taylor' needs targets"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_the_first_batch(arguments, message):
    model = dense_model()
    model.optimizer.build(model.trainable_variables)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        fit(model, callback(**arguments))
    assert_same(before, state_of(model))


def test_a_model_that_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="compile"):
        fit(model, callback())
    assert neurons(model) == 8


def test_layers_of_another_model_are_refused():
    model = dense_model()
    other = keras.Model(model.inputs, keras.layers.Dense(2)(model.get_layer("hidden1").output))
    with pytest.raises(ValueError, match="must not share layers"):
        fit(model, callback())
    assert neurons(model) == neurons(other) == 24


@pytest.mark.parametrize("baseline", [None, 0.9])
def test_a_metric_that_is_not_in_the_logs_is_refused(baseline):
    model, pruning = dense_model(), callback(max_drop=0.1, baseline=baseline, monitor="accuracies")
    with pytest.raises(ValueError, match="monitor='accuracies', while the logs hold .*'loss'"):
        fit(model, pruning)
    assert neurons(model) == 24


def test_a_fit_without_validation_data_is_refused_before_the_first_batch():
    model = dense_model()
    seen = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda *_: pytest.fail("a batch"))
    with pytest.raises(ValueError, match="There must be validation data to judge rounds by"):
        fit(model, callback(max_drop=0.1), seen, validation_data=None)
    assert neurons(model) == 24


def test_an_error_after_a_cut_leaves_a_model_that_trains_on():
    model = dense_model()
    with pytest.raises(ValueError, match="monitor='val_kappa', while the logs hold"):
        fit(model, callback(max_drop=0.1, baseline=0.9, monitor="val_kappa"))
    assert neurons(model) == 24
    assert len(fit(model, epochs=1).history["loss"]) == 1


def test_a_metric_without_direction_is_refused():
    model = dense_model()
    model.compile("sgd", "mse", metrics=[keras.metrics.Mean(name="level")])
    pruning = callback(max_drop=0.1, monitor="level", baseline=0.5)
    with pytest.raises(ValueError, match="monitor='level', mode='auto'"):
        drive(pruning, model, [0.5], monitor="level")
    assert neurons(model) == 24


def test_a_start_below_the_floor_is_refused():
    model = dense_model()
    with pytest.raises(ValueError, match="hold the floor before pruning"):
        drive(callback(floor=0.9), model, [0.5])
    with pytest.raises(ValueError, match="must be a number before pruning"):
        drive(callback(floor=0.9), model, [float("nan")])
    assert neurons(model) == 24
