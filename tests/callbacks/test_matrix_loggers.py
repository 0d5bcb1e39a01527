"""Every callback of Keras that writes down what it sees, before ProgressivePruning and after it."""

import csv
import json
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from beside import SCORES, beside, eager, events, in_order, works_in
from fits import dense_model, fit, judged

import prune_keras
from prune_keras.callbacks import ScoreHistory

CASES = []
works = works_in(CASES)


@works(
    "`CSVLogger`", "a row an epoch; listed after it, with what a cut left, and how many there were"
)
def test_rows_are_written_as_the_history_tells_them(place, tmp_path):
    file = tmp_path / "log.csv"
    _, history = beside(place, keras.callbacks.CSVLogger(file))
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    costs = {"neurons", "params", "flops", "round", "rolled_back", "pruning_seconds"}
    costs = costs if place == "after" else set()
    columns = {"epoch", "accuracy", "loss", "score", "val_accuracy", "val_loss"} | costs
    assert set(rows[0]) == columns
    for name in columns - {"epoch"}:
        np.testing.assert_allclose([float(row[name]) for row in rows], history[name], rtol=1e-6)


@works(
    "`TensorBoard(histogram_freq=1, write_graph=True)`",
    "histograms of the weights that are there; listed after it, curves of `neurons` too",
)
def test_events_tell_of_the_weights_that_are_there(place, tmp_path):
    pytest.importorskip("tensorboard")
    tensorflow, sizes = pytest.importorskip("tensorflow"), []

    def note_size(batch, logs=None):
        sizes.append(np.prod(model.get_layer("hidden0").kernel.shape))

    model = dense_model()
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, write_graph=True)
    note = keras.callbacks.LambdaCallback(on_train_batch_end=note_size)
    _, history = beside(place, board, note, model=model)
    found = events(tensorflow, tmp_path)
    assert ("epoch_neurons" in found) == (place == "after")
    assert [step for step, _ in found["epoch_loss"]] == [0, 1, 2, 3] * 2  # training, validation
    assert "keras" in found  # the graph of layers
    path = model.get_layer("hidden0").kernel.path
    buckets = [tensorflow.make_ndarray(tensor) for _, tensor in found[f"{path}/histogram"]]
    assert [each[:, 2].sum() for each in buckets] == sizes[1::2]  # of two batches
    assert len(set(sizes)) > 1


@works("`RemoteMonitor`", "what it sends can be read as JSON")
def test_a_monitor_sends_every_epoch(place, monkeypatch):
    sent = []

    def post(url, data, headers):
        sent.append(json.loads(data["data"]))

    errors = SimpleNamespace(RequestException=OSError)
    stand_in = SimpleNamespace(post=post, exceptions=errors)
    monkeypatch.setattr("keras.src.callbacks.remote_monitor.requests", stand_in)
    _, history = beside(place, keras.callbacks.RemoteMonitor())
    assert [each["epoch"] for each in sent] == [0, 1, 2, 3]
    assert [each["val_loss"] for each in sent] == history["val_loss"]
    if place == "after":
        assert [each["neurons"] for each in sent] == history["neurons"]


@works("`LambdaCallback`", "its functions are called as without pruning")
def test_functions_are_called_as_without_pruning(place):
    calls = []

    def noting(name):
        # Keras passes the logs of some by name.
        return lambda *given, **_: calls.append((name, *(g for g in given if isinstance(g, int))))

    names = ("train_begin", "epoch_begin", "train_batch_begin", "train_batch_end", "epoch_end")
    hooks = {f"on_{name}": noting(name) for name in (*names, "train_end")}
    beside(place, keras.callbacks.LambdaCallback(**hooks))
    batches = [(f"train_batch_{end}", number) for number in (0, 1) for end in ("begin", "end")]
    epochs = [[("epoch_begin", n), *batches, ("epoch_end", n)] for n in range(len(SCORES))]
    assert calls == [("train_begin",), *sum(epochs, []), ("train_end",)]


@works("`ProgbarLogger`", "the bar runs; listed after it, with `neurons`, `params` and `flops`")
def test_the_bar_runs(place, capsys):
    _, history = beside(place, keras.callbacks.ProgbarLogger(), verbose=1)
    shown = capsys.readouterr().out
    assert [f"Epoch {epoch}/4" in shown for epoch in range(1, 6)] == [True] * 4 + [False]
    found = re.findall(r"neurons: (\d+)", shown)
    assert [int(count) for count in found] == (history["neurons"] if place == "after" else [])


@works(
    "`History`",
    "an entry an epoch; the one that `fit` returns tells `neurons`, `params` and `flops`, your own "
    "if it is listed after it",
)
def test_a_history_has_every_epoch(place):
    own = keras.callbacks.History()
    score = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: logs.update(score=0.9))
    pruning = judged(monitor="score", mode="max")
    fit(eager(dense_model()), score, *in_order(place, pruning, own), epochs=2)
    assert own.epoch == [0, 1]
    assert len(own.history["val_loss"]) == 2
    assert own.history.get("neurons") == ([18, 14] if place == "after" else None)
    _, history = beside(place)
    assert history["neurons"] == [18, 14, 16, 14]


@works(
    "`prune_keras.callbacks.ScoreHistory`",
    "records the scores of the model that is there; units that are gone are NaN, and those of a "
    "round that is undone are back",
)
def test_score_history_follows_the_rounds(place):
    history, seen = ScoreHistory("l1"), {}

    class Scores(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen[epoch + 1] = prune_keras.score(self.model, "l1")

    beside(place, history, Scores())
    assert history.epochs == [0, 1, 2, 3, 4]
    gone = []
    for path, records in history.scores["l1"].items():
        for epoch, scores in seen.items():
            np.testing.assert_array_equal(records[epoch][np.isfinite(records[epoch])], scores[path])
        gone.append(np.isnan(records).sum(axis=1))
    first, *rest = sum(gone).tolist()
    assert first == 0 and rest[0] > 0 and rest[1] > rest[0] and rest[2] < rest[1]
