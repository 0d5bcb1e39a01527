"""A native ensemble: what it computes, what its branches learn, and which model is left."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras import NativeEnsemble

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 8, 8, 2)).astype("float32"), RNG.integers(0, 3, 24)
LOSS = "sparse_categorical_crossentropy"
EAGERLY = keras.backend.backend() != "jax"  # where a graph takes longer to make than to run


def network(activation="softmax", units=3, dtype=None):
    pixels = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="a", dtype=dtype)(pixels)
    x = keras.layers.MaxPooling2D(dtype=dtype, name="pool")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", name="b", dtype=dtype)(x)
    y = keras.layers.BatchNormalization(name="norm", dtype=dtype)(y)
    x = keras.layers.ReLU(name="relu", dtype=dtype)(keras.layers.Add(dtype=dtype)([x, y]))
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
    x = keras.layers.Dense(units, activation=activation, name="classes", dtype="float32")(x)
    return keras.Model(pixels, x, name="small")


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entropy(p, y):
    return -np.mean(np.log(p[np.arange(len(y)), y]))


def compiled(model, loss=LOSS, **options):
    model.compile("adam", loss, metrics=["accuracy"], run_eagerly=EAGERLY, **options)
    return model


def test_the_ensemble_weighs_logits_and_the_loss_is_the_papers():
    """Against NumPy, for logits and for probabilities."""
    for activation in (None, "softmax"):
        keras.utils.set_random_seed(0)
        ensemble = NativeEnsemble(network(activation), at="pool", temperature=2.0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
        compiled(ensemble, loss)
        out = {
            name: keras.ops.convert_to_numpy(y) for name, y in ensemble(X, training=False).items()
        }
        gate = keras.Model(ensemble.input, ensemble.get_layer("gate_weights").output)
        weights = gate.predict(X, verbose=0)
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        z = [out[f"branch_{n}"] for n in (1, 2, 3)]
        z = z if activation is None else [np.log(each) for each in z]
        together = sum(g[:, None] * each for g, each in zip(weights.T, z, strict=True))
        found = out["ensemble"] if activation is None else np.log(out["ensemble"])
        np.testing.assert_allclose(softmax(found), softmax(together), rtol=1e-4)
        hard = sum(entropy(softmax(each), Y) for each in [*z, together])
        t = softmax(together / 2)
        soft = sum(4 * np.mean(np.sum(t * np.log(t / softmax(each / 2)), -1)) for each in z)
        given = {name: keras.ops.convert_to_tensor(value) for name, value in out.items()}
        assert float(ensemble.compute_loss(X, Y, given)) == pytest.approx(hard + soft, rel=1e-4)
        alone = float(ensemble.compute_loss(X, Y, given, training=False))
        assert alone == pytest.approx(hard, rel=1e-4)


def test_the_ramp_is_the_papers():
    ensemble = NativeEnsemble(network(), at="pool", ramp_steps=4)
    found = [float(ensemble._weight()) for _ in range(6)]
    expected = np.exp(-5 * (1 - np.minimum(np.arange(6) / 4, 1)) ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_no_gradient_goes_through_the_ensembles_targets():
    """What branches learn of the ensemble leaves the gate alone."""
    from prune_keras import _backend

    ensemble = compiled(NativeEnsemble(network(), at="pool"))
    weights = ensemble.get_layer("gate").trainable_variables
    given = ensemble.variables
    slopes = _backend.variable_gradients(
        lambda: ensemble._apart(ensemble(X, training=False), None), weights, given
    )
    assert not any(np.any(keras.ops.convert_to_numpy(slope)) for slope in slopes)


def test_branches_alike_learn_nothing_of_each_other():
    ensemble = compiled(NativeEnsemble(network(), at="pool", fresh=False))
    apart = keras.ops.convert_to_numpy(ensemble._apart(ensemble(X, training=False), None))
    assert float(apart) == pytest.approx(0, abs=1e-5)


def seeded(frozen=()):
    """Every layer with a seed of its own, and one within a model."""

    def dense(name, seed):
        drawn = keras.initializers.HeNormal(seed=seed)
        return keras.layers.Dense(
            4, kernel_initializer=drawn, trainable=name not in frozen, name=name
        )

    inner = keras.Sequential([keras.Input((4,)), dense("c", 2)], name="inner")
    hidden = [dense("a", 0), dense("b", 1), inner, keras.layers.Dropout(0.5, seed=5)]
    return keras.Sequential([keras.Input((4,)), *hidden, dense("d", 3)])


def kernels(ensemble, path):
    """Return the kernel that a layer has in each branch."""
    found = (ensemble.branch(number) for number in (1, 2, 3))
    return [np.array(each.get_layer(path).weights[0]) for each in found]


def test_branches_differ_where_initializers_have_seeds():
    made = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        made.append(NativeEnsemble(seeded(), at="a"))
    for path in ("b", "inner", "d"):
        one, two, three = kernels(made[0], path)
        pairs = ((one, two), (one, three), (two, three))
        assert all(np.abs(x - y).max() > 0.1 for x, y in pairs)
        np.testing.assert_array_equal([one, two, three], kernels(made[1], path))
    dropouts = [each.layers[-2].seed for each in made[0]._held.branches]
    assert len({*dropouts}) == 3 and dropouts[0] == 5


def test_frozen_layers_are_the_models_in_each_branch():
    ensemble = NativeEnsemble(seeded(frozen=("b", "c")), at="a")
    for path in ("b", "inner"):
        one, two, three = kernels(ensemble, path)
        np.testing.assert_array_equal([one, one], [two, three])
    trainable = {weight.path.split("/")[-2] for weight in ensemble.trainable_weights}
    assert {"a", "d"} <= trainable and trainable.isdisjoint({"b", "c"})
    assert np.abs(np.subtract(*kernels(ensemble, "d")[:2])).max() > 0.1


def adapted():
    """Normalization by samples before and behind where branches begin."""
    drawn = np.random.default_rng(5).normal(7, 3, (100, 6))
    norms = [keras.layers.Normalization(name=name) for name in ("given", "hidden")]
    for norm in norms:
        norm.adapt(drawn)
    first, last = (keras.layers.Dense(6, "relu", name=name) for name in ("a", "b"))
    end = keras.layers.Dense(3, "softmax", name="classes")
    return keras.Sequential([keras.Input((6,)), norms[0], first, norms[1], last, end])


@pytest.mark.parametrize("fresh", [True, False])
def test_adapted_layers_are_the_models_in_each_branch(fresh, tmp_path):
    x = np.random.default_rng(0).normal(7, 3, (24, 6)).astype("float32")
    ensemble = compiled(NativeEnsemble(adapted(), at="a", fresh=fresh))
    ensemble.fit(x, Y, verbose=0)
    ensemble.save(tmp_path / "ensemble.keras")
    expected = ensemble.predict(x, verbose=0)
    for each in (ensemble, keras.models.load_model(tmp_path / "ensemble.keras")):
        for number in (1, 2, 3):
            kept = each.branch(number)
            given = kept.predict(x, verbose=0)
            np.testing.assert_allclose(given, expected[f"branch_{number}"], rtol=1e-5)
            assert float(np.mean(kept.get_layer("hidden").mean)) == pytest.approx(7, abs=1)


def test_samples_are_weighed_for_each_output():
    ensemble = compiled(NativeEnsemble(network(), at="pool"))
    out, weights = ensemble(X, training=False), np.arange(24, dtype="float32")
    names = ensemble.output_names
    alone = [dict.fromkeys(names, 0 * weights) | {name: weights} for name in names]

    def apart_by(weights):
        return float(keras.ops.convert_to_numpy(ensemble._apart(out, weights)))

    apart = [apart_by(each) for each in alone]
    assert apart[names.index("ensemble")] == 0 and sum(apart) > 0
    assert sum(apart) == pytest.approx(apart_by(weights), rel=1e-4)
    assert sum(apart) != pytest.approx(apart_by(None), rel=1e-2)


@pytest.mark.parametrize(
    "given", [{"sample_weight": {"branch_1": np.ones(24)}}, {"y": {"classes": Y}}]
)
def test_what_is_given_for_some_outputs_is_refused(given):
    ensemble = compiled(NativeEnsemble(network(), at="pool"))
    with pytest.raises(ValueError, match="a dict of .*while outputs are .'branch_1', 'branch_2'"):
        ensemble.fit(**{"x": X, "y": Y, "verbose": 0} | given)


@pytest.mark.repeats(2)
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (None, {"run_eagerly": EAGERLY}),
        ("mixed_float16", {"jit_compile": False, "steps_per_execution": 2}),
        (None, {"jit_compile": "auto"}),
    ],
)
def test_a_branch_is_the_model_with_what_was_learnt(dtype, options, tmp_path):
    model = network(dtype=dtype)
    before = [np.array(weight) for weight in model.weights]
    ensemble = NativeEnsemble(model, ramp_steps=5)
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]
    ensemble.compile("adam", LOSS, metrics=metrics, **options)
    history = ensemble.fit(
        X, Y, batch_size=8, epochs=2, validation_data=(X, Y, np.ones(24)), verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()
    assert {"branch_1_accuracy", "val_ensemble_top2", "branch_3_loss"} <= {*history}
    out = ensemble.predict(X, verbose=0)
    for number in (1, 2, 3):
        kept = ensemble.branch(number)
        assert type(kept) is keras.Model or type(kept).__name__ == "Functional"
        assert [w.path for w in kept.weights] == [w.path for w in model.weights]
        given = kept.predict(X, verbose=0)
        np.testing.assert_allclose(given, out[f"branch_{number}"], rtol=1e-3, atol=1e-4)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    kept = ensemble.branch()
    kept.save(tmp_path / "kept.keras")
    keras.models.load_model(tmp_path / "kept.keras")
    thin, report = prune_keras.prune(kept, fraction=0.3)
    assert report.plan.removed and thin.count_params() < model.count_params()
    assert int(ensemble.get_layer("ensemble").steps.value) == 6


def test_it_is_written_and_read_back(tmp_path):
    ensemble = compiled(NativeEnsemble(network(), branches=2, at="pool", ramp_steps=3))
    ensemble.fit(X, Y, verbose=0)
    ensemble.save(tmp_path / "ensemble.keras")
    read = keras.models.load_model(tmp_path / "ensemble.keras")
    expected = ensemble.predict(X, verbose=0)
    for name, given in read.predict(X, verbose=0).items():
        np.testing.assert_allclose(given, expected[name], rtol=1e-5)
    np.testing.assert_allclose(
        read.branch(2).predict(X, verbose=0), expected["branch_2"], rtol=1e-5
    )
    read.fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("units", "activation", "loss"), [(1, "sigmoid", "binary_crossentropy"), (2, None, "mse")]
)
def test_other_outputs_are_weighed_too(units, activation, loss):
    ensemble = compiled(NativeEnsemble(network(activation, units)), loss)
    targets = (Y[:, None] > 1).astype("float32") * np.ones((1, units))
    history = ensemble.fit(X, targets, sample_weight=np.arange(24.0), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    out = ensemble.predict(X, verbose=0)
    branches = np.stack([out[f"branch_{n}"] for n in (1, 2, 3)])
    assert (out["ensemble"] <= branches.max(0) + 1e-5).all()
    assert (out["ensemble"] >= branches.min(0) - 1e-5).all()


def sequential():
    hidden = [keras.layers.Dense(8, activation="relu", name=name) for name in ("a", "b")]
    return keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(3, name="c")])


def test_a_sequential_model_of_vectors():
    ensemble = NativeEnsemble(sequential(), at="a")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiled(ensemble, loss).fit(X[:, 0, :2].reshape(24, 4), Y, verbose=0)
    assert type(ensemble.branch(3)) is keras.Sequential


def two_outputs():
    given = keras.Input((4,))
    x = keras.layers.Dense(3, name="a")(given)
    return keras.Model(given, [x, keras.layers.Dense(2)(x)])


def nested():
    pixels = keras.Input((8, 8, 2))
    return keras.Model(pixels, network()(pixels))


class Own(keras.Model):
    def call(self, x):
        return x


def twice():
    given = keras.Input((4,))
    again = keras.layers.Dense(4, name="again")
    return keras.Model(given, again(keras.layers.ReLU(name="a")(again(given))))


@pytest.mark.parametrize(
    ("make", "arguments", "match"),
    [
        (two_outputs, {}, "one output.*2 outputs"),
        (Own, {}, "functional or Sequential"),
        (lambda: "model", {}, "functional or Sequential"),
        (sequential, {}, "two stages"),
        (nested, {}, "two stages"),
        (nested, {"at": "small/pool"}, "a layer of the model itself"),
        (network, {"at": "nothing"}, "a layer of the model itself"),
        (network, {"at": "b"}, "must pass through"),
        (twice, {"at": "a"}, "before and behind"),
        (network, {"branches": 1}, "at least 2"),
        (network, {"branches": 2.5}, "branches"),
        (network, {"temperature": 0}, "temperature"),
        (network, {"ramp_steps": -1}, "ramp_steps"),
    ],
)
def test_what_cannot_be_branched_is_refused(make, arguments, match):
    with pytest.raises(ValueError, match=match):
        NativeEnsemble(make(), **arguments)


@pytest.mark.parametrize("number", [0, 4, True, 1.5])
def test_there_are_as_many_branches_as_asked_for(number):
    with pytest.raises(ValueError, match="must be of a branch, 1 to 3"):
        NativeEnsemble(network(), at="pool").branch(number)


def test_a_branch_and_its_ensemble_go_their_own_ways(tmp_path):
    """On JAX, a step gives away the arrays that it trains on."""
    ensemble = compiled(NativeEnsemble(network(), at="pool", branches=2))
    ensemble.fit(X, Y, verbose=0)
    branch = ensemble.branch(1)
    expected = keras.ops.convert_to_numpy(ensemble(X, training=False)["branch_1"])
    ensemble.fit(X, Y, verbose=0)
    np.testing.assert_allclose(branch.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)
    branch.compile("sgd", LOSS)
    branch.fit(X, Y, verbose=0)
    ensemble.save(tmp_path / "ensemble.keras")
    read = keras.models.load_model(tmp_path / "ensemble.keras")
    for old, new in zip(ensemble.get_weights(), read.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_it_is_refused_where_keras_could_not_read_it_back(tmp_path):
    ensemble = compiled(NativeEnsemble(network(), at="pool", branches=2))
    with pytest.raises(ValueError, match=r"into a \.keras file"):
        ensemble.save(tmp_path / "ensemble.h5")
    assert not [*tmp_path.iterdir()]


def test_a_list_of_one_loss_is_that_of_the_one_output():
    keras.utils.set_random_seed(0)
    found = [
        compiled(NativeEnsemble(network(), at="pool"), loss).evaluate(X, Y, verbose=0)[0]
        for loss in (LOSS, [LOSS])
        if not keras.utils.set_random_seed(0)
    ]
    assert found[0] == found[1]
