"""Ways to train that differ in the model: its steps, losses, parts, precision, and criteria."""

import keras
import numpy as np
from fits import (
    IMAGES,
    LABELS,
    SAMPLES,
    compiled,
    conv_model,
    dense_model,
    fit,
)
from ways import (
    BAD,
    LOSSES,
    READY,
    WEIGHTS,
    Training,
    dataset_of,
    reloaded,
    small_model,
    under_policy,
    way,
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
    "in a subclass of `keras.Model`, built as `MyModel(inputs, outputs)` or with its own `call`; "
    "with a teacher, it must call `self.compute_loss`, else the first step is refused",
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
