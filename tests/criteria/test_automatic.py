"""What `"auto"` stands for, in `prune` and in the callback, and how one is told."""

import json

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, dense_model, fit

import prune_keras
from prune_keras import criteria
from prune_keras.auto import Scoring
from prune_keras.criteria import OptimalBrainSurgeon
from prune_keras.repair import Refit
from prune_keras.ways import Way

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


FLOPS = {"flops": 0.5}
OBS = {"criterion": "obs", "scope": "optimal", "fuse": "sequential"}
OLD = {"criterion": "mean(taylor, reconstruction)", "scope": "global"}


def flattened():
    """Return a model whose cheap layer has many neurons, so that scopes do not agree."""
    inputs = keras.Input((6,))
    x = keras.layers.Reshape((6, 1))(inputs)
    x = keras.layers.Conv1D(6, 3, activation="relu", padding="same", name="conv")(x)
    x = keras.layers.Conv1D(6, 3, activation="relu", padding="same", name="more")(x)
    x = keras.layers.Dense(16, activation="relu", name="hidden")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def way(model=None, criterion="auto", scope="auto", debias="auto", fuse="auto", **asked):
    """Return how a model is cut, without a cut."""
    asked = {"data": MANY, "target": FLOPS} | asked
    model = flattened() if model is None else model
    return Way.of(Scoring(criterion, fuse), (scope, debias, "mean"), model, **asked)


def told(found):
    return found.scoring.name, found.ranking.scope, found.ranking.by.__name__


def test_obs_goes_with_optimal():
    model = flattened()
    report = prune_keras.prune(model, FLOPS, data=MANY)[1]
    by_hand = prune_keras.prune(model, FLOPS, data=MANY, **OBS)[1]
    assert (report.plan, report.scores) == (by_hand.plan, by_hand.scores)
    assert report.notes[0] == ("scored by obs with scope='optimal', which lose least")
    assert not any(note.startswith("scored by") for note in by_hand.notes)


@pytest.mark.parametrize("fuse", ["auto", "weights", "sequential", Refit()])
@pytest.mark.parametrize("data", [MANY, [PAIR] * 11, (*MANY, np.ones(264))])
def test_both_are_chosen_of_any_data_and_target_and_repair(data, fuse):
    for target in (FLOPS, {"params": 100}, {"neurons": 0.9, "activation_bytes": 0.5}):
        found = way(data=data, target=target, fuse=fuse)
        assert told(found) == ("obs", "optimal", "none")
    assert found.otherwise.scoring.fuse == found.scoring.fuse


@pytest.mark.parametrize(
    "named", [{"criterion": "obs"}, {"scope": "optimal"}, {"criterion": OptimalBrainSurgeon(0.1)}]
)
@pytest.mark.parametrize("asked", [{"data": PAIR}, {"target": None}, {"fuse": None}])
def test_to_one_of_obs_and_optimal_the_other_one_is_chosen(named, asked):
    found = way(**named, **asked)
    assert told(found) == ("obs", "optimal", "none") and found.otherwise is None
    assert found.scoring.criterion == criteria.get(named.get("criterion", "obs"))
    assert found.notes[0].startswith("scored by obs with scope='optimal', ")


AGAINST = [
    ({"data": PAIR}, "there are fewer than 256 samples"),
    ({"data": MANY[0]}, "there are no targets, or no loss"),
    ({"model": uncompiled()}, "there are no targets, or no loss"),
    ({"target": {"neurons": 0.5}}, "no target says what neurons cost"),
    ({"target": None}, "no target says what neurons cost"),
    ({"debias": "max"}, "a debias is named"),
    ({"fuse": None}, "no weights make up for what goes, fuse=None"),
    ({"fuse": "bias"}, "no weights make up for what goes, fuse='bias'"),
]


@pytest.mark.parametrize(("given", "why"), AGAINST)
def test_what_speaks_against_both_is_told(given, why):
    found = way(**given)
    name = "reconstruction" if "targets" in why else OLD["criterion"]
    assert told(found) == (name, "global", given.get("debias", "mean"))
    assert found.notes == (
        f"scored by {name} with scope='global', and not by obs with 'optimal': {why}",
    )


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"criterion": "taylor", "scope": "optimal"}, ("taylor", "optimal", "none")),
        ({"scope": "uniform"}, (OLD["criterion"], "uniform", "mean")),
        ({"scope": "per_cost"}, (OLD["criterion"], "per_cost", "mean")),
        ({"criterion": "l2"}, ("l2", "global", "mean")),
        ({"criterion": "obs", "scope": "global"}, ("obs", "global", "none")),
        ({"data": None}, ("l2", "global", "mean")),
    ],
)
def test_what_is_named_is_taken_without_a_word(named, expected):
    found = way(**named)
    assert told(found) == expected and found.notes == () and found.otherwise is None


