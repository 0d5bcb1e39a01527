"""How the reference passes masks through operations; see `silenced.Silenced`."""

from collections import defaultdict
from types import SimpleNamespace

import keras
import numpy as np
import silenced_structural as structural
from keras import layers, ops
from keras.src.applications import convnext, inception_resnet_v2
from keras.src.ops import nn
from keras.src.ops import numpy as raw
from silenced_masks import Masks, spread, varies
from silenced_sequences import SEVERAL_WEIGHTS, given_in_order

CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
OVER_CHANNELS = (layers.LayerNormalization, layers.UnitNormalization, layers.RMSNormalization)
REDUCING = (*OVER_CHANNELS, layers.GroupNormalization)
SCALING = (layers.BatchNormalization, convnext.LayerScale)
POINTWISE = (
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.ELU,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.LeakyReLU,
    layers.ReLU,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    convnext.StochasticDepth,
    *SCALING,
    *structural.POINTWISE,
)
SPATIAL = tuple(
    getattr(layers, f"{name}{rank}D")
    for name in ("AveragePooling", "MaxPooling", "Cropping", "UpSampling", "ZeroPadding")
    for rank in (1, 2, 3)
)
POOLED = tuple(
    getattr(layers, f"Global{name}Pooling{rank}D")
    for name in ("Average", "Max")
    for rank in (1, 2, 3)
)
MOVING = (layers.Flatten, layers.Reshape, layers.Concatenate, raw.Concatenate)
MERGES = (
    *(layers.Add, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply, layers.Subtract),
    *(raw.Add, raw.Maximum, raw.Minimum, raw.Multiply, raw.Subtract),
    inception_resnet_v2.CustomScaleLayer,
    *structural.MERGES,
)


