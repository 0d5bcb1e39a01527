"""A fit whose process dies goes on from its last backup, and ends as it would have."""

import errno
import functools
import json
import re

import keras
import numpy as np
import pytest
from resumed import Kill, Killed, arrays, killed, outcome, run, small_model

from prune_keras import arrays as stored
from prune_keras import backups
from prune_keras.callbacks import Backup, ProgressivePruning

SCORED = {"target": None, "monitor": "score", "mode": "max", "floor": 0.8}
WAYS = {
    "rounds": {},
    "judged": SCORED,
    "batches": {"batches_per_round": 2},
    "batches undone": {"batches_per_round": 2} | SCORED,
    "several epochs": {"epochs_per_round": 2},
}
MOMENTS = [("epoch", 1), ("end", 1), ("batch", 8), ("batch", 13), ("end", 3)]


@functools.cache
def undisturbed(way, folder):
    return outcome(*run(folder, **WAYS[way]))


@pytest.mark.repeats(2)
@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_it_ends_as_it_would_have(way, moment, tmp_path, tmp_path_factory):
    whole = undisturbed(way, tmp_path_factory.getbasetemp() / f"whole {way}")
    backup = Backup(tmp_path, every=2)
    killed(backup, moment, **WAYS[way])
    np.testing.assert_equal(outcome(*run(backup, **WAYS[way])), whole)


def test_what_comes_after_the_end_draws_as_it_did(tmp_path):
    drawn = []
    for _ in range(2):
        run(tmp_path, data=lambda: {"x": Drawn()})
        kinds = keras.ops.convert_to_numpy(keras.random.uniform((3,))), np.random.random(3)
        drawn.append(kinds)
    np.testing.assert_equal(*drawn)


def averaging():
    return small_model(keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True))


def scheduled():
    rate = keras.optimizers.schedules.CosineDecay(0.1, 20)
    return small_model(keras.optimizers.SGD(rate, momentum=0.9), eager=False)


def accumulating():
    return small_model(keras.optimizers.Adam(gradient_accumulation_steps=3))


def halves():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return small_model()
    finally:
        keras.config.set_dtype_policy(before)


class Drawn(keras.utils.PyDataset):
    """Batches in an order that NumPy's global numbers draw, anew each epoch."""

    def __init__(self):
        super().__init__()
        self.on_epoch_end()

    def __len__(self):
        return 5

    def __getitem__(self, place):
        chosen = self.order[place * 5 : place * 5 + 5]
        return arrays()["x"][chosen], arrays()["y"][chosen]

    def on_epoch_end(self):
        self.order = np.random.permutation(24)


def generated():
    rng = np.random.default_rng(7)

    def endless():
        while True:
            chosen = rng.permutation(24)[:6]
            yield arrays()["x"][chosen], arrays()["y"][chosen]

    return {"x": endless(), "steps_per_epoch": 5, "shuffle": False}


def of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    given = arrays()
    dataset = tf.data.Dataset.from_tensor_slices((given["x"], given["y"]))
    return {"x": dataset.shuffle(24).batch(5), "shuffle": False}


BUILT = [averaging, scheduled, accumulating, halves]
DATA = [lambda: {"x": Drawn()}, generated, of_tensorflow]
KINDS = [("build", each) for each in BUILT] + [("data", each) for each in DATA]


@pytest.mark.repeats(1)
@pytest.mark.parametrize("moment", [("batch", 12), ("epoch", 2)], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: getattr(kind[1], "__name__", "data"))
def test_all_that_training_remembers_goes_on(kind, moment, tmp_path):
    arguments = dict([kind]) | SCORED
    backup = Backup(tmp_path / "backup", every=4)
    killed(backup, moment, **arguments)
    resumed = outcome(*run(backup, **arguments))
    np.testing.assert_equal(resumed, outcome(*run(tmp_path / "whole", **arguments)))


