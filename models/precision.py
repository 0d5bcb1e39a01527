"""Which number types a network computes in; its variables and its outputs stay float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

# Normalization holds its mean and variance in the number type that it was built with.
KEPT = (keras.layers.InputLayer, keras.layers.Normalization)
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def check(precision: str) -> str:
    """Return `precision`, or raise if it is not one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"The precision must be one of {', '.join(PRECISIONS)}. "
            f"Received: precision={precision!r}. Choose one of these names."
        )
    return precision


def fastest() -> str:
    """Return the precision that this machine computes fast: its matrix units decide.

    GPUs with tensor cores multiply in 16 bits, since compute capability 8 in bfloat16, too, whose
    range needs no scaled loss; processors do with AMX, which Linux names among their flags.
    """
    capability = _gpu_capability()
    if capability is not None:
        return PRECISIONS[1 if capability >= (8, 0) else 2 if capability >= (7, 0) else 0]
    flags = Path("/proc/cpuinfo")
    has_amx = flags.exists() and "amx_bf16" in flags.read_text(encoding="utf-8")
    return "mixed_bfloat16" if has_amx else "float32"


def _gpu_capability() -> tuple[int, int] | None:
    """Return the least compute capability of TensorFlow's GPUs; `None` if it sees none."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return min((d.get("compute_capability", (0, 0)) for d in details), default=None)


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Make every layer that is built inside compute in `precision`, and restore what held before.

    Example:

    >>> import keras
    >>> with policy("mixed_bfloat16"):
    ...     layer = keras.layers.Dense(3)
    >>> layer.compute_dtype, layer.variable_dtype
    ('bfloat16', 'float32')
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(check(precision))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def convert(model: Any, precision: str) -> Any:
    """Make a built model compute in `precision`; the last layer stays in float32.

    The model is changed where it stands. Its weights keep their values. `Normalization` stays in
    float32, too.

    Args:
        model: a functional or Sequential model, as loaded from a file.
        precision: one of `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`.

    Returns:
        The same model.

    Raises:
        ValueError: if `precision` is unknown.
    """
    chosen = keras.DTypePolicy(check(precision))
    # Keras scales the loss of a model whose own policy is mixed_float16, and does not save it.
    model.dtype_policy = chosen
    *hidden, last = _innermost(model)
    for layer in hidden:
        if not isinstance(layer, KEPT):
            layer.dtype_policy = chosen
    last.dtype_policy = keras.DTypePolicy("float32")
    return model


def _innermost(model: Any) -> Iterator[Any]:
    """Yield the layers of a model, and of the models in it."""
    for layer in model.layers:
        yield from _innermost(layer) if isinstance(layer, keras.Model) else [layer]
