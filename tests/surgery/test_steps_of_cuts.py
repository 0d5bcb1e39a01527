"""A copy that is cut in several steps: each scores, cuts and repairs what is left."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers
from networks import Recipe, randomize, samples

import prune_keras
from prune_keras import pruning, shrink, trace

X = np.random.default_rng(0).normal(size=(48, 6, 6, 2)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 48)


def network():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, padding="same", name="s")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(7, 3, padding="same", activation="relu", name="a")(x)
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", name="b")(y)])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(9, activation="relu", name="e")(x)
    model = keras.Model(inputs, layers.Dense(3, name="out")(x))
    randomize(model)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    return model


def values(model):
    return [np.array(keras.ops.convert_to_numpy(v.value)) for v in model.variables]


def assert_unchanged(model, before):
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable.value), old)


CHOICES = (
    {"criterion": "l2", "target": {"flops": 0.5}},
    {"criterion": "l2", "data": X, "fuse": "weights", "target": {"params": 0.5}},
    {"criterion": "taylor", "data": (X, Y), "fuse": "bias", "target": {"neurons": 0.5}},
    {"data": (X, Y), "target": {"activation_bytes": 0.7}, "scope": "uniform"},
    {"data": X, "fuse": None, "fraction": 0.5},
)


@pytest.mark.parametrize("chosen", CHOICES, ids=lambda c: "-".join(map(str, c)))
def test_a_copy_meets_the_target_in_steps(chosen):
    model = network()
    before = values(model)
    thin, report = prune_keras.prune(model, steps=3, **chosen)
    assert_unchanged(model, before)
    assert trace(thin).widths == report.plan.new_widths
    assert prune_keras.cost(thin) == report.after == report.steps[-1]
    for metric, share in chosen.get("target", {}).items():
        whole = getattr(report.before, metric)
        left = [getattr(cost, metric) / whole for cost in report.steps]
        assert len(left) == 3
        # no step goes much further than its share, and the last one meets the target
        assert all(b <= share ** (n / 3) for n, b in enumerate(left, 1))
        assert all(b > share ** (n / 3) - 0.15 for n, b in enumerate(left, 1))
    assert thin.compiled and thin.predict(X[:2], verbose=0).shape == (2, 3)


def test_weights_of_a_cut_in_steps_without_repair_are_slices_by_one_plan():
    model = network()
    thin, report = prune_keras.prune(model, {"flops": 0.4}, criterion="l1", steps=4)
    expected = shrink(model, report.plan)
    for one, other in zip(values(thin), values(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_step_scores_and_repairs_what_the_one_before_left():
    """By hand: cut, repair, and cut the thin model again as far as the second step goes."""
    model, data = network(), (X, Y)
    chosen = {"criterion": "taylor", "data": data, "fuse": "weights", "debias": "none"}
    thin, report = prune_keras.prune(model, {"flops": 0.5}, steps=2, **chosen)
    whole = prune_keras.cost(model)
    half, first = prune_keras.prune(model, {"flops": 0.5**0.5}, **chosen)
    by_hand, second = prune_keras.prune(half, {"flops": 0.5}, of=whole, **chosen)
    assert report.plan == first.plan.then(second.plan)
    assert report.steps == (first.after, second.after)
    for one, other in zip(values(thin), values(by_hand), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_one_step_is_what_was_done_ever_since():
    model = network()
    chosen = {"criterion": "taylor", "data": (X, Y), "target": {"flops": 0.5}}
    thin, report = prune_keras.prune(model, **chosen)
    same, again = prune_keras.prune(model, steps=1, **chosen)
    told, known = (dataclasses.replace(each, seconds={}) for each in (report, again))
    assert dataclasses.replace(told, origin=known.origin).to_dict() == known.to_dict()
    assert report.steps == () and "step" not in report.render()
    for one, other in zip(values(thin), values(same), strict=True):
        np.testing.assert_array_equal(one, other)


def test_limits_and_shares_of_an_original_are_those_of_the_whole_cut():
    model = network()
    original = prune_keras.cost(model)
    half, _ = prune_keras.prune(model, {"flops": 0.8}, criterion="l2")
    limits = {"min_units": 4, "max_layer_fraction": 0.3, "round_to": {"e": 2}}
    asked = {"criterion": "l2", "of": original, "steps": 3, **limits}
    thin, report = prune_keras.prune(half, {"flops": 0.62}, **asked)
    assert prune_keras.cost(thin).flops <= 0.62 * original.flops
    for path, (before, after) in report.widths.items():
        assert after >= max(4, 0.7 * before - 1e-9)
        assert path != "e" or after % 2 == 0


def test_the_report_tells_all_steps():
    _, report = prune_keras.prune(network(), {"flops": 0.5}, criterion="l2", steps=3)
    stored = json.loads(report.to_json())["steps"]
    assert [each["flops"] for each in stored] == [cost.flops for cost in report.steps]
    lines = [line for line in report.render().splitlines() if line.startswith("step ")]
    assert len(lines) == 3
    share = report.steps[1].flops / report.before.flops
    assert f"flops {share:.1%}" in lines[1] and lines[1].startswith("step 2: params ")


def test_what_scores_do_not_tell_is_noted_once():
    model = network()
    for layer in model.layers:
        layer.set_weights([np.ones_like(w) for w in layer.get_weights()])
    _, report = prune_keras.prune(model, {"neurons": 0.5}, criterion="l1", steps=3)
    notes = [note for note in report.notes if "tell no units apart" in note]
    assert len(notes) == len(set(notes)) >= 1


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, None, "2"])
def test_steps_are_counted(steps):
    with pytest.raises(ValueError, match=rf"`steps` must be a whole number.*steps={steps!r}"):
        prune_keras.prune(network(), {"flops": 0.5}, steps=steps)


def test_data_must_be_readable_at_each_step():
    model = network()
    for layer in model.layers:
        layer.trainable = False  # no statistics to measure
    read_once = iter([X[:8], X[8:16]])
    with pytest.raises(ValueError, match=r"readable more than once to score at each step.*steps=2"):
        prune_keras.prune(
            model, {"flops": 0.5}, criterion="activation_std", data=read_once, fuse=None, steps=2
        )
    assert len(list(read_once)) == 2


class Hidden(keras.optimizers.SGD):
    def get_config(self):
        raise NotImplementedError("no config")


def test_a_copy_that_cannot_be_compiled_is_found_out_before_anything_is_scored(monkeypatch):
    model = network()
    model.compile(Hidden(), keras.losses.SparseCategoricalCrossentropy(True))
    chosen = {"target": {"flops": 0.5}, "criterion": "taylor", "data": (X, Y), "fuse": None}
    thin, report = prune_keras.prune(model, **chosen)
    assert not thin.compiled
    monkeypatch.setattr(pruning, "score_graph", lambda *_: pytest.fail("scored"))
    with pytest.raises(
        ValueError, match=r"compiled to be scored by its loss at each step.*steps=1"
    ):
        prune_keras.prune(model, steps=2, **chosen)
    monkeypatch.undo()
    chosen["criterion"] = "reconstruction"
    thin, report = prune_keras.prune(model, steps=2, **chosen)
    assert len(report.steps) == 2


@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_error_at_any_step_leaves_the_model_as_it_was(step, monkeypatch):
    model, calls = network(), []
    before, config = values(model), model.get_config()
    scored = pruning.score_graph

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == step:
            raise RuntimeError("out of memory")
        return scored(*arguments)

    monkeypatch.setattr(pruning, "score_graph", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        prune_keras.prune(model, {"flops": 0.5}, data=(X, Y), steps=3)
    assert_unchanged(model, before)
    assert model.get_config() == config
    assert trace(model).widths == {"s": 8, "a": 7, "b": 8, "e": 9}


class Shaped(keras.Model):
    """A functional model of a class of one's own."""


def test_a_copy_keeps_its_class():
    model = network()
    own = Shaped(model.inputs, model.outputs)
    own.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    thin, report = prune_keras.prune(own, {"flops": 0.5}, data=(X, Y), steps=3)
    assert type(thin) is Shaped and thin.compiled and len(report.steps) == 3


@pytest.mark.repeats(1)
@pytest.mark.parametrize("seed", [3, 4])
def test_generated_networks_are_cut_in_steps(seed):
    numbers = np.random.default_rng(seed).integers(0, 2**16, 100)
    model = Recipe(tuple(numbers.tolist()), noise=False).build()
    if trace(model).neurons < 8:
        pytest.skip("too small")
    before = values(model)
    x = samples(model, count=16)
    data = x if len(x) > 1 else x[0]
    thin, report = prune_keras.prune(model, fraction=0.5, data=data, steps=3)
    assert_unchanged(model, before)
    assert {p: w for p, w in report.plan.new_widths.items() if p in trace(thin).widths} == trace(
        thin
    ).widths
    for made, planned in zip(thin.variables, shrink(model, report.plan).variables, strict=True):
        assert made.shape == planned.shape
