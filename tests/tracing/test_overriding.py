"""A subclass shares a rule only as long as nothing that computes is its own."""

import keras
import pytest
from keras import layers, ops
from read_rows import between, reason

import prune_keras
from prune_keras.tracing.rules import registry
from prune_keras.tracing.rules.overriding import is_plain, overridden


class Standardized(layers.Conv1D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - ops.mean(kernel, axis=1, keepdims=True))


class Crossed(layers.Add):
    def _merge_function(self, inputs):
        return inputs[0] + keras.ops.flip(inputs[1], -1)


class Centred(layers.Dense):
    @property
    def kernel(self):
        return self._kernel - ops.mean(self._kernel, axis=0, keepdims=True)


class Halved(layers.DepthwiseConv1D):
    """Keras sets an attribute `kernel`, which the class itself does not have."""

    @property
    def kernel(self):
        return self._own - ops.mean(self._own, axis=1, keepdims=True)

    @kernel.setter
    def kernel(self, value):
        self._own = value


class Called(layers.ReLU):
    def __call__(self, *args, **kwargs):
        return keras.ops.flip(super().__call__(*args, **kwargs), -1)


class Mixing(layers.Layer):
    def call(self, inputs):
        return keras.ops.flip(super().call(inputs), -1)


class Mixed(Mixing, layers.ReLU):
    pass


class Behind(layers.Layer):
    """A mixin behind the layer in the order of bases still comes before Keras' base class."""

    def __call__(self, *args, **kwargs):
        return keras.ops.flip(super().__call__(*args, **kwargs), -1)


class WithMixinBehind(layers.ReLU, Behind):
    pass


class Scored(layers.BatchNormalization):
    def _moments(self, inputs, mask):
        return super()._moments(keras.ops.flip(inputs, -1), mask)


class Masks(layers.Dense):
    def compute_mask(self, inputs, previous_mask=None):
        return ops.any(inputs > 0, axis=-1)


OVERRIDING = {
    Standardized: lambda x: Standardized(4, 3)(x),
    Crossed: lambda x: Crossed()([x, layers.Dense(5)(x)]),
    Centred: lambda x: Centred(4)(x),
    Halved: lambda x: Halved(3)(x),
    Called: lambda x: Called()(x),
    Mixed: lambda x: Mixed()(x),
    WithMixinBehind: lambda x: WithMixinBehind()(x),
    Scored: lambda x: Scored()(x),
    Masks: lambda x: Masks(4)(x),
}


@pytest.mark.parametrize("kind", OVERRIDING, ids=lambda kind: kind.__name__)
def test_what_overrides_a_hook_has_no_rule_and_is_told_which(kind):
    found = reason(between(OVERRIDING[kind]))
    assert f"({kind.__name__}), which overrides" in found


def own_call(inputs):
    return ops.flip(inputs, axis=-1)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: layers.Conv1D(4, 3), "convolution_op"),
        (lambda: layers.ReLU(), "call"),
        (lambda: layers.Dense(4), "call"),
        (lambda: layers.LayerNormalization(), "call"),
    ],
)
def test_what_one_object_overrides_counts(make, name):
    model = between(make())
    layer = model.layers[2]
    assert reason(model) == ""
    setattr(layer, name, own_call)
    assert f"which overrides {name} of {type(layer).__name__}" in reason(model)


@pytest.mark.parametrize("wrapped", ["cell", "query"])
def test_what_an_inner_layer_overrides_counts(wrapped):
    attention = layers.MultiHeadAttention(2, 3)
    model = between(layers.LSTM(4) if wrapped == "cell" else lambda x: attention(x, x))
    layer = model.layers[2]
    (layer.cell if wrapped == "cell" else layer._query_dense).call = own_call
    told = "has a cell without a rule" if wrapped == "cell" else "in a way of its own"
    assert told in reason(model)


class Stacked(layers.StackedRNNCells):
    def call(self, inputs, states, training=False, **kwargs):
        return super().call(inputs[..., ::-1], states, training, **kwargs)


def test_cells_of_cells_that_override_have_no_rule():
    cells = Stacked([layers.GRUCell(4), layers.GRUCell(3)])
    assert "has a cell without a rule" in reason(between(lambda x: layers.RNN(cells)(x)))


class Named(layers.Dense):
    """What only describes, saves and loads is no reason to lose the rule."""

    supports_nothing = True

    def __init__(self, units, note="", **kwargs):
        super().__init__(units, **kwargs)
        self.note = note

    def get_config(self):
        return {**super().get_config(), "note": self.note}

    def compute_output_shape(self, input_shape):
        return super().compute_output_shape(input_shape)

    def __repr__(self):
        return "a named layer"

    def reshape(self):
        """Some name that Keras' code calls on something else."""


def test_harmless_names_keep_the_rule():
    graph = prune_keras.trace(between(lambda x: Named(4, name="b")(x)))
    assert graph.widths == {"a": 5, "b": 4, "read": 3}


def subclasses(kind):
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_all_classes_of_keras_keep_the_rules_that_are_registered_for_them():
    import keras.applications  # noqa: F401, which defines layers

    for kind in {*subclasses(keras.Operation)} & {*registry._RULES}:
        assert overridden(object.__new__(kind), kind) == []


@pytest.mark.parametrize("layer", [layers.Dense(3), layers.LSTM(3), layers.Conv1D(3, 1)])
def test_a_layer_that_was_trained_and_copied_is_plain(layer):
    model = keras.Sequential([keras.Input((4, 3)), layer])
    model.compile("sgd", "mse")
    model.train_on_batch(ops.ones((2, 4, 3)), ops.ones(model.compute_output_shape((2, 4, 3))))
    for each in (model, keras.models.clone_model(model)):
        assert is_plain(each.layers[0])
