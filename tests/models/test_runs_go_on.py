"""A run that is killed while it prunes goes on from its backup, and comes to the same network."""

import csv

import keras
import numpy as np
import pytest

from prune_keras.models import images, records, runs


def data():
    random = np.random.default_rng(0)
    parts = (("train", 60), ("validation", 20), ("test", 20))
    made = {
        name: (random.integers(0, 200, (n, 6, 6, 1)).astype("uint8"), random.integers(0, 2, n))
        for name, n in parts
    }
    return images.Data(**made)


def build():
    layers = [keras.layers.Conv2D(6, 3, name="c"), keras.layers.Flatten(name="f")]
    layers += [keras.layers.Dense(8, "relu", name="d"), keras.layers.Dropout(0.3, name="drop")]
    layers.append(keras.layers.Dense(2, "softmax", name="e"))
    return keras.Sequential([keras.Input((6, 6, 1)), *layers], name="m")


def settings(**changes):
    chosen = {"epochs": 4, "fine_tune_epochs": 1, "dense_epochs": 1, "shift": 0, "samples": 30}
    chosen |= {"batch_size": 30, "verbose": 0, "pruning": {"target": {"params": 0.4}}}
    return runs.Settings(**chosen | changes)


class Killed(BaseException):
    """Stands for SIGKILL."""


def dense(recorder, epoch):
    return recorder.phase == "dense" and epoch == 0


def begun(recorder, epoch):
    return recorder.phase == "prune" and epoch == 0


def pruning(recorder, epoch):
    return recorder.phase == "prune" and epoch == 1


def tuning(recorder, epoch):
    return recorder.phase == "fine-tune"


def killed(folder, monkeypatch, when):
    """Run until an epoch ends, then as a new process begins: with other random numbers."""

    def dies(recorder, epoch, logs=None):
        whole(recorder, epoch, logs)
        if when(recorder, epoch):
            raise Killed

    whole = records.Recorder.on_epoch_end
    monkeypatch.setattr(records.Recorder, "on_epoch_end", dies)
    with pytest.raises(Killed):
        runs.run(build, data(), settings(), folder)
    monkeypatch.undo()
    keras.utils.set_random_seed(99)


def history(folder):
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


@pytest.mark.repeats(2)
@pytest.mark.parametrize("when", [dense, begun, pruning, tuning])
def test_it_comes_to_the_same_network(when, tmp_path, monkeypatch):
    runs.run(build, data(), settings(), tmp_path / "whole")
    killed(tmp_path / "killed", monkeypatch, when)
    runs.run(build, data(), settings(), tmp_path / "killed")
    assert not (tmp_path / "killed" / "backup").exists()
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    whole, again = (
        keras.models.load_model(tmp_path / n / "pruned.keras") for n in ("whole", "killed")
    )
    np.testing.assert_equal(again.get_weights(), whole.get_weights())


def test_another_run_does_not_go_on_from_its_backup(tmp_path, monkeypatch):
    killed(tmp_path, monkeypatch, pruning)
    assert (tmp_path / "backup").exists()
    with pytest.raises(ValueError, match="was made with"):
        runs.run(build, data(), settings(seed=1, dense_epochs=1), tmp_path)
