"""A `call` that does something else in training is looked into for both."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import randomize

import prune_keras
from prune_keras.callbacks import ProgressivePruning


class Residual(layers.Layer):
    """A residual block of which subclasses tell what becomes of its parts in training."""

    rate = 0.25

    def __init__(self, **options):
        super().__init__(**options)
        self.up = layers.Dense(12, activation="relu", name="up")
        self.norm = layers.BatchNormalization(name="norm")
        self.down = layers.Dense(6, name="down")

    def call(self, x, training=None):
        y = self.inside(self.norm(self.up(x), training=training), training)
        return x + self.outside(self.down(y), training)

    def inside(self, y, training):
        return y

    def outside(self, z, training):
        return z


class Depth(Residual):
    """Stochastic depth, as keras.io writes it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(1)

    def outside(self, z, training):
        if training:
            shape = (ops.shape(z)[0],) + (1,) * (len(z.shape) - 1)
            drawn = 1 - self.rate + keras.random.uniform(shape, 0, 1, seed=self.seeds)
            return (z / (1 - self.rate)) * ops.floor(drawn)
        return z


class Binomial(Residual):
    def outside(self, z, training):
        if training:
            shape = (ops.shape(z)[0], 1)
            return z * keras.random.binomial(shape, 1, 1 - self.rate) / (1 - self.rate)
        return z


class ByHand(Residual):
    def inside(self, y, training):
        if not training:
            return y
        kept = keras.random.uniform(ops.shape(y)) >= self.rate
        return y * ops.cast(kept, y.dtype) / (1 - self.rate)


class Where(Residual):
    def inside(self, y, training):
        if not training:
            return y
        kept = keras.random.uniform(ops.shape(y)) >= self.rate
        return ops.where(kept, y / (1 - self.rate), 0.0)


class Function(Residual):
    def inside(self, y, training):
        return keras.random.dropout(y, self.rate, noise_shape=(None, 1)) if training else y


class Held(Residual):
    def __init__(self, **options):
        super().__init__(**options)
        self.drop = layers.Dropout(self.rate, name="drop")

    def inside(self, y, training):
        return self.drop(y, training=True) if training else y


class Noise(Residual):
    def inside(self, y, training):
        return y + keras.random.normal(ops.shape(y), stddev=0.1) if training else y


class Scaled(Residual):
    """It draws as for dropout, and does not make up for what goes."""

    def outside(self, z, training):
        kept = keras.random.uniform((ops.shape(z)[0], 1)) >= self.rate
        return z * ops.cast(kept, z.dtype) if training else z * (1 - self.rate)


class ByNumber(Residual):
    def outside(self, z, training):
        return z * (0.5 if training else 1.0)


class Auxiliary(Residual):
    """It has a layer for training alone."""

    def __init__(self, **options):
        super().__init__(**options)
        self.beside = layers.Dense(6, name="beside")

    def build(self, shape):
        self.beside.build(shape)

    def call(self, x, training=None):
        made = super().call(x, training)
        return made + self.beside(x) if training else made


DROPPING = {Depth: (None, 1), Binomial: (None, 1), ByHand: None, Where: None, Function: (None, 1)}
OTHERS = [Noise, ByNumber, Auxiliary]
WIDTHS = {"a": 6, "block/up": 12, "block/down": 6}


def network(kind):
    keras.utils.clear_session(free_memory=False)
    inputs = keras.Input((4,))
    x = kind(name="block")(layers.Dense(6, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="scores")(x))
    randomize(model)
    return model


@pytest.mark.parametrize("kind", [Held, *DROPPING, *OTHERS], ids=lambda kind: kind.__name__)
def test_both_are_traced_and_counted_once(kind):
    graph = prune_keras.trace(network(kind))
    widths = graph.widths
    assert {path: size for path, size in widths.items() if path != "block/beside"} == WIDTHS
    assert graph.cost.flops == 2 * (4 * 6 + 6 * 12 + 12 * 6 + 6 * 2)
    assert {fixed.path for fixed in graph.fixed} == {"scores"}


def test_what_is_there_in_training_goes_with_what_it_is_added_to():
    graph = prune_keras.trace(network(Auxiliary))
    (stream,) = {id(f): f for f in graph.families if f.size == 6}.values()
    kernel = graph.producers["block/beside"]
    assert set(kernel.neurons.tolist()) == set(stream.neurons.tolist())


@pytest.mark.parametrize("kind", [Depth, Where, Noise, Auxiliary], ids=lambda kind: kind.__name__)
def test_a_thin_one_is_silenced_and_trains(kind):
    model, x = network(kind), np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    thin = network(kind)
    widths = prune_keras.trace(model).widths
    paths = [path for path in widths if path.startswith("block") or path == "a"]
    plan = {path: np.arange(1, widths[path]) for path in paths}
    prune_keras.shrink_in_place(thin, prune_keras.Plan(plan, widths))
    block = model.get_layer("block")
    block.down.kernel.assign(ops.convert_to_numpy(block.down.kernel) * (np.arange(12) > 0)[:, None])
    for reader in (block.up.kernel, model.get_layer("scores").kernel):
        reader.assign(ops.convert_to_numpy(reader) * (np.arange(6) > 0)[:, None])
    found, wanted = (ops.convert_to_numpy(each(x)) for each in (thin, model))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert ops.convert_to_numpy(ops.isfinite(thin(x, training=True))).all()


