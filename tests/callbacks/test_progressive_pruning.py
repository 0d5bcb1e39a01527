"""ProgressivePruning, driven by hand with a list of metrics, and in small fits."""

import keras
import pytest
from fits import (
    IMAGES,
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
from prune_keras.selection import scores

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


def test_the_report_says_why_nothing_was_cut_without_a_target():
    pruning = judged(baseline=None)
    drive(pruning, dense_model(), [0.5], epochs=1)
    assert pruning.report.after == pruning.report.before
    assert "nothing was cut: fit had no epochs left for another round" in pruning.report.render()


def test_the_report_of_a_target_that_is_reached_says_no_more():
    pruning = callback()
    drive(pruning, dense_model(), [0.5] * 6)
    assert pruning.report.notes == ()


def test_a_fraction_below_one_neuron_still_reaches_the_target():
    model, pruning = dense_model((5, 3)), callback(fraction=0.1)
    drive(pruning, model, [0.5] * 6)
    assert [done.after.neurons for done in pruning.rounds] == [7, 6, 5, 4]


@pytest.mark.parametrize("scope", [each for each in scores.SCOPES if each != "optimal"])
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
    seconds = pruning.rounds[0].seconds
    counts = {"round": 1, "rolled_back": 1, "pruning_seconds": seconds}
    assert logs == {"val_accuracy": 0.0} | sizes | counts
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
    assert set(logs) == {"neurons", "params", "round", "rolled_back", "pruning_seconds"}


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


# What the user reads


def test_one_line_a_round_below_what_neurons_are_scored_by(capsys):
    drive(judged(verbose=1), dense_model(), [0.9, 0.7])
    lines = capsys.readouterr().out.split("\n")
    assert lines[1:-1] == [
        "Scores: l2",
        "Round 1: 24 -> 18 neurons; params 67.3%, flops 66.1%, neurons 75.0%; "
        "val_accuracy 0.9000, bound 0.8000: kept",
        "Round 2: 18 -> 14 neurons; params 47.6%, flops 46.0%, neurons 58.3%; "
        "val_accuracy 0.7000, bound 0.8000: rolled back",
    ]


def test_silence_on_request(capsys):
    drive(judged(), dense_model(), [0.9, 0.7])
    assert capsys.readouterr().out == ""
