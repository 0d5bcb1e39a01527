"""Discrimination-aware pruning: picks against NumPy, what is trained between them, and refusals."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import prune_keras
from prune_keras import DiscriminationAware
from prune_keras.discriminating.greedy import Choosing, Sizes, lengths
from prune_keras.discriminating.learner import Learner, heads_for
from prune_keras.discriminating.recipe import training_readers
from prune_keras.discriminating.wiring import Reader, wired
from prune_keras.samples.batches import Samples
from prune_keras.samples.subject import Subject
from prune_keras.surgery import shrink

X = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 24)
IMAGES = np.random.default_rng(2).normal(size=(24, 6, 6, 2)).astype("float32")
DENSE = keras.layers.Dense


def compiled(model, loss="sparse_categorical_crossentropy"):
    model.compile("sgd", loss, run_eagerly=True)
    return model


def dense(units=(7, 6)):
    hidden = [DENSE(n, "tanh", name=f"h{place}") for place, n in enumerate(units)]
    return compiled(
        keras.Sequential([keras.Input((6,)), *hidden, DENSE(3, "softmax", name="classes")])
    )


def residual():
    """A stem, a block whose end is coupled to it, a depthwise layer, and a head."""
    pixels, layers = keras.Input((6, 6, 2)), keras.layers
    x = layers.Conv2D(6, 3, padding="same", name="stem")(pixels)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    inner = layers.Conv2D(4, 1, activation="tanh", name="inner")(x)
    x = layers.Add(name="sum")([x, layers.Conv2D(6, 3, padding="same", name="outer")(inner)])
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise")(x)
    x = layers.Conv2D(4, 1, activation="tanh", name="pointwise")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return compiled(keras.Model(pixels, DENSE(3, "softmax", name="classes")(x)))


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    held = {v.path: (np.array(ops.convert_to_numpy(v.value)), v.trainable) for v in variables}
    return held | {"config": json.dumps(model.get_config(), default=str)}


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def first_slopes(model, weight):
    """NumPy: how steeply `1/2 MSE + weight CE` falls with each neuron's row of `h1`, all zero."""
    kernels = [(np.array(layer.kernel), np.array(layer.bias)) for layer in model.layers]
    (w0, b0), (w1, b1), (w2, b2) = kernels
    read = np.tanh(X @ w0 + b0)
    asked = np.tanh(read @ w1 + b1)
    given = np.tanh(np.broadcast_to(b1, asked.shape))
    by_given = (given - asked) / asked.size
    predicted = softmax(given @ w2 + b2)
    by_given = by_given + weight * (predicted - np.eye(3)[Y]) @ w2.T / len(X)
    return np.linalg.norm(read.T @ (by_given * (1 - given**2)), axis=1)


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_those_of_the_steepest_slope_are_picked(weight):
    model = dense()
    how = DiscriminationAware(weight, layers=[], picks=1, epochs=0)
    thin, report = prune_keras.discriminate(model, None, (X, Y), 0.4, how, exclude="h1")
    expected = np.sort(np.argsort(-first_slopes(model, weight))[:5])
    np.testing.assert_array_equal(report.plan.kept["h0"], expected)
    first, second = (np.array(layer.kernel) for layer in model.layers[:2])
    np.testing.assert_array_equal(thin.layers[0].kernel, first[:, expected])
    np.testing.assert_array_equal(thin.layers[1].kernel, second[expected])


def learner_of(model, how):
    everything = prune_keras.Plan.everything(prune_keras.trace(model).widths)
    copies = [shrink(model, everything) for _ in "ab"]
    graph = prune_keras.trace(copies[1])
    wiring = wired(copies[1], graph, how.layers)
    learner = Learner(*copies, wiring, heads_for(wiring, 3, "softmax"))
    learner.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return learner, graph, wiring


