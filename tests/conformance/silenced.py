"""A reference for "removed = silenced" that knows nothing of how pruning traces a model.

The original model runs on numbers through Keras' own layers. Beside each tensor stands a mask,
moved by the same structural operations, that says which entries are left: 1 kept, 0 removed. It
starts at the layers that a plan names, and what a Dense layer or convolution reads is multiplied
by it. What divides by a statistic over channels is computed on those that are left. Zeros that a
raw padding adds to an axis of channels are kept or removed with whatever they are added to; until
that is known, their entries are numbers from 2 on.
"""

import contextlib

import keras
import numpy as np
import silenced_structural as structural
from keras import layers, ops
from silenced_masks import spread
from silenced_passing import REDUCING, Passing, kernel_of, reads_channels
from silenced_sequences import SEVERAL_WEIGHTS, is_unscaled

from prune_keras import _keras


class Silenced(Passing):
    """A model of which some channels are never read.

    Args:
        model: the original model; it is not changed unless `zero_reads` is called.
        plan: what to keep.

    Attributes:
        kept: id of a variable -> axis -> booleans along it.
    """

    def __init__(self, model, plan):
        super().__init__(plan)
        self.model = model
        self.kept: dict[int, dict[int, np.ndarray]] = {}
        self.factors: dict[int, float] = {}
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
            if reads_channels(_unwrapped(visited.operation)):
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
        for layer in filter(reads_channels, _keras.all_layers(self.model)):
            kernel, axis, _ = kernel_of(layer)
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
            kept = spread(self._final(mask), axis, variable.shape)
            values[id(variable)] = (variable, value * kept)
        return list(values.values())

    def sliced(self, variable, value=None) -> np.ndarray:
        """Return what is left of a variable, or of a value of the same shape."""
        factor = self.factors.get(id(variable), 1) if value is None else 1
        value = np.asarray(ops.convert_to_numpy(variable.value if value is None else value))
        for axis, kept in self.kept.get(id(variable), {}).items():
            value = np.compress(kept, value, axis=axis)
        return value * value.dtype.type(factor)

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


def _numbers(variable) -> np.ndarray:
    return np.array(ops.convert_to_numpy(variable.value))


def _unwrapped(operation):
    return operation.layer if isinstance(operation, layers.Wrapper) else operation
