"""Penalties in training steps: one step of SGD against NumPy, and what is left of them."""

import keras
import numpy as np
import pytest
from fits import callback, conv_model, fit

from prune_keras.callbacks import GroupPenalty, ScaleSparsity, TargetedDropout

RATE = 0.25


def coupled_model():
    """Two layers whose units are added, behind one that is left alone; its loss is zero."""
    pixels = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", name="first")(pixels)
    a = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 1, name="a")(x))
    b = keras.layers.Conv2D(4, 3, padding="same", name="b")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([a, b]))
    model = keras.Model(pixels, keras.layers.Dense(3, name="classes")(x))
    return still(model)


def still(model):
    model.compile(keras.optimizers.SGD(RATE), lambda y, predicted: 0.0 * keras.ops.sum(predicted))
    return model


def values(model):
    return {v.path: np.array(v) for v in model.trainable_variables}


def groups(before):
    """Return each neuron's weights in both layers, `(units, weights)`."""
    return np.concatenate([before[f"{n}/kernel"].reshape(-1, 4) for n in "ab"]).T


def in_place(rows, before):
    a = before["a/kernel"]
    count = a.size // 4
    return {
        "a/kernel": rows.T[:count].reshape(a.shape),
        "b/kernel": rows.T[count:].reshape(before["b/kernel"].shape),
    }


@pytest.mark.parametrize(("norm", "share"), [("lasso", 1.0), ("l2", 0.5)])
def test_a_group_takes_one_step_across_all_its_members(norm, share):
    model = coupled_model()
    before, rows = values(model), groups(values(model))
    penalty = GroupPenalty(0.5, norm=norm, share=share)
    history = fit(model, penalty, epochs=1, batch_size=24, validation_data=None)
    per_layer = [np.linalg.norm(before[f"{n}/kernel"].reshape(-1, 4), axis=0) for n in "ab"]
    pays = np.isin(np.arange(4), np.argsort(np.mean(per_layer, axis=0))[: int(share * 4)])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    slopes = rows / lengths if norm == "lasso" else rows
    expected = before | in_place(rows - RATE * 0.5 * pays[:, None] * slopes, before)
    total = (lengths if norm == "lasso" else lengths**2 / 2)[pays].sum()
    assert history.history["loss"][0] == pytest.approx(0.5 * total, rel=1e-5)
    for path, value in values(model).items():
        np.testing.assert_allclose(value, expected[path], atol=1e-6, err_msg=path)
    assert not {"call", "compute_loss"} & set(vars(model))


def test_scales_take_a_step_towards_zero_and_all_else_none():
    model = coupled_model()
    gamma = model.get_layer("norm").gamma
    gamma.assign([1.0, -0.5, 0.25, 2.0])
    before = values(model)
    fit(model, ScaleSparsity(0.5), epochs=1, batch_size=24, validation_data=None)
    expected = before | {"norm/gamma": before["norm/gamma"] - RATE * 0.5 * np.array([1, -1, 1, 1])}
    for path, value in values(model).items():
        np.testing.assert_allclose(value, expected[path], atol=1e-6, err_msg=path)


def test_the_strength_grows_by_epochs_up_to_its_limit():
    penalty = GroupPenalty(0.1, growth=0.2, limit=0.45)
    seen = []
    for epoch in range(4):
        penalty.on_epoch_begin(epoch)
        seen.append(penalty.current)
    assert seen == pytest.approx([0.1, 0.3, 0.45, 0.45])


@pytest.mark.slow
def test_all_of_them_go_on_beside_each_other_and_cuts():
    model = conv_model("sgd")
    beside = [TargetedDropout(0.5, 0.5), GroupPenalty(0.01), ScaleSparsity(0.01, layers=["conv"])]
    history = fit(model, *beside, callback(), epochs=3)
    assert history.history["neurons"][-1] < 14
    assert not {"call", "compute_loss"} & set(vars(model)) and not model._seed_generators


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: GroupPenalty(0), "`strength` must be a finite number above 0"),
        (lambda: GroupPenalty(1, growth=-1), "`growth` must be a finite number of at least 0"),
        (lambda: GroupPenalty(1, limit=0), "`limit` must be a finite number above 0"),
        (lambda: GroupPenalty(1, norm="l1"), "`norm` must be one of"),
        (lambda: GroupPenalty(1, share=0), "`share` must be a share"),
        (lambda: ScaleSparsity(float("nan")), "`strength` must be"),
        (lambda: fit(conv_model(), ScaleSparsity(1, layers=["hidden"])), "There must be scales"),
    ],
)
def test_what_cannot_be_is_refused(made, message):
    with pytest.raises(ValueError, match=message):
        made()


def test_scales_of_other_normalization_pay_nothing():
    layers = [keras.layers.Dense(8, name="a"), keras.layers.LayerNormalization(name="other")]
    ends = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers, *ends])
    with pytest.raises(ValueError, match="scales of batch normalization"):
        fit(still(model), ScaleSparsity(0.5), epochs=1)
