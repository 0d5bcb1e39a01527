"""What `"auto"` stands for, in `prune` and in the callback, and how one is told."""

import json

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, dense_model, fit

import prune_keras

PAIR = (SAMPLES, LABELS)


def uncompiled():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(3)])


def without_loss():
    model = uncompiled()
    model.compile("sgd")
    return model


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return SAMPLES[index::2], LABELS[index::2]


BOTH = "mean(taylor, reconstruction), fused weights"
CASES = [
    (dense_model, None, "l2"),
    (uncompiled, None, "l2"),
    (dense_model, PAIR, BOTH),
    (dense_model, (*PAIR, np.ones(24)), BOTH),
    (dense_model, [PAIR], BOTH),
    (dense_model, Pairs(), BOTH),
    (dense_model, SAMPLES, "reconstruction, fused weights"),
    (dense_model, [(SAMPLES,)], "reconstruction, fused weights"),
    (uncompiled, PAIR, "reconstruction, fused weights"),
    (without_loss, PAIR, "reconstruction, fused weights"),
]


@pytest.mark.parametrize(("make", "data", "expected"), CASES)
def test_prune_takes_what_suits_and_tells_it(make, data, expected):
    model = make()
    thin, report = prune_keras.prune(model, fraction=0.5, data=data)
    assert report.scores == expected
    assert f"scores: {expected}\n" in report.render()
    assert json.loads(report.to_json())["scores"] == expected
    name, *fused = expected.split(", fused ")
    chosen = {"criterion": name, "fuse": fused[0] if fused else None}
    by_hand, named = prune_keras.prune(model, fraction=0.5, data=data, **chosen)
    assert named.plan == report.plan and named.scores == expected
    for mine, other in zip(thin.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


class Scaled(keras.layers.Dense):
    """A layer that is no Dense layer any more, and has no rule."""

    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, inputs, training=None):
        return super().call(inputs) * self.scale


def without_a_rule():
    inputs = keras.Input((6,))
    x = Scaled(8)(keras.layers.Dense(8)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(5, name="thin")(x)))


def reading_positions():
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, name="thin")(keras.layers.Reshape((3, 2))(inputs))
    x = keras.layers.Dense(4)(keras.layers.Permute((2, 1))(x))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


@pytest.mark.parametrize("make", [without_a_rule, reading_positions])
@pytest.mark.parametrize("data", [SAMPLES, PAIR])
def test_readers_that_tell_nothing_of_neurons_are_left_alone(make, data):
    model = make()
    model.compile("sgd", "sparse_categorical_crossentropy")
    thin, report = prune_keras.prune(model, fraction=0.4, data=data)
    assert report.widths["thin"][1] < 5
    assert np.isfinite(thin.predict(SAMPLES, verbose=0)).all()


@pytest.mark.parametrize(
    ("data", "expected"),
    [(None, "l2"), (PAIR, BOTH), (SAMPLES, "reconstruction, fused weights")],
)
def test_the_callback_takes_what_suits_and_tells_it(data, expected, capsys):
    pruning = callback(data=data, verbose=1)
    fit(dense_model(), pruning, epochs=2)
    assert pruning.report.scores == expected
    assert f"\nScores: {expected}\n" in capsys.readouterr().out


MANY = (np.tile(SAMPLES, (11, 1)), np.tile(LABELS, 11))  # 264 of them


@pytest.mark.parametrize(
    ("data", "repair"),
    [
        (MANY, "sequential"),
        ([MANY], "sequential"),
        ([(SAMPLES, LABELS)] * 11, "sequential"),
        (MANY[0], "sequential"),
        (tuple(each[:255] for each in MANY), "weights"),
    ],
)
def test_with_many_samples_prune_fits_all_weights_anew(data, repair):
    _, report = prune_keras.prune(dense_model(), fraction=0.5, data=data)
    assert report.scores.endswith(f", fused {repair}")


def test_where_training_follows_weights_are_fused():
    pruning = callback(data=MANY)
    fit(dense_model(), pruning, epochs=1)
    assert pruning.report.scores == BOTH


def test_the_callback_says_nothing_if_it_is_to_say_nothing(capsys):
    fit(dense_model(), callback(verbose=0), epochs=1)
    assert "Scores" not in capsys.readouterr().out


def test_each_fit_of_a_callback_looks_anew():
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8)(inputs)
    judge = keras.layers.Dense(1, activity_regularizer="l2")
    model, pruning = keras.Model(inputs, judge(hidden)), callback(data=PAIR)
    model.compile("sgd")
    model.fit(SAMPLES, epochs=1, callbacks=[pruning], verbose=0)
    assert pruning.report.scores == "reconstruction, fused weights"
    fit(dense_model(), pruning, epochs=1)
    assert pruning.report.scores == BOTH


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"criterion": "l1", "data": SAMPLES}, "l1, fused weights"),
        ({"criterion": "l1", "data": SAMPLES, "fuse": None}, "l1"),
        ({"fuse": "bias", "data": PAIR}, "mean(taylor, reconstruction), fused bias"),
        ({"fuse": None, "data": PAIR}, "mean(taylor, reconstruction)"),
        ({"criterion": "l1", "data": SAMPLES, "fuse": True}, "l1, fused weights"),
        ({"fuse": False, "data": PAIR}, "mean(taylor, reconstruction)"),
        ({"criterion": "random", "seed": 0}, "random"),
    ],
)
def test_what_is_given_stays(arguments, expected):
    assert prune_keras.prune(dense_model(), fraction=0.5, **arguments)[1].scores == expected
    pruning = callback(**arguments)
    fit(dense_model(), pruning, epochs=1)
    assert pruning.report.scores == expected


def test_a_function_without_a_name_is_told_as_it_is():
    class Widest:
        def __call__(self, kernel):
            return np.abs(kernel).max(axis=0)

        def __repr__(self):
            return "widest"

    report = prune_keras.prune(dense_model(), fraction=0.5, criterion=Widest())[1]
    assert report.scores == "widest"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "than once to choose .* iterator, with criterion='auto', fuse='auto'"),
        ({"criterion": "apoz"}, "or to fuse. .* criterion='apoz', fuse='auto'"),
        ({"fuse": None}, "criterion='auto', fuse=None"),
    ],
)
def test_what_can_be_read_once_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        prune_keras.prune(dense_model(), fraction=0.5, data=iter([SAMPLES]), **arguments)


def test_what_is_read_once_is_enough_for_a_criterion_alone():
    arguments = {"fraction": 0.5, "criterion": "mean_activation", "fuse": None}
    once = prune_keras.prune(dense_model(), data=iter([SAMPLES]), **arguments)[1]
    assert once.scores == "mean_activation"


def test_scores_alone_have_a_criterion_of_their_own():
    """Whoever asks for scores must know what they are."""
    with pytest.raises(ValueError, match="`criterion` must be one of .*'auto'"):
        prune_keras.score(dense_model(), "auto", PAIR)
