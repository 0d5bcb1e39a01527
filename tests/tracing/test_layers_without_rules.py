"""Layers without a rule: passed through where each channel is alone, else named in the report."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from read_rows import between, check_rows, reason

import prune_keras

registered = keras.saving.register_keras_serializable("without_rules")


@registered
class StochasticDepth(layers.Layer):
    """As the examples of Keras write it."""

    def __init__(self, drop_prob=0.5, **kwargs):
        super().__init__(**kwargs)
        self.drop_prob = drop_prob

    def call(self, x, training=None):
        if training:
            keep = 1 - self.drop_prob
            shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            return (x / keep) * ops.floor(keep + keras.random.uniform(shape, 0, 1))
        return x

    def get_config(self):
        return {**super().get_config(), "drop_prob": self.drop_prob}


@registered
class Seeded(StochasticDepth):
    def __init__(self, drop_prob=0.5, seed=None, **kwargs):
        super().__init__(drop_prob, **kwargs)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        if training:
            shape = (ops.shape(x)[0], *(1,) * (len(x.shape) - 1))
            return x * ops.floor(0.5 + keras.random.uniform(shape, seed=self.seed_generator))
        return x


@registered
class SkippedBranch(layers.Layer):
    """Stochastic depth that takes a shortcut and a branch."""

    def call(self, inputs, training=None):
        shortcut, branch = inputs
        return shortcut + (0.0 if training else 0.8) * branch


@registered
class Reflected(layers.Layer):
    def __init__(self, padding=2, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, x, mask=None):
        widths = [[0, 0], [self.padding, self.padding], [0, 0]]
        return ops.pad(x, widths, mode="reflect")

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}


@registered
class Doubled(layers.Add):
    def _merge_function(self, inputs):
        return 2 * (inputs[0] + inputs[1])


PASSING = {
    "stochastic_depth": lambda x: StochasticDepth()(x),
    "seeded": lambda x: Seeded(seed=1)(x),
    "branches": lambda x: SkippedBranch()([x, layers.Dense(5)(x._keras_history[0].input)]),
    "gate": lambda x: SkippedBranch()([x, layers.Dense(1)(x._keras_history[0].input)]),
    "reflected": lambda x: Reflected()(x),
    "doubled": lambda x: Doubled()([x, x]),
    "reflected_raw": lambda x: ops.pad(x, [[0, 0], [2, 1], [0, 0]], mode="reflect"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_treats_channels_alone_is_pruned_through(name, tmp_path):
    model = check_rows(between(PASSING[name]), tmp_path)
    model.compile("sgd", "mse")
    model.train_on_batch(np.ones((4, 6, 3)), np.ones((4, *model.output_shape[1:])))


def test_it_is_told():
    (note,) = prune_keras.trace(between(lambda x: Reflected(name="pad")(x))).notes
    assert note == "pad (Reflected) has no rule; tried on numbers, it treats each channel alone"


class Counting(layers.Layer):
    """Its size is what it was built for, so that one that is built anew gives something else."""

    def build(self, shape):
        self.count = shape[-1]

    def call(self, x):
        return x / self.count


class Flipping(layers.Layer):
    def call(self, x):
        return keras.ops.flip(x, -1)


class InTraining(layers.Layer):
    def call(self, x, training=None):
        return ops.concatenate([x[..., 1:], x[..., :1]], -1) if training else x


class CentredInTraining(layers.Layer):
    def call(self, x, training=None):
        return x - ops.mean(x, axis=-1, keepdims=True) if training else x


class NeedsThree(layers.Layer):
    def call(self, x, training=None):
        return x + 0 * ops.split(x, [3], axis=-1)[0][..., :3].sum() if training else x


class Closing(layers.Layer):
    def __init__(self, numbers, **kwargs):
        super().__init__(**kwargs)
        self.numbers = numbers

    def call(self, x):
        return ops.multiply(x, self.numbers)


class ByWidth(layers.Layer):
    """Divides by how many there are."""

    def call(self, x):
        return x / x.shape[-1]


class Squeezing(layers.Layer):
    """Breaks where a single channel is left."""

    def call(self, x):
        return ops.reshape(ops.squeeze(x), ops.shape(x)) if x.shape[-1] > 1 else ops.squeeze(x, -1)


class Noisy(layers.Layer):
    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=1)


class Backend(layers.Layer):
    def call(self, x):
        return x * np.mean(x)

    def compute_output_shape(self, shape):
        return shape


class Weighted(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, x):
        return x * self.scale


REFUSED = {
    "the call of odd": (ByWidth,),
    "odd/squeeze": (Squeezing,),
    "no rule for the operation odd (": (Noisy, Backend),
}


@pytest.mark.parametrize("start, make", [(s, m) for s, kinds in REFUSED.items() for m in kinds])
def test_what_does_not_or_might_not_is_fixed_and_named(start, make):
    told = reason(between(lambda x: make(name="odd")(x)))
    assert told.startswith(start)


def test_the_line_that_stops_a_call_is_named():
    told = reason(between(lambda x: Backend(name="odd")(x)))
    assert re.match(
        r"no rule for the operation odd \(Backend\): line \d+ of test_layers_without_rules.py, "
        r"`return x \* np.mean\(x\)`, stops: .*KerasTensor",
        told,
    )


ARRAY = np.arange(1, 6, dtype="float32")
SEEN = {
    "flipping": (Flipping, lambda unit: [4 - unit]),
    "weighted": (Weighted, lambda unit: [unit]),
    "closing": (lambda **k: Closing(keras.Variable(2.0), **k), lambda unit: [unit]),
    "closing array": (lambda **k: Closing(ARRAY, **k), lambda unit: [unit]),
    "closing tensor": (lambda **k: Closing(ops.convert_to_tensor(ARRAY), **k), lambda unit: [unit]),
    "counting": (Counting, lambda unit: [unit]),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_a_call_of_operations_does_is_seen(name):
    make, rows = SEEN[name]
    check_rows(between(lambda x: make(name="odd")(x)), rows=rows, copied="closing" not in name)


def test_a_layer_that_needs_its_channels_in_training_is_fixed():
    assert "no rule" in reason(between(lambda x: NeedsThree(name="odd")(x)))


@pytest.mark.parametrize(("kind", "neurons"), [(InTraining, 1), (CentredInTraining, 5)])
def test_what_a_layer_does_to_channels_in_training_only_is_seen(kind, neurons):
    graph = prune_keras.trace(between(lambda x: kind(name="odd")(x)))
    before = next(iter(graph.producers.values()))
    assert len({*before.neurons.tolist()}) == neurons


def test_tensors_of_unlike_ranks_or_widths_are_not_tried():
    for other in (lambda x: ops.mean(x, 1), lambda x: layers.Dense(3)(x)):
        model = between(lambda x, other=other: Lenient(name="odd")([x, other(x)]))
        assert "no rule" in reason(model)


class Lenient(layers.Layer):
    def call(self, inputs):
        return inputs[0] + np.mean(inputs[1])

    def compute_output_shape(self, shapes):
        return shapes[0]


# What has no rule is named, once.


@registered
class Block(layers.Layer):
    def build(self, shape):
        self.inner = layers.Dense(7, name="inner")
        self.inner.build(shape)

    def call(self, x):
        return x * np.mean(x) + ops.relu(self.inner(x))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 7)


def test_composite_layers_are_named_with_their_parameters():
    inputs = keras.Input((4,))
    blocks = [Block(name=name) for name in ("one", "two")]
    x = blocks[1](blocks[1](blocks[0](inputs)))
    graph = prune_keras.trace(keras.Model(inputs, layers.Dense(2, name="out")(x)))
    for note, name, own in zip(graph.notes, ("one", "two"), (35, 56), strict=True):
        assert note.startswith(f"no rule for the operation {name} (Block): line ")
        assert note.endswith(f"; it keeps what it reads and gives, and its own {own} parameters")
    with pytest.raises(ValueError, match="prunable neurons.*operation two .Block.*56 parameters"):
        prune_keras.prune(keras.Model(inputs, x), fraction=0.5)


def test_what_has_no_weights_and_nothing_before_it_is_named():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="a")(Backend(name="odd")(inputs))
    graph = prune_keras.trace(keras.Model(inputs, layers.Dense(2)(x)))
    (note,) = graph.notes
    assert note.startswith("no rule for the operation odd (Backend): ")
    assert note.endswith("; it keeps what it reads and gives")


def test_what_is_named_as_a_reason_is_not_named_again():
    graph = prune_keras.trace(between(Backend(name="odd")))
    assert graph.notes == ()
    assert "odd" in graph.fixed[0].reason


def test_layers_that_have_a_rule_and_keep_weights_are_named():
    inputs = keras.Input((4, 3))
    query = layers.Dense(3)(inputs)
    x = layers.MultiHeadAttention(2, 3, name="m")(query, query, return_attention_scores=False)
    assert prune_keras.trace(keras.Model(inputs, layers.Dense(2)(x))).notes == ()
    layer = layers.RNN(OwnCell(3), name="own")
    graph = prune_keras.trace(keras.Model(inputs, layers.Dense(2)(layer(inputs))))
    told = "own has a cell without a rule; it keeps what it reads and gives"
    assert graph.notes == (f"{told}, and its own 21 parameters",)


class OwnCell(layers.SimpleRNNCell):
    pass
