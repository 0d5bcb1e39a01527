"""Convolutional networks for small images, with the defaults of CIFAR-10.

Every builder takes pixels from 0 to 255 (the first layer rescales them) and gives class
probabilities in float32, whatever the precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from prune_keras import strangers
from prune_keras.models.precision import policy

INPUT_SHAPE = (32, 32, 3)


def stack(
    filters: Sequence[int] = (32, 32, 64, 64),
    units: int = 512,
    classes: int = 10,
    dropout: Sequence[float] = (0.25, 0.5),
    padding: str = "valid",
    precision: str = "float32",
    input_shape: tuple[int, int, int] = INPUT_SHAPE,
    name: str = "stack",
) -> Any:
    """Four 3x3 convolutions in pairs, each pair followed by max-pooling and dropout, and two Dense.

    Args:
        filters: widths of the convolutions, an even number of positive integers.
        units: width of the hidden Dense layer.
        classes: number of classes.
        dropout: rate after each pair, and rate before the last layer.
        padding: `"valid"` or `"same"`, for the second convolution of a pair; the first one keeps
            the spatial size.
        precision: one of `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`.
        input_shape: `(height, width, channels)`.
        name: name of the model.

    Returns:
        A `keras.Model` from pixels `(batch, height, width, channels)` to probabilities
        `(batch, classes)`.

    Raises:
        ValueError: if `filters` cannot be put in pairs, or `precision` is unknown.

    Example:

    >>> stack().count_params()
    1250858
    """
    with policy(precision):
        return _stack(filters, units, classes, dropout, padding, input_shape, name, normalize=False)


def batch_norm_stack(
    filters: Sequence[int] = (32, 32, 64, 64),
    units: int = 512,
    classes: int = 10,
    dropout: Sequence[float] = (0.25, 0.5),
    padding: str = "valid",
    precision: str = "float32",
    input_shape: tuple[int, int, int] = INPUT_SHAPE,
    name: str = "batch_norm_stack",
) -> Any:
    """The network of `stack` with batch normalization before every hidden activation.

    Args, returns and errors are those of `stack`.

    Example:

    >>> batch_norm_stack().count_params()  # 704 biases less, 4 numbers a channel more
    1252970
    """
    with policy(precision):
        return _stack(filters, units, classes, dropout, padding, input_shape, name, normalize=True)


def resnet(
    depth: int = 20,
    shortcut: str = "A",
    filters: Sequence[int] = (16, 32, 64),
    classes: int = 10,
    precision: str = "float32",
    input_shape: tuple[int, int, int] = INPUT_SHAPE,
    name: str | None = None,
) -> Any:
    """The residual network for CIFAR-10 of any depth `6n + 2`: three stages of `n` blocks.

    Where a stage begins, option `"A"` takes every second pixel and pads the channels with zeros
    (raw operations, no parameters); option `"B"` is a 1x1 convolution with batch normalization.
    Keras cannot store raw operations as `.h5`, so option `"A"` is for `.keras` files.

    Args:
        depth: number of layers with weights, `6n + 2`. Defaults to `20`.
        shortcut: `"A"` or `"B"`. Defaults to `"A"`.
        filters: widths of the three stages.
        classes: number of classes.
        precision: one of `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`.
        input_shape: `(height, width, channels)`.
        name: name of the model. Defaults to, say, `"resnet20_a"`.

    Returns:
        A `keras.Model` from pixels `(batch, height, width, channels)` to probabilities
        `(batch, classes)`.

    Raises:
        ValueError: if `depth`, `shortcut` or `precision` is none of the above.

    Example:

    >>> resnet(20).count_params()  # 269722 trained, 1376 moving statistics
    271098

    Reference:
        He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2016,
        https://arxiv.org/abs/1512.03385, section 4.2.
    """
    _check_resnet(depth, shortcut, filters)
    with policy(precision):
        inputs = keras.Input(input_shape, name="pixels")
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(inputs)
        x = _convolution(x, filters[0], "stem")
        for stage, width in enumerate(filters, start=1):
            for block in range(1, (depth - 2) // 6 + 1):
                strides = 2 if stage > 1 and block == 1 else 1
                x = _block(x, width, strides, shortcut, f"stage{stage}_block{block}")
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        name = name or f"resnet{depth}_{shortcut.lower()}"
        return keras.Model(inputs, _probabilities(x, classes), name=name)


def read_model(path: str | Path, compile: bool = False) -> Any:
    """Return the model that a `.keras` or `.h5` file holds.

    Args:
        path: the file.
        compile: whether it is compiled as it was when it was saved. Defaults to False.

    Raises:
        ValueError: if it is missing, or Keras cannot read it.
    """
    return strangers.load_model(path, compile)


def _stack(
    filters: Sequence[int],
    units: int,
    classes: int,
    dropout: Sequence[float],
    padding: str,
    input_shape: tuple[int, int, int],
    name: str,
    normalize: bool,
) -> Any:
    _check_pairs(filters)
    inputs = keras.Input(input_shape, name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(inputs)
    for pair in range(len(filters) // 2):
        first, second = filters[2 * pair : 2 * pair + 2]
        x = _hidden(x, keras.layers.Conv2D, first, f"conv{2 * pair + 1}", normalize, padding="same")
        x = _hidden(
            x, keras.layers.Conv2D, second, f"conv{2 * pair + 2}", normalize, padding=padding
        )
        x = keras.layers.MaxPooling2D(name=f"pool{pair + 1}")(x)
        x = keras.layers.Dropout(dropout[0], name=f"dropout{pair + 1}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = _hidden(x, keras.layers.Dense, units, "hidden", normalize)
    x = keras.layers.Dropout(dropout[1], name="dropout_hidden")(x)
    return keras.Model(inputs, _probabilities(x, classes), name=name)


def _hidden(
    x: Any, layer_class: Any, width: int, name: str, normalize: bool, **arguments: Any
) -> Any:
    """One hidden layer: convolution or Dense, batch normalization if wanted, relu."""
    layer = layer_class(
        width,
        *([3] if layer_class is keras.layers.Conv2D else []),
        use_bias=not normalize,
        kernel_initializer="he_uniform",
        name=name,
        **arguments,
    )
    x = layer(x)
    if normalize:
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _block(x: Any, width: int, strides: int, shortcut: str, name: str) -> Any:
    """Two 3x3 convolutions beside a shortcut."""
    kept = x
    if strides != 1 or x.shape[-1] != width:
        kept = _pad(x, width, strides) if shortcut == "A" else _project(x, width, strides, name)
    x = _convolution(x, width, f"{name}_1", strides=strides)
    x = _convolution(x, width, f"{name}_2", activate=False)
    x = keras.layers.Add(name=f"{name}_add")([x, kept])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _convolution(
    x: Any, width: int, name: str, kernel_size: int = 3, strides: int = 1, activate: bool = True
) -> Any:
    x = keras.layers.Conv2D(
        width,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if activate else x


def _pad(x: Any, width: int, strides: int) -> Any:
    """Option A: every second pixel, and zeros for the channels that are missing."""
    missing = width - x.shape[-1]
    x = x[:, ::strides, ::strides, :]
    return keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])


def _project(x: Any, width: int, strides: int, name: str) -> Any:
    """Option B: a 1x1 convolution."""
    return _convolution(x, width, f"{name}_shortcut", 1, strides, activate=False)


def _probabilities(x: Any, classes: int) -> Any:
    return keras.layers.Dense(classes, activation="softmax", dtype="float32", name="classes")(x)


def _check_pairs(filters: Sequence[int]) -> None:
    if len(filters) % 2 or not filters:
        raise ValueError(
            "The convolutions must come in pairs. "
            f"Received: filters={filters!r}. Give an even number of widths."
        )


def _check_resnet(depth: int, shortcut: str, filters: Sequence[int]) -> None:
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(
            "The depth of a CIFAR ResNet must be 6n + 2. "
            f"Received: depth={depth!r}. Choose one of 8, 14, 20, 32, 44, 56, 110."
        )
    if shortcut not in ("A", "B"):
        raise ValueError(
            "The shortcut must be 'A' (zero padding) or 'B' (projection). "
            f"Received: shortcut={shortcut!r}. Choose one of these."
        )
    if shortcut == "A" and list(filters) != sorted(filters):
        raise ValueError(
            "Shortcuts that pad with zeros cannot make a stage narrower than the one before. "
            f"Received: filters={filters!r}. Sort them, or take shortcut='B'."
        )
