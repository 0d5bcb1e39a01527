"""Convolutions whose kernel a `call` multiplies with a mask, as in PixelCNN: layers and rules.

They stand in graphs of what was recorded, and in no model of a user's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.ops import nn

from prune_keras.tracing.labels import product, vector
from prune_keras.tracing.rule import Axes, Found, Trace
from prune_keras.tracing.rules.axes import channel_axis
from prune_keras.tracing.rules.constants import Constant
from prune_keras.tracing.rules.registry import register_rule
from prune_keras.tracing.rules.wrappers import remember
from prune_keras.tracing.visit import Visit


class MaskedConvolution(keras.layers.Layer):
    """A convolution with the product of a kernel and a mask.

    Args:
        kernel: variable of shape `(..., channels, filters)`.
        mask: array or variable that broadcasts against it.
        settings: what `keras.ops.conv` takes beside its input and kernel.
        **options: of a layer.
    """

    def __init__(self, kernel: Any, mask: Any, settings: dict, **options: Any):
        super().__init__(**options)
        self.kernel, self.mask, self.settings = kernel, mask, settings
        given = settings.get("data_format")
        self.data_format = keras.config.image_data_format() if given is None else given
        self.built = True

    def call(self, x: Any) -> Any:
        mask = ops.cast(self.mask, self.compute_dtype)
        return ops.conv(x, self.kernel * mask, **self.settings)

    def compute_output_spec(self, x: Any) -> Any:
        kernel = keras.KerasTensor(self.kernel.shape, self.compute_dtype)
        return nn.Conv(**self.settings).compute_output_spec(x, kernel)


class MaskedCall(keras.layers.Layer):
    """A call of a layer of which a mask was multiplied into the kernel, which is written.

    Args:
        layer: the layer.
        kernel: its variable.
        mask: array that broadcasts against it, of zeros and ones.
    """

    def __init__(self, layer: Any, kernel: Any, mask: Any):
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer, self.kernel, self.mask = layer, kernel, mask
        self.built = True

    def call(self, x: Any) -> Any:
        self.kernel.assign(self.kernel * ops.cast(self.mask, self.kernel.dtype))
        return self.layer(x)

    def compute_output_spec(self, x: Any) -> Any:
        return self.layer.compute_output_spec(x)


MASKED = (MaskedConvolution, MaskedCall)


@register_rule(MaskedConvolution)
def masked_convolution(visit: Visit, trace: Trace) -> Found:
    layer, axis = visit.operation, channel_axis(visit.operation)
    channels = trace.along(visit.input, axis, visit.path)
    if len(channels) != layer.kernel.shape[-2]:
        return trace.refuse(visit, f"{visit.path} convolves groups of them with a masked kernel")
    units = trace.units(visit, layer.kernel, axis=-1, tap_axis=axis)
    axes = {-2: channels, -1: units}
    times = product(visit.shape[1:] if axis == 0 else visit.shape[:-1])
    trace.weight(visit, layer.kernel, axes, reads=(-2,), times=times)
    _masked(visit, trace, axes)
    return vector(units, axis, visit.input.rank)


@register_rule(MaskedCall)
def masked_call(visit: Visit, trace: Trace) -> Found:
    layer, kernel = visit.operation.layer, visit.operation.kernel
    remember(trace, layer, visit.input)
    found = trace.apply(dataclasses.replace(visit, operation=layer))
    axes = trace.axes_of(kernel) or {}
    _masked(visit, trace, {axis - len(kernel.shape): ids for axis, ids in axes.items()})
    return found


def _masked(visit: Visit, trace: Trace, axes: Axes) -> None:
    """Let a mask lose entries with the kernel; axes are counted from the last one."""
    layer, mask = visit.operation, visit.operation.mask
    shape = tuple(mask.shape)
    along = {axis: ids for axis, ids in axes.items() if -axis <= len(shape) and shape[axis] > 1}
    if isinstance(mask, keras.Variable):
        trace.weight(visit, mask, along)
    elif along:
        ends = np.cumsum([len(ids) for ids in along.values()])[:-1]

        def left(kept: np.ndarray) -> Any:
            value = mask
            for axis, part in zip(along, np.split(kept, ends), strict=True):
                value = Constant((), value).slicer(axis)(part)
            return value

        trace.setting(layer, "mask", np.concatenate([*along.values()]), left)
