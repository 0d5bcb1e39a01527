"""Scores that are taken while `fit` runs: what fit logs, how it weighs, in what batches."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras.callbacks import ProgressivePruning, ScoreHistory

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype("float32")
Y = RNG.integers(0, 3, 48)
WEIGHT = {0: 4.0, 1: 0.0, 2: 1.0}
OUTPUTS = {"one": X[:, :1], "two": X[:, 1:2]}


def classifier():
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(8, activation="relu", name="a")
    model = keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def two_outputs():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.Dense(12, activation="relu", name="a")(inputs)
    x = layers.Dropout(0.5, seed=1)(layers.BatchNormalization(name="norm")(x))
    model = keras.Model(inputs, {name: layers.Dense(1, name=name)(x) for name in OUTPUTS})
    losses, metrics = {name: "mse" for name in OUTPUTS}, {name: ["mae"] for name in OUTPUTS}
    model.compile(keras.optimizers.SGD(0.0), losses, metrics=metrics, run_eagerly=True)
    return model


@pytest.mark.parametrize("criterion", ["taylor", "oracle"])
def test_records_of_scores_leave_the_logs_as_they_are(criterion):
    far = (100 * X, {name: 100 * y for name, y in OUTPUTS.items()})
    options = {"epochs": 2, "batch_size": 24, "verbose": 0, "shuffle": False}
    plain = two_outputs().fit(X, OUTPUTS, validation_data=(X, OUTPUTS), **options)
    watched = two_outputs().fit(
        X,
        OUTPUTS,
        validation_data=(X, OUTPUTS),
        callbacks=[ScoreHistory(criterion, data=far)],
        **options,
    )
    assert watched.history == plain.history


@pytest.mark.parametrize("pace", [{}, {"batches_per_round": 1}], ids=["epochs", "batches"])
def test_a_cut_leaves_the_losses_of_outputs_as_they_are(pace):
    """The losses of the outputs sum up to the loss, whatever data are scored with meanwhile."""
    far = (100 * X, {name: 100 * y for name, y in OUTPUTS.items()})
    pruning = ProgressivePruning(
        {"neurons": 0.5}, fraction=0.2, data=far, monitor="loss", verbose=0, **pace
    )
    options = {"epochs": 3, "batch_size": 24, "verbose": 0, "validation_data": (X, OUTPUTS)}
    logs = two_outputs().fit(X, OUTPUTS, callbacks=[pruning], **options).history
    assert len(pruning.rounds) > 1
    for kind in ("", "val_"):
        parts = np.add(logs[f"{kind}one_loss"], logs[f"{kind}two_loss"])
        np.testing.assert_allclose(parts, logs[f"{kind}loss"], rtol=1e-4)


def test_scores_are_weighted_as_fit_weighs_classes():
    data, weights = (X, Y), np.array([WEIGHT[y] for y in Y], "float32")
    model = classifier()
    expected = prune_keras.score(model, "taylor", (*data, weights))["a"]
    plain = prune_keras.score(model, "taylor", data)["a"]
    assert not np.allclose(expected, plain, rtol=0.05)
    for given, wanted in ((data, expected), ((*data, np.ones(48, "float32")), plain)):
        history, model = ScoreHistory("taylor", data=given), classifier()
        model.fit(X, Y, class_weight=WEIGHT, callbacks=[history], verbose=0)
        np.testing.assert_allclose(history.scores["taylor"]["a"][0], wanted, rtol=1e-4)


def test_cuts_go_by_the_weighted_loss():
    """A unit that only a class without weight uses goes first."""
    model = classifier()
    units = np.zeros((6, 8), "float32")
    units[0] = np.linspace(0.5, 1.2, 8)
    model.layers[0].set_weights([units, np.full(8, 3.0)])
    last = np.zeros((8, 3), "float32")
    last[:, 1], last[2] = 0.01, [0.5, 0, -0.5]
    model.layers[1].set_weights([last, np.zeros(3)])
    weights = np.array([WEIGHT[y] for y in Y], "float32")
    scores = prune_keras.score(model, "taylor", (X, Y, weights))["a"]
    options = {"criterion": "taylor", "fuse": None, "monitor": "loss", "verbose": 0}
    pruning = ProgressivePruning({"neurons": 0.5}, fraction=0.5, data=(X, Y), **options)
    model.fit(X, Y, class_weight=WEIGHT, callbacks=[pruning], verbose=0)
    assert pruning.report.plan.kept["a"].tolist() == sorted(np.argsort(scores)[4:].tolist())


@pytest.mark.parametrize(
    ("fit", "given", "expected"),
    [({"batch_size": 5}, None, 5), ({}, None, 32), ({"batch_size": 5}, 7, 7)],
)
def test_data_come_in_batches_of_fit(fit, given, expected, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "prune_keras.samples.subject.size_of", lambda x: sizes.append(len(x[0])) or len(x[0])
    )
    data = (np.zeros((320, 6), "float32"), np.zeros(320))
    options = {"criterion": "apoz", "fuse": None, "monitor": "loss", "verbose": 0}
    pruning = ProgressivePruning({"neurons": 0.6}, data=data, data_batch_size=given, **options)
    classifier().fit(X, Y, callbacks=[pruning], verbose=0, **fit)
    assert max(sizes) == expected
    sizes.clear()
    history = ScoreHistory("apoz", data=data, data_batch_size=given)
    classifier().fit(X, Y, callbacks=[history], verbose=0, **fit)
    assert max(sizes) == expected


def test_scores_that_tell_nothing_apart_are_told(capsys):
    model = classifier()
    model.layers[0].set_weights([np.zeros((6, 8)), np.zeros(8)])
    options = {"criterion": "taylor", "fuse": None, "monitor": "loss"}
    pruning = ProgressivePruning({"neurons": 0.6}, fraction=0.2, data=(X, Y), **options)
    model.fit(X, Y, epochs=2, callbacks=[pruning], verbose=0)
    told = "scores of 'taylor' tell no units apart in: a; there, units go by position"
    assert pruning.rounds[0].notes == (told,)
    assert pruning.rounds[0].to_dict()["notes"] == [told]
    assert pruning.report.notes.count(told) == 1
    assert told in capsys.readouterr().out


def test_samples_that_are_left_out_are_told(capsys):
    data = (np.tile(X, (100, 1)), np.tile(Y, 100))
    options = {"criterion": "apoz", "fuse": None, "monitor": "loss"}
    pruning = ProgressivePruning({"neurons": 0.6}, fraction=0.4, data=data, **options)
    classifier().fit(X, Y, callbacks=[pruning], verbose=0)
    told = "scores looked at 4,096 of 4,800 samples"
    assert told in capsys.readouterr().out
    assert any(note.startswith(told) for note in pruning.report.notes)
