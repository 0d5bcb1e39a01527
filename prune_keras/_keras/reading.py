"""Private Keras, reading: which layer of a model it is that a file cannot hold."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common.variables import Variable, standardize_shape
from keras.src.legacy.saving import json_utils, saving_utils
from keras.src.utils.dtype_utils import DTYPE_TO_SIZE

from prune_keras._keras.graphs import function_of, is_layer, operations_in


def unreadable_layer(model: Any, suffix: str) -> tuple[Any, Exception] | None:
    """Return the first layer that cannot be written and read back by itself, and why, or None.

    Args:
        model: functional or Sequential model.
        suffix: ending of the file, `".h5"` or `".keras"`.
    """
    again = _by_h5 if suffix == ".h5" else _by_keras
    for operation in operations_in(model):
        if is_layer(operation) and function_of(operation) is None:
            try:
                again(operation)
            except Exception as error:
                return operation, error
    return None


def _by_keras(layer: Any) -> None:
    written = keras.saving.serialize_keras_object(layer)
    written.pop("build_config", None)  # which makes weights
    keras.saving.deserialize_keras_object(json.loads(json.dumps(written)))


def _by_h5(layer: Any) -> None:
    written = {"class_name": type(layer).__name__, "config": layer.get_config()}
    text = json.dumps(written, default=json_utils.get_json_type)
    saving_utils.model_from_config(json.loads(text))


@contextlib.contextmanager
def making_at_most(most: int) -> Iterator[None]:
    """Refuse, within, to make variables of more than so many bytes all together.

    Raises:
        ValueError: before the memory is taken.
    """
    original, made = Variable.__init__, 0

    @functools.wraps(original)
    def counted(
        self: Any, initializer: Any, shape: Any = None, dtype: Any = None, *args: Any, **kw: Any
    ) -> None:
        nonlocal made
        if shape is not None:
            kind = keras.backend.standardize_dtype(dtype or keras.config.floatx())
            made += math.prod(standardize_shape(shape)) * DTYPE_TO_SIZE.get(kind, 8) // 8
        if made > most:
            raise ValueError(
                f"its layers ask for {made} bytes or more, while it holds weights for {most}"
            )
        original(self, initializer, shape, dtype, *args, **kw)

    Variable.__init__ = counted
    try:
        yield
    finally:
        Variable.__init__ = original
