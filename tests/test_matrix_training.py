"""Every way to train with ProgressivePruning, each across cuts and a round that is undone.

Metrics are told beforehand, so that rounds are kept and undone as a test wants; all else is a
real `fit`.
"""

import contextlib
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from fits import (
    IMAGES,
    LABELS,
    SAMPLES,
    assert_same,
    callback,
    compiled,
    conv_model,
    dense_model,
    fit,
    judged,
    neurons,
    state_of,
)
from matrix import Case
from test_strategies import MIRRORED

TITLE = "Ways to train"
BACKEND = keras.backend.backend()
GOOD, BAD = 0.9, 0.1
LEVELS, LOSSES = (GOOD, BAD, GOOD), (BAD, GOOD, BAD)
WEIGHTS = np.linspace(0.5, 2, len(LABELS)).astype("float32")


@dataclass
class Training:
    """A compiled model and how it is trained.

    Args:
        model: the model.
        fit: arguments of `fit` beside `x`, `y` and validation data of the model's usual samples.
        pruning: arguments of the callback.
        evaluate: arguments of `evaluate` after it, beside `x` and `y`.
        logged: what the logs hold if training was what it should be.
    """

    model: Any
    fit: dict = field(default_factory=dict)
    pruning: dict = field(default_factory=dict)
    evaluate: dict = field(default_factory=dict)
    logged: tuple = ()

    def __post_init__(self):
        x = IMAGES if len(self.model.inputs[0].shape) == 4 else SAMPLES
        usual = {"x": x, "y": LABELS}
        self.evaluate = usual | self.evaluate
        if "x" not in self.fit:
            self.fit = usual | {"batch_size": 12, "validation_data": (x, LABELS)} | self.fit


@dataclass(frozen=True)
class Way:
    """A case of the table, with what makes its `Training` and the metrics of its epochs.

    Args:
        case: the case.
        make: function without arguments.
        levels: the metric of each epoch, None where there is no validation.
        backends: the backends that offer it; all, if empty.
    """

    case: Case
    make: Callable[[], Training]
    levels: tuple = LEVELS
    backends: tuple = ()

    def __str__(self):
        return self.make.__name__


WAYS: list[Way] = []


def way(name, note, **arguments):
    def register(make):
        WAYS.append(Way(Case(name, note), make, **arguments))
        return make

    return register


# Data

READY = {"shuffle": False}  # Keras warns that it does not shuffle these


def small_model():
    """A model whose steps are compiled fast."""
    return dense_model(optimizer=keras.optimizers.SGD(0.01, momentum=0.9))


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


@way("`class_weight`", "as in any `fit`")
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


# Steps


@way(
    "`steps_per_execution=2`",
    "several steps in one call",
    backends=("tensorflow", "jax"),
)
def several_steps():
    model = dense_model()
    model.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=2
    )
    return Training(model, {"batch_size": 5})


@way(
    "`jit_compile=True`",
    "the step is compiled anew after each cut",
    backends=("tensorflow", "jax"),
)
def compiled_step():
    model = dense_model()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=True)
    return Training(model)


@way("`run_eagerly=True`", "no function is compiled")
def eager():
    model = dense_model()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return Training(model)


@keras.saving.register_keras_serializable()
class OwnStep(keras.Model):
    """A functional model with a step of its own; it logs the norm of the gradients."""

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        logs = self.compute_metrics(x, y, predicted)
        return logs | {"loss": loss, "gradients": tf.linalg.global_norm(gradients)}


@way(
    "a `train_step` of your own",
    "in a subclass of `keras.Model` that is built as `MyModel(inputs, outputs)`",
    backends=("tensorflow",),
)
def own_step():
    model = dense_model()
    model = compiled(OwnStep(model.inputs[0], model.outputs[0]))
    return Training(model, logged=("gradients",))


# Losses, constraints, what is frozen, models in models


@keras.saving.register_keras_serializable()
class Reconstruction(keras.layers.Layer):
    """Adds the distance of its second input to its first one to the loss."""

    def call(self, wanted, found):
        self.add_loss(keras.ops.mean(keras.ops.square(wanted - found)))
        return found


