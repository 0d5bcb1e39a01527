"""A copy is of the model's class, trains as it does, and is compiled as it is, or says why not."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras import Plan

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")


def graph(width=8):
    inputs = keras.Input((6,))
    return inputs, layers.Dense(2, name="out")(layers.Dense(width, name="a")(inputs))


class Distilled(keras.Model):
    """Has all that classes of models have: arguments, layers, weights and metrics of their own."""

    def __init__(self, inputs, outputs, teacher, temperature=1.0):
        super().__init__(inputs, outputs)
        self.teacher, self.temperature = teacher, temperature
        self.head = layers.Dense(2, name="head")
        self.head.build((None, 2))
        self.balance = self.add_weight(shape=(), initializer="ones", name="balance")
        self.noise = keras.random.SeedGenerator(1)
        self.trackers = {"mine": keras.metrics.Mean(name="mine")}
        self.first = [self.get_layer("a")]
        self.features = keras.Model(inputs, self.get_layer("a").output)
        self.losses_seen = []

    @property
    def metrics(self):
        return [*super().metrics, self.trackers["mine"]]

    def compile(self, optimizer, student_loss, strength=0.0):
        super().compile(optimizer=optimizer, loss=student_loss)
        self.strength, self.student_loss = strength, student_loss

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        near = ops.mean(ops.square(self.teacher(x) - self.head(y_pred))) / self.temperature
        far = ops.mean(ops.abs(self.features(x))) + ops.mean(ops.abs(self.first[0].kernel))
        loss = self.student_loss(y, y_pred) + self.strength * self.balance * (near + far)
        self.trackers["mine"].update_state(loss)
        return loss


def distilled():
    teacher = keras.Sequential([keras.Input((6,)), layers.Dense(2)], name="teacher")
    teacher.trainable = False
    model = Distilled(*graph(), teacher, temperature=3.0)
    model.compile(keras.optimizers.SGD(0.05), keras.losses.MeanSquaredError(), strength=0.5)
    return model


def nothing_cut(model):
    return prune_keras.shrink(model, Plan.everything(prune_keras.trace(model).widths))


def arrays(model):
    return [ops.convert_to_numpy(v) for v in model.variables]


def test_a_copy_trains_as_the_class_of_the_model_does():
    model = distilled()
    before = arrays(model)
    twin = nothing_cut(model)
    found = twin.fit(X, Y, epochs=2, shuffle=False, verbose=0).history
    for old, now in zip(before, arrays(model), strict=True):
        np.testing.assert_array_equal(now, old)
    wanted = model.fit(X, Y, epochs=2, shuffle=False, verbose=0).history
    assert found.keys() == wanted.keys() == {"loss", "mine"}
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5)
    for old, new in zip(arrays(model), arrays(twin), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)


def test_what_a_class_keeps_is_the_copys_own():
    model = distilled()
    twin = nothing_cut(model)
    assert (twin.temperature, twin.strength) == (3.0, 0.5)
    assert twin.first[0] is twin.get_layer("a")
    assert twin.features.layers[-1] is twin.get_layer("a")
    assert twin.teacher is model.teacher  # it is not trained
    for name in ("head", "balance", "noise", "losses_seen", "optimizer", "features"):
        assert getattr(twin, name) is not getattr(model, name)
    assert twin.trackers["mine"] is not model.trackers["mine"]
    assert [v.path for v in twin.variables] == [v.path for v in model.variables]


class Early(keras.Model):
    """Keeps layers before it has a graph, the last one of which is tracked first."""

    def __init__(self, inputs, outputs):
        self.last = outputs._keras_history.operation
        self.side = layers.Dense(2, name="side")
        self.side.build((None, 2))
        super().__init__(inputs, outputs)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="its modules hold no others before they are made"
)
def test_weights_follow_one_another_as_in_the_model():
    model = Early(*graph())
    twin = nothing_cut(model)
    names = [layer.name for layer in model._flatten_layers()]
    assert names.index("out") < names.index("a")
    assert [layer.name for layer in twin._flatten_layers()] == names
    assert twin.last is twin.get_layer("out") and twin.side is not model.side
    for old, new in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_cut_of_a_class_keeps_what_it_keeps():
    model = distilled()
    thin, report = prune_keras.prune(model, fraction=0.5)
    assert thin.get_layer("a").units == thin.features.output_shape[-1] == 4
    assert thin.features(X).shape == (16, 4)
    thin.fit(X, Y, verbose=0)
    prune_keras.shrink_in_place(model, report.plan)
    assert model.features(X).shape == (16, 4)
    model.fit(X, Y, verbose=0)


def test_a_model_that_calls_layers_by_itself_is_named():
    model = distilled()
    other = keras.Input((6,))
    model.second = keras.Model(other, model.get_layer("a")(other), name="second")
    with pytest.raises(ValueError, match="holds 'second', which calls layers of the model"):
        prune_keras.prune(model, fraction=0.5)
    with pytest.raises(ValueError, match="which model 'second' has as well"):
        prune_keras.shrink_in_place(model, Plan.everything({"a": 8}))


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 1e-3 / (1.0 + ops.cast(step, "float32"))


class Score(keras.metrics.Metric):
    """Has an argument that no config tells."""

    def __init__(self, classes, weight=1.0, **others):
        super().__init__(**others)
        self.weight = weight
        self.seen = self.add_weight(shape=(classes,), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen.assign_add(self.weight * ops.sum(y_pred, axis=0))

    def result(self):
        return ops.mean(self.seen)


class Forgetful(keras.optimizers.SGD):
    """Has an argument that its config does not tell, and may be made without it."""

    def __init__(self, learning_rate=0.1, warmup=1, **others):
        super().__init__(learning_rate, **others)
        self.warmup = warmup


class Demanding(keras.optimizers.SGD):
    """Cannot be made without an argument that its config does not tell."""

    def __init__(self, warmup, **others):
        super().__init__(**others)
        self.warmup = warmup


def double(y_true, y_pred):
    return 2 * ops.mean(y_pred, axis=-1)


COMPILED = {
    "schedule": lambda model: model.compile(keras.optimizers.Adam(Schedule()), "mse"),
    "metric": lambda model: model.compile("adam", "mse", metrics=[Score(2, weight=3.0)]),
    "functions": lambda model: model.compile("adam", double, metrics=[double, "mae"]),
    "wrapped": lambda model: model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(Schedule())), "mse"
    ),
    "several": lambda model: model.compile("sgd", {"out": "mse"}, metrics={"out": [Score(2)]}),
}


@pytest.mark.parametrize("how", COMPILED)
def test_a_copy_is_compiled_alike(how):
    model = keras.Model(*graph())
    COMPILED[how](model)
    twin = nothing_cut(model)
    assert twin.compiled and twin.optimizer is not model.optimizer
    found = twin.fit(X, Y, epochs=2, shuffle=False, verbose=0).history
    wanted = model.fit(X, Y, epochs=2, shuffle=False, verbose=0).history
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5)


@pytest.mark.parametrize("optimizer", [Forgetful(warmup=5), Demanding(5)])
def test_a_copy_that_cannot_be_compiled_alike_is_not_compiled(optimizer):
    model = keras.Model(*graph())
    model.compile(optimizer, "mse")
    thin, report = prune_keras.prune(model, fraction=0.5)
    assert not thin.compiled and not nothing_cut(model).compiled
    assert model.compiled and model.optimizer is optimizer
    assert any("not compiled" in note and "warmup" in note for note in report.notes)
    with pytest.raises(ValueError, match="compiled as the model is"):
        prune_keras.sensitivity(model, (X, Y), monitor="loss")


def unseen(x):
    """Do nothing, in a way that cannot be looked into."""
    return x + 0.0 * keras.random.normal(keras.ops.shape(x))


class Unwritten(layers.Layer):
    """Keras cannot write down its argument."""

    def __init__(self, held):
        super().__init__()
        self.held = held

    def call(self, x):
        return unseen(x)


class Wrong(layers.Layer):
    """Its config forgets an argument."""

    def __init__(self, factor=1.0, **others):
        super().__init__(**others)
        self.factor = factor

    def call(self, x):
        return self.factor * unseen(x)

    def get_config(self):
        return super(layers.Layer, self).get_config()


class Grown(layers.Layer):
    """Gets a weight that its config does not tell of."""

    def grow(self):
        self._tracker.unlock()
        self.more = self.add_weight(shape=(3,), name="more")
        self._tracker.lock()

    def call(self, x):
        return unseen(x) + (self.more[0] if hasattr(self, "more") else 0.0)


def grown():
    layer = Grown()
    layer(X)
    layer.grow()
    return layer


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (lambda: Unwritten(object()), "'unwritten.*' .Unwritten., with which that fails"),
        (lambda: Wrong(3.0), "factor=3.0, which comes back with 1.0"),
        (grown, "'grown.*' .Grown. with weights of shapes .*3"),
    ],
)
def test_what_cannot_be_made_again_is_named_before_anything_is_scored(layer, said, monkeypatch):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8)(layer()(inputs))))
    scored = []
    monkeypatch.setattr("prune_keras.pruning.score_graph", lambda *_: scored.append(1))
    with pytest.raises(ValueError, match=said):
        prune_keras.prune(model, fraction=0.5)
    with pytest.raises(ValueError, match="cut the model in place, which makes nothing again"):
        nothing_cut(model)
    assert not scored
    plan = prune_keras.select(prune_keras.trace(model), prune_keras.score(model), fraction=0.5)
    prune_keras.shrink_in_place(model, plan)


def test_a_lambda_that_holds_a_weight_of_another_layer_is_named():
    inputs = keras.Input((6,))
    dense = layers.Dense(8, name="code")
    x = dense(layers.Dense(5)(inputs))
    tied = layers.Lambda(
        lambda x, w: ops.matmul(x, ops.transpose(w)), arguments={"w": dense.kernel}
    )
    model = keras.Model(inputs, layers.Dense(2)(tied(x)))
    with pytest.raises(ValueError, match="objects that can be made again .* weights of shapes"):
        nothing_cut(model)