class Passing(Masks):
    """Masks on their way through a model of which a plan names what to keep.

    Args:
        plan: what to keep.
    """

    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        self._paths: dict[int, str] = {}
        self._reads: list[np.ndarray] = []
        self._zeroed: dict[int, list] = defaultdict(list)

    def planned(self, path: str, width: int) -> np.ndarray:
        """Return the mask of units that the plan names."""
        units = np.zeros(width)
        units[self.plan.kept.get(path, slice(None))] = 1
        return units

    def weight(self, layer, variable, axis: int, mask, reads: bool = False) -> None:
        """Say that a mask lies along an axis of a variable, which may read what is masked."""
        self._lies_along(variable, axis, mask)
        if reads:
            self._zeroed[id(layer)].append((variable, axis, mask))

    def takes(self, masks) -> None:
        """Mask what a layer is given."""
        self._reads.append(masks)

    def moves(self, inner, outer) -> None:
        """Zero what an inner layer reads when the outer one is run."""
        self._zeroed[id(outer)] += self._zeroed.pop(id(inner), [])

    def _pass(self, call):
        """Return the mask of an operation's output from those of its inputs."""
        operation = call.operation
        masks = [m for m in keras.tree.flatten((call.args, call.kwargs)) if _is_mask(m)]
        shape = (1, *call.node.outputs[0].shape[1:])
        if not masks:  # of constants alone
            return np.ones(shape)
        if isinstance(operation, layers.Wrapper):
            return self._wrapped(call, masks[0], shape)
        if type(operation) in SEVERAL_WEIGHTS:
            path = self._paths.setdefault(id(operation), call.path)
            shapes = [(1, *output.shape[1:]) for output in call.node.outputs]
            masks = given_in_order(self, call)
            return SEVERAL_WEIGHTS[type(operation)](self, path, operation, masks, shapes)
        if reads_channels(operation):
            return self._weighted(call, masks[0], shape)
        if isinstance(operation, DEPTHWISE):
            return self._by_channel(operation, masks[0], shape)
        if isinstance(operation, REDUCING):
            self._reads.append(masks[0])
            return self._reduced(operation, masks[0])
        if isinstance(operation, layers.PReLU):
            for axis in range(len(operation.alpha.shape)):
                if operation.alpha.shape[axis] > 1 and varies(self._resolved(masks[0]), axis + 1):
                    self._lies_along(operation.alpha, axis, self._vector(masks[0], axis + 1))
            return masks[0]
        if isinstance(operation, MERGES):
            return self._merged(masks, shape)
        if isinstance(operation, SCALING):
            along = self._vector(masks[0], getattr(operation, "axis", -1) % masks[0].ndim)
            for variable in operation.weights:
                self._lies_along(variable, 0, along)
        if self._is_pointwise(operation):
            return masks[0]
        if isinstance(operation, MOVING):
            return _moved(operation(*_as_tensors(call.args)))
        if isinstance(operation, raw.GetItem):
            return masks[0][call.args[1] if len(call.args) > 1 else call.kwargs["key"]]
        found = self._pass_structural(call, masks)
        if found is not None:
            return found
        if isinstance(operation, (*SPATIAL, *POOLED, *structural.IMAGES)):
            return self._spread_over_space(operation, masks[0], shape)
        if isinstance(operation, raw.Pad):
            return self._padded(operation, masks[0])
        for mask in masks:
            self.keep(mask)
        return [np.ones((1, *tensor.shape[1:])) for tensor in call.node.outputs]

    def _pass_structural(self, call, masks):
        operation = call.operation
        if isinstance(operation, structural.MOVING):
            return structural.moved(operation, call.args)
        if isinstance(operation, structural.REDUCTIONS):
            self._reads.append(masks[0])
            return structural.reduced(self, operation, masks[0])
        if structural.works_along(operation):
            return structural.along(self, operation, masks[0])
        if isinstance(operation, structural.PRODUCTS):
            self._reads += masks
            return structural.multiplied(self, operation, call.args)
        if isinstance(operation, getattr(nn, "Glu", ())):
            return structural.half_gated(self, operation, masks[0])
        if isinstance(operation, layers.Embedding):
            return self._embedded(call, masks[0])
        return None

    def _embedded(self, call, mask):
        path = self._paths.setdefault(id(call.operation), call.path)
        units = np.zeros(call.operation.output_dim)
        units[self.plan.kept.get(path, slice(None))] = 1
        self._lies_along(call.operation._embeddings, 1, units)
        self._unite(mask, np.ones_like(mask))
        return np.broadcast_to(units, (*mask.shape, len(units))).copy()

    def _is_pointwise(self, operation) -> bool:
        if isinstance(operation, layers.Normalization):
            return not operation.axis
        if isinstance(operation, layers.Rescaling):
            return np.size(operation.scale) == 1
        if isinstance(operation, layers.Activation):
            return operation.activation is not keras.activations.softmax
        return isinstance(operation, POINTWISE)

    def _wrapped(self, call, mask, shape):
        """Pass a mask through a layer inside of another one."""
        wrapper, inner = call.operation, call.operation.layer
        slices = isinstance(wrapper, layers.TimeDistributed)
        mask, shape = (mask[:, 0], (1, *shape[2:])) if slices else (mask, shape)
        given = SimpleNamespace(args=(None,), kwargs={})
        node = SimpleNamespace(outputs=[SimpleNamespace(shape=shape)], arguments=given)
        path = f"{call.path}/{inner.name}"
        called = SimpleNamespace(operation=inner, path=path, args=(mask,), kwargs={}, node=node)
        found = self._pass(called)
        if slices:
            (found,) = found if isinstance(found, list) else [found]
            return np.broadcast_to(found[:, None], (1, *call.node.outputs[0].shape[1:]))
        kernel = wrapper.kernel
        along = self._along.get((id(kernel), len(kernel.shape) - 1))
        if along is not None:
            self._lies_along(wrapper.vector_u, 1, along)
        return found

    def _weighted(self, call, mask, shape):
        layer = call.operation
        path = self._paths.setdefault(id(layer), call.path)
        axis = _channels(layer, mask)
        kernel, reading, making = kernel_of(layer)
        self._reads.append(mask)
        units = np.zeros(shape[axis])
        units[self.plan.kept.get(path, slice(None))] = 1
        beside = isinstance(layer, layers.Dense) and self.is_even(mask, axis)
        given = np.ones(mask.shape[axis]) if beside else self._vector(mask, axis)
        if isinstance(layer, SEPARABLE):
            self._lies_along(layer.depthwise_kernel, len(kernel.shape) - 2, given)
            given = np.repeat(given, layer.depth_multiplier)
        groups = getattr(layer, "groups", 1)
        if 1 < groups == len(given):
            self._unite(units, np.repeat(given, len(units) // groups))
        else:
            self._lies_along(kernel, reading, self._group(given, groups))
            self._group(units, groups)
        self._lies_along(kernel, making, units)
        if layer.use_bias:
            self._lies_along(layer.bias, 0, units)
        made = spread(units, axis, shape)
        return made * mask.take([0], axis) if beside else made

    def _by_channel(self, layer, mask, shape):
        """Filters of one channel each go with it."""
        axis = _channels(layer, mask)
        given = self._vector(mask, axis)
        filters = np.repeat(given, shape[axis] // len(given))
        self._lies_along(layer.kernel, len(layer.kernel.shape) - 2, given)
        if layer.use_bias:
            self._lies_along(layer.bias, 0, filters)
        return spread(filters, axis, shape)

    def _reduced(self, layer, mask):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        for position, axis in enumerate(axes):
            known = self._resolved(mask)
            if not varies(known, axis % mask.ndim):
                continue
            along = self._vector(mask, axis % mask.ndim)
            for variable in layer.weights:
                self._lies_along(variable, position, along)
            if isinstance(layer, layers.GroupNormalization):
                self._group(along, layer.groups)
        return mask

    def _spread_over_space(self, operation, mask, shape):
        first = getattr(operation, "data_format", None) == "channels_first"
        along = self._vector(mask, 1 if first else mask.ndim - 1)
        return spread(along, 1 if first or len(shape) == 2 else len(shape) - 1, shape)


def reads_channels(operation) -> bool:
    """Tell whether an operation mixes the channels that it reads, with weights."""
    return isinstance(operation, (layers.Dense, *CONVOLUTIONS))


def kernel_of(layer) -> tuple:
    """Return the variable that reads channels, and the axes of what is read and what is made."""
    if isinstance(layer, layers.Dense):
        return layer._kernel, 0, 1
    if isinstance(layer, SEPARABLE):
        rank = len(layer.pointwise_kernel.shape)
        return layer.pointwise_kernel, rank - 2, rank - 1
    transposed = isinstance(layer, TRANSPOSED)
    kernel = layer.kernel if transposed else layer._kernel
    last = len(kernel.shape) - 1
    return kernel, last - (not transposed), last - transposed


def _channels(layer, mask) -> int:
    """Return the channel axis of what a layer takes."""
    if isinstance(layer, REDUCING):
        return layer.axis % mask.ndim if isinstance(layer.axis, int) else mask.ndim - 1
    return 1 if getattr(layer, "data_format", None) == "channels_first" else mask.ndim - 1


def _is_mask(value) -> bool:
    return isinstance(value, np.ndarray)


def _as_tensors(args):
    return keras.tree.map_structure(
        lambda v: ops.convert_to_tensor(v, dtype="float32") if _is_mask(v) else v, args
    )


def _moved(tensor) -> np.ndarray:
    return np.array(ops.convert_to_numpy(tensor), np.float64)
