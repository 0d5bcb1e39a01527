"""Rules of layers with several weights: families, exactness, files, costs by hand."""

import keras
import numpy as np
import pytest
from keras import layers
from networks import outputs_of, randomize, samples, train_step
from promises import assert_close, is_key, random_plan
from promises_in_training import OPTIMIZERS, check_next_step
from silenced import Silenced

import prune_keras

LENGTH, FEATURES = 5, 4


def dense(x, units=2):
    return layers.Dense(units)(x)


def both(made):
    """Return a head for each of a layer's outputs."""
    return [dense(y) for y in keras.tree.flatten(made)]


def handing_over(x):
    _, *states = layers.LSTM(6, return_state=True, seed=0, name="a")(x)
    return dense(layers.LSTM(6, seed=0, name="b")(dense(x, 3), initial_state=states))


def cross(x):
    value, key = dense(x, 6), dense(x, 3)
    return dense(layers.MultiHeadAttention(4, 2, value_dim=3, name="a")(x, value, key))


def attended(x):
    x = dense(x, 8)
    y = layers.MultiHeadAttention(4, 3, value_dim=3, name="a")(x, x, use_causal_mask=True)
    return dense(layers.Add()([x, y]))


def grouped(x):
    x = layers.Dense(8, name="x")(x)
    return dense(layers.GroupQueryAttention(2, 6, 3, name="a")(x, x))


def additive(x):
    a, b = layers.Dense(5, name="a")(x), layers.Dense(5, name="b")(x)
    return dense(layers.AdditiveAttention()([a, b]))


def slices(x):
    x = layers.Reshape((LENGTH, FEATURES, 1))(x)
    x = layers.TimeDistributed(layers.Conv1D(6, 2), name="t")(x)
    x = layers.TimeDistributed(layers.BatchNormalization())(x)
    return dense(layers.TimeDistributed(layers.GlobalMaxPooling1D())(x))


def projected(x):
    """Attention spelled with EinsumDense: of two axes of units, the last one is pruned."""
    x = layers.EinsumDense("abc,cde->abde", (5, 3, 6), bias_axes="de", name="a")(x)
    return dense(layers.EinsumDense("abde,def->abf", (5, 5), bias_axes="f", name="b")(x))


def by_channel(x):
    """A kernel for each channel: the channels can be pruned, the units that it makes cannot."""
    x = layers.Dense(6, name="a")(x)
    return dense(layers.EinsumDense("bpc,cpq->bqc", (4, 6), bias_axes="qc", name="b")(x))


def mixed(x):
    """What reads positions passes the channels beside them on."""
    x = layers.Permute((2, 1))(layers.Dense(6, name="a")(x))
    x = layers.Dense(3, activation="relu", name="b")(x)
    x = layers.EinsumDense("acb,bd->acd", (6, 4), bias_axes="cd", name="c")(x)
    return dense(layers.Permute((2, 1))(x))


CASES = {
    "mixed": (mixed, {"a": 6}),
    "simple": (lambda x: dense(layers.SimpleRNN(6, name="a")(x)), {"a": 6}),
    "lstm": (lambda x: both(layers.LSTM(6, return_state=True, seed=0, name="a")(x)), {"a": 6}),
    "gru": (
        lambda x: dense(layers.GRU(6, reset_after=False, go_backwards=True, seed=0, name="a")(x)),
        {"a": 6},
    ),
    "gru_after": (
        lambda x: dense(layers.GRU(6, return_sequences=True, seed=0, name="a")(x)),
        {"a": 6},
    ),
    "states": (handing_over, {"a": 6, "dense": 3}),
    "stacked": (
        lambda x: both(
            layers.RNN(
                [layers.LSTMCell(4, seed=0, name="c"), layers.GRUCell(5, seed=0, name="d")],
                return_state=True,
                name="a",
            )(x)
        ),
        {"a/c": 4, "a/d": 5},
    ),
    "bidirectional": (
        lambda x: dense(layers.Bidirectional(layers.GRU(6, seed=0, name="g"), name="a")(x)),
        {"a/forward_g": 6},
    ),
    "convolution": (
        lambda x: dense(
            layers.ConvLSTM1D(6, 2, seed=0, name="a")(layers.Reshape((LENGTH, FEATURES, 1))(x))
        ),
        {"a": 6},
    ),
    "cross": (cross, {"dense": 6, "dense_1": 3, "a:heads": 4, "a:key": 2, "a:value": 3, "a": 4}),
    "attention": (attended, {"dense": 8, "a:heads": 4, "a:value": 3, "a:key": 3}),
    "additive": (additive, {"a": 5}),
    "slices": (slices, {"t/conv1d": 6}),
    "einsum": (projected, {"a": 6, "b": 5}),
    "by_channel": (by_channel, {"a": 6}),
}
if hasattr(layers, "GroupQueryAttention"):
    CASES["grouped"] = (grouped, {"x": 8, "a:heads": 3})


