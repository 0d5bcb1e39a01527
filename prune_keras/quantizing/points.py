"""Points: where eight bits hold what passes through a model, as LiteRT lays its kernels out.

A convolution, batch normalization and ReLU are one kernel there, and only what that gives is
rounded. What only moves values stays on the grid of what it reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, tree

from prune_keras import _keras
from prune_keras.normalizing import RangeBatchNormalization

LINEAR = {
    layers.Dense: (0,),
    layers.Conv1D: (0, 1),
    layers.Conv2D: (0, 1, 2),
    layers.DepthwiseConv2D: (0, 1),
}
"""Layers with a kernel, and the axes of that but those of output channels."""

FIXED = {
    keras.activations.softmax: (0.0, 255 / 256),
    keras.activations.sigmoid: (0.0, 255 / 256),
    keras.activations.tanh: (-1.0, 127 / 128),
}
"""Activations whose grid LiteRT fixes."""

NORMALIZING = (layers.BatchNormalization, RangeBatchNormalization)
"""Layers that are folded into a kernel before them."""

INPUT = ""
"""The key of what the model itself is given."""

_MOVING = (
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout2D,
)
_MOVING_RAW = {"GetItem", "Pad", "Reshape", "Transpose"}
_OWN = (
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.Concatenate,
    layers.Multiply,
    layers.Rescaling,
)


@dataclass(frozen=True)
class Point:
    """What becomes of one call of an operation.

    Args:
        key: path of the operation, numbered from its second call on.
        operation: the layer or raw operation.
        rounds: whether what it gives is rounded.
        reads: key of the call whose grid it stays on; None where it has one of its own.
        fixed: the function that gives its outputs, if LiteRT fixes the grid of that.
    """

    key: str
    operation: Any
    rounds: bool
    reads: str | None = None
    fixed: Any = None


def points(model: Any) -> list[Point]:
    """Return what becomes of each call of a model, in the order in which they are run.

    Raises:
        ValueError: if it is not known what LiteRT makes of a layer, the model has a `call` of its
            own, is given whole numbers, or computes in another type than float32.
    """
    if _keras.function_of(model) is None:
        raise ValueError(
            "The model must be a functional or Sequential one, whose calls are known. Received: "
            f"{model.name!r} of type {type(model).__name__}. Take prune_keras.unfold(model)."
        )
    check_floats(model)
    _check_inputs(model)
    reading = _Reading(_keras.places(model))
    for number in range(len(reading.places)):
        reading.made.append(reading.point(number))
    return reading.made


def check_floats(model: Any) -> None:
    """Raise a ValueError for layers that compute in another type than float32."""
    operations = {place.path: place.operation for place in _keras.places(model)}
    for path, operation in operations.items():
        kind = operation.compute_dtype if _keras.is_layer(operation) else "float32"
        if kind != "float32":
            raise ValueError(
                "A model must compute in float32 to be held in eight bits. Received: "
                f"{path!r} of {model.name!r}, in {kind}. Build the model anew under "
                "keras.config.set_dtype_policy('float32'), and give it these weights by "
                "set_weights."
            )


def _check_inputs(model: Any) -> None:
    for tensor in _keras.graph_of(model).inputs:
        if not keras.backend.is_float_dtype(tensor.dtype):
            raise ValueError(
                "The model must be given floats, which LiteRT holds in eight bits. Received: "
                f"the input {tensor.name!r} of {model.name!r}, in {tensor.dtype}. Build the model "
                "anew with keras.Input(shape), or export without training for it: "
                "prune_keras.export(model, 'model.tflite', int8=data)."
            )


class _Reading:
    """A model's calls, with what each one reads and what reads it."""

    def __init__(self, places: list[_keras.Place]) -> None:
        self.places = places
        self.made: list[Point] = []
        self._called: Counter = Counter()
        self._readers: dict[int, list[Any]] = {number: [] for number in range(len(places))}
        for place in places:
            for number in place.reads:
                self._readers.setdefault(number, []).append(place.operation)

    def point(self, number: int) -> Point:
        place = self.places[number]
        operation, kind = place.operation, type(place.operation)
        self._called[place.path] += 1
        count = self._called[place.path]
        key = place.path if count == 1 else f"{place.path}:{count}"
        if told := self._unknown(place):
            raise ValueError(_refused(key, operation, told))
        if kind in _MOVING or kind.__name__ in _MOVING_RAW or _is_linear(operation):
            return Point(key, operation, False, reads=self._grid(place))
        if kind is layers.AveragePooling2D:
            return Point(key, operation, True, reads=self._grid(place))
        if kind in LINEAR:
            return self._linear(key, number)
        normalizes = kind in NORMALIZING and self._is_bare(place.reads[0])
        if normalizes or (_keras.is_sum(operation) and len(place.reads) == 2):
            return Point(key, operation, not self._is_read_by(number, _is_relu))
        if kind in _OWN or _is_relu(operation) or _normalizes(operation):
            return Point(key, operation, True)
        if _fixed(operation) is not None:
            return Point(key, operation, True, fixed=_fixed(operation))
        raise ValueError(_refused(key, operation))

    def _unknown(self, place: _keras.Place) -> str | None:
        """Return for what in a known layer's call LiteRT has no kernel in eight bits, or None."""
        operation, kind, rank = place.operation, type(place.operation), len(place.tensor.shape)
        axis: Any = getattr(operation, "axis", None)
        if kind in NORMALIZING and place.reads[0] >= 0:
            of_units = _channel_axis(self.places[place.reads[0]].operation, rank)
            return None if axis % rank == of_units else f" with axis={axis}"
        merged = len(place.reads) + len(place.beside)
        *_, last = None, *place.beside
        odd = {
            f" with constant_values={last}": kind.__name__ == "Pad" and _adds(place),
            f" of {merged} tensors": kind is layers.Multiply and merged != 2,
            f" on {rank} axes": kind is layers.Dense and rank > 4,
            f" over axis={axis}": kind is layers.Softmax and len(tree.flatten(axis)) > 1,
            " with data_format='channels_first'": kind is layers.Conv1D
            and operation.data_format == "channels_first",
        }
        return next((told for told, is_so in odd.items() if is_so), None)

    def _grid(self, place: _keras.Place) -> str:
        """Return the key of the call on whose grid a call's input is; empty for the model's own."""
        number = place.reads[0]
        if number < 0:
            return INPUT
        made = self.made[number]
        return made.key if made.reads is None else made.reads

    def _linear(self, key: str, number: int) -> Point:
        layer = self.places[number].operation
        if getattr(layer, "lora_enabled", False):
            raise ValueError(_refused(key, layer, " with LoRA"))
        if layer.activation in FIXED:
            return Point(key, layer, True, fixed=layer.activation)
        if layer.activation is keras.activations.linear:
            return Point(key, layer, not self._is_read_by(number, _is_fused))
        if layer.activation not in (keras.activations.relu, keras.activations.relu6):
            name = getattr(layer.activation, "__name__", layer.activation)
            raise ValueError(_refused(key, layer, f" with activation={name}"))
        return Point(key, layer, True)

    def _is_read_by(self, number: int, wanted: Callable[[Any], bool]) -> bool:
        """Tell whether all that reads what a call gives is one call of some kind."""
        readers = self._readers[number]
        alone = len(readers) == 1 and not self.places[number].is_output
        return alone and wanted(readers[0])

    def _is_bare(self, number: int) -> bool:
        """Tell whether a call gives a bare response, which one batch normalization reads."""
        if number < 0 or type(self.places[number].operation) not in LINEAR:
            return False
        bare = self.places[number].operation.activation is keras.activations.linear
        return bare and self._is_read_by(number, _is_fused)


