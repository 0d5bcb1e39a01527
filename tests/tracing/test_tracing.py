"""Tracing: which units end up in one neuron, which are fixed, and what reasons are given."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras


def families(outputs, inputs):
    graph = prune_keras.trace(keras.Model(inputs, outputs))
    return {family.name: (family.paths, family.size) for family in graph.families}


def reasons(outputs, inputs):
    graph = prune_keras.trace(keras.Model(inputs, outputs))
    return {fixed.path: fixed.reason for fixed in graph.fixed}


@pytest.fixture
def image():
    return keras.Input((8, 8, 3))


def head(x):
    return layers.Dense(2, name="out")(layers.GlobalAveragePooling2D()(x))


def conv(filters, name, **arguments):
    return layers.Conv2D(filters, 3, padding="same", name=name, **arguments)


def test_a_residual_stream_is_one_family(image):
    x = conv(4, "a")(image)
    x = layers.Add()([x, conv(4, "c")(conv(6, "b")(x))])
    found = families(head(conv(5, "d")(x)), image)
    assert found == {"a": (("a", "c"), 4), "b": (("b",), 6), "d": (("d",), 5)}


def test_zero_padding_joins_its_channels_with_the_stream(image):
    x = conv(4, "a")(image)
    padded = keras.ops.pad(x[:, ::2, ::2, :], [[0, 0], [0, 0], [0, 0], [1, 3]])
    x = layers.Add()([padded, conv(8, "b", strides=2)(x)])
    assert families(head(x), image) == {"a": (("a", "b"), 4), "b": (("b",), 4)}


def test_one_channel_broadcasts_without_being_united(image):
    x = conv(6, "a")(image)
    gate = conv(1, "gate", activation="sigmoid")(x)
    found = families(head(layers.Multiply()([x, gate])), image)
    assert found["a"] == (("a",), 6)
    assert found["gate"] == (("gate",), 1)


def test_what_is_broadcast_over_channels_keeps_its_own_on_another_axis():
    inputs, others = keras.Input((3,)), keras.Input((4, 5))
    rows = layers.Reshape((4, 1))(layers.Dense(4, name="rows")(inputs))
    added = layers.Add()([rows, layers.Dense(6, name="columns")(others)])
    graph = prune_keras.trace(keras.Model([inputs, others], layers.Dense(2)(added)))
    assert [(f.path, f.units) for f in graph.fixed][:1] == [("rows", 4)]
    assert graph.widths["columns"] == graph.families[0].size == 6
    assert "broadcasts them against each other" in graph.fixed[0].reason


def test_dense_units_of_one_channel_become_one_neuron():
    inputs = keras.Input((5,))
    x = layers.Reshape((3, 3, 4))(layers.Dense(36, name="grow")(inputs))
    found = families(head(conv(2, "c")(x)), inputs)
    assert found["grow"] == (("grow",), 4)


def test_channels_first():
    inputs = keras.Input((3, 8, 8))
    x = layers.Conv2D(4, 3, data_format="channels_first", name="a")(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.Flatten(data_format="channels_first")(x)
    assert families(layers.Dense(2)(x), inputs) == {"a": (("a",), 4)}


def test_slices_split_a_layer_into_families(image):
    x = conv(6, "a")(image)
    left, right = conv(4, "b")(x[..., :2]), conv(4, "c")(x[..., 2:])
    found = families(head(layers.Concatenate()([left, right])), image)
    assert found["a"] == (("a",), 2)
    assert found["a#2"] == (("a",), 4)


def test_a_step_over_channels_ties_each_period(image):
    x = conv(6, "a")(image)
    assert families(head(conv(2, "b")(x[..., ::2])), image)["a"] == (("a",), 3)


def test_nested_models_are_traced_through(image):
    inner = keras.Sequential([keras.Input((8, 8, 3)), conv(4, "a"), conv(5, "b")], name="base")
    found = families(head(inner(image)), image)
    assert found == {"base/a": (("base/a",), 4), "base/b": (("base/b",), 5)}


def test_a_layer_called_twice_is_one_producer():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    shared = layers.Dense(6, name="shared")
    out = layers.Dense(1)(layers.Concatenate()([shared(x) for x in inputs]))
    assert families(out, inputs) == {"shared": (("shared",), 6)}


def test_a_depthwise_convolution_carries_its_channels(image):
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(conv(4, "a")(image))
    assert families(head(conv(5, "b")(x)), image) == {"a": (("a",), 4), "b": (("b",), 5)}


def test_groups_stay_equally_wide(image):
    x = conv(6, "b", groups=2)(conv(8, "a")(image))
    graph = prune_keras.trace(keras.Model(image, head(x)))
    assert [(family.name, family.size) for family in graph.families] == [("a", 4), ("b", 3)]
    assert (
        graph.producers["b"].neurons.reshape(2, 3).tolist()[0]
        == (graph.producers["b"].neurons.reshape(2, 3).tolist()[1])
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda x: layers.GroupNormalization(4, name="g")(x),
        lambda x: conv(4, "c")(layers.Conv2D(2, 1, groups=2, name="g")(x)),
    ],
)
def test_channels_that_are_groups_of_their_own_stay(image, make):
    found = reasons(head(make(conv(4, "a")(image))), image)
    assert "each of them is a group of its own in g" in found.values()


@pytest.mark.parametrize("multiplier", [1, 3])
def test_a_convolution_of_each_channel_by_itself_goes_with_it(image, multiplier):
    x = conv(4 * multiplier, "b", groups=4)(conv(4, "a")(image))
    model = keras.Model(image, head(conv(5, "c")(x)))
    graph = prune_keras.trace(model)
    assert graph.families[0].paths == ("a", "b") and graph.families[0].size == 4
    units = [np.arange(multiplier) + multiplier * i for i in (1, 3)]
    everything = prune_keras.Plan.everything(graph.widths).kept
    kept = {**everything, "a": [1, 3], "b": np.concatenate(units)}
    plan = prune_keras.Plan(kept, graph.widths)
    layer = prune_keras.shrink(model, plan).get_layer("b")
    assert (layer.groups, layer.filters) == (2, 2 * multiplier)


def test_groups_keep_two_channels_lest_each_one_becomes_a_group(image):
    x = conv(4, "b", groups=2)(conv(6, "a")(image))
    model = keras.Model(image, head(x))
    graph = prune_keras.trace(model)
    scores = {path: np.ones(width) for path, width in graph.widths.items()}
    plan = prune_keras.select(graph, scores, fraction=0.9)
    assert plan.new_widths == {"a": 4, "b": 2}
    with pytest.raises(ValueError, match="two where groups or reshapes tie"):
        prune_keras.shrink(model, prune_keras.Plan({**plan.kept, "a": [0, 3]}, graph.widths))
    assert reasons(head(conv(6, "b", groups=3)(conv(6, "a")(image))), image) == {
        "a": "b has two of them in a group, which it needs",
        "out": "they are an output of the model",
    }


def test_plans_compose_where_groups_come_down_to_two_channels(image):
    x = conv(4, "b", groups=2)(conv(6, "a")(image))
    model = keras.Model(image, head(conv(4, "c")(x)))
    one = prune_keras.Plan({"a": [0, 2, 3, 5], "b": [0, 2], "c": [0, 1]}, {"a": 6, "b": 4, "c": 4})
    between = prune_keras.shrink(model, one)
    scores = prune_keras.score(between)
    two = prune_keras.select(prune_keras.trace(between), scores, fraction=0.5)
    thin = prune_keras.shrink(between, two)
    once = prune_keras.shrink(model, one.then(two))
    for a, b in zip(thin.get_weights(), once.get_weights(), strict=True):
        assert (a == b).all()


def test_statistics_over_channels_are_noted(image):
    x = layers.LayerNormalization(name="norm")(conv(4, "a")(image))
    x = layers.GroupNormalization(2, name="groups")(conv(4, "b")(x))
    model = keras.Model(image, head(layers.LayerNormalization(axis=1)(x)))
    notes = (
        "norm normalizes over the channels that are left",
        "groups normalizes over the channels that are left in a group",
    )
    assert prune_keras.trace(model).notes == notes
    report = prune_keras.prune(model, target={"neurons": 0.5})[1]
    assert all(f"note: {note}" in report.render() for note in notes)
    assert report.to_dict()["notes"] == list(notes)


def test_units_that_could_only_go_at_once_are_noted(image):
    x = conv(2, "a")(image)
    swapped = layers.Add()([x, keras.ops.flip(x, axis=-1)])
    graph = prune_keras.trace(keras.Model(image, head(conv(4, "b")(swapped))))
    assert graph.notes == ("a: all units are tied into one neuron, so that they stay",)
    assert graph.widths == {"a": 2, "b": 4}


class Unknown(layers.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


def test_what_has_no_rule_is_fixed_and_named(image):
    x = Unknown(name="mystery")(conv(4, "a")(image))
    graph = prune_keras.trace(keras.Model(image, head(conv(5, "b")(x))))
    assert [family.name for family in graph.families] == ["b"]
    assert str(graph.fixed[0]) == (
        "a: 4 units are fixed: no rule for the operation mystery (Unknown): it draws numbers"
    )


def test_the_report_names_what_has_no_rule_with_all_layers_and_units_that_it_fixed(image):
    joined = layers.Add()([conv(4, "a")(image), conv(4, "b")(image)])
    x = Unknown(name="mystery")(layers.Concatenate()([joined, conv(3, "c")(image)]))
    report = prune_keras.prune(keras.Model(image, head(conv(5, "d")(x))), fraction=0.5)[1]
    for path, units in (("a", 4), ("b", 4), ("c", 3)):
        reason = "no rule for the operation mystery (Unknown): it draws numbers"
        assert f"fixed: {path}: {units} units are fixed: {reason}\n" in report.render()
        stored = {"path": path, "units": units, "reason": reason}
        assert stored in report.to_dict()["fixed"]


def test_a_subclass_that_changes_call_is_not_guessed():
    class Odd(layers.Dense):
        def call(self, inputs, training=None):
            return keras.ops.flip(super().call(inputs), 1)

    inputs = keras.Input((4,))
    found = reasons(layers.Dense(1)(Odd(3, name="odd")(layers.Dense(5, name="a")(inputs))), inputs)
    assert "no rule for the operation odd (Odd)" in found["a"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda x: layers.Softmax(name="s")(x), "s is a softmax over them"),
        (lambda x: layers.Activation("softmax", name="s")(x), "activation softmax"),
        (
            lambda x: layers.DepthwiseConv2D(3, activation="softmax", name="g")(x),
            "g: its activation softmax",
        ),
        (lambda x: x[..., ::-1], "picks them backwards"),
        (lambda x: layers.Rescaling([1.0, 2.0, 3.0, 4.0], name="r")(x), "r holds a scale"),
        (
            lambda x: layers.Normalization(mean=[0.0] * 4, variance=[1.0] * 4, name="n")(x),
            "n holds a mean",
        ),
        (
            lambda x: layers.Dropout(0.5, noise_shape=(None, 1, 1, 4), name="d")(x),
            "noise_shape of d",
        ),
        (
            lambda x: layers.Add()(
                [x, layers.Conv2D(4, 1, activation=lambda y: keras.ops.flip(y, -1), name="f")(x)]
            ),
            "lets one change others",
        ),
    ],
)
def test_reasons_of_what_is_fixed(image, make, reason):
    assert reason in reasons(head(make(conv(4, "a")(image))), image)["a"]


def test_outputs_and_what_is_joined_with_inputs_stay(image):
    x = layers.Add(name="sum")([image, conv(3, "a")(image)])
    found = reasons([head(x), conv(4, "b")(x)], image)
    assert found["a"] == "they are joined with an input of the model"
    assert found["b"] == found["out"] == "they are an output of the model"


@pytest.mark.parametrize(
    "shared",
    [
        lambda: layers.LayerNormalization(name="n"),
        lambda: layers.PReLU(shared_axes=[1, 2], name="n"),
        lambda: layers.EinsumDense("abcd,de->abce", (8, 8, 3), name="n"),
    ],
)
@pytest.mark.parametrize("first", ["image", "channels"])
def test_a_layer_that_meets_channels_in_some_calls_only_keeps_them(image, shared, first):
    layer, other = shared(), conv(3, "a")(image)
    calls = [layer(x) for x in ((image, other) if first == "image" else (other, image))]
    found = reasons(head(layers.Concatenate()(calls)), image)
    assert "is met by channels in some calls only" in found["a"]


def test_tracing_leaves_no_trace(image):
    model = keras.Model(image, head(conv(4, "a")(image)))
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    config, weights = model.to_json(), model.get_weights()
    prune_keras.trace(model, input_shape=(8, 8, 3))
    assert [len(layer._inbound_nodes) for layer in model.layers] == calls
    assert model.to_json() == config
    for old, new in zip(weights, model.get_weights(), strict=True):
        assert (old == new).all()
