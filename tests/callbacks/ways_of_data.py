"""Ways to train that differ in data: where they come from, several inputs and outputs."""

import keras
from fits import (
    LABELS,
    SAMPLES,
    dense_model,
)
from ways import BAD, GOOD, LOSSES, READY, WEIGHTS, Training, dataset_of, small_model, way


@way("NumPy arrays", "also where the last batch of an epoch is smaller")
def arrays():
    return Training(small_model(), {"batch_size": 10})


@way("`tf.data.Dataset`, cached, shuffled and batched", "for training, for validation, for `data`")
def dataset():
    batches = dataset_of(SAMPLES, LABELS)
    return Training(
        small_model(),
        {"x": batches.cache().shuffle(24).batch(10), "validation_data": batches.batch(12)} | READY,
        {"data": batches.batch(12), "criterion": "mean_activation"},
    )


@way("`tf.data.Dataset` that repeats", "with `steps_per_epoch` and `validation_steps`")
def endless_dataset():
    batches = dataset_of(SAMPLES, LABELS).batch(12).repeat()
    options = {"steps_per_epoch": 3, "validation_data": batches, "validation_steps": 2}
    return Training(small_model(), {"x": batches} | options | READY)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return SAMPLES[index::2], LABELS[index::2]


@way("`keras.utils.PyDataset` with workers", "for training, for validation, for `data`")
def py_dataset():
    return Training(
        small_model(),
        {"x": Batches(workers=2), "validation_data": Batches(workers=2)},
        {"data": Batches(workers=2), "criterion": "mean_activation"},
    )


@way(
    "Python generators",
    "for training and for validation; as they can be read once only, `metric_cut` of each round "
    "is None",
)
def generators():
    def endless():
        while True:
            yield SAMPLES[:12], LABELS[:12]
            yield SAMPLES[12:], LABELS[12:]

    options = {"steps_per_epoch": 2, "validation_data": endless(), "validation_steps": 2}
    return Training(small_model(), {"x": endless()} | options | READY)


@way("`sample_weight`", "for training and in `validation_data`; `weighted_metrics` are judged too")
def sample_weights():
    model = dense_model()
    model.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    weighted = {"sample_weight": WEIGHTS, "validation_data": (SAMPLES, LABELS, WEIGHTS)}
    return Training(model, weighted, evaluate={"sample_weight": WEIGHTS})


@way("`class_weight`", "as in any `fit`; scores that look at the loss are weighted by it, too")
def class_weights():
    return Training(small_model(), {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}})


@way("`validation_split`", "rounds are judged by the samples that are split off")
def validation_split():
    split_off = {"x": SAMPLES[12:], "y": LABELS[12:]}
    options = {"validation_data": None, "validation_split": 0.5}
    return Training(small_model(), options, evaluate=split_off)


@way(
    "`validation_freq=2`",
    "a round goes on until an epoch with validation",
    levels=(None, GOOD, None, BAD, None, GOOD),
)
def validation_every_other_epoch():
    return Training(small_model(), {"validation_freq": 2})


@way(
    "`validation_freq=[1, 3, 4]`",
    "a round goes on until an epoch with validation",
    levels=(GOOD, None, BAD, GOOD),
)
def validation_in_some_epochs():
    return Training(small_model(), {"validation_freq": [1, 3, 4]})


@way("`initial_epoch`", "`epoch` of a round counts on from it")
def initial_epoch():
    return Training(small_model(), {"initial_epoch": 5, "epochs": 8})


# Several inputs and outputs


def branched(**names):
    """A model of two inputs and two outputs, whose structures `names` gives."""
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    x = keras.layers.Concatenate()([left, right])
    for name, width in (("hidden0", 16), ("hidden1", 8)):
        x = keras.layers.Dense(width, activation="relu", name=name)(x)
    classes = keras.layers.Dense(3, activation="softmax", name="classes")(x)
    level = keras.layers.Dense(1, name="level")(x)
    if names.get("by_name"):
        inputs, outputs = {"left": left, "right": right}, {"classes": classes, "level": level}
    else:
        inputs, outputs = [left, right], [classes, level]
    return keras.Model(inputs, outputs)


LEVEL = SAMPLES[:, :1]


@way(
    "several inputs and outputs as dicts",
    "with losses, loss weights and metrics of each output; "
    '`monitor="val_classes_accuracy"` judges by one of them',
)
def dicts():
    model = branched(by_name=True)
    model.compile(
        "adam",
        {"classes": "sparse_categorical_crossentropy", "level": "mse"},
        loss_weights={"classes": 1.0, "level": 0.5},
        metrics={"classes": ["accuracy"], "level": ["mae"]},
    )
    x = {"left": SAMPLES[:, :4], "right": SAMPLES[:, 4:]}
    y = {"classes": LABELS, "level": LEVEL}
    return Training(
        model,
        {"x": x, "y": y, "validation_data": (x, y), "batch_size": 12},
        {"monitor": "val_classes_accuracy", "data": (x, y), "criterion": "taylor"},
        {"x": x, "y": y},
        logged=("val_classes_accuracy", "val_level_mae"),
    )


@way(
    "several inputs and outputs as lists",
    'with losses and metrics of each output; `monitor="val_loss"` judges by their sum',
    levels=LOSSES,
)
def lists():
    model = branched()
    losses = ["sparse_categorical_crossentropy", "mse"]
    model.compile("adam", losses, metrics=[["accuracy"], ["mae"]])
    x, y = [SAMPLES[:, :4], SAMPLES[:, 4:]], [LABELS, LEVEL]
    return Training(
        model,
        {"x": x, "y": y, "validation_data": (x, y), "batch_size": 12},
        {"monitor": "val_loss", "baseline": BAD, "data": x, "criterion": "apoz"},
        {"x": x, "y": y},
    )