@way(
    "`add_loss` in a layer",
    "also without a loss in `compile`, as in autoencoders",
    levels=LOSSES,
)
def added_loss():
    x = samples = keras.Input((6,))
    for name, width in (("hidden0", 16), ("hidden1", 8), ("level", 6)):
        x = keras.layers.Dense(width, activation="relu", name=name)(x)
    model = keras.Model(samples, Reconstruction()(samples, x))
    model.compile("adam")
    return Training(
        model,
        {"x": SAMPLES, "validation_data": (SAMPLES,), "batch_size": 12},
        {"monitor": "val_loss", "baseline": BAD},
        {"y": None},
    )


@way(
    "regularizers and constraints",
    "of kernels, biases and activities; they follow the thinner weights",
)
def regularized():
    dense = keras.layers.Dense
    regularizer = {"kernel_regularizer": "l2", "activity_regularizer": keras.regularizers.L1(1e-3)}
    constraint = {"kernel_constraint": keras.constraints.UnitNorm(), "bias_constraint": "non_neg"}
    layers = [
        dense(16, activation="relu", name="hidden0", **regularizer, **constraint),
        dense(8, activation="relu", name="hidden1", bias_regularizer="l2", **constraint),
        dense(3, activation="softmax", name="classes", kernel_constraint="max_norm"),
    ]
    return Training(compiled(keras.Sequential([keras.Input((6,)), *layers])))


@way("frozen layers", "they stay frozen, and are cut as any other")
def frozen():
    model = dense_model()
    model.get_layer("hidden0").trainable = False
    return Training(compiled(model))


@way(
    "frozen batch normalization",
    "its statistics are cut as weights are, and not measured anew from `data`",
)
def frozen_statistics():
    model = conv_model(trainable=False)
    model.get_layer("norm").moving_mean.assign(np.arange(8))
    return Training(model, {}, {"data": IMAGES})


@way("batch normalization", "its statistics are measured anew from `data` after each cut")
def statistics():
    return Training(conv_model(), {}, {"data": IMAGES})


@way("a functional model in a Sequential one", "both stay what they are, thinner")
def functional_in_sequential():
    inner = dense_model()
    inner = keras.Model(inner.inputs[0], inner.get_layer("hidden1").output, name="body")
    last = keras.layers.Dense(3, activation="softmax", name="classes")
    return Training(compiled(keras.Sequential([keras.Input((6,)), inner, last])))


@way("a Sequential model in a functional one", "both stay what they are, thinner")
def sequential_in_functional():
    hidden = [
        keras.layers.Dense(width, activation="relu", name=name)
        for name, width in (("hidden0", 16), ("hidden1", 8))
    ]
    samples = keras.Input((6,))
    x = keras.Sequential([keras.Input((6,)), *hidden], name="body")(samples)
    classes = keras.layers.Dense(3, activation="softmax", name="classes")(x)
    return Training(compiled(keras.Model(samples, classes)))


@way("a model from a file", "the optimizer's state that was stored with it is cut as well")
def loaded():
    model = small_model()
    fit(model, epochs=1)
    return Training(reloaded(model))


# Precision, criteria


@contextlib.contextmanager
def under_policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    yield
    keras.config.set_dtype_policy(before)


@way("`mixed_bfloat16`", "weights and statistics stay in float32, as Keras keeps them")
def mixed_bfloat16():
    with under_policy("mixed_bfloat16"):
        return Training(conv_model())


@way("`mixed_float16`", "with the `LossScaleOptimizer` that Keras adds; its scale is kept")
def mixed_float16():
    with under_policy("mixed_float16"):
        model = conv_model()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    return Training(model)


@way("`float64`", "as a dtype policy", backends=("tensorflow", "torch"))
def float64():
    with under_policy("float64"):
        return Training(dense_model())


@way(
    '`criterion="taylor"` on weighted samples',
    "`data` may be a `tf.data.Dataset` of `(inputs, targets, sample_weights)`",
)
def taylor():
    batches = dataset_of(IMAGES, LABELS, WEIGHTS).batch(10)
    return Training(
        conv_model(),
        {"x": batches, "validation_data": batches} | READY,
        {"data": batches, "criterion": "taylor"},
        {"sample_weight": WEIGHTS},
    )


@way('`criterion="apoz"`', "`data` may be a `tf.data.Dataset` of inputs alone")
def apoz():
    batches = dataset_of(SAMPLES).batch(10)
    return Training(small_model(), {}, {"data": batches, "criterion": "apoz"})


