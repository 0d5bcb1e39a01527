"""VGG-16 for two classes: pretrained convolutions of any width, and a new head.

Reference:
    Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015,
    https://arxiv.org/abs/1409.1556
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from prune_keras.models.precision import policy

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
MEANS = (123.68, 116.779, 103.939)  # of ImageNet: red, green, blue
HEADS = ("flatten", "average", "max")


def build(
    image_size: int = 128,
    nested: bool = True,
    head: str = "flatten",
    units: int = 256,
    dropout: float = 0.5,
    outputs: int = 1,
    batch_norm: bool = False,
    width: float = 1.0,
    weights: str | Path | None = None,
    precision: str = "float32",
) -> Any:
    """Return VGG-16 for pixels from 0 to 255, red first, with a head for cats and dogs.

    Args:
        image_size: height and width of the images, at least 32.
        nested: whether the convolutions are one layer `vgg16`, a model itself, or stand in the
            graph one by one.
        head: what comes after the convolutions: `"flatten"`, or global `"average"` or `"max"`
            pooling.
        units: width of the hidden Dense layer.
        dropout: rate after it.
        outputs: 1, the sigmoid of a dog, or 2, the softmax of cat and dog.
        batch_norm: whether the hidden Dense layer is normalized.
        width: share of the filters of each convolution.
        weights: what `load_weights` takes. Defaults to `None`: drawn at random.
        precision: one of `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`.

    Returns:
        A `keras.Model` from `(batch, image_size, image_size, 3)` to `(batch, outputs)`.

    Raises:
        ValueError: if `head`, `outputs` or `precision` is none of the above.

    Example:

    >>> build(image_size=32, width=0.125, units=16).count_params()
    231625
    """
    _check(head, outputs)
    with policy(precision):
        inputs = keras.Input((image_size, image_size, 3), name="pixels")
        offset = [-mean for mean in MEANS]
        x = keras.layers.Rescaling(1.0, offset=offset, name="rescaling")(inputs)
        x = _nested(x, width) if nested else _convolutions(x, width)
        x = _head(x, head, units, dropout, batch_norm)
        activation = "sigmoid" if outputs == 1 else "softmax"
        x = keras.layers.Dense(outputs, activation, dtype="float32", name="classes")(x)
        model = keras.Model(inputs, x, name="vgg16_cats_vs_dogs")
    if weights is not None:
        load_weights(model, weights)
    return model


def load_weights(model: Any, weights: str | Path) -> None:
    """Give the convolutions of a network the weights of the original VGG-16.

    Args:
        model: from `build`, with `width=1`.
        weights: `"imagenet"`, which Keras downloads once, or a file: the `.h5` that Keras would
            download, or a `.keras` or `.h5` of a whole model with these layers.

    Raises:
        ValueError: if they can be neither downloaded nor read, or do not fit.
    """
    kernels = _read_weights(weights)
    for name, layer in convolutions(model).items():
        shapes = [tuple(array.shape) for array in kernels[name]]
        if shapes != [tuple(array.shape) for array in layer.get_weights()]:
            raise ValueError(
                f"The weights must fit the network. Received: {shapes} for {name!r} in "
                f"'{weights}'. Take those of VGG-16, with width=1."
            )
        layer.set_weights(kernels[name])


def convolutions(model: Any) -> dict[str, Any]:
    """Return name -> layer of the convolutions, be they nested or not."""
    base = model.get_layer("vgg16") if any(x.name == "vgg16" for x in model.layers) else model
    return {x.name: x for x in base.layers if isinstance(x, keras.layers.Conv2D)}


def _read_weights(weights: str | Path) -> dict[str, list[np.ndarray]]:
    """Return name -> kernel and bias. Keras' weights read blue first; here red comes first."""
    shape = (32, 32, 3)
    if str(weights) != "imagenet" and not Path(weights).is_file():
        raise ValueError(
            "The weights must be 'imagenet' or a file. "
            f"Received: weights='{weights}', which is not there. Name a file that is."
        )
    file = None if str(weights) == "imagenet" else weights
    try:
        original = keras.applications.VGG16(
            include_top=False, weights="imagenet" if file is None else None, input_shape=shape
        )
        if file is not None:
            original.load_weights(file)
    except Exception as error:
        raise ValueError(_unreadable(weights, error)) from error
    kernels = {name: layer.get_weights() for name, layer in convolutions(original).items()}
    kernels["block1_conv1"][0] = kernels["block1_conv1"][0][:, :, ::-1]
    return kernels


def _unreadable(weights: str | Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        "The weights of VGG-16 must be within reach. Received: "
        f"weights='{weights}' ({reason}). Get vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5, "
        "which Keras publishes, on a machine with a network, and pass --weights FILE."
    )


def _nested(x: Any, width: float) -> Any:
    inputs = keras.Input(x.shape[1:], name="vgg16_input")
    return keras.Model(inputs, _convolutions(inputs, width), name="vgg16")(x)


def _convolutions(x: Any, width: float) -> Any:
    for block, (filters, count) in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            x = keras.layers.Conv2D(
                max(1, round(filters * width)),
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_uniform",
                name=f"block{block}_conv{number}",
            )(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return x


def _head(x: Any, head: str, units: int, dropout: float, batch_norm: bool) -> Any:
    layer = {
        "flatten": keras.layers.Flatten,
        "average": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
    }[head]
    x = layer(name=head)(x)
    x = keras.layers.Dense(units, kernel_initializer="he_uniform", name="hidden")(x)
    if batch_norm:
        x = keras.layers.BatchNormalization(momentum=0.9, name="hidden_norm")(x)
    x = keras.layers.ReLU(name="hidden_relu")(x)
    return keras.layers.Dropout(dropout, name="dropout")(x)


def _check(head: str, outputs: int) -> None:
    if head not in HEADS:
        raise ValueError(
            f"The head must be one of {', '.join(HEADS)}. Received: head={head!r}. Choose one."
        )
    if outputs not in (1, 2):
        raise ValueError(
            "Two classes need 1 output (sigmoid) or 2 (softmax). "
            f"Received: outputs={outputs!r}. Choose one of these."
        )
