"""Values: what recorded tensors are in a functional model; weights have one copy a sample."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from prune_keras import _keras
from prune_keras.tracing.opening import own_weights
from prune_keras.tracing.opening.recording import Closed, Recording, is_symbolic, masks_of
from prune_keras.tracing.opening.steps import Step, is_array, symbolic


class Values:
    """Tensors of a functional model, by those of a recorded call.

    Args:
        recording: the recording.
        layer: the layer whose call it is.

    Attributes:
        inputs: inputs of the model.
        structure: what they lie in.
        alone: ids of recorded tensors that are made of weights alone, and have no batch.
        names: names that layers have.
    """

    def __init__(self, recording: Recording, layer: Any) -> None:
        self.names: set[str] = {operation.name for operation in _keras.all_layers(layer)}
        self.structure = _structure(recording, self.names)
        by_key = isinstance(self.structure, dict)
        names = sorted(self.structure) if by_key else [None] * len(recording.inputs)
        self.inputs = [
            keras.Input(batch_shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=name)
            for tensor, name in zip(recording.inputs, names, strict=True)
        ]
        self._known = {id(o): n for o, n in zip(recording.inputs, self.inputs, strict=True)}
        masks = [self._known.get(id(mask)) for mask in masks_of([*recording.inputs])]
        _keras.carry(self.inputs, masks)
        self._variables = {id(tensor): variable for variable, tensor in recording.weights}
        self._dtypes = {id(tensor): tensor.dtype for _, tensor in recording.weights}
        self.alone = set(self._variables)
        self._turned = {id(t): (id(t), False) for _, t in recording.weights}

    def add(self, tensors: Any, made: Any) -> None:
        """Remember what recorded tensors are."""
        self._known |= {id(old): new for old, new in zip(tensors, made, strict=True)}

    def value(self, tensor: Any) -> Any:
        if id(tensor) not in self._known:
            variable = self._variables[id(tensor)]
            dtype = self._dtypes[id(tensor)]
            if len(variable.shape) == 0:  # which no plain layer has
                value = ops.cast(ops.multiply(self.ones(dtype), variable), dtype)
            else:
                layer = own_weights.table(variable, self.name(variable), dtype)
                value = layer(self.ones(dtype))
            self._known[id(tensor)] = value
        return self._known[id(tensor)]

    def whole(self, tensor: Any) -> tuple[Any, bool] | None:
        """Return the variable that a tensor is, and whether it is transposed, or None."""
        known = self._turned.get(id(tensor))
        return None if known is None else (self._variables[known[0]], known[1])

    def turn(self, step: Step, other: bool) -> None:
        """Remember that a tensor is a weight as it is, or transposed."""
        known = self._turned.get(id(symbolic(step)[0]))
        if known is not None:
            self._turned[id(step.outputs[0])] = known[0], known[1] != other

    def constant(self, mask: Any) -> Any:
        """Return an array, or the variable that is not trained, that a call reads; else None."""
        if not is_symbolic(mask):
            return mask if is_array(mask) else None
        found = self.whole(mask)
        if found is None or found[1] or found[0].trainable:
            return None
        return found[0]

    def fitted(self, tensor: Any, rank: int) -> Any:
        """Return a weight for each sample as a tensor of a rank, its own batch of one left out."""
        value, shape = self.value(tensor), tuple(tensor.shape)
        if len(shape) > rank or (len(shape) == rank and shape[:1] != (1,)):
            raise Closed("it joins a weight of as many axes as samples have, the batch included")
        sizes = shape[1:] if len(shape) == rank else (1,) * (rank - 1 - len(shape)) + shape
        return value if value.shape[1:] == sizes else ops.reshape(value, (-1, *sizes))

    def of_samples(self, step: Step) -> list:
        return [self.value(each) for each in symbolic(step) if id(each) not in self.alone]

    def ones(self, dtype: str) -> Any:
        """Return a one for each sample."""
        return own_weights.ones(self.inputs[0], dtype)

    def dtype(self, tensor: Any) -> str:
        return self._dtypes.get(id(tensor), tensor.dtype)

    def name(self, variable: Any) -> str:
        name, number = variable.name, 1
        while name in self.names:
            number += 1
            name = f"{variable.name}_{number}"
        self.names.add(name)
        return name


def _structure(recording: Recording, taken: set[str]) -> Any:
    """Return what inputs lie in: a list in place of a dict that Keras would not take for them.

    Keras wants the inputs of a dict to be named after its keys, and no other layer to be.
    """
    given = recording.structure
    fits = not isinstance(given, dict) or (
        len(given) == len(recording.inputs) and not taken & {*given}
    )
    return given if fits else list(recording.inputs)