VIEW = Case(
    "a feature extractor on the same graph, or the base that the model was built on",
    "it follows each cut; what it was compiled to is made anew",
)
BESIDE = Case(
    "another model that calls the same layers, or calls the model",
    "A model that is cut in place must not share layers with another one",
    refused=True,
)
SUBCLASSED = Case(
    "a model with a `call` of its own",
    "The model must be functional or Sequential, since a graph of layers is needed",
    refused=True,
)
HELD = Case(
    "layers, submodels and the optimizer in variables of your own",
    "they stay the objects that the model has, and are thin",
)
BATCHED = Case(
    "`batches_per_round=2`",
    "cuts within an epoch, with the optimizer's state; all rounds of an epoch are judged, and "
    "undone, together",
)
DATA = Case(
    "`data` alone, with or without targets",
    "scores by `taylor`, else by `reconstruction`, and fuses weights; a first line tells it; a "
    "round that is undone brings back what was fused",
)
CASES = [*(way.case for way in WAYS), BATCHED, DATA, MIRRORED, HELD, VIEW, BESIDE, SUBCLASSED]


def dataset_of(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays)


def reloaded(model):
    # Keras wraps the optimizer of a model that it loads only where the policy is mixed_float16.
    with tempfile.TemporaryDirectory() as folder, under_policy(model.dtype_policy):
        model.save(Path(folder) / "model.keras")
        return keras.models.load_model(Path(folder) / "model.keras")


# Tests


class Script(keras.callbacks.Callback):
    """Puts the metrics that were told beforehand into the logs, where there was a validation."""

    def __init__(self, monitor, levels):
        super().__init__()
        self.monitor, self.levels = monitor, iter(levels)

    def on_epoch_end(self, epoch, logs=None):
        level = next(self.levels)
        assert (level is not None) == (self.monitor in logs)
        if level is not None:
            logs[self.monitor] = level


def train(way):
    """Train in this way; return what was made, the callback, and the history.

    Return also the states before and after the callback begins an epoch, and the metric then.
    """
    if way.backends and BACKEND not in way.backends:
        pytest.skip(f"not offered on {BACKEND}")
    given = way.make()
    # What is fused is no slice.
    pruning, before, after, metrics = judged(**{"fuse": None} | given.pruning), {}, {}, {}

    def remember(epoch, logs):
        after[epoch] = state_of(given.model)
        metrics[epoch] = evaluated(given.model, given)[pruning.monitor.removeprefix("val_")]
        given.model.reset_metrics()

    callbacks = [
        Script(pruning.monitor, way.levels),
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: before.update({epoch: state_of(given.model)})
        ),
        pruning,
        keras.callbacks.LambdaCallback(on_epoch_begin=remember),
    ]
    options = {"epochs": len(way.levels), "verbose": 0} | given.fit
    history = given.model.fit(**options, callbacks=callbacks).history
    return given, pruning, history, before, after, metrics


def evaluated(model, given):
    return model.evaluate(**given.evaluate, batch_size=12, verbose=0, return_dict=True)


def sliced(path, value, plan):
    """Return what a plan keeps of a variable, told by the name of its layer in the path."""
    kept = {path.split("/")[-1]: indices for path, indices in plan.kept.items()}
    sources = {"hidden0": None, "hidden1": "hidden0", "hidden": "conv", "conv": None}
    last = "hidden1" if "hidden1" in kept else "hidden"
    sources |= {"norm": None, "classes": last, "level": last}
    name = re.search(rf"(?:^|[/_])({'|'.join(sources)})[/_]", path)
    if name is None or value.ndim == 0:
        return value
    own = kept.get("conv" if name[1] == "norm" else name[1])
    value = value if own is None else value.take(own, -1)
    source = kept.get(sources[name[1]])
    return value if source is None or value.ndim == 1 else value.take(source, -2)


def assert_sliced(state, cut, plan, measured):
    """Check that a state is cut as the plan says, apart from statistics if they are measured."""
    assert state.keys() == cut.keys()
    for path, value in state.items():
        if isinstance(value, np.ndarray) and not (measured and "moving" in path):
            np.testing.assert_array_equal(cut[path], sliced(path, value, plan), err_msg=path)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_trains_on_across_cuts_and_a_round_that_is_undone(way):
    given, pruning, history, before, after, metrics = train(way)
    assert [done.kept for done in pruning.rounds] == [True, False, True]
    assert_logs(given, pruning, history)
    assert_measured(given, pruning, metrics)
    assert_states(given, pruning, before, after)
    assert_thin(given, pruning)


