"""Backends, arrays: parts of them, and what variables hold."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
from keras import ops


def take(value: Any, indices: Any, axis: int) -> Any:
    """Return the entries of a tensor at indices of 0 and more along an axis.

    On TensorFlow `keras.ops.take` looks for negative indices, which takes longer than the slice.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(value, indices, axis=axis)
    return keras.ops.take(value, indices, axis=axis)


def renewed(held: Any, value: Any) -> Any:
    """Return what a Keras variable is to hold in place of what it holds, for a value of any shape.

    TensorFlow makes an operation for each new pair of name and shape, which takes longer than the
    cut of most weights. So all plain variables are made under one name, and get theirs afterwards.
    """
    if keras.backend.backend() != "tensorflow":
        return value
    import tensorflow as tf
    from tensorflow.python.ops.resource_variable_ops import ResourceVariable

    _keep_few_operations(value)
    if type(held) is not ResourceVariable:
        return value
    made = tf.Variable(
        value,
        trainable=held.trainable,
        name="renewed",
        aggregation=held.aggregation,
        synchronization=held.synchronization,
    )
    if type(made) is ResourceVariable:
        made._handle_name = held._handle_name
    return made


SHAPES = 256
"""Shapes of variables that TensorFlow may hold operations for, before all of them are freed."""

_shapes: set[tuple[Any, ...]] = set()


def _keep_few_operations(value: Any) -> None:
    """Free the operations that TensorFlow holds, if values have had many shapes since it was done.

    It holds for good what it made to create, read and assign a variable of one shape, about a tenth
    of a megabyte, and a cut leaves most weights with a shape that they never had. What is needed
    again is made again, in milliseconds. As after `tf.random.set_seed`, a user's `tf.function` that
    draws with a seed begins anew; so cuts of small models that go back and forth do not come here.
    """
    _shapes.add((value.dtype, *value.shape))
    if len(_shapes) > SHAPES:
        from tensorflow.python.eager import context

        _shapes.clear()
        context.context().clear_kernel_cache()


def retire(held: Any) -> None:
    """Let functions fail that were compiled with what a Keras variable held, and hold it still.

    TensorFlow's functions keep the variables that they were traced with. A user's own one would go
    on reading, and training, values that the model has left; without any it is an error.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    for each in getattr(held, "values", (held,)):
        if hasattr(each, "handle"):
            tf.raw_ops.AssignVariableOp(resource=each.handle, value=_nothing(each.dtype))


@functools.cache
def _nothing(dtype: Any) -> Any:
    """Return a tensor of TensorFlow without entries, which takes longer to make than to assign."""
    import tensorflow as tf

    return tf.zeros((0,), dtype)


def mean_over_positions(values: Any) -> Any:
    """Average `(batch, positions, units)` over positions, to `(batch, units)` in float32.

    A product by ones: on a CPU, TensorFlow takes several times longer to sum over a middle axis. On
    a GPU it may round each value to eleven bits, so it is not for differences of averages.
    """
    values = ops.cast(values, "float32")
    count = ops.shape(values)[1]
    return ops.matmul(ops.ones((1, count), "float32"), values)[:, 0] / ops.cast(count, "float32")


TOGETHER = 1024


UNITS = 16


def sum_of_rows(rows: Any) -> Any:
    """Add up `(rows, units)`, to `(units,)`.

    On a CPU, TensorFlow takes twice as long to sum many units over the first axis as for products
    of some rows by ones, and rounds one row after another. A GPU may round what it multiplies to
    eleven bits.
    """
    count, units = ops.shape(rows)[0], rows.shape[1] or 0
    if (isinstance(count, int) and count < TOGETHER) or units < UNITS or not _sums_by_products():
        return ops.sum(rows, axis=0)
    whole = count // TOGETHER * TOGETHER
    parts = ops.reshape(rows[:whole], (-1, TOGETHER, units))
    sums = ops.matmul(ops.ones((1, TOGETHER), dtype=rows.dtype), parts)
    return ops.sum(sums, axis=(0, 1)) + ops.sum(rows[whole:], axis=0)


@functools.cache
def _sums_by_products() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return {device.device_type for device in tf.config.list_physical_devices()} == {"CPU"}


def own_array(value: Any) -> np.ndarray:
    """Return what a variable holds as an array of its own memory, without a second copy meanwhile.

    Some backends hand out their memory, which the next training step writes to. Keras copies what
    TensorFlow has copied already.
    """
    is_copied = keras.backend.backend() == "tensorflow"
    held = np.asarray(value) if is_copied else ops.convert_to_numpy(value)
    return held if held.flags.owndata else np.array(held)
