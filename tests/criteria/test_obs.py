"""Scores that know the repair, against fits by least squares without each unit."""

import keras
import numpy as np
import pytest
from keras import layers

from prune_keras import criteria, score
from prune_keras.criteria.elimination import AT_ONCE, Quadratic, eliminated, elimination

SURGEON = criteria.OptimalBrainSurgeon(ridge=1e-9, positions=10**6)


def network(shape, *stack):
    """Layers with drawn weights, a squared error, and samples with targets."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input(shape), *stack])
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) / 2)
    model.compile("sgd", "mse", run_eagerly=True)
    x = rng.normal(size=(60, *shape)).astype("float32")
    y = rng.normal(size=(60, *model.output_shape[1:])).astype("float32")
    return model, x, y


def numbers(tensor):
    return np.array(keras.ops.convert_to_numpy(tensor), np.float64)


def patches_of(layer, x):
    """Return what a layer reads for each response, `(rows, entries)`, by a kernel of ones."""
    config = layer.get_config() | {"activation": None, "use_bias": False, "groups": 1}
    size = int(np.prod(layer.kernel.shape[:-2])) * x.shape[-1]
    config["filters"] = size
    twin = type(layer).from_config(config)
    twin.build(x.shape)
    twin.set_weights([np.eye(size).reshape(twin.kernel.shape)])
    return numbers(twin(x)).reshape(-1, size)


def losses_without(rows, weights, curvature, columns, intercept=True):
    """Return what the squared misses of the best fit without some columns come to."""
    stays = np.delete(rows, columns, axis=1)
    if intercept:
        stays = np.c_[stays, np.ones(len(rows))]
    wanted = rows @ weights
    missed = wanted - stays @ np.linalg.lstsq(stays, wanted, rcond=None)[0]
    return (curvature * np.square(missed).mean(0)).sum() / 2


def brute_force(units, loss_without):
    """Remove one unit after another where the loss is lowest; return the loss as each one goes."""
    gone, losses = [], np.zeros(units)
    while len(gone) < units:
        rest = [u for u in range(units) if u not in gone]
        found = [loss_without([*gone, u]) for u in rest]
        gone.append(rest[int(np.argmin(found))])
        losses[gone[-1]] = min(found)
    return losses


def curvature_of(model, x, y, rows, weights, units):
    """Return the curvature by each output of a last layer with a squared error.

    It is the mean square of slopes, summed over positions, times what lets closing gates on single
    units cost, on their mean, what slopes by these gates say.
    """
    slopes = 2 * (numbers(model(x)) - y) / np.prod(y.shape[1:])
    slopes = slopes.reshape(len(y), -1, slopes.shape[-1])
    plain = np.square(slopes).sum(1).mean(0)
    gates = apart = 0
    for unit in range(units):
        own = [c for c in range(rows.shape[1]) if c % units == unit]
        added = (rows[:, own] @ weights[own]).reshape(slopes.shape)
        gates += np.square((slopes * added).sum((1, 2))).mean()
        apart += (plain * np.square(added).mean((0, 1))).sum()
    return plain * gates / apart


CONVOLUTIONS = {
    "2d": ((6, 6, 2), layers.Conv2D(5, 2, activation="relu"), layers.Conv2D(3, 3)),
    "strides": (
        (7, 6, 2),
        layers.Conv2D(5, 2, activation="relu"),
        layers.Conv2D(3, (3, 2), strides=2, padding="same"),
    ),
    "dilated": (
        (8, 8, 2),
        layers.Conv2D(4, 1, activation="tanh"),
        layers.Conv2D(3, 2, dilation_rate=2, padding="same"),
    ),
    "without a bias": (
        (6, 6, 2),
        layers.Conv2D(5, 2, activation="relu"),
        layers.Conv2D(3, 3, use_bias=False),
    ),
    "causal": (
        (9, 2),
        layers.Conv1D(4, 2, activation="relu"),
        layers.Conv1D(3, 3, padding="causal", dilation_rate=2),
    ),
    "3d": ((4, 4, 4, 1), layers.Conv3D(4, 1, activation="relu"), layers.Conv3D(2, 2)),
}


PRODUCTS = {
    "dense": ((4,), layers.Dense(5, activation="tanh"), layers.Dense(3)),
    "dense over positions": ((6, 3), layers.Dense(5, activation="tanh"), layers.Dense(2)),
    "einsum": (
        (6, 3),
        layers.EinsumDense("abc,cd->abd", (6, 5), bias_axes="d", activation="tanh"),
        layers.EinsumDense("abc,cd->abd", (6, 2), bias_axes="d"),
    ),
}


@pytest.mark.parametrize("kind", [*CONVOLUTIONS, *PRODUCTS])
def test_losses_are_those_of_least_squares_without_the_units(kind):
    shape, first, second = (CONVOLUTIONS | PRODUCTS)[kind]
    model, x, y = network(shape, first, second)
    read = numbers(first(x))
    units = read.shape[-1]
    rows = patches_of(second, read) if kind in CONVOLUTIONS else read.reshape(-1, units)
    weights = numbers(second.kernel).reshape(rows.shape[1], -1)
    curvature, with_bias = curvature_of(model, x, y, rows, weights, units), second.bias is not None

    def loss_without(gone):
        columns = [c for c in range(rows.shape[1]) if c % units in gone]
        return losses_without(rows, weights, curvature, columns, with_bias)

    found = score(model, SURGEON, (x, y))[first.name]
    np.testing.assert_allclose(found, brute_force(units, loss_without), rtol=2e-3, atol=1e-7)


def twins(scale=1.0):
    """Units 0 and 3 say the same, unit 2 nothing; a scale that the reader takes back."""
    model, x, y = network((4,), layers.Dense(5, activation="relu", name="a"), layers.Dense(3))
    kernel, bias = model.get_layer("a").get_weights()
    kernel[:, 3], bias[3], kernel[:, 2], bias[2] = kernel[:, 0], bias[0], 0, -1
    reading, last = model.layers[-1].get_weights()
    kernel[:, 1], bias[1], reading[1] = kernel[:, 1] * scale, bias[1] * scale, reading[1] / scale
    model.set_weights([kernel, bias, reading, last])
    return model, x, y


def test_of_two_twins_one_is_free_and_a_dead_unit_is_too():
    model, x, y = twins()
    found = score(model, "obs", (x, y))["a"]
    last, first = max(found[[0, 3]]), min(found[[0, 3]])
    assert found[2] == 0 and first < 1e-3 * found[1] and last > 0.1 * found[1]
    alone = score(model, "reconstruction", x)["a"]  # to which both are worth as much
    assert min(alone[[0, 3]]) > 0.1 * alone[1]


def test_both_twins_cost_what_the_best_fit_without_both_misses():
    model, x, y = twins()
    rows, weights = numbers(model.layers[0](x)), numbers(model.layers[1].kernel)
    curvature = curvature_of(model, x, y, rows, weights.astype(float), 5)
    loss_without = lambda gone: losses_without(rows, weights, curvature, gone)  # noqa: E731
    found = score(model, SURGEON, (x, y))["a"]
    expected = brute_force(5, loss_without)  # rounding tells which of the twins goes first
    np.testing.assert_allclose(np.sort(found), np.sort(expected), rtol=1e-3, atol=1e-6)


def test_rounding_may_let_second_moments_be_less_than_zero():
    alike = np.array([[1, 1 + 1e-7], [1 + 1e-7, 1]])  # of twins, summed in float32
    quadratic = Quadratic.of(alike, np.ones((2, 1)), np.ones(1), ridge=1e-9)
    order, added = eliminated([elimination(quadratic, np.arange(2)[:, None])], np.zeros(2))
    assert sorted(order) == [0, 1]
    np.testing.assert_allclose(added, [0, 2], atol=1e-5)


def test_moments_without_a_finite_number_give_scores_without_one():
    quadratic = Quadratic.of(np.full((2, 2), np.nan), np.ones((2, 1)), np.ones(1), ridge=1e-4)
    _, added = eliminated([elimination(quadratic, np.arange(2)[:, None])], np.zeros(2))
    assert np.isnan(added).all()


def test_a_scale_that_the_reader_takes_back_changes_nothing():
    plain, scaled = (score(model, "obs", (x, y)) for model, x, y in (twins(), twins(64.0)))
    np.testing.assert_allclose(scaled["a"], plain["a"], rtol=1e-3, atol=1e-9)


def test_a_frozen_reader_makes_up_for_nothing():
    model, x, y = twins()
    model.layers[1].trainable = False
    rows, weights = numbers(model.layers[0](x)), numbers(model.layers[1].kernel)
    curvature = curvature_of(model, x, y, rows, weights.astype(float), 5)

    def loss_without(gone):  # nor does its bias
        return (curvature * np.square(rows[:, gone] @ weights[gone]).mean(0)).sum() / 2

    found = score(model, SURGEON, (x, y))["a"]
    expected = np.zeros(5)
    for unit in np.argsort(found):
        expected[unit] = loss_without([*np.flatnonzero(expected), unit])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)


def test_members_of_several_layers_have_one_score_and_add_up_over_readers():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    a, b = (layers.Dense(5, activation="tanh", name=name)(inputs) for name in "ab")
    joined = layers.Add()([a, b])
    outputs = [layers.Dense(2, name=name)(joined) for name in "cd"]
    x = np.random.default_rng(0).normal(size=(40, 4))
    y = np.random.default_rng(1).normal(size=(40, 2))
    found = []
    for kept in (outputs, outputs[:1], outputs[1:]):
        model = keras.Model(inputs, kept)
        model.compile("sgd", ["mse"] * len(kept))
        found.append(score(model, "obs", (x, [y] * len(kept))))
    both, first, second = found
    np.testing.assert_array_equal(both["a"], both["b"])
    assert max(both["a"]) == pytest.approx(max(first["a"]) + max(second["a"]), rel=1e-3)
    assert min(both["a"]) >= min(first["a"]) + min(second["a"])


def test_groups_read_channels_of_their_own():
    first = layers.Conv2D(6, 2, activation="relu", name="a")
    model, x, y = network((5, 5, 2), first, layers.Conv2D(4, 3, groups=2))
    whole = model.get_layer("a").get_weights()
    found = score(model, SURGEON, (x, y))["a"]
    np.testing.assert_array_equal(found[:3], found[3:])  # channel j of all groups is one neuron
    kernel, bias = whole
    kernel[..., [1, 4]], bias[[1, 4]] = 0, -1
    first.set_weights([kernel, bias])
    assert score(model, SURGEON, (x, y))["a"][1] == 0 < found.min()


def test_places_of_a_flattened_map_belong_to_its_channels():
    stack = layers.Conv2D(4, 2, activation="relu", name="a"), layers.Flatten(), layers.Dense(3)
    model, x, y = network((4, 4, 1), *stack)
    rows = numbers(stack[0](x)).reshape(60, -1)
    weights = numbers(stack[2].kernel)
    curvature = curvature_of(model, x, y, rows, weights, 4)

    def loss_without(gone):
        columns = [c for c in range(36) if c % 4 in gone]
        return losses_without(rows, weights, curvature, columns)

    expected = brute_force(4, loss_without)
    np.testing.assert_allclose(score(model, SURGEON, (x, y))["a"], expected, rtol=2e-3)
    by_place = score(model, criteria.OptimalBrainSurgeon(entries=8), (x, y))["a"]
    assert np.isfinite(by_place).all() and rank_correlation(by_place, expected) > 0.7


def test_places_by_themselves_are_as_good_as_together_where_there_is_one():
    model, x, y = network((6, 3), layers.Dense(5, activation="tanh", name="a"), layers.Dense(2))
    by_place = score(model, criteria.OptimalBrainSurgeon(entries=0), (x, y))["a"]
    np.testing.assert_allclose(by_place, score(model, "obs", (x, y))["a"], rtol=1e-5)


def attending():
    inputs = keras.Input((5, 6))
    x = layers.MultiHeadAttention(3, 2, name="m")(inputs, inputs)
    model = keras.Model(inputs, layers.Dense(2, name="out")(x[:, 0]))
    model.compile("sgd", "mse")
    return model


def test_heads_count_by_the_projection_that_reads_them():
    keras.utils.set_random_seed(2)
    model, rng = attending(), np.random.default_rng(0)
    x, y = rng.normal(size=(50, 5, 6)), rng.normal(size=(50, 2))
    projection = model.get_layer("m")._output_dense
    kernel = numbers(projection.kernel)
    kernel[1] = 0  # of the second head
    projection.kernel.assign(kernel)
    found = score(model, "obs", (x, y))
    assert found["m:heads"].argmin() == 1 and found["m:heads"][1] < 1e-9
    assert found["m:value"].min() > 0 and found["m:key"].min() > 0 and found["m"].min() > 0


def test_what_no_response_tells_counts_by_the_slope_of_the_loss():
    """The width of keys: one sample a batch, by differences of a gate on what queries hold."""
    keras.utils.set_random_seed(2)
    model, rng = attending(), np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5, 6)), rng.normal(size=(6, 2))
    found = score(model, "obs", (x, y), data_batch_size=1)["m:key"]
    dense = model.get_layer("m")._query_dense
    before, slopes = dense.get_weights(), np.zeros((2, 6))
    for unit in range(2):
        for sign in (1, -1):
            gate = np.where(np.arange(2) == unit, 1 + sign * 1e-2, 1)
            dense.set_weights([each * gate for each in before])
            misses = np.square(numbers(model(x)) - y).mean(1)
            slopes[unit] += sign * misses / 2e-2
    dense.set_weights(before)
    each = np.square(slopes).mean(1) / 2
    expected = np.where(each == each.min(), each, each.sum())  # the second one goes with the first
    np.testing.assert_allclose(found, expected, rtol=2e-2)


@pytest.mark.parametrize("kind", [layers.Dense, layers.Conv1D])
def test_what_no_weight_reads_counts_by_the_slope_of_the_loss(kind):
    """Products of two layers, summed over channels; one sample a batch, and a gate moved."""
    keras.utils.set_random_seed(2)
    size = () if kind is layers.Dense else (1,)
    inputs, rng = keras.Input((5, 4)), np.random.default_rng(0)
    a, b = (kind(3, *size, use_bias=False, name=name) for name in "ab")
    model = keras.Model(inputs, keras.ops.sum(a(inputs) * b(inputs), axis=-1))
    model.compile("sgd", "mse", run_eagerly=True)
    x, y = (rng.normal(size=shape).astype("float32") for shape in ((6, 5, 4), (6, 5)))
    found, before, slopes = score(model, "obs", (x, y), data_batch_size=1), a.get_weights(), []
    for unit in range(3):
        misses = []
        for sign in (1, -1):
            gate = np.where(np.arange(3) == unit, 1 + sign * 1e-2, 1)
            a.set_weights([each * gate for each in before])
            misses.append(np.square(numbers(model(x)) - y).mean(1))
        slopes.append((misses[0] - misses[1]) / 2e-2)
    each = np.square(2 * np.array(slopes)).mean(1) / 2  # by the weights of a, and by those of b
    expected = np.cumsum(np.sort(each))[np.argsort(np.argsort(each))]
    for name in "ab":
        np.testing.assert_allclose(found[name], expected, rtol=2e-2)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_precisions_give_nearly_the_same(policy):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is told to before it starts")
    found, weights = [], None
    for dtype in ("float32", policy):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        x = layers.Dense(8, activation="relu", name="a", dtype=dtype)(inputs)
        model = keras.Model(inputs, layers.Dense(3, activation="softmax", dtype=dtype)(x))
        model.compile("sgd", "sparse_categorical_crossentropy")
        weights = weights or model.get_weights()
        model.set_weights(weights)
        data = np.random.default_rng(0).normal(size=(60, 6)), np.arange(60) % 3
        # Units of nearly the same cost may go one before the other.
        found.append(np.sort(score(model, "obs", data)["a"]))
    exact = policy == "float64"
    tolerance = {"rtol": 1e-3 if exact else 0.2, "atol": 1e-6 if exact else 2e-3}
    np.testing.assert_allclose(*found, **tolerance)


def test_what_a_mask_hides_is_not_read():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, 3))
    x = layers.Dense(5, activation="tanh", name="a")(layers.Masking()(inputs))
    x = layers.GlobalAveragePooling1D()(layers.Dense(4)(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    model.compile("sgd", "mse")
    given, y = np.random.default_rng(0).normal(size=(40, 4, 3)), np.ones((40, 2))
    longer = np.pad(given, [(0, 0), (0, 3), (0, 0)])
    found = [score(model, "obs", (x, y))["a"] for x in (given, longer)]
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_shared_layers_look_at_all_their_calls():
    keras.utils.set_random_seed(1)
    left, right = keras.Input((4,)), keras.Input((4,))
    first, second = layers.Dense(5, activation="tanh", name="a"), layers.Dense(2, name="b")
    model = keras.Model([left, right], [second(first(left)), second(first(right))])
    model.compile("sgd", ["mse", "mse"])
    x, y = np.random.default_rng(0).normal(size=(40, 4)), np.zeros((40, 2))
    once = keras.Model(left, second(first(left)))
    once.compile("sgd", "mse")
    twice = score(model, "obs", ([x, x], [y, y]))["a"]
    np.testing.assert_allclose(twice, 2 * score(once, "obs", (x, y))["a"], rtol=1e-4)


class Block(layers.Layer):
    """A Dense layer inside of a layer, as a user writes it."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(4, activation="tanh", name="b")

    def build(self, shape):
        self.inner.build(shape)
        self.built = True

    def call(self, x):
        return self.inner(x)


