"""Rounds whose cuts are made in several steps."""

import json
import re

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
    conv_model,
    dense_model,
    drive,
    fit,
    judged,
    neurons,
    state_of,
)

import prune_keras
from prune_keras.callbacks import ProgressivePruning
from prune_keras.rounds.cutter import Cutter
from prune_keras.schedules import Geometric


def scheduled(**arguments):
    chosen = {"target": {"flops": 0.4}, "schedule": Geometric(2), "verbose": 0}
    return ProgressivePruning(**chosen | arguments)


@pytest.mark.parametrize("scope", ["global", "uniform", "layerwise"])
def test_a_round_in_steps_comes_as_far_as_one_at_once(scope):
    left = []
    for steps in (1, 4):
        model = dense_model((32, 24))
        pruning = scheduled(steps_per_cut=steps, scope=scope)
        drive(pruning, model, [0.5] * 3)
        left.append([done.after.flops / prune_keras.cost(dense_model((32, 24))).flops
                     for done in pruning.rounds])  # fmt: skip
    assert all(
        a <= share and b <= share for a, b, share in zip(*left, (0.4**0.5, 0.4), strict=True)
    )
    assert all(abs(a - b) < 0.05 for a, b in zip(*left, strict=True))


def test_a_round_is_told_as_one_plan_and_by_its_steps():
    model, pruning = dense_model((32, 24)), scheduled(steps_per_cut=3)
    drive(pruning, model, [0.5] * 3)
    first, second = pruning.rounds
    assert len(first.steps) == len(second.steps) == 3
    assert first.steps[-1] == first.after == second.before
    flops = [first.before.flops, *(cost.flops for cost in first.steps)]
    ratios = np.divide(flops[1:], flops[:-1])
    assert ratios == pytest.approx(0.4 ** (1 / 6), abs=0.06)
    assert pruning.report.plan == first.plan.then(second.plan)
    assert pruning.report.steps == first.steps + second.steps
    stored = json.loads(json.dumps(first.to_dict()))
    assert [each["flops"] for each in stored["steps"]] == flops[1:]


def test_a_fraction_is_of_what_a_round_begins_with():
    model, pruning = dense_model((40, 40)), callback(fraction=0.25, steps_per_cut=4)
    drive(pruning, model, [0.5] * 2)
    assert [done.after.neurons for done in pruning.rounds] == [60, 45]
    assert [cost.neurons for cost in pruning.rounds[0].steps] == [74, 69, 64, 60]


def test_one_family_has_its_turn_in_all_steps_of_a_round():
    model = dense_model((16, 8))
    pruning = callback(scope="layerwise", fraction=0.5, steps_per_cut=4, target={"neurons": 0.3})
    drive(pruning, model, [0.5] * 2)
    assert [done.widths for done in pruning.rounds] == [
        {"hidden0": 8, "hidden1": 8},
        {"hidden0": 8, "hidden1": 4},
    ]


def test_without_steps_a_round_tells_none():
    model, pruning = dense_model(), callback()
    drive(pruning, model, [0.5] * 2)
    assert [done.steps for done in pruning.rounds] == [(), ()]
    assert pruning.report.steps == ()


def test_each_step_scores_and_repairs(monkeypatch):
    model, seen = conv_model(), []
    cut, score = Cutter.cut, Cutter.score

    def watched(self, model, progress, plan, *rest):
        seen.append(("cut", plan.widths))
        return cut(self, model, progress, plan, *rest)

    def scored(self, model, progress, turn):
        seen.append(("score", progress.graph.widths))
        return score(self, model, progress, turn)

    monkeypatch.setattr(Cutter, "cut", watched)
    monkeypatch.setattr(Cutter, "score", scored)
    pruning = callback(
        data=(IMAGES, LABELS), steps_per_cut=2, fraction=0.5, target={"neurons": 0.5}
    )
    fit(model, pruning, epochs=1)
    assert [name for name, _ in seen] == ["score", "cut", "score", "cut"]
    assert seen[0][1] == seen[1][1] != seen[2][1] == seen[3][1]
    assert neurons(model) == 7
    assert model.evaluate(IMAGES, LABELS, verbose=0)


def test_a_round_in_steps_is_undone_as_a_whole():
    model, pruning = dense_model((40,)), judged(fraction=0.4, steps_per_cut=3)
    states = drive(pruning, model, [0.9, 0.1, 0.9])
    assert [done.kept for done in pruning.rounds][:2] == [True, False]
    assert pruning.rounds[2].before == pruning.rounds[1].before
    assert len(states) == 3


def test_a_cut_that_was_refused_is_not_made_again():
    """Halved, the round would still remove the least that can go, as it did before."""
    model = dense_model((4,))
    pruning = judged(fraction=0.25, steps_per_cut=2, min_fraction=0.001)
    drive(pruning, model, [0.1] * 8)
    assert [done.after.neurons for done in pruning.rounds] == [3]
    assert neurons(model) == 4


@pytest.mark.parametrize("step", [2, 3])
def test_an_error_between_steps_leaves_the_last_good_state(step, monkeypatch):
    model, pruning = dense_model((32, 24)), scheduled(steps_per_cut=3)
    begin(pruning, model, epochs=4)
    before, score, calls = state_of(model), Cutter.score, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == step:
            raise RuntimeError("out of memory")
        return score(*arguments)

    monkeypatch.setattr(Cutter, "score", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        pruning.on_epoch_begin(0)
    assert_same(before, state_of(model))
    assert pruning.rounds == []
    monkeypatch.undo()
    drive(pruning, model, [0.5] * 2)
    assert len(pruning.rounds) == 2


def test_rounds_in_steps_within_fit_keep_the_optimizer_going():
    model = conv_model()
    pruning = callback(steps_per_cut=2, data=IMAGES, batches_per_round=1, target={"neurons": 0.4})
    fit(model, pruning, epochs=2)
    assert neurons(model) == 6  # 14 less a quarter, four times
    assert int(model.optimizer.iterations) == 4
    assert all(done.steps[-1] == done.after for done in pruning.rounds)


@pytest.mark.parametrize("steps", [0, 1.5, True, None])
def test_steps_are_counted(steps):
    match = re.escape(
        f"`steps_per_cut` must be a whole number of at least 1. Received: steps_per_cut={steps!r}"
    )
    with pytest.raises(ValueError, match=match):
        callback(steps_per_cut=steps)


def test_latency_is_approached_in_steps_too():
    model = dense_model((32, 24))
    pruning = ProgressivePruning({"latency_ms": 1e-6}, fraction=0.5, steps_per_cut=2, verbose=0)
    fit(model, pruning, epochs=1)
    assert [cost.neurons for cost in pruning.rounds[0].steps] == [39, 28]
    assert keras.ops.shape(model(SAMPLES)) == (24, 3)
