"""Batches from whatever a user holds, and what is refused."""

from pathlib import Path

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.samples.batches import batches
from prune_keras.samples.inputs import check_data

X, Y = np.arange(10.0).reshape(5, 2), np.arange(5)


class Pairs(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return 2

    def __getitem__(self, index):
        return X[index * 3 : index * 3 + 3], Y[index * 3 : index * 3 + 3]


@pytest.mark.parametrize(
    "data", [(X, Y), Pairs(), [(X[:3], Y[:3]), (X[3:], Y[3:])]], ids=["arrays", "dataset", "list"]
)
def test_every_sample_comes_once_with_its_target(data):
    found = list(batches(data, batch_size=3))
    x = np.concatenate([np.asarray(x) for x, _, _ in found])
    y = np.concatenate([np.asarray(y) for _, y, _ in found])
    assert sorted(y.tolist()) == Y.tolist()
    np.testing.assert_array_equal(x, X[y])


def test_first_batches_are_spread_over_an_array():
    (first, _, _), *_ = batches(np.arange(1000), batch_size=10, steps=1)
    assert first.tolist() == list(range(0, 1000, 100))


def test_inputs_alone_and_structures():
    assert [(y, w) for _, y, w in batches(X)] == [(None, None)]
    ((x, y, w),) = batches(({"a": X, "b": X}, Y, np.ones(5)))
    assert sorted(x) == ["a", "b"]
    assert (len(y), len(w)) == (5, 5)


def test_steps_end_what_repeats_forever():
    tf = pytest.importorskip("tensorflow")
    forever = tf.data.Dataset.from_tensors((X, Y)).repeat()
    assert len(list(batches(forever, steps=4))) == 4
    with pytest.raises(ValueError, match=r"repeats forever. Pass data.take"):
        list(batches(forever))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "data=None"),
        (X[:0], "at least one sample"),
        ([], "at least one sample"),
        ((X, Y[:4]), r"same number of samples. Received: \[4, 5\]"),
        ([(X, Y, Y, Y)], "4 parts"),
    ],
)
def test_bad_data_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        list(batches(data))


def test_data_for_every_round_is_finite_and_readable_again():
    inputs = [keras.KerasTensor((None, 2))]
    check_data((X, Y), inputs, steps=1)
    for data, message in [
        (iter([(X, Y)]), "an iterator"),
        (np.full_like(X, np.nan), "NaN or infinity"),
        ([[X, X]], "input arrays"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_data(data, inputs, steps=1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X[:, :1], r"must have the shape of the model's input, \(None, 2\). Received.*\(5, 1\)"),
        ((X[:, :1], Y), r"must have the shape of the model's input, \(None, 2\)"),
        ([X, Y], "Received: 2. Inputs and targets go together as a tuple"),
        ("samples.npz", "must be samples. Received: data='samples.npz'"),
        (Path("samples.npz"), "must be samples. Received"),
    ],
    ids=["inputs", "inputs and targets", "list", "text", "path"],
)
def test_pruning_says_what_is_wrong_with_data_that_does_not_fit(data, message):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=message):
        prune_keras.prune(model, fraction=0.5, data=data)