def test_readers_inside_of_layers_count_as_they_do_outside():
    found = []
    for make in (Block, lambda: layers.Dense(4, activation="tanh", name="b")):
        stack = layers.Dense(5, activation="tanh", name="a"), make(), layers.Dense(2)
        model, x, y = network((6,), *stack)
        found.append([*score(model, "obs", (x, y)).values()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_some_positions_tell_what_all_do():
    first = layers.Conv2D(5, 3, padding="same", activation="relu", name="a")
    model, x, y = network((20, 20, 2), first, layers.Conv2D(3, 3))
    found = [
        score(model, criteria.OptimalBrainSurgeon(positions=count), (x, y))["a"]
        for count in (25, 10**6)
    ]
    np.testing.assert_allclose(*found, rtol=0.2)


def test_a_config_keeps_the_arguments():
    criterion = criteria.OptimalBrainSurgeon(ridge=1e-3, entries=64, positions=9)
    assert criteria.get(criteria.serialize(criterion)) == criterion
    assert criteria.serialize(criterion)["ridge"] == 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ridge": 0.0}, r"`ridge` must be .* Received: ridge=0.0"),
        ({"ridge": "a"}, r"Received: ridge='a'"),
        ({"positions": 0}, "`positions` must be"),
        ({"entries": -1}, "`entries` must be"),
    ],
)
def test_bad_arguments_say_what_was_received(arguments, message):
    with pytest.raises(ValueError, match=message):
        criteria.OptimalBrainSurgeon(**arguments)