def _channel_axis(layer: Any, rank: int) -> int:
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def _adds(place: _keras.Place) -> bool:
    """Tell whether padding is with something else than zero, which alone is on every grid."""
    return any(each is not None and np.any(each) for each in place.beside)


def _is_relu(operation: Any) -> bool:
    ends = _keras.ends_of(operation)
    return ends is not None and ends[1] in (6.0, float("inf"))


def _normalizes(operation: Any) -> bool:
    return type(operation) is layers.Normalization and not operation.invert


def _is_linear(operation: Any) -> bool:
    held = getattr(operation, "activation", None)
    return type(operation) is layers.Activation and held is keras.activations.linear


def _is_fused(operation: Any) -> bool:
    return _is_relu(operation) or type(operation) in NORMALIZING


def _fixed(operation: Any) -> Any:
    if type(operation) is layers.Softmax:
        return keras.activations.softmax
    held = getattr(operation, "activation", None)
    return held if type(operation) is layers.Activation and held in FIXED else None


def _refused(key: str, operation: Any, what: str = "") -> str:
    return (
        "Layers must be such that it is known what LiteRT makes of them in eight bits. Received: "
        f"{key!r} of type {type(operation).__name__}{what}. Export without training for it: "
        "prune_keras.export(model, 'model.tflite', int8=data)."
    )