class Follower(keras.callbacks.Callback):
    """Counts epochs, and follows cuts, as a callback of a user's."""

    def __init__(self):
        super().__init__()
        self.counted, self.cuts = 0, []

    def on_epoch_end(self, epoch, logs=None):
        self.counted += 1
        logs["score"] = 0.9

    def on_cut(self, round, logs=None):
        self.cuts.append(round.number)

    def on_backup(self):
        return self.counted

    def on_resume(self, counted):
        self.counted = counted


def test_other_callbacks_count_on_and_follow(tmp_path):
    made = []

    def follower():
        made.append(Follower())
        return made[-1]

    def plateau():
        made.append(keras.callbacks.ReduceLROnPlateau("loss", patience=3, min_delta=9.0))
        return made[-1]

    beside = (follower, plateau)
    killed(tmp_path, ("end", 2), beside=beside)
    model, pruning, _ = run(tmp_path, beside=beside)
    first, last = made[2], made[3]
    assert first.counted == 4
    assert first.cuts == [each.number for each in pruning.rounds] == [1, 2, 3]
    assert last.wait == 0 and float(model.optimizer.learning_rate) < 1e-3


def test_what_has_ended_is_there_at_once_and_says_so(tmp_path, capsys):
    whole = outcome(*run(tmp_path))
    again = run(
        tmp_path,
        verbose=1,
        beside=(
            lambda: keras.callbacks.LambdaCallback(
                on_train_batch_begin=lambda *_: pytest.fail("a batch")
            ),
        ),
    )
    np.testing.assert_equal(outcome(*again), whole)
    assert re.search(r"Goes on from .*fit-1-\d+-.*: epoch 4, 3 rounds", capsys.readouterr().out)


@pytest.mark.slow
def test_each_fit_of_a_script_goes_on(tmp_path):
    def script(moment=None):
        model, pruning, _ = run(tmp_path, epochs=2)
        others = [] if moment is None else [moment]
        model.fit(**arrays(), epochs=2, verbose=0, callbacks=[pruning, *others])
        return outcome(model, pruning)

    with pytest.raises(Killed):
        script(Kill(("end", 1)))
    resumed = script()
    for each in tmp_path.glob("*.npz"):
        each.unlink()
    np.testing.assert_equal(resumed, script())


def test_a_full_disk_ends_the_fit_and_leaves_the_last_backup(tmp_path, monkeypatch, capsys):
    written = []

    def fails(file, values):
        stored_write(file, values)
        written.append(file)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    stored_write = stored.write
    monkeypatch.setattr(stored, "write", fails)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    monkeypatch.undo()
    assert len([*tmp_path.iterdir()]) == 2
    _, pruning, _ = run(tmp_path, verbose=1)
    assert "Goes on from" in capsys.readouterr().out and len(pruning.rounds) == 3


OTHERS = {
    "fraction": ({"fraction": 0.5}, r"call fraction was 0.25, now 0.5"),
    "model": (
        {"build": lambda: small_model("sgd")},
        r"optimizer.*(class was 'Adam', now 'SGD'|variables was)",
    ),
    "data": ({"data": lambda: arrays() | {"batch_size": 6}}, r"fit batches was 5, now 4"),
}


@pytest.mark.repeats(1)
@pytest.mark.parametrize("name", OTHERS)
def test_a_backup_of_something_else_is_refused_with_the_difference(name, tmp_path):
    other, message = OTHERS[name]
    killed(tmp_path, ("epoch", 1))
    before = [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **other)
    assert [*tmp_path.iterdir()] == before


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(backups, "FORMAT", 2)
    killed(tmp_path, ("epoch", 1))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="must be of format 1.*Received: .* of format 2"):
        run(tmp_path)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="must have a folder.*backup_dir=3"):
        ProgressivePruning(target={"neurons": 0.5}, backup_dir=3)
    with pytest.raises(ValueError, match="`every` must be a whole number"):
        Backup("folder", every=0)
    json.dumps(vars(Backup("folder")))
