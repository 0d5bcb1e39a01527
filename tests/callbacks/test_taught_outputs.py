"""Outputs that are taught: probabilities or logits, one or several, weighted as their losses."""

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, SAMPLES, compiled, dense_model
from keras import layers, ops

from prune_keras.callbacks import Distillation, Factors, ScaleSparsity, Teacher
from prune_keras.teaching.ends import ends
from prune_keras.teaching.losses import weighted_mean
from prune_keras.teaching.outputs import by_output, losses
from prune_keras.tracing import trace

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Head(layers.Layer):
    """A block of the user's that ends in a softmax."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, x):
        return ops.softmax(self.dense(x))


class Tempered(layers.Layer):
    """Logits times a weight of the layer's own."""

    def build(self, _):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return x * self.scale


def hot(x):
    chances = ops.exp(x / 2)
    return chances / ops.sum(chances, axis=-1, keepdims=True)


def mean_of_two(x):
    both = [layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    return layers.Average()(both)


def sum_of_two(x):
    return layers.Add()([mean_of_two(x), mean_of_two(x)])


def over_time(x):
    return layers.TimeDistributed(layers.Dense(3, activation="softmax"))(layers.Reshape((2, 3))(x))


def passing_on():
    given = keras.Input((3,))
    return keras.Model(given, layers.Activation("linear")(given))


ENDS = {
    "logits": (layers.Dense(3), "linear"),
    "activation": (layers.Dense(3, activation="softmax"), "softmax"),
    "operation": (layers.Dense(3, activation=ops.softmax), "softmax"),
    "layer as activation": (layers.Dense(3, activation=layers.Softmax()), "softmax"),
    "layer behind": (lambda x: layers.Softmax()(layers.Dense(3)(x)), "softmax"),
    "operation behind": (lambda x: ops.sigmoid(layers.Dense(3)(x)), "sigmoid"),
    "cast": (lambda x: ops.cast(layers.Dense(3, activation="sigmoid")(x), "float64"), "sigmoid"),
    "mean": (mean_of_two, "softmax"),
    "sum of probabilities": (sum_of_two, None),
    "over time": (over_time, "softmax"),
    "block": (Head(), "softmax"),
    "scaled": (lambda x: layers.Dense(3)(x) / 2.0, "linear"),
    "own weight": (lambda x: Tempered()(layers.Dense(3)(x)), "linear"),
    "block behind": (lambda x: Tempered()(Head()(x)), None),
    "cast in a model": (lambda x: passing_on()(Head()(x)), "softmax"),
    "rectified": (lambda x: layers.ReLU()(layers.Dense(3)(x)), "linear"),
    "own function": (layers.Dense(3, activation=hot), None),
}


@pytest.mark.parametrize("name", ENDS)
def test_it_is_known_how_outputs_end(name):
    end, expected = ENDS[name]
    given = keras.Input((6,))
    model = keras.Model(given, end(given))
    trace(model)
    assert ends(model) == [expected]


def test_the_mean_of_two_equal_models_teaches_nothing_new():
    model, twin = dense_model(), dense_model()
    twin.set_weights(model.get_weights())
    given = keras.Input((6,))
    teacher = keras.Model(given, layers.Average()([twin(given), twin(given)]))
    assert loss_of(model, Teacher(teacher, logits=1.0)) == pytest.approx(0, abs=1e-6)


def test_the_students_loss_tells_where_its_end_does_not():
    probabilities, logits = (
        own_end(hot, loss) for loss in ("sparse_categorical_crossentropy", LOGITS)
    )
    logits.set_weights(probabilities.get_weights())
    other = dense_model()
    told = [loss_of(each, Teacher(other, logits=1.0)) for each in (probabilities, logits)]
    assert told[0] > 2 * told[1]  # softened twice, outputs are nearly even


def own_end(function, loss):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation=function)])
    model.compile(keras.optimizers.SGD(0.0), loss)
    return model


def test_what_nothing_tells_of_must_be_said():
    def own(y, given):
        return keras.losses.sparse_categorical_crossentropy(y, given)

    model = own_end(hot, own)
    with pytest.raises(ValueError, match="probabilities or logits.*from_logits=True"):
        loss_of(model, Teacher("start", outputs="softmax"))
    said = Teacher(dense_model(), logits=1.0, outputs="softmax", from_logits=False)
    twin = own_end(hot, "sparse_categorical_crossentropy")
    twin.set_weights(model.get_weights())
    expected = loss_of(twin, Teacher(said.model, logits=1.0))
    assert loss_of(model, said) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="True, False or None"):
        Teacher("start", from_logits="no")


def loss_of(model, teacher, *callbacks, y=LABELS, x=SAMPLES, **options):
    """Return the loss of an epoch in which nothing is learnt, in one batch."""
    if model.optimizer.learning_rate != 0:
        model.optimizer.learning_rate = 0.0
    options = {"batch_size": 24, "verbose": 0} | options
    fitted = model.fit(x, y, callbacks=[*callbacks, Distillation(teacher)], **options)
    return fitted.history["loss"][0]


def two_outputs(weights=None):
    """A model whose outputs go by other keys than their layers' names."""
    given = keras.Input((6,))
    kind, size = layers.Dense(3, name="one")(given), layers.Dense(1, name="other")(given)
    model = keras.Model(given, {"kind": kind, "size": size})
    model.compile(keras.optimizers.SGD(0.0), {"kind": LOGITS, "size": "mse"}, weights)
    return model


TARGETS = {"kind": LABELS, "size": SAMPLES[:, :1]}


