"""A reference for "removed = silenced" that knows nothing of how pruning traces a model.

The original model runs on numbers through Keras' own layers. Beside each tensor stands a mask,
moved by the same structural operations, that says which entries are left: 1 kept, 0 removed. It
starts at the layers that a plan names, and what a Dense layer or convolution reads is multiplied
by it. What divides by a statistic over channels is computed on those that are left. Zeros that a
raw padding adds to an axis of channels are kept or removed with whatever they are added to; until
that is known, their entries are numbers from 2 on.
"""

import contextlib
from collections import defaultdict
from types import SimpleNamespace

import keras
import numpy as np
import silenced_structural as structural
from keras import layers, ops
from keras.src.applications import convnext, inception_resnet_v2
from keras.src.ops import nn
from keras.src.ops import numpy as raw
from silenced_sequences import SEVERAL_WEIGHTS, given_in_order, is_unscaled

from prune_keras import _keras

CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
OVER_CHANNELS = tuple(
    getattr(layers, name)
    for name in ("LayerNormalization", "UnitNormalization", "RMSNormalization")
    if hasattr(layers, name)  # older Keras has fewer
)
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


class Silenced:
    """A model of which some channels are never read.

    Args:
        model: the original model; it is not changed unless `zero_reads` is called.
        plan: what to keep.

    Attributes:
        kept: id of a variable -> axis -> booleans along it.
    """

    def __init__(self, model, plan):
        self.model, self.plan = model, plan
        self.kept: dict[int, dict[int, np.ndarray]] = {}
        self.factors: dict[int, float] = {}
        self._paths: dict[int, str] = {}
        self._same: dict[int, int] = {}
        self._free = 2
        self._reads: list[np.ndarray] = []
        self._along: dict[tuple[int, int], np.ndarray] = {}
        self._zeroed: dict[int, list] = defaultdict(list)
        ones = [np.ones((1, *x.shape[1:])) for x in model.inputs]
        masks = _keras.walk(model, ones, self._pass)
        for mask in masks:
            assert self._final(mask).all(), "an output lost entries"
        for (variable, axis), mask in self._along.items():
            self.kept.setdefault(variable, {})[axis] = self._final(mask)

    def outputs(self, x: list) -> list[np.ndarray]:
        """Return the outputs for a batch, with every removed channel silenced where it is read."""
        reads = iter(self._reads)

        def call(visited):
            if _reads(_unwrapped(visited.operation)):
                given, mask = visited.args[0], self._final(next(reads))
                if isinstance(visited.operation, layers.TimeDistributed):
                    mask = mask[:, None]
                mask = ops.convert_to_tensor(mask, dtype=given.dtype)
                return visited.operation(ops.where(mask > 0, given, 0 * mask))
            if is_unscaled(visited.operation):
                kept = [ops.convert_to_tensor(self._final(mask)) for mask in next(reads)]
                given = zip(visited.args[0], kept, strict=True)
                return visited.operation([x * ops.cast(mask, x.dtype) for x, mask in given])
            if type(_unwrapped(visited.operation)) in SEVERAL_WEIGHTS:
                with self._zeros(_unwrapped(visited.operation)):
                    return _keras.run(visited)
            if isinstance(visited.operation, REDUCING):
                return self._over_kept(visited.operation, visited.args[0], next(reads))
            if isinstance(visited.operation, structural.REDUCTIONS):
                mask = self._final(next(reads))
                return structural.reduced_over_kept(visited.operation, visited.args[0], mask)
            if isinstance(visited.operation, structural.PRODUCTS):
                return visited.operation(*self._masked(visited, reads))
            return _keras.run(visited)

        found = _keras.walk(self.model, [ops.convert_to_tensor(each) for each in x], call)
        return [np.asarray(ops.convert_to_numpy(y), np.float64) for y in found]

    def _masked(self, call, reads):
        """Return a product's factors with zeros for what is gone."""

        symbolic = iter(keras.tree.flatten(call.node.arguments.args))

        def masked(value):
            if not isinstance(next(symbolic), keras.KerasTensor):
                return value
            mask = ops.convert_to_tensor(self._final(next(reads)), dtype=value.dtype)
            return ops.where(mask > 0, value, 0 * mask)

        return keras.tree.map_structure(masked, call.args)

    def zero_reads(self) -> None:
        """Set to zero, in the model itself, every weight that reads a removed channel."""
        for layer in filter(_reads, _keras.all_layers(self.model)):
            kernel, axis, _ = _kernel_of(layer)
            kept = self.kept[id(kernel)].get(axis, np.ones(1))  # a channel by itself is its group
            shape = [1] * len(kernel.shape)
            shape[axis] = -1
            kernel.assign(ops.convert_to_numpy(kernel.value) * kept.reshape(shape))
        for variable, zeroed in self._zeroed_values([*self._zeroed]):
            variable.assign(zeroed)

    @contextlib.contextmanager
    def _zeros(self, layer):
        """Set to zero what a layer reads of removed channels, for a while."""
        zeroed = self._zeroed_values([id(layer)])
        before = [_numbers(variable) for variable, _ in zeroed]
        for variable, value in zeroed:
            variable.assign(value)
        yield
        for (variable, _), value in zip(zeroed, before, strict=True):
            variable.assign(value)

    def _zeroed_values(self, owners):
        """Return variables of some layers and their values with zeros."""
        values = {}
        for variable, axis, mask in [each for owner in owners for each in self._zeroed[owner]]:
            _, value = values.get(id(variable), (variable, _numbers(variable)))
            kept = _spread(self._final(mask), axis, variable.shape)
            values[id(variable)] = (variable, value * kept)
        return list(values.values())

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

    def is_even(self, mask, axis: int) -> bool:
        return not _varies(self._resolved(mask), axis)

    def keep(self, mask) -> None:
        self.unite(mask, np.ones_like(mask))

    def vector(self, mask, axis: int) -> np.ndarray:
        return self._vector(mask, axis)

    def unite(self, first, second) -> None:
        self._unite(first, second)

    def sliced(self, variable, value=None) -> np.ndarray:
        """Return what is left of a variable, or of a value of the same shape."""
        factor = self.factors.get(id(variable), 1) if value is None else 1
        value = np.asarray(ops.convert_to_numpy(variable.value if value is None else value))
        for axis, kept in self.kept.get(id(variable), {}).items():
            value = np.compress(kept, value, axis=axis)
        return value * value.dtype.type(factor)

    def _pass(self, call):
        """Return the mask of an operation's output from those of its inputs."""
        operation = call.operation
        masks = [m for m in keras.tree.flatten((call.args, call.kwargs)) if _is_mask(m)]
        shape = (1, *call.node.outputs[0].shape[1:])
        if isinstance(operation, layers.Wrapper):
            return self._wrapped(call, masks[0], shape)
        if type(operation) in SEVERAL_WEIGHTS:
            path = self._paths.setdefault(id(operation), call.path)
            shapes = [(1, *output.shape[1:]) for output in call.node.outputs]
            masks = given_in_order(self, call)
            return SEVERAL_WEIGHTS[type(operation)](self, path, operation, masks, shapes)
        if _reads(operation):
            return self._weighted(call, masks[0], shape)
        if isinstance(operation, DEPTHWISE):
            return self._by_channel(operation, masks[0], shape)
        if isinstance(operation, REDUCING):
            self._reads.append(masks[0])
            return self._reduced(operation, masks[0])
        if isinstance(operation, layers.PReLU):
            for axis in range(len(operation.alpha.shape)):
                if operation.alpha.shape[axis] > 1 and _varies(self._resolved(masks[0]), axis + 1):
                    self._lies_along(operation.alpha, axis, self._vector(masks[0], axis + 1))
            return masks[0]
        if isinstance(operation, MERGES):
            structural.join_constants(self, call.args, masks)
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
            self._unite(mask, np.ones_like(mask))
        return [np.ones((1, *tensor.shape[1:])) for tensor in call.node.outputs]

    def _pass_structural(self, call, masks):
        operation = call.operation
        if isinstance(operation, structural.MOVING):
            return structural.moved(operation, call.args)
        if isinstance(operation, structural.REDUCTIONS):
            self._reads.append(masks[0])
            return structural.reduced(self, operation, masks[0])
        if isinstance(operation, structural.ALONG):
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
        node = SimpleNamespace(outputs=[SimpleNamespace(shape=shape)])
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
        kernel, reading, making = _kernel_of(layer)
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
        made = _spread(units, axis, shape)
        return made * mask.take([0], axis) if beside else made

    def _by_channel(self, layer, mask, shape):
        """Filters of one channel each go with it."""
        axis = _channels(layer, mask)
        given = self._vector(mask, axis)
        filters = np.repeat(given, shape[axis] // len(given))
        self._lies_along(layer.kernel, len(layer.kernel.shape) - 2, given)
        if layer.use_bias:
            self._lies_along(layer.bias, 0, filters)
        return _spread(filters, axis, shape)

    def _group(self, mask, groups: int):
        """Return the mask of a group's channels; it must be the same in all groups."""
        rows = mask.reshape(groups, -1)
        self._unite(rows, np.broadcast_to(rows[:1], rows.shape))
        return rows[0]

    def _reduced(self, layer, mask):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        for position, axis in enumerate(axes):
            known = self._resolved(mask)
            if not _varies(known, axis % mask.ndim):
                continue
            along = self._vector(mask, axis % mask.ndim)
            for variable in layer.weights:
                self._lies_along(variable, position, along)
            if isinstance(layer, layers.GroupNormalization):
                self._group(along, layer.groups)
        return mask

    def _over_kept(self, layer, given, mask):
        """Run a layer on what is left of its input; what is gone becomes zero."""
        mask = self._final(mask)
        others = [tuple(i for i in range(mask.ndim) if i != axis) for axis in range(1, mask.ndim)]
        places = [np.flatnonzero(mask.any(axis=other)) for other in others]
        value = np.array(ops.convert_to_numpy(given))
        where = np.ix_(range(len(value)), *places)
        thin = type(layer).from_config(layer.get_config())
        thin.build(value[where].shape)
        for variable, old in zip(thin.weights, layer.weights, strict=True):
            variable.assign(self.sliced(old))
        found = np.zeros_like(value)
        found[where] = ops.convert_to_numpy(thin(ops.convert_to_tensor(value[where])))
        return ops.convert_to_tensor(found)

    def _lies_along(self, variable, axis: int, mask) -> None:
        self._unite(self._along.setdefault((id(variable), axis), mask), mask)

    def _vector(self, mask, axis: int) -> np.ndarray:
        """Return a mask along one axis; it must be the same at all other positions."""
        flat = np.moveaxis(mask, axis, -1).reshape(-1, mask.shape[axis])
        self._unite(flat, np.broadcast_to(flat[:1], flat.shape))
        return flat[0]

    def _spread_over_space(self, operation, mask, shape):
        first = getattr(operation, "data_format", None) == "channels_first"
        along = self._vector(mask, 1 if first else mask.ndim - 1)
        return _spread(along, 1 if first or len(shape) == 2 else len(shape) - 1, shape)

    def _padded(self, operation, mask):
        """Padded positions of an axis of channels are open; those in space belong to channels."""
        widths = [tuple(width) for width in operation.pad_width]
        known = self._resolved(mask)
        for axis, (before, after) in enumerate(widths):
            if not (before or after):
                continue
            others = [i for i in range(mask.ndim) if i != axis and _varies(known, i)]
            width = [(0, 0)] * mask.ndim
            width[axis] = (before, after)
            if others and not _varies(known, axis):
                mask = np.pad(mask, width, mode="edge")
                continue
            mask = np.pad(mask, width)
            for position in [*range(before), *range(mask.shape[axis] - after, mask.shape[axis])]:
                mask[(slice(None),) * axis + (position,)] = self._free
                self._free += 1
        return mask

    def _merged(self, masks, shape):
        masks = [m.reshape((1,) * (len(shape) - m.ndim) + m.shape) for m in masks]
        whole = [m for m in masks if m.shape == shape]
        if not whole:
            for mask in masks:
                self._unite(mask, np.ones_like(mask))
            return np.ones(shape)
        for mask in masks:
            self._join(whole[0], mask)
        return whole[0]

    def _join(self, whole, mask) -> None:
        """Unite a mask with one of full shape, unless it is broadcast over channels."""
        known = self._resolved(whole)
        over = [a for a in range(mask.ndim) if mask.shape[a] == 1 and whole.shape[a] > 1]
        if any(_varies(known, axis) for axis in over):
            self._unite(mask, np.ones_like(mask))
            return
        for axis in over:
            whole = whole.take([0], axis)
        self._unite(whole, mask)

    def _unite(self, first, second) -> None:
        """Require that masks are equal; open entries take the other one's value."""
        for a, b in {*zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)}:
            a, b = self._root(a), self._root(b)
            assert a == b or max(a, b) >= 2, "entries that go together are not kept together"
            if a != b:
                self._same[max(a, b)] = min(a, b)

    def _root(self, value):
        while value in self._same:
            value = self._same[value]
        return value

    def _resolved(self, mask) -> np.ndarray:
        values, places = np.unique(mask, return_inverse=True)
        return np.array([self._root(v) for v in values.tolist()])[places].reshape(mask.shape)

    def _final(self, mask) -> np.ndarray:
        """Return booleans; what stayed open is kept."""
        return self._resolved(mask) > 0


def _numbers(variable) -> np.ndarray:
    return np.array(ops.convert_to_numpy(variable.value))


def _unwrapped(operation):
    return operation.layer if isinstance(operation, layers.Wrapper) else operation


def _reads(operation) -> bool:
    """Tell whether an operation mixes the channels that it reads, with weights."""
    return isinstance(operation, (layers.Dense, *CONVOLUTIONS))


def _kernel_of(layer) -> tuple:
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


def _spread(vector, axis: int, shape) -> np.ndarray:
    laid = [1] * len(shape)
    laid[axis] = -1
    return np.broadcast_to(vector.reshape(laid), shape).copy()


def _varies(mask, axis: int) -> bool:
    return bool((mask != mask.take([0], axis)).any())