def test_a_head_behind_all_readers_judges_and_no_slope_differs_from_a_measured_one():
    model = residual()
    how = DiscriminationAware(head_epochs=1)
    learner, graph, wiring = learner_of(model, how)
    stream = next(family for family in graph.families if "stem" in family.paths)
    readers = wiring.readers_of(stream)
    paths = {wiring.readers[number].variable.path for number in readers}
    assert paths == {"inner/kernel", "pointwise/kernel"}
    assert [wiring.judge_of(wiring.readers_of(f)) for f in graph.families] == [1, 0, 2]
    data = Samples.of((IMAGES, Y), 24)
    choosing = Choosing(learner, wiring, Subject(learner.thin, graph, data), how)
    with choosing.compiled():
        choosing._set(readers, wiring.sites_of(readers), [0.0, 0.5, 0.0])
        choosing._stays[wiring.places_of(stream)[1:]] = 0
        loss, slopes = choosing._score(wiring.places_of(stream), readers)
        x, y = [ops.convert_to_tensor(IMAGES)], ops.convert_to_tensor(Y)

        def measured(seen):
            told = learner.told(x, [*seen.values()], training=False)
            loss = learner.compute_loss(x, y, told, None)
            return float(ops.convert_to_numpy(loss))

        seen = learner.seen()
        assert measured(seen) == pytest.approx(loss, rel=1e-5)
        for neuron in (0, 3):
            squares = 0.0
            for number in readers:
                kernel = ops.convert_to_numpy(seen[str(number)])
                assert neuron == 0 or not kernel[:, :, neuron].any()
                by = np.zeros_like(kernel[:, :, neuron])
                for place in np.ndindex(*by.shape):
                    moved = [np.array(kernel) for _ in "ab"]
                    for each, step in zip(moved, (3e-3, -3e-3), strict=True):
                        each[place[0], place[1], neuron, place[2]] += step
                    low = [measured(seen | {str(number): ops.convert_to_tensor(m)}) for m in moved]
                    by[place] = (low[0] - low[1]) / 6e-3
                squares += np.linalg.norm(by)
            assert slopes[neuron] == pytest.approx(squares, rel=5e-2)


