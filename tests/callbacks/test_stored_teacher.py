"""A teacher that is asked once: by sample, whatever the order, and not again in any step."""

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, SAMPLES, callback, compiled, conv_model, dense_model, fit

from prune_keras.callbacks import Distillation, Factors, Teacher


class Asked(keras.layers.Layer):
    """Counts the samples that pass."""

    def __init__(self, **options):
        super().__init__(**options)
        self.count = 0

    def call(self, x):
        self.count += x.shape[0] or 0
        return x


def counting():
    given = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu", name="hidden0")(Asked(name="asked")(given))
    return keras.Model(given, keras.layers.Dense(3, activation="softmax")(x))


def losses(store, make=dense_model, teacher="start", options=None, arguments=None, **terms):
    keras.utils.set_random_seed(5)
    model = make()
    eagerly = keras.backend.backend() != "jax"
    options = {"run_eagerly": eagerly} | (options or {})
    model.compile(
        "adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"], **options
    )
    taught = Distillation(Teacher(teacher, store=store, **terms))
    x = IMAGES if len(model.input_shape) == 4 else SAMPLES
    given = {"batch_size": 7, "epochs": 3, "verbose": 0} | (arguments or {})
    # Keras draws from what shuffles on PyTorch as it builds metrics, which may be built already.
    seed = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda n, _: keras.utils.set_random_seed(n)
    )
    alike = [seed] if keras.backend.backend() == "torch" else []
    history = model.fit(x, LABELS, callbacks=[taught, *alike], **given).history
    assert not {"train_step", "compute_loss"} & {*vars(model)}
    return history["loss"] + history["accuracy"] + history.get("val_loss", [])


WAYS = {
    "logits": ({"logits": 0.8}, {}),
    "inside": ({"make": conv_model, "features": 1.0, "attention": 50.0}, {}),
    "weights": ({"logits": 0.8}, {"sample_weight": np.arange(24.0)}),
    "classes": ({"logits": 0.8}, {"class_weight": {0: 1.0, 1: 5.0, 2: 2.0}}),
    "split": ({"logits": 0.8}, {"validation_split": 0.25}),
    "validated": ({"logits": 0.8}, {"validation_data": (SAMPLES, LABELS)}),
    "compiled": ({"logits": 0.8, "options": {"run_eagerly": False, "steps_per_execution": 2}}, {}),
    "factors": (
        {"make": conv_model, "factors": Factors(IMAGES, epochs=1, layers="conv")},
        {},
    ),
}


@pytest.mark.repeats(5)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_stored_teaches_as_what_is_asked(way):
    if way == "compiled" and keras.backend.backend() == "torch":
        pytest.skip("Keras takes one step at a time there")
    terms, arguments = WAYS[way]
    asked, stored = (losses(store, arguments=arguments, **terms) for store in (False, True))
    np.testing.assert_allclose(asked, stored, rtol=2e-5)


def test_the_teacher_is_asked_once():
    for store in (False, True):
        teacher = counting()
        teacher.get_layer("asked").count = 0
        losses(store, teacher=teacher)
        assert (teacher.get_layer("asked").count < 3 * 24) == store


def test_pruning_goes_on_through_cuts():
    model = dense_model()
    pruning = callback(teacher=Teacher("start", features=1.0, store=True))
    fit(model, pruning)
    assert pruning.report.plan.removed
    fit(model, epochs=1)


def batches():
    yield SAMPLES, LABELS


@pytest.mark.parametrize("data", ["generator", "PyDataset", "dataset"])
def test_an_order_that_is_not_known_is_refused(data):
    class Own(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, place):
            return SAMPLES, LABELS

    if data == "dataset":
        tf = pytest.importorskip("tensorflow")
        given = tf.data.Dataset.from_tensors((SAMPLES, LABELS))
    else:
        given = batches() if data == "generator" else Own()
    model = compiled(dense_model())
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(ValueError, match="for each sample of arrays.*Pass x and y as arrays"):
        model.fit(given, callbacks=[Distillation(Teacher("start", store=True))], verbose=0)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_kind_of_loop_is_refused():
    model = dense_model()
    taught = Distillation(Teacher("start", store=True))
    taught.set_model(model)
    with pytest.raises(ValueError, match="a `fit` of Keras is given"):
        taught.on_train_begin()