def build(name):
    keras.utils.clear_session(free_memory=False)
    inputs = keras.Input((LENGTH, FEATURES))
    model = keras.Model(inputs, CASES[name][0](inputs))
    randomize(model)
    return model


@pytest.mark.parametrize("name", CASES)
def test_families(name):
    graph = prune_keras.trace(build(name))
    assert {family.name: family.size for family in graph.families} == CASES[name][1]
    assert set(prune_keras.score(build(name), "l2")) == set(graph.widths)


@pytest.mark.parametrize("name", CASES)
def test_thin_equals_silenced_and_is_read_back(name, tmp_path):
    model = build(name)
    plan, x = random_plan(model, (0, 0.5)), samples(model)
    reference = Silenced(model, plan)
    expected = reference.outputs(x)
    thin = prune_keras.shrink(model, plan)
    assert_close(outputs_of(thin, x), expected, "float32")
    for old, new in zip(model.variables, thin.variables, strict=True):
        np.testing.assert_array_equal(reference.sliced(old), np.asarray(new))
    thin.save(tmp_path / "thin.keras")
    again = keras.models.load_model(tmp_path / "thin.keras")
    np.testing.assert_allclose(outputs_of(again, x)[0], outputs_of(thin, x)[0], 1e-5, 1e-6)
    assert prune_keras.cost(thin).params == thin.count_params() < model.count_params()
    assert prune_keras.cost(again) == prune_keras.cost(thin)


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_that_reads_in_reverse(tied, tmp_path):
    tokens = keras.Input((LENGTH,), dtype="int32")
    words = layers.ReversibleEmbedding(7, 6, tie_weights=tied, name="words")
    x = layers.Dense(6, activation="relu", name="a")(words(tokens))
    model = keras.Model(tokens, words(x, reverse=True))
    randomize(model)
    graph = prune_keras.trace(model)
    assert {f.name: (f.paths, f.size) for f in graph.families} == {"words": (("words", "a"), 6)}
    assert graph.cost.flops == 2 * LENGTH * (6 * 6 + 6 * 7)
    plan, x = random_plan(model, (0, 0.5)), samples(model)
    reference = Silenced(model, plan)
    thin = prune_keras.shrink(model, plan)
    assert_close(outputs_of(thin, x), reference.outputs(x), "float32")
    for old, new in zip(model.variables, thin.variables, strict=True):
        np.testing.assert_array_equal(reference.sliced(old), np.asarray(new))
    thin.save(tmp_path / "thin.keras")
    again = keras.models.load_model(tmp_path / "thin.keras")
    np.testing.assert_allclose(outputs_of(again, x)[0], outputs_of(thin, x)[0], 1e-5, 1e-6)


@pytest.mark.repeats(10)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", CASES)
def test_a_step_after_a_cut_in_place(name, optimizer):
    model, original = build(name), build(name)
    for each in (model, original):
        each.compile(OPTIMIZERS[optimizer](), loss="mse", run_eagerly=True)
        train_step(each, seed=3)
    check_next_step(model, original, random_plan(model, (1, 0.5), exclude=is_key), "float32")


def flops(made):
    inputs = keras.Input((LENGTH, FEATURES))
    model = keras.Model(inputs, made(inputs))
    cost = prune_keras.cost(model)
    assert cost.params == model.count_params()
    return cost.flops