def assert_logs(given, pruning, history):
    assert all(np.isfinite(values).all() for values in history.values())
    assert set(given.logged) <= set(history)
    first = given.fit.get("initial_epoch", 0)
    for done in pruning.rounds:
        assert done.after.neurons == done.before.neurons - int(done.fraction * done.before.neurons)
        epochs = slice(done.epoch - first, done.epoch - first + done.epochs)
        assert history["neurons"][epochs] == [done.after.neurons] * done.epochs


def assert_measured(given, pruning, metrics):
    readable = not hasattr(given.fit["validation_data"], "__next__")
    for done in pruning.rounds:
        expected = pytest.approx(metrics[done.epoch], rel=1e-5) if readable else None
        assert done.metric_cut == expected


def assert_states(given, pruning, before, after):
    """Each cut keeps slices of what training left, which is what an undone round goes back to."""
    norms = [x for x in given.model.layers if isinstance(x, keras.layers.BatchNormalization)]
    measured = "data" in given.pruning and any(norm.trainable for norm in norms)
    base = None
    for done in pruning.rounds:
        base = before[done.epoch] if base is None else base
        assert_sliced(base, after[done.epoch], done.plan, measured)
        base = None if done.kept else before[done.epoch]
    for epoch in list(before)[1:]:
        trained = [path for path in after[epoch - 1] if re.search("(classes|level)/bias", path)]
        assert trained
        for path in trained:
            assert not np.array_equal(after[epoch - 1][path], before[epoch][path]), path


