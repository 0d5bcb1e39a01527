"""ScoreHistory: what it records, beside pruning too, what it writes, and what it refuses."""

import csv

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, assert_same, callback, dense_model, fit, judged, state_of

import prune_keras
from prune_keras.callbacks import ScoreHistory


class Scores(keras.callbacks.Callback):
    """Scores by hand, before and after each epoch."""

    def on_train_begin(self, logs=None):
        self.found = [prune_keras.score(self.model, "l2")]

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(prune_keras.score(self.model, "l2"))


@pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3]), (2, [0, 2]), (5, [0])])
def test_scores_are_recorded_before_training_and_every_few_epochs(every, epochs):
    model, history, by_hand = dense_model(), ScoreHistory(every=every), Scores()
    fit(model, by_hand, history, epochs=3)
    assert history.epochs == epochs
    assert list(history.scores) == ["l2"]
    for path, records in history.scores["l2"].items():
        expected = [by_hand.found[epoch][path] for epoch in epochs]
        np.testing.assert_array_equal(records, expected)


def test_recording_changes_nothing():
    states = []
    for others in ([], [ScoreHistory(["l2", "taylor", "apoz"], data=(SAMPLES, LABELS))]):
        keras.utils.set_random_seed(0)
        model = dense_model()
        history = fit(model, *others, shuffle=False).history
        states.append(dict(enumerate([*state_of(model).values(), history])))
    assert_same(*states)


@pytest.mark.parametrize("first", [False, True])
def test_beside_pruning_units_stay_in_their_place(first):
    model, history, pruning = dense_model(), ScoreHistory(["l1", "random"], seed=0), callback()
    fit(model, *((history, pruning) if first else (pruning, history)))
    plan = pruning.report.plan
    for records in history.scores.values():
        for path, scores in records.items():
            assert scores.shape == (4, plan.widths[path])
            assert np.isfinite(scores[0]).all()
            assert np.array_equal(np.flatnonzero(np.isfinite(scores[-1])), plan.kept[path])
    left = prune_keras.score(model, "l1")
    for path, scores in left.items():
        np.testing.assert_array_equal(history.scores["l1"][path][-1, plan.kept[path]], scores)


def test_units_of_a_round_that_is_undone_come_back():
    model, history = dense_model(), ScoreHistory()
    pruning = judged(fraction=0.5, monitor="neurons", mode="max", max_drop=1, baseline=24)
    fit(model, pruning, history, epochs=3)
    counts = [
        sum(int(np.isfinite(records[n]).sum()) for records in history.scores["l2"].values())
        for n in range(4)
    ]
    kept = [done.kept for done in pruning.rounds]
    assert kept[0] is False and counts[:3] == [24, 12, 18]


def test_a_second_fit_goes_on_and_another_model_begins_anew():
    model, history = dense_model(), ScoreHistory()
    fit(model, history, epochs=2)
    fit(model, history, epochs=1)
    assert history.epochs == [0, 1, 2, 3]
    fit(dense_model((5,)), history, epochs=1)
    assert history.epochs == [0, 1]
    assert history.scores["l2"]["hidden0"].shape == (2, 5)


def test_npz_and_csv_hold_the_same(tmp_path):
    history = ScoreHistory(["l1", "l2"], file=tmp_path / "logs" / "scores.npz")
    fit(dense_model(), history, callback(), epochs=2)
    stored = np.load(tmp_path / "logs" / "scores.npz")
    assert stored["epochs"].tolist() == [0, 1, 2]
    assert sorted(stored) == sorted(
        ["epochs", "l1/hidden0", "l1/hidden1", "l2/hidden0", "l2/hidden1"]
    )
    history.save(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("l1/hidden0", "l2/hidden1"):
        criterion, path = name.split("/")
        table = np.full(stored[name].shape, np.nan)
        for row in rows:
            if (row["criterion"], row["path"]) == (criterion, path):
                table[int(row["epoch"]), int(row["unit"])] = float(row["score"])
        np.testing.assert_array_equal(table, stored[name])
    assert len(rows) == sum(np.isfinite(stored[name]).sum() for name in stored if "/" in name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criteria": []}, r"criteria=\[\]"),
        ({"criteria": ["l2", "l2"]}, r"different names. Received: criteria=\['l2', 'l2'\]"),
        ({"criteria": "best"}, "'best'"),
        ({"every": 0}, "every=0"),
        ({"file": "scores.txt"}, "file='scores.txt'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ScoreHistory(**arguments)


def test_what_a_criterion_needs_is_missed_before_the_first_batch():
    with pytest.raises(ValueError, match="'apoz' looks at samples. Received: data=None"):
        fit(dense_model(), ScoreHistory("apoz"))


def test_a_model_that_another_hand_cut_is_refused():
    model, history = dense_model(), ScoreHistory()
    fit(model, history, epochs=1)
    plan = prune_keras.select(
        prune_keras.trace(model), prune_keras.score(model, "l2"), fraction=0.25
    )
    prune_keras.shrink_in_place(model, plan)
    with pytest.raises(ValueError, match="must keep its widths, or be cut by"):
        fit(model, history, epochs=1)


def test_records_that_begin_in_a_thinner_model_have_the_places_of_the_first_one():
    model, pruning, late = dense_model(), callback(), ScoreHistory()
    fit(model, pruning, epochs=2)
    fit(model, pruning, late, epochs=2)
    kept = pruning.report.plan.kept
    for path, records in late.scores["l2"].items():
        there = np.isfinite(records[-1])
        np.testing.assert_array_equal(np.flatnonzero(there), kept[path])
        assert (
            len(there) == pruning.report.plan.widths[path] and np.isfinite(records[0][there]).all()
        )


def test_a_model_with_a_call_of_its_own_is_scored():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(8, activation="relu", name="hidden")
            self.classes = keras.layers.Dense(3, activation="softmax", name="classes")

        def call(self, x):
            return self.classes(self.hidden(x))

    model = Subclassed()
    model(SAMPLES)
    model.compile("adam", "sparse_categorical_crossentropy")
    history = ScoreHistory("taylor", data=(SAMPLES, LABELS))
    model.fit(SAMPLES, LABELS, epochs=2, callbacks=[history], verbose=0)
    assert history.scores["taylor"]["hidden"].shape == (3, 8)
