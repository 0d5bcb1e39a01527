"""Data without an end, or without a word of it: refused before training, and never read forever."""

import itertools

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.callbacks import ProgressivePruning
from prune_keras.samples import ending
from prune_keras.samples.batches import batches

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 2)).astype("float32")


def small_model(norm=False):
    hidden = [keras.layers.Dense(6), *([keras.layers.BatchNormalization()] if norm else [])]
    model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(2)])
    model.compile("sgd", "mse", run_eagerly=True)
    return model


class Batches(keras.utils.PyDataset):
    """Batches by their number; how many there are is up to `number`."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def __getitem__(self, index):
        return X, Y

    @property
    def num_batches(self):
        return self.number


class Numberless(keras.utils.PyDataset):
    def __getitem__(self, index):
        return X, Y


class Reading:
    """Batches anew whenever they are asked for, without a word of how many."""

    def __init__(self, number=None):
        self.number = number

    def __iter__(self):
        return itertools.islice(itertools.repeat((X, Y)), self.number)


def repeated():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensors((X, Y)).repeat()


def filtered():
    return repeated().filter(lambda x, y: True)


def generated():
    tf = pytest.importorskip("tensorflow")
    kinds = tuple(tf.TensorSpec(array.shape, tf.float32) for array in (X, Y))
    return tf.data.Dataset.from_generator(Reading().__iter__, output_signature=kinds)


TOLD = {
    "repeated": (repeated, "repeats forever. Pass data.take"),
    "PyDataset": (lambda: Batches(None), "PyDataset without a number of batches, Batches"),
    "numberless": (Numberless, "PyDataset without a number of batches, Numberless"),
}
UNTOLD = {"iterable": Reading, "filtered": filtered, "generated": generated}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(ending, "MOST", 200)


@pytest.mark.parametrize("criterion", ["auto", "taylor", "apoz"])
@pytest.mark.parametrize("name", TOLD)
def test_data_that_say_they_have_no_end_are_refused_at_construction(name, criterion):
    make, message = TOLD[name]
    with pytest.raises(ValueError, match=message):
        ProgressivePruning(target={"params": 0.5}, data=make(), criterion=criterion)


@pytest.mark.parametrize("criterion", ["auto", "l2"])
@pytest.mark.parametrize("name", UNTOLD)
def test_data_that_do_not_end_are_refused_before_the_first_batch(name, criterion):
    pruning = ProgressivePruning(
        max_drop=0.1, monitor="loss", data=UNTOLD[name](), criterion=criterion, verbose=0
    )  # with a bound, nothing is cut or scored before the second epoch
    model = small_model()
    batch = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda *_: pytest.fail("a batch"))
    with pytest.raises(ValueError, match="must end, or tell its length. Received: more than 200"):
        model.fit(X, Y, callbacks=[pruning, batch], verbose=0)
    assert prune_keras.cost(model).neurons == 6


@pytest.mark.parametrize("name", [*TOLD, *UNTOLD])
def test_what_scores_or_prunes_ends_with_an_error(name):
    make = UNTOLD.get(name) or TOLD[name][0]
    for do in (
        lambda data: prune_keras.score(small_model(), "taylor", data),
        lambda data: prune_keras.prune(small_model(), fraction=0.5, data=data),
    ):
        with pytest.raises(ValueError, match="`data` must end"):
            do(make())
    with pytest.raises(ValueError, match="`data` must end"):
        prune_keras.score(small_model(), "taylor", iter(make()))


@pytest.mark.parametrize("name", [*TOLD, *UNTOLD])
def test_a_few_batches_of_them_suffice_for_statistics(name):
    make = UNTOLD.get(name) or TOLD[name][0]
    assert len(list(batches(make(), steps=3))) == 3
    pruning = ProgressivePruning(
        target={"neurons": 0.5}, fraction=0.5, data=make(), criterion="l2", fuse=None, verbose=0
    )
    model = small_model(norm=True)
    model.fit(X, Y, callbacks=[pruning], verbose=0)
    assert prune_keras.cost(model).neurons == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: Batches(3),
        lambda: Reading(3),
        lambda: [(X, Y)] * 3,
        lambda: filtered().take(3),
        lambda: repeated().take(3),
        lambda: Batches(300),
        lambda: [(X, Y)] * 300,
    ],
)
def test_data_that_end_are_read_to_the_end(make):
    assert len(list(batches(make()))) in (3, 300)
    pruning = ProgressivePruning(target={"neurons": 0.5}, fraction=0.5, data=make(), verbose=0)
    model = small_model()
    model.fit(X, Y, callbacks=[pruning], verbose=0)
    assert prune_keras.cost(model).neurons == 3


def test_a_dataset_of_no_batches_holds_no_sample():
    with pytest.raises(ValueError, match="at least one sample"):
        list(batches(Batches(0)))