def test_obs_that_takes_a_debias_is_ranked_globally_and_that_is_told():
    found = way(criterion="obs", debias="mean")
    assert told(found) == ("obs", "global", "mean")
    assert found.notes == ("scored by obs with scope='global', as 'optimal' takes no debias",)


def test_inputs_alone_tell_nothing_that_optimal_could_sum():
    with pytest.raises(ValueError, match="parts of one loss. Received: criterion='reconstruction'"):
        way(data=MANY[0], scope="optimal")


def test_where_no_sample_has_a_slope_others_score():
    """Once all margins are kept, a hinge loss is flat, and neurons are all alike by it."""
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu")])
    model.add(keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(9.0)))
    model.compile("sgd", "hinge")
    data = MANY[0], np.ones((264, 1), "float32")
    report = prune_keras.prune(model, FLOPS, data=data)[1]
    by_hand = prune_keras.prune(model, FLOPS, data=data, **OLD)[1]
    assert report.notes[0].endswith("'optimal': these tell no neurons apart")
    assert (report.plan, report.scores) == (by_hand.plan, by_hand.scores)
    assert not any("obs" in note for note in report.notes[1:])


def test_slopes_without_a_finite_square_are_an_error():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(9), keras.layers.Dense(9)]
    )
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="Scores must be finite"):
        prune_keras.prune(model, FLOPS, data=(MANY[0], np.full((264, 9), 1e25, "float32")))


@pytest.mark.parametrize("criterion", ["obs", "taylor", "taylor_weights", "oracle"])
def test_layers_of_float64_are_scored_where_float32_is_the_rule(criterion):
    model = keras.Sequential(
        [
            keras.layers.Reshape((6, 1)),
            keras.layers.Conv1D(8, 3, activation="relu", dtype="float64"),
            keras.layers.SeparableConv1D(6, 3, activation="relu", dtype="float64"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.build((None, 6))
    model.compile("sgd", "sparse_categorical_crossentropy")
    scores = prune_keras.score(model, criterion, PAIR)
    assert all(np.isfinite(each).all() and np.ptp(each) > 0 for each in scores.values())


@pytest.mark.parametrize("target", [FLOPS, {"params": 0.6, "neurons": 0.9}, {"latency_ms": 1e-9}])
def test_in_fit_too_obs_goes_with_optimal(target, capsys):
    asked = {"target": target, "data": MANY}
    by_itself, by_hand = callback(**asked, verbose=1), callback(**asked, **OBS)
    for pruning in (by_itself, by_hand):
        keras.utils.set_random_seed(1)
        fit(flattened(), pruning, epochs=2)
    assert by_itself.report.plan == by_hand.report.plan
    assert by_itself.report.scores == by_hand.report.scores == "obs, fused sequential"
    assert "\nScores: obs, fused sequential\n" in capsys.readouterr().out
    said = "scored by obs with scope='optimal', which lose least"
    assert said in by_itself.report.notes and said not in by_hand.report.notes


@pytest.mark.parametrize("data", [MANY, PAIR])
def test_in_fit_too_what_speaks_against_both_is_told(data):
    pruning = callback(target={"neurons": 0.9}, data=data)
    fit(flattened(), pruning, epochs=1)
    why = "no target says what neurons cost"
    assert pruning.report.scores.startswith(OLD["criterion"])
    assert any(note.endswith(f"'optimal': {why}") for note in pruning.report.notes)


def test_a_round_whose_scores_tell_no_neurons_apart_goes_by_others():
    def flat():
        hidden = keras.layers.Dense(8, activation="relu", name="hidden")
        model = keras.Sequential([keras.Input((6,)), hidden])
        model.add(keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(9.0)))
        model.compile("sgd", "hinge")
        return model

    data = MANY[0], np.ones((264, 1), "float32")
    by_itself = callback(target=FLOPS, data=data)
    by_hand = callback(target=FLOPS, data=data, **OLD, fuse="sequential")
    for pruning in (by_itself, by_hand):
        keras.utils.set_random_seed(1)
        flat().fit(*data, epochs=1, callbacks=[pruning], verbose=0)
    assert by_itself.report.plan == by_hand.report.plan
    assert by_itself.rounds[0].notes[0].endswith("'optimal': these tell no neurons apart")


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


def test_a_criterion_of_ones_own_may_compute_on_the_backend():
    def widest(kernel):
        return keras.ops.max(keras.ops.abs(keras.ops.convert_to_tensor(kernel)), axis=0)

    found = prune_keras.score(dense_model(), widest)
    assert all(type(scores) is np.ndarray for scores in found.values())


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