@pytest.mark.parametrize("kind", DROPPING, ids=lambda kind: kind.__name__)
def test_a_plain_model_drops_what_the_call_drops(kind):
    plain = prune_keras.unfold(network(kind))
    (drop,) = [each for each in plain._flatten_layers() if type(each) is layers.Dropout]
    assert drop.rate == pytest.approx(0.25, abs=1e-6) and drop.noise_shape == DROPPING[kind]


def test_a_plain_model_has_the_layer_that_is_called_in_training_only():
    held = prune_keras.unfold(network(Held)).get_layer("block")
    assert "drop" in [each.name for each in held.layers]


def test_two_blocks_drop_apart():
    inputs = keras.Input((6,))
    plain = prune_keras.unfold(keras.Model(inputs, Depth()(Depth()(inputs))))
    drops = [each for each in plain._flatten_layers() if type(each) is layers.Dropout]
    assert len({each.seed for each in drops}) == 2


@pytest.mark.parametrize("kind", [Auxiliary, Scaled], ids=lambda kind: kind.__name__)
def test_what_no_plain_layer_does_keeps_its_class(kind):
    assert type(prune_keras.unfold(network(kind)).get_layer("block")) is kind


def test_a_thin_copy_that_loses_it_says_so(tmp_path):
    thin, report = prune_keras.prune(network(Noise), fraction=0.3)
    assert any("what block does in training only is not in the thin" in n for n in report.notes)
    thin.save(tmp_path / "thin.keras")
    x = np.ones((2, 4), "float32")
    read = keras.models.load_model(tmp_path / "thin.keras")
    found, wanted = (ops.convert_to_numpy(each(x)) for each in (read, thin))
    np.testing.assert_array_equal(found, wanted)


def test_a_file_that_loses_it_says_so(tmp_path):
    with pytest.warns(UserWarning, match="block does in inference, and nothing of what it does"):
        prune_keras.export(network(Noise), tmp_path / "plain.keras")


def test_a_fit_cuts_where_it_stands():
    model, rng = network(Auxiliary), np.random.default_rng(0)
    model.compile("sgd", "mse")
    pruning = ProgressivePruning(fraction=0.3, criterion="l2", target={"params": 0.7}, verbose=0)
    x, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 2))
    model.fit(x, y, epochs=3, verbose=0, callbacks=[pruning])
    block = model.get_layer("block")
    assert block.beside.units == block.down.units == block.beside.kernel.shape[0] < 6


class Counting(Residual):
    """It reads a width as a number in training only."""

    def outside(self, z, training):
        return ops.reshape(z, (-1, 6)) if training else z


class Returning(Residual):
    def call(self, x, training=None):
        made = super().call(x, training)
        return (made, made) if training else made


class Chancy(Residual):
    """It branches by chance, of which a recording shows one way."""

    def outside(self, z, training):
        return z * 0 if training and np.random.rand() < 0.5 else z


class Tossed(Residual):
    def call(self, x, training=None):
        if training and float(keras.random.uniform(())) < 0.5:
            return x
        return super().call(x, training)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Counting, r"line \d+ of test_training_branches.py, .*ops.reshape\(z, \(-1, 6\)\)"),
        (Returning, "it returns something else in training"),
        (Chancy, "it draws numbers of Python or NumPy in training"),
        (Tossed, "it does something else for a larger batch, or each time"),
    ],
)
def test_what_cannot_be_followed_is_fixed_and_named(kind, reason):
    model = network(kind)
    told = [fixed.reason for fixed in prune_keras.trace(model).fixed if fixed.path == "a"]
    assert len(told) == 1 and re.search(reason, told[0])


def test_looking_draws_nothing():
    model = network(Depth)
    seeds = ops.convert_to_numpy(model.get_layer("block").seeds.state)
    keras.utils.set_random_seed(0)
    first = ops.convert_to_numpy(keras.random.uniform((3,)))
    keras.utils.set_random_seed(0)
    prune_keras.trace(model)
    np.testing.assert_array_equal(ops.convert_to_numpy(keras.random.uniform((3,))), first)
    np.testing.assert_array_equal(ops.convert_to_numpy(model.get_layer("block").seeds.state), seeds)


class Whole(keras.Model):
    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(5, name="a"), layers.Dense(2, name="b")

    def call(self, x, training=None):
        x = self.a(x)
        return self.b(x + keras.random.normal(ops.shape(x)) if training else x)


def test_a_whole_model_is_cut_where_it_stands_and_not_unfolded():
    model = Whole()
    model(np.ones((1, 4), "float32"))
    assert prune_keras.trace(model).widths == {"a": 5}
    with pytest.raises(ValueError, match="must do in training what the model does.*keep the class"):
        prune_keras.unfold(model)