def test_training_moves_what_reads_the_chosen_and_nothing_else():
    how = DiscriminationAware(picks=2, head_epochs=1, learning_rate=0.1)
    learner, graph, wiring = learner_of(residual(), how)
    family = next(family for family in graph.families if "inner" in family.paths)
    before = {v.path: np.array(v) for v in learner.thin.variables}
    dense_before = [np.array(v) for v in learner.dense.variables]
    with training_readers(learner.dense, learner.thin, wiring):
        subject = Subject(learner.thin, graph, Samples.of((IMAGES, Y)))
        choosing = Choosing(learner, wiring, subject, how)
        choosing.train_heads()
        with choosing.compiled():
            stays = choosing.choose(family, Sizes(3, 3))
    assert stays.sum() == 3
    for variable in learner.thin.variables:
        apart = np.array(variable) != before[variable.path]
        if variable.path == "outer/kernel":
            np.testing.assert_array_equal(apart.any(axis=(0, 1, 3)), stays)
        else:
            assert not apart.any(), variable.path
    for variable, value in zip(learner.dense.variables, dense_before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_slope_is_summed_over_axes_and_taken_over_all_entries_of_a_neuron():
    reader = Reader(None, {0: np.array([0, 0, 1, 2])}, (0,))
    found = lengths(reader, np.array([[3.0, 0], [0, 4], [1, 0], [9, 9]]), 2)  # 2 is of no family
    np.testing.assert_allclose(found, [5, 1])


@pytest.mark.repeats(1)
@pytest.mark.parametrize("target", [{"flops": 0.6}, {"params": 0.5}])
def test_a_target_is_met_and_the_model_is_as_it_was(target):
    model = residual()
    model.optimizer.build(model.trainable_variables)
    model.get_layer("inner").trainable = False
    before = state(model)
    how = DiscriminationAware(picks=1, head_epochs=1)
    thin, report = prune_keras.discriminate(model, target, (IMAGES, Y), how=how)
    np.testing.assert_equal(state(model), before)
    ((metric, share),) = target.items()
    left = getattr(report.after, metric) / getattr(report.before, metric)
    assert 0.7 * share < left <= share
    assert report.after == prune_keras.cost(thin)
    widths = {path: len(kept) for path, kept in report.plan.kept.items()}
    assert widths["stem"] == widths["outer"]
    np.testing.assert_array_equal(report.plan.kept["stem"], report.plan.kept["outer"])
    assert [v.trainable for v in thin.variables] == [v.trainable for v in model.variables]
    assert any("passes over the data" in note for note in report.notes)
    thin.fit(IMAGES, Y, verbose=0)


def test_limits_hold():
    how = DiscriminationAware(picks=3, head_epochs=0, tolerance=0.9)
    limits = {"min_units": {"h1": 5}, "round_to": {"h0": 3}}
    _, report = prune_keras.discriminate(dense(), None, (X, Y), how=how, **limits)
    assert report.plan.new_widths == {"h0": 3, "h1": 5}


def test_a_family_ends_where_the_loss_stalls():
    """Of four neurons, two are zero: what they add is nothing."""
    model = dense((4, 3))
    rng = np.random.default_rng(0)  # backends draw other ones, of which some stall at once
    model.set_weights([rng.normal(0, 0.6, w.shape) * (w.ndim > 1) for w in model.get_weights()])
    first = model.layers[0]
    kernel, bias = first.get_weights()
    kernel[:, 2:] = 0
    first.set_weights([kernel, bias])
    how = DiscriminationAware(picks=4, epochs=10, learning_rate=0.3, weight=0.0, tolerance=0.02)
    _, report = prune_keras.discriminate(model, None, (X, Y), how=how, exclude="h1")
    assert report.plan.kept["h0"].tolist() == [0, 1, 2]  # with the one that brought nothing


def test_parts_end_with_all_that_may_stay():
    assert Sizes(1, 8).parts(4) == [2, 4, 6, 8]
    assert Sizes(1, 7, 4).parts(2) == [4, 7]
    assert Sizes(1, 2).parts(9) == [1, 2]


LOSSES = {
    "one-hot": ("categorical_crossentropy", np.eye(3)[Y], "softmax", 3),
    "logits": (keras.losses.SparseCategoricalCrossentropy(from_logits=True), Y, None, 3),
    "binary": ("binary_crossentropy", Y[:, None] % 2, "sigmoid", 1),
}


@pytest.mark.repeats(2)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_classes_are_taken_as_they_are_compiled(name):
    loss, y, activation, units = LOSSES[name]
    layers = [DENSE(6, "relu", name="h"), DENSE(units, activation)]
    model = compiled(keras.Sequential([keras.Input((6,)), *layers]), loss)
    how = DiscriminationAware(picks=2, head_epochs=1)
    weights = np.linspace(0.5, 1.5, len(X)).astype("float32")
    thin, _ = prune_keras.discriminate(model, None, (X, y, weights), 0.5, how)
    assert thin.get_layer("h").units == 3
    assert np.isfinite(thin.predict(X, verbose=0)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": None}, "samples and their classes. Received: data=None"),
        ({"data": X}, "needs targets|targets"),
        ({"fraction": None}, "target"),
        ({"fraction": 1.5}, "`fraction` must be a share"),
        ({"how": 3}, "`how` must be a prune_keras.DiscriminationAware. Received: how=3"),
        ({"how": DiscriminationAware(layers=["none"])}, "Received: path 'none'"),
        ({"target": {"params": 1e-9}}, "target|reach"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, dict) else "",
)
def test_what_cannot_be_done_is_refused(arguments, message):
    given = {"data": (X, Y), "fraction": 0.5} | arguments
    with pytest.raises(ValueError, match=message):
        prune_keras.discriminate(dense(), **given)


def test_models_that_tell_no_classes_are_refused():
    inputs = keras.Input((6,))
    several = keras.Model(inputs, [DENSE(3, "softmax")(DENSE(4)(inputs)), DENSE(3)(inputs)])
    several.compile("sgd", ["sparse_categorical_crossentropy"] * 2)
    values = keras.Sequential([inputs, DENSE(4), DENSE(3)])
    values.compile("sgd", "mse")
    plain = keras.Sequential([keras.Input((6,)), DENSE(4), DENSE(3)])
    for model, message in (
        (several, "one output of classes"),
        (values, "cross-entropy for its loss. Received: .*loss='mse'"),
        (plain, "must be compiled with a loss"),
    ):
        with pytest.raises(ValueError, match=message):
            prune_keras.discriminate(model, None, (X, Y), 0.5)


@pytest.mark.parametrize(
    "given",
    [
        {"weight": -1},
        {"picks": 0},
        {"epochs": -1},
        {"head_epochs": 0.5},
        {"learning_rate": 0},
        {"tolerance": 1},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(given):
    with pytest.raises(ValueError, match=f"`{next(iter(given))}` must be .*Received: "):
        DiscriminationAware(**given)
