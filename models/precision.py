"""Which number types a network computes in; its variables and its outputs stay float32."""

import contextlib

import keras

# Normalization holds its mean and variance in the number type that it was built with.
KEPT = (keras.layers.InputLayer, keras.layers.Normalization)
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def check(precision):
    """Return `precision`, or raise if it is not one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"The precision must be one of {', '.join(PRECISIONS)}. "
            f"Received: precision={precision!r}. Choose one of these names."
        )
    return precision


@contextlib.contextmanager
def policy(precision):
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


def convert(model, precision):
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


def _innermost(model):
    """Yield the layers of a model, and of the models in it."""
    for layer in model.layers:
        yield from _innermost(layer) if isinstance(layer, keras.Model) else [layer]
