"""Passes over samples leave metrics, losses, seeds and the state of layers as they were."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras import _keras
from prune_keras.criteria.oracle import readers_of, silenced
from prune_keras.repair.fusing import fused
from prune_keras.repair.recalibration import recalibrate
from prune_keras.surgery import kept_neurons

X = np.random.default_rng(0).normal(size=(48, 6)).astype("float32")
Y = {"one": X[:, :1], "two": X[:, 1:2]}
FAR = (100 * X, {"one": 100 * X[:, :1], "two": 100 * X[:, 1:2]})


class Own(layers.Layer):
    """Counts its calls, draws, measures, and adds to the loss, in inference too."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
        self.seen = keras.metrics.Mean(name="seen")
        self.seeds = keras.random.SeedGenerator(7)

    def call(self, x):
        self.calls.assign_add(1.0)
        self.seen.update_state(ops.mean(x))
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return x + 0 * keras.random.normal(ops.shape(x), seed=self.seeds)

    def compute_output_shape(self, shape):
        return shape


class OwnLoss(keras.Model):
    """Keeps count of its loss by itself."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight)
        self.counted.update_state(loss)
        return loss


def network(kind=keras.Model):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", name="a", activity_regularizer="l2")(inputs)
    x = layers.Dropout(0.5)(layers.BatchNormalization(name="norm")(Own(name="own")(x)))
    x = layers.Dense(6, activation="relu", kernel_regularizer="l2", name="b")(x)
    model = kind(inputs, {name: layers.Dense(1, name=name)(x) for name in Y})
    if kind is OwnLoss:
        model.counted = keras.metrics.Mean(name="counted")
    losses, metrics = {"one": "mse", "two": "mse"}, {"one": ["mae"]}
    # Compiling the step of `fit` would take most of the time.
    model.compile(keras.optimizers.SGD(0.0), losses, metrics=metrics, run_eagerly=True)
    return model


def state(model):
    variables = [*model.variables, *(v for metric in model.metrics for v in metric.variables)]
    for layer in _keras.all_layers(model):
        variables += [generator.state for generator in layer._seed_generators]
    return [ops.convert_to_numpy(v.value).copy() for v in variables]


def fuse(model):
    graph = prune_keras.trace(model)
    plan = prune_keras.select(graph, prune_keras.score(model), fraction=0.4)
    fused(model, graph, kept_neurons(graph, plan), FAR, "weights")


NAMES = "taylor taylor_weights sensitivity apoz activation_std reconstruction obs oracle"
PASSES = {
    **{n: lambda model, n=n: prune_keras.score(model, n, FAR) for n in NAMES.split()},
    "fuse": fuse,
    "latency": lambda model: prune_keras.latency(model, repeats=1),
    "prune": lambda model: prune_keras.prune(model, fraction=0.4, data=FAR),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, keras.Model) for name in PASSES), ("taylor", OwnLoss), ("oracle", OwnLoss)],
)
def test_a_pass_changes_nothing(name, kind):
    model = network(kind)
    model.fit(X, Y, batch_size=48, verbose=0)
    model(X)
    before, losses = state(model), [float(loss) for loss in model.losses]
    PASSES[name](model)
    for old, new in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [float(loss) for loss in model.losses] == losses


def test_seeds_without_an_owner_are_where_they_were():
    keras.utils.set_random_seed(3)
    keras.random.normal((1,))
    expected = ops.convert_to_numpy(keras.random.normal((2,)))
    keras.utils.set_random_seed(3)
    keras.random.normal((1,))
    inputs = keras.Input((6,))
    noisy = layers.Lambda(lambda x: x + keras.random.normal((1,)), output_shape=(6,))(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(3, name="a")(noisy)))
    keras.utils.set_random_seed(3)
    keras.random.normal((1,))
    if keras.backend.backend() != "jax":  # which refuses such draws in what it compiles
        prune_keras.score(model, "reconstruction", X)
    np.testing.assert_array_equal(ops.convert_to_numpy(keras.random.normal((2,))), expected)


def test_recalibration_changes_the_statistics_alone():
    model = network()
    model.fit(X, Y, batch_size=48, verbose=0)
    norm = model.get_layer("norm")
    mean, variance = (ops.copy(v.value) for v in (norm.moving_mean, norm.moving_variance))
    old = state(model)
    recalibrate(model, FAR)
    assert not np.allclose(*map(ops.convert_to_numpy, (mean, norm.moving_mean.value)))
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(variance)
    for one, other in zip(old, state(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_pass_that_fails_changes_nothing_either():
    model = network()
    model.fit(X, Y, batch_size=48, verbose=0)
    before = state(model)
    batches = [FAR, (np.full((2, 6), np.nan), {name: np.zeros((2, 1)) for name in Y})]
    for name in ("taylor", "oracle", "apoz"):
        with pytest.raises(ValueError, match="must be finite"):
            prune_keras.score(model, name, batches)
        for old, new in zip(before, state(model), strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("targets", [Y, list(Y.values())], ids=["dict", "list"])
def test_a_model_that_was_scored_before_its_first_fit_logs_what_others_log(targets):
    scored, plain = network(), network()
    prune_keras.score(scored, "taylor", (100 * X, targets))
    assert [m.name for m in scored.metrics] == [m.name for m in plain.metrics]
    logs = []
    for model in (scored, plain):
        keras.utils.set_random_seed(2)  # of which PyTorch drops out
        logs.append(model.fit(X, Y, batch_size=48, verbose=0).history)
    assert logs[0] == logs[1]


def test_what_is_not_run_again_adds_to_the_loss_what_it_added():
    """The oracle's partial passes leave out layers that add losses of their own."""
    model = network()
    graph = prune_keras.trace(model)
    found = prune_keras.score(model, "oracle", (X, Y))["b"]
    start = model.evaluate(X, Y, batch_size=48, verbose=0, return_dict=True)["loss"]
    for neuron, change in zip(graph.producers["b"].neurons, found, strict=True):
        with silenced(readers_of(graph, [neuron]), [neuron]):
            lost = model.evaluate(X, Y, batch_size=48, verbose=0, return_dict=True)["loss"]
        assert change == pytest.approx(lost - start, rel=1e-3, abs=1e-5)
