"""Copies of callbacks: the same arguments, and nothing of the fits that the first was used in."""

import copy
import io
import pickle

import keras
import numpy as np
import pytest
from exits import fit, model_of
from fits import LABELS, SAMPLES, callback, neurons

from prune_keras.callbacks import ProgressivePruning, ScoreHistory


def pickled(made):
    return pickle.loads(pickle.dumps(made))


def used(made):
    fit(model_of(), made, epochs=2)
    return made


MAKERS = {"pruning": callback, "scores": lambda **data: ScoreHistory(["l1", "l2"], **data)}


@pytest.mark.repeats(6)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("data", [None, (SAMPLES, LABELS)])
def test_a_copy_of_a_used_callback_is_a_fresh_one(name, copied, data):
    first = used(MAKERS[name](data=data))
    second, fresh = copied(first), MAKERS[name](data=data)
    assert vars(second).keys() == vars(fresh).keys() == vars(first).keys()
    for field in first.__dataclass_fields__:
        np.testing.assert_equal(getattr(second, field), getattr(first, field))
    assert second.model is None and second.params is None
    if name == "pruning":
        assert second.rounds == [] and first.rounds
        assert used(second).report.after.neurons == first.report.after.neurons == 7
    else:
        assert second.epochs == [] and second.scores == fresh.scores
        assert used(second).epochs == first.epochs


def test_data_are_shared_and_arguments_copied():
    data, target = (SAMPLES, LABELS), {"neurons": 0.5}
    second = copy.deepcopy(ProgressivePruning(target=target, data=data))
    assert second.data is data
    assert second.target == target and second.target is not target


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("data", (each for each in ())),
        ("schedule", lambda number, share: share),
        ("exclude", lambda path: False),
    ],
)
def test_what_cannot_be_pickled_is_named(argument, value):
    first = callback(**{argument: value} | ({"fraction": 0.1} if argument == "schedule" else {}))
    assert getattr(copy.deepcopy(first), argument) is value
    with pytest.raises(ValueError, match=f"Received: {argument}=.*Pass a function of a module"):
        pickle.dumps(first)


def test_a_pickler_that_can_do_more_is_left_to_it():
    class ByValue(pickle.Pickler):
        def reducer_override(self, value):
            return (str, ("by value",)) if "<lambda>" in repr(value) else NotImplemented

        def dump(self, value):
            return super().dump(value)

    written = io.BytesIO()
    ByValue(written).dump(callback(exclude=lambda path: False))
    assert pickle.loads(written.getvalue()).exclude == "by value"


def test_what_a_subclass_adds_is_copied():
    class Named(ProgressivePruning):
        def __init__(self, name):
            super().__init__(target={"neurons": 0.5}, fraction=0.25, verbose=0)
            self.name = [name]

    first = used(Named("mine"))
    second = copy.deepcopy(first)
    assert second.name == ["mine"] and second.name is not first.name
    model = model_of()
    fit(model, second, epochs=1)
    assert neurons(model) == 9


def test_a_tuner_that_copies_a_list():
    first = [callback(), keras.callbacks.EarlyStopping("loss")]
    for _ in range(2):
        pruning, stopping = copy.deepcopy(first)
        fit(model_of(), pruning, stopping, epochs=1)
        assert len(pruning.rounds) == 1
    assert first[0].rounds == []