def assert_thin(given, pruning):
    model = given.model
    assert neurons(model) == pruning.rounds[-1].after.neurons
    twin = reloaded(model)
    assert evaluated(twin, given) == evaluated(model, given)
    for stored, variable in zip(twin.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(stored.numpy(), variable.numpy(), err_msg=variable.path)


def states_at_batches(model, states):
    """Return a callback that notes the model's state as an epoch, and each batch of it, begins."""

    class Notes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
            states[epoch, 0] = state_of(model)

        def on_train_batch_begin(self, batch, logs=None):
            if hasattr(model, "jax_state_sync"):
                model.jax_state_sync()
            if batch:
                states[self.epoch, batch] = state_of(model)

    return Notes()


def test_rounds_of_batches_are_cut_and_undone():
    model, pruning, before, after = small_model(), judged(batches_per_round=2), {}, {}
    listed = [states_at_batches(model, before), pruning, states_at_batches(model, after)]
    script = Script(pruning.monitor, LEVELS)
    fit(model, script, *listed, batch_size=6)
    rounds = pruning.rounds
    assert [(r.epoch, r.batch) for r in rounds] == [(e, b) for e in range(3) for b in (0, 2)]
    assert [r.kept for r in rounds] == [True, True, False, False, True, True]
    undone = before[1, 0]
    for done in rounds:
        at = done.epoch, done.batch
        base = undone if at == (2, 0) else before[at]
        assert_sliced(base, after[at], done.plan, measured=False)
        assert done.after.neurons < done.before.neurons


@pytest.mark.parametrize(
    ("data", "scores"),
    [(IMAGES, "reconstruction, fused weights"), ((IMAGES, LABELS), "taylor, fused weights")],
)
def test_what_is_fused_is_undone_with_its_round(data, scores, capsys):
    model, pruning, before, after = conv_model(), judged(data=data, verbose=1), {}, {}
    listed = [states_at_batches(model, before), pruning, states_at_batches(model, after)]
    fit(model, Script(pruning.monitor, LEVELS), *listed)
    assert [done.kept for done in pruning.rounds] == [True, False, True]
    assert pruning.report.scores == scores
    assert f"\nScores: {scores}\n" in capsys.readouterr().out
    first, hidden = (model.get_layer(name).kernel.path for name in ("conv", "hidden"))
    for done, base in zip(pruning.rounds, (before[0, 0], before[1, 0], before[1, 0]), strict=True):
        cut = after[done.epoch, 0]
        assert done.metric_cut is not None
        # A fused kernel is no slice; what reads nothing that is cut is one.
        assert not np.allclose(cut[hidden], sliced(hidden, base[hidden], done.plan))
        np.testing.assert_array_equal(cut[first], sliced(first, base[first], done.plan))


@pytest.mark.parametrize(("make", "layer"), [(frozen, "hidden0"), (frozen_statistics, "norm")])
def test_what_is_frozen_is_cut_and_stays_as_it_was(make, layer):
    given, pruning = make(), callback(**make().pruning)
    variables = given.model.get_layer(layer).weights
    start = [v.numpy() for v in variables]
    given.model.fit(**given.fit, epochs=2, verbose=0, callbacks=[pruning])
    assert not given.model.get_layer(layer).trainable
    assert not [v.path for v in given.model.optimizer.variables if layer in v.path]
    for variable, value in zip(variables, start, strict=True):
        expected = sliced(variable.path, value, pruning.report.plan)
        assert expected.shape != value.shape
        np.testing.assert_array_equal(variable.numpy(), expected, err_msg=variable.path)


# What the user holds


@pytest.fixture(scope="module")
def held():
    """A model that was used as a whole and in parts, and then cut five times."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((6, 6, 2))
    conv = keras.layers.Conv2D(12, 3, name="conv")
    x = keras.layers.BatchNormalization(name="norm")(conv(pixels))
    stem = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x), name="stem")
    hidden = [
        keras.layers.Dense(width, activation="relu", name=name)
        for name, width in (("hidden0", 10), ("hidden1", 8))
    ]
    head = keras.Sequential([keras.Input((12,)), *hidden], name="head")
    images = keras.Input((6, 6, 2))
    classes = keras.layers.Dense(3, activation="softmax", name="classes")(head(stem(images)))
    model = compiled(keras.Model(images, classes))
    head.predict(stem.predict(IMAGES, verbose=0), verbose=0)
    model.predict(IMAGES, verbose=0)
    parts = {"model": model, "stem": stem, "head": head, "conv": conv, "hidden": hidden[0]}
    parts |= {"optimizer": model.optimizer, "input": model.inputs[0], "output": model.outputs[0]}
    parts |= {"kernel": conv.kernel, "convolved": conv.output}
    pruning = callback(target={"neurons": 0.3}, fraction=0.2, scope="uniform")
    fit(model, pruning, epochs=5)
    assert len(pruning.rounds) == 5
    return parts


def numbers_of(model):
    return sum(v.numpy().size for v in model.weights)


def test_a_layer_that_is_held_is_thin(held):
    conv = held["conv"]
    assert held["stem"].get_layer("conv") is conv and conv.kernel is held["kernel"]
    assert conv.output is held["convolved"]
    assert conv.filters < 12
    assert conv.kernel.shape == (3, 3, 2, conv.filters)
    assert conv.bias.shape == (conv.filters,)
    assert conv.output.shape == conv.compute_output_shape((None, 6, 6, 2))
    assert conv.output.shape[-1] == conv(IMAGES).shape[-1] == conv.filters
    assert held["hidden"].kernel.shape == (conv.filters, held["hidden"].units)


def test_the_optimizer_that_is_held_is_thin(held):
    model = held["model"]
    assert model.optimizer is held["optimizer"]
    slots = {v.path.split("/", 1)[1]: v.shape for v in model.optimizer.variables}
    for weight in model.trainable_variables:
        name = weight.path.replace("/", "_")
        assert slots[f"{name}_momentum"] == slots[f"{name}_velocity"] == weight.shape


def test_submodels_that_are_held_are_thin(held):
    stem, head, width = held["stem"], held["head"], held["conv"].filters
    assert held["model"].get_layer("stem") is stem and held["model"].get_layer("head") is head
    assert stem.output_shape == head.input_shape == (None, width)
    assert head.output_shape == (None, head.get_layer("hidden1").units)
    for part, x in ((stem, IMAGES), (head, np.ones((2, width), "float32"))):
        assert part.count_params() == numbers_of(part)
        assert f"Total params: {numbers_of(part):,}" in summary(part)
        found = part.predict(x, verbose=0)
        np.testing.assert_allclose(found, keras.ops.convert_to_numpy(part(x)), rtol=1e-5)


def test_the_model_that_is_held_is_thin(held):
    model = held["model"]
    assert model.inputs[0] is held["input"] and model.outputs[0] is held["output"]
    assert (model.input_shape, model.output_shape) == ((None, 6, 6, 2), (None, 3))
    assert model.count_params() == numbers_of(model)
    found = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(model(IMAGES)), rtol=1e-6)
    text = summary(model)
    trained = sum(v.numpy().size for v in model.trainable_variables)
    assert f"Trainable params: {trained:,}" in text
    assert f"(None, 4, 4, {held['conv'].filters})" in text
    assert f"(None, {held['hidden'].units})" in text


def summary(model):
    lines = []
    model.summary(print_fn=lines.append, expand_nested=True, line_length=120)
    return "\n".join(lines)


# What is refused


class Calling(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


def extending(model):
    other = keras.Model(model.inputs[0], keras.layers.Dense(2)(model.get_layer("hidden0").output))
    other.name = "other"
    other.predict(SAMPLES, verbose=0)
    return other


def enclosing(model):
    return keras.Sequential([keras.Input((6,)), model, keras.layers.Dense(2)], name="other")


def calling(model):
    other = Calling(model)
    other.predict(SAMPLES, verbose=0)
    return other


@pytest.mark.parametrize("make", [extending, enclosing, calling])
def test_another_model_on_the_same_layers_is_refused_while_it_lives(make):
    model = dense_model()
    model.optimizer.build(model.trainable_variables)
    other, before = make(model), state_of(model)
    with pytest.raises(ValueError, match=re.escape(BESIDE.note)) as error:
        fit(model, callback())
    assert f"which model {other.name!r} has as well" in str(error.value)
    assert_same(before, state_of(model))
    del other, error
    fit(model, callback(), epochs=1)
    assert neurons(model) == 18


def test_a_feature_extractor_on_the_same_graph_follows():
    model = dense_model()
    extractor = keras.Model(model.inputs, model.get_layer("hidden0").output)
    before = extractor.predict(SAMPLES, verbose=0)
    pruning = judged(max_drop=1.0)
    fit(model, pruning, epochs=2)
    width = model.get_layer("hidden0").units
    assert width < before.shape[1]
    assert extractor.output_shape == (None, width)
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(width, activation="relu")])
    inner.set_weights(model.get_layer("hidden0").get_weights())
    np.testing.assert_allclose(
        extractor.predict(SAMPLES, verbose=0), inner.predict(SAMPLES, verbose=0), rtol=1e-5
    )


def test_the_base_that_a_model_was_built_on_follows():
    start = keras.Input((6,))
    base = keras.Model(start, keras.layers.Dense(16, name="hidden0")(start))
    x = keras.layers.Dense(8, name="hidden1")(base.output)
    model = compiled(keras.Model(base.inputs, keras.layers.Dense(3, activation="softmax")(x)))
    base.predict(SAMPLES, verbose=0)
    fit(model, callback(), epochs=3)
    assert base.predict(SAMPLES, verbose=0).shape == (24, model.get_layer("hidden0").units)
    assert neurons(model) == 12


def test_a_model_built_meanwhile_on_the_same_layers_is_refused_before_the_next_cut():
    model, others = dense_model(), []
    build = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: others.append(extending(model)))
    with pytest.raises(ValueError, match=re.escape(BESIDE.note)):
        fit(model, callback(), build)
    assert neurons(model) == 18
    assert others[0].predict(SAMPLES, verbose=0).shape == (24, 2)


def test_a_nested_model_that_was_trained_by_itself_trains_on():
    inner = compiled(
        keras.Sequential([keras.Input((6,)), *(keras.layers.Dense(n) for n in (16, 6))])
    )
    inner.compile("adam", "mse")
    inner.fit(SAMPLES, SAMPLES, verbose=0)
    model = compiled(
        keras.Sequential([keras.Input((6,)), inner, keras.layers.Dense(3, activation="softmax")])
    )
    fit(model, callback(), epochs=3)
    assert inner.layers[0].units < 16
    slots = {tuple(slot.shape) for slot in inner.optimizer._momentums}
    assert slots == {tuple(variable.shape) for variable in inner.trainable_variables}


def test_a_model_with_a_call_of_its_own_is_refused():
    model = compiled(Calling(dense_model()))
    model.predict(SAMPLES, verbose=0)
    before = model.get_weights()
    with pytest.raises(ValueError, match=re.escape(SUBCLASSED.note)):
        model.fit(SAMPLES, LABELS, verbose=0, callbacks=[callback()])
    for weights, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, expected)