def small_images():
    """A trained network of two convolutions and a Dense layer, whose units differ."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(256, 6, 6, 2)).astype("float32")
    y = (x[:, :3].mean((1, 2)) > x[:, 3:].mean((1, 2))).astype(int) @ [1, 2]
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(6, 3, activation="relu", name="a"),
            layers.Conv2D(8, 3, activation="relu", padding="same", name="b"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="relu", name="c"),
            layers.Dense(4, activation="softmax", name="d"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=15, batch_size=64, verbose=0)
    return model, x, y


def rank_correlation(a, b):
    ranks = [np.argsort(np.argsort(each)) for each in (a, b)]
    return np.corrcoef(*ranks)[0, 1]


def test_layers_are_comparable_by_the_loss_that_the_first_cuts_leave():
    """Each unit alone, repaired by a new fit of what reads it: the measured rise of the loss."""
    model, x, y = small_images()
    found = score(model, "obs", (x, y))
    start, expected, guessed = loss_of(model, x, y), [], []
    for path, reader in {"a": "b", "c": "d"}.items():
        layer = model.get_layer(path)
        for unit in range(len(found[path])):
            expected.append(loss_after_a_fit(model, layer, model.get_layer(reader), unit, x, y))
            guessed.append(found[path][unit])
    rises = np.array(expected) - start
    first = np.argsort(guessed)[:8]  # what comes later is scored with these gone
    assert rank_correlation(guessed, rises) > 0.6
    assert rises[first].mean() < 0.5 * rises.mean()


def loss_after_a_fit(model, layer, reader, unit, x, y):
    """Return the loss once the reader is fitted to its responses without one unit."""
    before, activation = reader.get_weights(), reader.activation
    reader.activation = None
    seen = numbers(keras.Model(model.inputs[0], layer.output)(x))
    wanted = numbers(reader(seen)).reshape(-1, len(before[1]))
    reader.activation = activation
    seen[..., unit] = 0
    rows = seen if seen.ndim == 2 else patches_of(reader, seen)
    rows = np.c_[rows.reshape(len(wanted), -1), np.ones(len(wanted))]
    fitted = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    reader.set_weights([fitted[:-1].reshape(before[0].shape), fitted[-1]])
    loss = loss_of(model, x, y)
    reader.set_weights(before)
    return loss


def loss_of(model, x, y):
    return -np.log(numbers(model(x))[np.arange(len(y)), y]).mean()


def wide(units, size=1, responses=5, seed=0, is_fitted=True):
    """Return a quadratic of many entries, places of the units, and its rows and weights."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(3 * units * size, units * size)) @ np.diag(
        rng.uniform(0.2, 2, units * size)
    )
    rows += rows[:, ::-1] / 2
    weights = rng.normal(size=(units * size, responses))
    second, ridge = rows.T @ rows / len(rows), 1e-12 if is_fitted else None
    places = np.arange(units * size).reshape(size, units).T  # entries of a unit are not neighbours
    return Quadratic.of(second, weights, np.ones(responses), ridge), places, rows, weights


