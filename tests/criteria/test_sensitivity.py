"""The scan of sensitivity against models that are cut, and what is ranked by it."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, compiled, dense_model, fit

import prune_keras
from prune_keras import debias
from prune_keras.debias import Curve, Sensitivity

DATA = (SAMPLES, LABELS)


def trained():
    model = dense_model((8, 4))
    fit(model, epochs=30)
    return model


def scan(model, **arguments):
    return prune_keras.sensitivity(model, DATA, **{"monitor": "loss"} | arguments)


@pytest.mark.repeats(2)
@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
@pytest.mark.parametrize("criterion", ["l2", "taylor"])
def test_the_scan_is_what_models_measure_with_one_layer_cut(monitor, criterion):
    model = trained()
    table = scan(model, criterion=criterion, shares=(0.25, 0.75), monitor=monitor)
    scores = prune_keras.score(model, criterion, DATA)
    assert table.start == pytest.approx(
        model.evaluate(*DATA, verbose=0, return_dict=True)[monitor], rel=1e-5
    )
    rows = {(row["family"], row["share"]): row[monitor] for row in table.rows() if row["share"] < 1}
    assert sorted(rows) == [(f"hidden{n}", share) for n in (0, 1) for share in (0.25, 0.75)]
    for (path, share), metric in rows.items():
        kept = {p: np.arange(len(s)) for p, s in scores.items()}
        kept[path] = np.sort(np.argsort(scores[path])[int(share * len(scores[path])) :])
        widths = {p: len(s) for p, s in scores.items()}
        thin = prune_keras.shrink(model, prune_keras.Plan(kept, widths))
        expected = thin.evaluate(*DATA, verbose=0, return_dict=True)[monitor]
        assert metric == pytest.approx(expected, rel=1e-5)


def test_the_scan_ends_with_all_of_a_layer_silenced():
    model = trained()
    ends = {row["family"]: row["loss"] for row in scan(model).rows() if row["share"] == 1}
    assert list(ends) == ["hidden0", "hidden1"]
    for path, reader in zip(ends, model.layers[-2:], strict=True):
        kernel = np.array(reader.kernel)
        reader.kernel.assign(np.zeros_like(kernel))
        assert ends[path] == pytest.approx(model.evaluate(*DATA, verbose=0)[0], rel=1e-5)
        reader.kernel.assign(kernel)


def test_a_layer_that_loses_nothing_where_it_was_measured_is_not_emptied():
    model = trained()
    table = scan(model, shares=(0.25,))
    harmless = {name: replace(c, drops=(0.0, c.drops[-1])) for name, c in table.curves.items()}
    table = replace(table, curves=harmless)
    thin, _ = prune_keras.prune(model, fraction=0.6, debias=table)
    assert min(thin.get_layer(path).units for path in harmless) > 1


def test_the_model_stays_as_it_is():
    model = trained()
    before = [np.array(v) for v in [*model.variables, *model.optimizer.variables]]
    scan(model)
    after = [np.array(v) for v in [*model.variables, *model.optimizer.variables]]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_that_share_a_family_are_cut_together():
    inputs = keras.Input((6,))
    a, b = (keras.layers.Dense(6, name=name)(inputs) for name in "ab")
    x = keras.layers.Activation("relu")(keras.layers.Add()([a, b]))
    model = compiled(keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x)))
    table = scan(model, shares=(0.5,))
    assert list(table.curves) == ["a"]
    thin, _ = prune_keras.prune(model, fraction=0.5)
    left = thin.evaluate(*DATA, verbose=0, return_dict=True)["loss"]
    assert [row["share"] for row in table.rows()] == [0.5, 1.0]
    assert table.rows()[0]["loss"] == pytest.approx(left, rel=1e-5)


STEEP = Curve(10, (0.1, 0.5), (0.2, 0.6))
FLAT = Curve(10, (0.5, 0.9), (0.0, 0.1))
TABLE = Sensitivity("accuracy", "max", 0.9, {"a": STEEP, "b": FLAT})


def test_layers_are_cut_to_the_same_drop():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(10, name="b")(keras.layers.Dense(10, name="a")(inputs))
    graph = prune_keras.trace(keras.Model(inputs, keras.layers.Dense(2, name="out")(x)))
    scores = {"a": np.arange(10.0), "b": np.arange(10.0) * 1000}
    # a is at 0.2, 0.3, 0.4 ... with each neuron, b at nothing five times, then 0.025, 0.05 ...
    for count, widths in [(5, (10, 5)), (9, (10, 1)), (10, (9, 1)), (12, (7, 1))]:
        plan = prune_keras.select(graph, scores, fraction=count / 20, debias=TABLE)
        assert tuple(plan.new_widths.values()) == widths


def test_a_thin_family_goes_on_where_it_stands():
    whole = TABLE(np.arange(10.0), debias.Saving("a", 1, 1))
    thin = TABLE(np.arange(6.0), debias.Saving("a", 1, 1))
    np.testing.assert_allclose(thin, whole[4:])


def test_the_order_within_a_family_stays_where_the_metric_rises():
    by = Sensitivity("accuracy", "max", 0.5, {"a": Curve(4, (0.25, 0.5), (0.1, -0.2))})
    values = by(np.array([4.0, 3.0, 2.0, 1.0]), debias.Saving("a", 1, 1))
    assert (np.diff(values) < 0).all()


def test_ratios_are_the_largest_shares_within_a_drop():
    assert TABLE.ratios(0.0) == {"a": 0.0, "b": 0.5}
    assert TABLE.ratios(0.3) == {"a": 0.1, "b": 0.9}
    assert TABLE.ratios(0.6) == {"a": 0.5, "b": 0.9}


def test_no_layer_may_go_whole_at_any_drop():
    table = Sensitivity("accuracy", "max", 0.9, {"a": Curve(4, (0.5, 1.0), (0.1, 0.2))})
    assert table.ratios(0.9) == {"a": 0.5}


def test_config_gives_the_same_table_back():
    assert debias.get(debias.serialize(TABLE)) == TABLE


def test_rounds_go_by_a_table():
    model = trained()
    pruning = callback(debias=scan(model), criterion="l2")
    fit(model, pruning, epochs=4)
    assert pruning.report.after.neurons == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shares": (0.5, 0.1)}, r"rising. Received: shares=\(0.5, 0.1\)"),
        ({"shares": ()}, r"shares=\(\)"),
        ({"shares": (0.5, 1.0)}, "shares=1.0"),
        ({"monitor": "auc"}, r"monitor='auc', while it has \['accuracy', 'loss'\]"),
        ({"criterion": "best"}, "'best'"),
    ],
)
def test_bad_requests_say_what_was_received(arguments, message):
    with pytest.raises(ValueError, match=message):
        scan(dense_model(), **arguments)


def test_a_model_without_metrics_and_another_family_are_refused():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="not compiled"):
        scan(model)
    with pytest.raises(ValueError, match=r"family 'c', while it knows \['a', 'b'\]"):
        TABLE(np.ones(3), debias.Saving("c", 1, 1))


def test_a_metric_that_is_no_number_is_refused():
    layers = [keras.layers.Dense(8, name="a"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile("sgd", "mse")
    targets = SAMPLES[:, :1].copy()
    targets[20] = np.nan
    with pytest.raises(ValueError, match="finite. Received: loss=nan"):
        prune_keras.sensitivity(model, (SAMPLES, targets), monitor="loss")


def test_a_list_of_batches_is_measured_as_its_arrays():
    model = trained()
    batches = [(SAMPLES[:12], LABELS[:12]), (SAMPLES[12:], LABELS[12:])]
    asked = {"shares": (0.5,), "monitor": "loss"}
    found = prune_keras.sensitivity(model, batches, **asked)
    expected = prune_keras.sensitivity(model, (SAMPLES, LABELS), **asked)
    assert [row["share"] for row in found.rows()] == [row["share"] for row in expected.rows()]
    drops = [[row["loss"] for row in table.rows()] for table in (found, expected)]
    np.testing.assert_allclose(*drops, atol=1e-6)


def test_a_model_with_a_call_of_its_own_is_scanned():
    model = Subclassed()
    model(SAMPLES)
    compiled(model)
    assert {row["family"] for row in scan(model).rows()} == {"hidden"}


class Subclassed(keras.Model):
    """Built by its constructor, as a copy of a class must be."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(8, activation="relu", name="hidden")
        self.classes = keras.layers.Dense(3, activation="softmax", name="classes")
        self(keras.ops.zeros((1, 6)))

    def call(self, x):
        return self.classes(self.hidden(x))
