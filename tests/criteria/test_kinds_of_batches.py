"""Sparse matrices are data, and models that take batches of one size get such ones."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras.callbacks import ProgressivePruning
from prune_keras.samples import batches

sparse = pytest.importorskip("scipy.sparse")

DENSE = np.random.default_rng(0).normal(size=(30, 9)) * (
    np.random.default_rng(1).random((30, 9)) > 0.6
)
DENSE = DENSE.astype("float32")
TARGETS = np.random.default_rng(2).normal(size=(30, 2)).astype("float32")


def network(is_sparse=False):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9,), sparse=is_sparse)
    x = layers.Dense(8, activation="relu", name="cut")(inputs)
    x = layers.BatchNormalization()(layers.Dense(6, name="second")(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    model.compile("sgd", "mse")
    return model


def flags():
    return [False, True] if keras.backend.backend() != "torch" else [False]


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dia", "array", "dataset"])
@pytest.mark.parametrize("is_sparse", flags())
def test_a_sparse_matrix_is_the_same_data_as_a_dense_one(form, is_sparse):
    matrix = sparse.csr_array(DENSE) if form == "array" else sparse.csr_matrix(DENSE)
    if form == "dataset":
        matrix = [(matrix[i : i + 10], TARGETS[i : i + 10]) for i in (0, 10, 20)]
        expected = [(DENSE[i : i + 10], TARGETS[i : i + 10]) for i in (0, 10, 20)]
    else:
        matrix = (matrix if form == "array" else matrix.asformat(form), TARGETS)
        expected = (DENSE, TARGETS)
    found = prune_keras.prune(network(is_sparse), fraction=0.3, data=matrix)[0]
    wanted = prune_keras.prune(network(is_sparse), fraction=0.3, data=expected)[0]
    for a, b in zip(found.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no sparse inputs there")
def test_a_sparse_input_stays_one():
    model = network(is_sparse=True)
    thin, _ = prune_keras.prune(model, fraction=0.3)
    assert thin.inputs[0].sparse and thin.get_layer(thin.layers[0].name).sparse
    again = keras.models.clone_model(thin)
    assert [v.shape for v in again.variables] == [v.shape for v in thin.variables]
    pruning = ProgressivePruning({"neurons": 0.5}, 0.3, verbose=0)
    data = sparse.csr_matrix(DENSE), TARGETS
    model.fit(*data, epochs=3, verbose=0, callbacks=[pruning])
    assert model.inputs[0].sparse and pruning.report.after.neurons <= 7
    np.testing.assert_allclose(
        model.predict(data[0], verbose=0), model.predict(DENSE, verbose=0), rtol=1e-5, atol=1e-6
    )


def static(size=4):
    """A network that cannot take batches of another size."""
    inputs = keras.Input(batch_shape=(size, 9))
    x = layers.BatchNormalization()(layers.Dense(8, activation="relu", name="cut")(inputs))
    x = ops.reshape(layers.Dense(6)(x), (size, 6))
    model = keras.Model(inputs, layers.Dense(2)(x))
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("criterion", ["auto", "taylor", "apoz", "reconstruction", "oracle"])
def test_arrays_come_in_batches_of_the_size_that_the_model_takes(criterion):
    model = static()
    thin, _ = prune_keras.prune(model, fraction=0.3, criterion=criterion, data=(DENSE, TARGETS))
    assert thin.input_shape == model.input_shape and thin.count_params() < model.count_params()
    thin.predict(DENSE[:8], batch_size=4, verbose=0)


def test_a_fit_with_batches_of_one_size_is_pruned():
    model = static()
    pruning = ProgressivePruning({"neurons": 0.5}, 0.3, data=(DENSE, TARGETS), verbose=0)
    model.fit(DENSE[:28], TARGETS[:28], epochs=3, batch_size=4, verbose=0, callbacks=[pruning])
    assert pruning.report.after.neurons <= 0.5 * pruning.report.before.neurons


@pytest.mark.parametrize("data", [DENSE[:3], [(DENSE[:4],), (DENSE[:3],)], [(DENSE[:8],)]])
def test_batches_of_another_size_are_refused(data):
    with pytest.raises(ValueError, match="takes batches of 4 samples.*Received.*Pass arrays"):
        prune_keras.prune(static(), fraction=0.3, data=data)
    model = static()
    pruning = ProgressivePruning({"neurons": 0.5}, data=data, criterion="l2", fuse=None, verbose=0)
    with pytest.raises(ValueError, match="takes batches of 4 samples"):
        model.fit(DENSE[:8], TARGETS[:8], batch_size=4, verbose=0, callbacks=[pruning])


def test_what_fills_no_batch_is_left_out():
    sizes = [len(x) for x, _, _ in batches(np.arange(11), fixed_size=4)]
    assert sizes == [4, 4]
    seen = np.concatenate([x for x, _, _ in batches(np.arange(8), fixed_size=4)])
    assert sorted(seen) == list(range(8))