@pytest.mark.parametrize("is_fitted", [True, False])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("responses", [4, 40])
def test_units_that_go_together_leave_what_they_leave_one_by_one(is_fitted, size, responses):
    quadratic, places, *_ = wide(12, size, responses, is_fitted=is_fitted)
    together, apart = (elimination(quadratic, places) for _ in range(2))
    for gone in (np.array([7, 2, 9]), np.array([0]), np.array([5, 4])):
        together.remove(gone)
        for unit in gone:
            apart.remove(np.array([unit]))
        stays = np.setdiff1d(np.arange(12), [7, 2, 9, 0] if 5 not in gone else [7, 2, 9, 0, 5, 4])
        np.testing.assert_allclose(together.costs()[stays], apart.costs()[stays], rtol=1e-7)
        alone = together.part(stays[1:5])
        np.testing.assert_allclose(alone.costs(), apart.costs()[stays[1:5]], rtol=1e-7)
    alone.remove(np.array([2]))
    apart.remove(stays[3:4])
    others = stays[[1, 2, 4]]
    np.testing.assert_allclose(alone.costs()[[0, 1, 3]], apart.costs()[others], rtol=1e-7)


def test_of_a_wide_family_what_each_adds_is_what_the_loss_rises_by():
    """However many are looked at together, all that are gone cost what they cost by least squares.

    Twins stay twins: of two that are alike one goes for nothing, and the other one is not free.
    """
    units = AT_ONCE + 60
    _, places, rows, weights = wide(units)
    rows[:, 1::2][:, :40] = rows[:, ::2][:, :40]  # the first forty pairs are alike
    second = rows.T @ rows / len(rows)
    quadratic = Quadratic.of(second, weights, np.ones(5), 1e-10)
    order, added = eliminated([elimination(quadratic, places)], np.zeros(units))
    assert sorted(order) == [*range(units)]
    assert sorted(each // 2 for each in order[:40]) == [*range(40)] and added[:40].max() < 1e-6
    for count in (60, 150, units - 3):
        lost = losses_without(rows, weights, np.ones(5), order[:count], intercept=False)
        np.testing.assert_allclose(added[:count].sum(), lost, rtol=1e-5)
    assert added[40:].min() > 0


def test_wide_families_without_a_finite_moment_are_told_of_and_no_crash():
    quadratic, places, *_ = wide(AT_ONCE + 10, responses=AT_ONCE)
    quadratic.weights[3] = np.nan
    order, added = eliminated([elimination(quadratic, places)], np.zeros(AT_ONCE + 10))
    assert sorted(order) == [*range(AT_ONCE + 10)] and np.isnan(added).any()