def test_outputs_of_a_dict_are_told_apart_by_its_keys():
    model = two_outputs()
    assert losses(model) == ["softmax", "values"]
    ones, zeros = np.ones(24), np.zeros(24)
    assert by_output(model, {"size": 2}) == [None, 2] and by_output(model, [1, 2]) == [1, 2]
    teacher = Teacher(two_outputs(), logits=1.0)
    taught = [
        loss_of(model, teacher, y=TARGETS, sample_weight={"kind": kind, "size": size})
        for kind, size in ((ones, ones), (ones, zeros), (zeros, ones), (zeros, zeros))
    ]
    assert taught[0] == pytest.approx(taught[1] + taught[2], rel=1e-5)
    assert min(taught[:3]) > 0.01 and taught[3] == 0


def test_outputs_of_a_list_are_told_apart_by_name():
    given = keras.Input((6,))
    outputs = [layers.Dense(2, name="a")(given), layers.Dense(2, name="b")(given)]
    model = keras.Model(given, outputs)
    assert by_output(model, {"b": 1}) == [None, 1]
    assert by_output(model, ["x", None]) == ["x", None] and by_output(model, 3) == [3, 3]


def test_outputs_weigh_as_their_losses():
    teacher = Teacher(two_outputs(), logits=1.0)
    whole, kind, size = (
        loss_of(two_outputs_of(weights), teacher, y=TARGETS)
        for weights in ({"kind": 1.0, "size": 1.0}, {"kind": 1.0, "size": 0.0}, [0.0, 1.0])
    )
    assert whole == pytest.approx(kind + size, rel=1e-5) and min(kind, size) > 0.01


def two_outputs_of(weights):
    keras.utils.set_random_seed(3)
    return two_outputs(weights)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # as for any output without a loss
def test_an_output_without_a_loss_is_not_taught():
    model = two_outputs_of(None)
    model.compile(keras.optimizers.SGD(0.0), {"kind": LOGITS, "size": None})
    teacher = two_outputs()
    alike = [*model.get_weights()[:2], *teacher.get_weights()[2:]]
    teacher.set_weights(alike)  # it differs in the size alone
    assert loss_of(model, Teacher(teacher, logits=1.0), y=TARGETS) == pytest.approx(0, abs=1e-6)


def test_penalties_of_other_callbacks_keep_their_weight():
    model = compiled(
        keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(4, use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Dense(3, activation="softmax"),
            ]
        ),
        keras.optimizers.SGD(0.0),
    )
    sparsity = ScaleSparsity(strength=1.0)
    plain = model.fit(SAMPLES, LABELS, batch_size=24, callbacks=[sparsity], verbose=0)
    alone = model.fit(SAMPLES, LABELS, batch_size=24, verbose=0)
    penalty = plain.history["loss"][0] - alone.history["loss"][0]
    assert penalty > 1
    for share in (0.5, 1.0):
        teacher = Teacher("start", logits=share)
        taught = loss_of(model, teacher) - 0.0
        both = loss_of(model, teacher, ScaleSparsity(strength=1.0))
        assert both - taught == pytest.approx(penalty, rel=1e-3)


MAPS = {
    "features": {"features": 1.0},
    "attention": {"attention": 100.0},
    "factors": {"factors": Factors(IMAGES, epochs=1)},
}


@pytest.mark.parametrize("term", MAPS)
def test_maps_weigh_as_their_samples(term):
    pixels = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(pixels)
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = compiled(keras.Model(pixels, x), keras.optimizers.SGD(0.0))
    teacher = keras.models.clone_model(model)
    asked = Teacher(teacher, logits=0.0, **MAPS[term])
    weights = np.arange(24) % 2.0
    taught = [
        loss_of(model, asked, x=IMAGES, sample_weight=weight)
        - model.evaluate(IMAGES, LABELS, sample_weight=weight, batch_size=24, verbose=0)[0]
        for weight in (weights, 1 - weights, np.zeros(24), np.ones(24))
    ]
    assert taught[2] == pytest.approx(0, abs=1e-6) and min(taught[0], taught[1]) > 1e-3
    if term != "factors":  # whose translator learns on
        assert taught[3] == pytest.approx(taught[0] + taught[1], rel=1e-4)


def test_a_mean_weighs_the_windows_of_a_sample():
    entries, weights = np.arange(6.0, dtype="float32"), np.array([1.0, 0.0, 2.0], "float32")
    found = float(weighted_mean(*map(ops.convert_to_tensor, (entries, weights))))
    assert found == pytest.approx(((0 + 1) / 2 + 2 * (4 + 5) / 2) / 3)


def test_a_student_that_moves_its_images_is_taught_by_logits_alone():
    pixels = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="conv")(layers.RandomFlip(name="flip")(pixels))
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = compiled(keras.Model(pixels, x))
    with pytest.raises(ValueError, match="same images.*'flip'.*dataset"):
        loss_of(model, Teacher("start", attention=100.0), x=IMAGES)
    assert loss_of(model, Teacher("start"), x=IMAGES) > 0


def test_nothing_of_a_teacher_is_held_after_a_fit():
    distillation = Distillation("start")
    dense_model().fit(SAMPLES, LABELS, callbacks=[distillation], verbose=0)
    assert distillation._lessons._model is None


def test_stored_answers_leave_validation_to_fit():
    model, asked = dense_model(), Teacher("start", logits=1.0, store=True)
    data = (SAMPLES[:4], LABELS[:4])
    counts = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: counts.append(batch)
    )
    options = {"validation_split": 0.5, "batch_size": 1}
    loss_of(model, asked, count, **options, validation_data=data)
    assert len(counts) == 24  # given data are taken, and nothing is split off
    counts.clear()
    callbacks = [count, Distillation(asked)]
    fitted = model.fit(
        SAMPLES, LABELS, callbacks=callbacks, validation_data=None, verbose=0, **options
    )
    assert len(counts) == 12 and "val_loss" in fitted.history