def test_flops_by_hand():
    assert flops(layers.LSTM(6)) == 2 * LENGTH * 4 * 6 * (FEATURES + 6)
    assert flops(layers.GRU(6, return_sequences=True)) == 2 * LENGTH * 3 * 6 * (FEATURES + 6)
    one = LENGTH * 6 * (FEATURES + 6)
    assert flops(layers.Bidirectional(layers.SimpleRNN(6))) == 2 * 2 * one
    assert flops(layers.TimeDistributed(layers.Dense(3))) == 2 * LENGTH * FEATURES * 3
    assert flops(layers.EinsumDense("abc,bd->adc", (3, FEATURES))) == 2 * LENGTH * FEATURES * 3
    channels = layers.Dense(FEATURES)
    for move, each in (
        (layers.Permute((2, 1)), layers.Dense(3)),
        (layers.Permute((2, 1)), layers.EinsumDense("abc,cd->abd", (FEATURES, 3))),
        (layers.Reshape((LENGTH, FEATURES, 1)), layers.TimeDistributed(layers.Dense(3))),
    ):
        more = flops(lambda x, move=move, each=each: each(move(channels(x))))
        assert more - flops(channels) == 2 * LENGTH * FEATURES * 3
    projections = LENGTH * FEATURES * 2 * (3 + 3 + 5 + 5)
    products = LENGTH * LENGTH * 2 * (3 + 5)
    attention = layers.MultiHeadAttention(2, 3, value_dim=5)
    assert flops(lambda x: attention(x, x)) == 2 * (projections + products)
    assert flops(lambda x: layers.Attention()([x, x])) == 2 * 2 * LENGTH * LENGTH * FEATURES


def reasons(made, shape=(LENGTH, FEATURES), **arguments):
    inputs = keras.Input(shape, **arguments)
    graph = prune_keras.trace(keras.Model(inputs, dense(made(inputs))))
    return {fixed.path: fixed.reason for fixed in graph.fixed}


class OwnAttention(layers.MultiHeadAttention):
    def _compute_attention(self, *args, **kwargs):
        return super()._compute_attention(*args, **kwargs)


class OwnCell(layers.SimpleRNNCell):
    pass


def test_what_stays_and_why():
    found = reasons(layers.LSTM(3, stateful=True, name="a"), batch_size=2)
    assert found["a"] == "a keeps its states from batch to batch"
    found = reasons(lambda x: layers.RNN(OwnCell(3), name="a")(layers.Dense(3, name="d")(x)))
    assert found["d"] == "a has a cell without a rule"
    found = reasons(lambda x: OwnAttention(2, 3, name="a")(layers.Dense(3, name="d")(x), x))
    unlike = "which overrides _compute_attention of MultiHeadAttention"
    assert found["d"] == f"no rule for the operation a (OwnAttention), {unlike}"
    inner = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(3)], name="m")
    found = reasons(
        lambda x: layers.TimeDistributed(inner, name="t")(layers.Dense(FEATURES, name="d")(x))
    )
    assert found["d"] == "no rule for the operation t/m (Sequential)"


def test_notes():
    inputs = keras.Input((LENGTH, FEATURES))
    x = layers.SpectralNormalization(layers.Dense(5), name="s")(inputs)
    y = layers.Attention(name="a")([x, x])
    assert prune_keras.trace(keras.Model(inputs, dense(y))).notes == (
        "s divides, in training, by a norm of the kernel that is left",
        "a compares along the channels that are left",
    )


@pytest.mark.parametrize("criterion", ["apoz", "mean_activation", "taylor"])
def test_units_without_an_output_are_scored_by_their_kernel(criterion):
    model = build("cross")
    model.compile("sgd", "mse")
    x, y = samples(model, 8), np.zeros((8, LENGTH, 2))
    found = prune_keras.score(model, criterion, data=(x[0], y))
    expected = prune_keras.score(model, "l2")
    assert set(found) == set(expected)
    for path in ("a:heads", "a:value", "a:key"):
        np.testing.assert_array_equal(found[path], expected[path])


def test_both_directions_are_scored_by_what_they_show():
    model = build("bidirectional")
    x = samples(model, 8)
    found = prune_keras.score(model, "mean_activation", data=x[0])
    shown = keras.Model(model.inputs[0], model.get_layer("a").output)
    expected = np.abs(outputs_of(shown, x)[0]).mean(axis=0).reshape(2, 6).mean(axis=0)
    np.testing.assert_allclose(found["a/forward_g"], expected, 1e-5)


def test_scores_of_attention_stay_when_keys_of_zeros_go():
    model = build("attention")
    layer, x = model.get_layer("a"), samples(model)
    for dense_layer in (layer._query_dense, layer._key_dense):
        dense_layer.kernel.assign(np.array(dense_layer.kernel) * np.array([1, 0, 1]))
        dense_layer.bias.assign(np.array(dense_layer.bias) * np.array([1, 0, 1]))
    before = outputs_of(model, x)
    widths = prune_keras.trace(model).widths
    plan = prune_keras.Plan.everything(widths)
    plan = prune_keras.Plan({**plan.kept, "a:key": np.array([0, 2])}, widths)
    prune_keras.shrink_in_place(model, plan)
    assert layer.key_dim == 2
    assert_close(outputs_of(model, x), before, "float32")
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert_close(outputs_of(again, x), before, "float32")
